import { describe, expect, test } from 'vitest';
import { FormatError, InputError } from '../core/errors.ts';
import { findTemplate } from './find.ts';
import { jinjaTemplate, type Message, worldTemplate } from './template.ts';

const chatMl =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
const alternating =
  "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] | trim + ' [/INST]' }}{% else %}{{ ' ' + message['content'] | trim + eos_token }}{% endif %}{% endfor %}";
/** Writes thoughts of the last answer only, as reasoning models do: earlier messages look different once others follow. */
const forgetful =
  "{% for message in messages %}{{ message.role }}: {{ message.content if loop.last else message.content.split('|')[-1] }};{% endfor %}";

const conversation: Message[] = [
  { role: 'user', content: 'Who are you?' },
  { role: 'assistant', content: 'A river.' },
  { role: 'user', content: 'Where do you run?' },
];
const joined = (turns: readonly { text: string }[]) => turns.map(({ text }) => text).join('');

describe('Jinja templates', () => {
  test('render as transformers does', () => {
    const template = jinjaTemplate(chatMl);
    expect(template.render(conversation.slice(0, 1))).toBe(
      '<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n',
    );
    expect(template.render(conversation.slice(0, 2), { addGenerationPrompt: false })).toBe(
      '<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\nA river.<|im_end|>\n',
    );
    expect(jinjaTemplate(alternating, { bos_token: '<s>', eos_token: '</s>' }).render(conversation)).toBe(
      '<s>[INST] Who are you? [/INST] A river.</s>[INST] Where do you run? [/INST]',
    );
  });

  test.each([
    ['ChatML', chatMl],
    ['alternating', alternating],
  ])('%s is cut after every message', (_, source) => {
    const template = jinjaTemplate(source, { bos_token: '<s>', eos_token: '</s>' });
    const turns = template.turns(conversation);
    expect(joined(turns)).toBe(template.render(conversation));
    expect(turns.slice(0, 3).map(({ messages }) => messages)).toEqual([1, 2, 3]);
    // What a state after two messages has read is how every longer conversation begins.
    expect(template.render(conversation).startsWith(joined(turns.slice(0, 2)))).toBe(true);
  });

  test('a template that writes messages differently once others follow is cut only where that does not matter', () => {
    const template = jinjaTemplate(forgetful);
    const messages = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'thought|b' },
      { role: 'user', content: 'c' },
    ];
    const turns = template.turns(messages);
    expect(joined(turns)).toBe('user: a;assistant: b;user: c;');
    expect(turns.map((turn) => turn.messages)).toEqual([1, 3]);
  });

  test('tools and further variables reach the template', () => {
    const template = jinjaTemplate('{{ tools | length }} {{ mood }} {{ messages[0].name }}');
    const message = { role: 'user', content: 'x', name: 'Ann' };
    expect(template.render([message], { tools: [{}, {}], variables: { mood: 'calm' } })).toBe('2 calm Ann');
  });

  test('what is wrong is said', () => {
    const template = jinjaTemplate(alternating);
    expect(() => template.render(conversation.slice(1))).toThrow(/refuses the conversation: .*Roles must alternate/);
    expect(() => template.render(conversation.slice(1))).toThrow(InputError);
    expect(() => jinjaTemplate('{% for %}')).toThrow(FormatError);
    expect(() => template.render([])).toThrow(/at least one message/);
    expect(() => template.render([{ role: '', content: 'x' }])).toThrow(/message 1 of the conversation has no role/);
    expect(() => template.render([{ role: 'user' } as unknown as Message])).toThrow(/\(user\) has no text/);
  });
});

describe('RWKV World', () => {
  test('has speakers, empty lines between turns and none in them', () => {
    const template = worldTemplate();
    const messages = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'One.\n\n\nTwo. ' },
    ];
    expect(template.render(messages)).toBe('System: Be brief.\n\nUser: One.\nTwo.\n\nAssistant:');
    expect(template.turns(messages).map(({ text }) => text)).toEqual([
      'System: Be brief.\n\n',
      'User: One.\nTwo.\n\n',
      'Assistant:',
    ]);
  });

  test('refuses what it has no place for', () => {
    const template = worldTemplate();
    expect(() => template.render([{ role: 'tool', content: 'x' }])).toThrow(/no role "tool"; known: system, user/);
    expect(() => template.render(conversation, { variables: { enable_thinking: true } })).toThrow(/enable_thinking/);
  });
});

describe('a model’s files', () => {
  const render = (files: Parameters<typeof findTemplate>[0]) =>
    findTemplate(files, 'm')?.render([{ role: 'user', content: 'x' }]);

  test('have a template in the settings, in a list or in a file of its own', () => {
    expect(render({ settings: { chat_template: 'a {{ eos_token }}', eos_token: { content: '</s>' } } })).toBe('a </s>');
    const list = [
      { name: 'tool_use', template: 'tools' },
      { name: 'default', template: 'usual' },
    ];
    expect(render({ settings: { chat_template: list } })).toBe('usual');
    expect(render({ settings: { chat_template: 'a' }, file: 'b' })).toBe('b');
    expect(render({ isWorld: true })).toBe('User: x\n\nAssistant:');
    expect(findTemplate({ settings: {} }, 'm')).toBeUndefined();
    expect(() => findTemplate({ settings: { chat_template: 7 } }, 'm')).toThrow(/neither a text nor a list/);
  });
});

import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { jinjaTemplate, worldTemplate } from '../src/chat/template.ts';
import { bytesSource } from '../src/formats/byte-source.ts';
import { openSafetensors } from '../src/formats/safetensors.ts';
import { load } from '../src/platform/node-load.ts';
import { assemble } from '../src/runtime/model.ts';
import { beamSearch } from '../src/tasks/beam-search.ts';
import { Chat } from '../src/tasks/chat.ts';
import { complete } from '../src/tasks/complete.ts';
import { DocumentReader, readDocument } from '../src/tasks/document-reader.ts';
import { embed } from '../src/tasks/embed.ts';
import { LabelClassifier } from '../src/tasks/label-classifier.ts';
import { samples } from '../src/tasks/samples.ts';
import { score } from '../src/tasks/score.ts';
import { summarize } from '../src/tasks/summarize.ts';
import { byteTokenizer } from '../src/tokenizers/bytes.ts';
import { goldenModel } from './assembled.ts';
import { goldenFolder } from './golden.ts';

const model = await load(undefined, { threads: 1 });
const bytes = await goldenModel('mamba', referenceBackend('f32'), { tokenizer: byteTokenizer() });
afterAll(() => model.dispose());
afterAll(() => bytes.dispose());

const story =
  'Once upon a time there was a boy called Tom. Tom lived in a house by the river. He had a dog. The dog was called Rex.';

/** ln p of a text after another. */
async function logProbability(before: string, text: string): Promise<number> {
  const session = model.session();
  await session.read(before);
  const result = await score(session, [model.tokenizer.encode(text, { addSpecialTokens: false })]);
  session.dispose();
  return result.logProbability;
}

describe('samples', () => {
  test('are what each fork alone generates', async () => {
    const session = model.session();
    const texts = await samples(session, 'Once upon a time', { n: 3, seed: 5, maxTokens: 12, temperature: 1 });
    expect(texts).toHaveLength(3);
    const alone = await complete(session.fork().generate(undefined, { seed: 6, maxTokens: 12, temperature: 1 }));
    expect(texts[1]!.text).toBe(alone.text);
    expect(new Set(texts.map(({ text }) => text)).size).toBe(3);
    session.dispose();
  });

  test('options that are not in order are refused', async () => {
    await expect(samples(model.session(), 'x', { n: 0 })).rejects.toThrow(/n is 0/);
    await expect(samples(model.session(), 'x', { beams: 2 } as never)).rejects.toThrow(/unknown option beams/);
  });
});

describe('beam search', () => {
  test('finds the likeliest of all texts where it is wide enough', async () => {
    const choices = [' dog.', ' cat.', ' little girl.', ' big brown bear.', ' ship.', ' river.'];
    const options = { constraint: { choices }, lengthPenalty: 0, beams: 12, n: 6 };
    const beams = await beamSearch(model.session(), 'Tom had a', options);
    const found = beams.map(({ text }) => text);
    const expected = await Promise.all(
      choices.map(async (text) => ({ text, logProbability: await logProbability('Tom had a', text) })),
    );
    expected.sort((a, b) => b.logProbability - a.logProbability);
    // A choice may be spelt in several ways: the likeliest counts, and the text comes once.
    expect(new Set(found).size).toBe(found.length);
    expect(found.slice(0, 2)).toEqual(expected.slice(0, 2).map(({ text }) => text));
    expect(beams[0]!.logProbability).toBeCloseTo(expected[0]!.logProbability, 3);
    expect(beams.every(({ finishReason }) => finishReason === 'complete')).toBe(true);
  });

  test('of one beam is greedy, and more beams find no less likely text', async () => {
    const options = { maxTokens: 15, lengthPenalty: 0 };
    const [one] = await beamSearch(model.session(), story, { ...options, beams: 1 });
    const greedy = await complete(model.session().generate(story, { maxTokens: 15, temperature: 0 }));
    expect(one!.text).toBe(greedy.text);
    const [many] = await beamSearch(model.session(), story, { ...options, beams: 6 });
    expect(many!.logProbability).toBeGreaterThanOrEqual(one!.logProbability);
    expect(many!.logProbability).toBeCloseTo(await logProbability(story, many!.text), 2);
  });

  test('ends where the files of the model say that texts end', async () => {
    const prompt = [1, 2, 3];
    const [likeliest] = await beamSearch(bytes.session(), prompt, { maxTokens: 9, beams: 1 });
    const end = likeliest!.tokens[4]!;
    const files = goldenFolder('mamba');
    const config = JSON.parse(readFileSync(`${files}config.json`, 'utf8'));
    const checkpoint = await openSafetensors(bytesSource(readFileSync(`${files}model.safetensors`), 'mamba'));
    const source = { config, checkpoint, tokenizer: byteTokenizer(), endTokens: [end] };
    const ending = await assemble(source, referenceBackend('f32'));
    const beams = await beamSearch(ending.session(), prompt, { maxTokens: 9, beams: 2, n: 2 });
    const ended = beams.find(({ finishReason }) => finishReason === 'end');
    expect(ended?.tokens).toEqual(likeliest!.tokens.slice(0, likeliest!.tokens.indexOf(end)));
    ending.dispose();
  });

  test.each([
    [{ beams: 0 }, /beams is 0/],
    [{ beams: 2, n: 3 }, /only 2 beams/],
    [{ temperature: 1 }, /unknown option temperature/],
    [{ lengthPenalty: Number.NaN }, /lengthPenalty is NaN/],
  ])('%j is refused', async (options, message) => {
    await expect(beamSearch(model.session(), 'x', options as never)).rejects.toThrow(message);
  });
});

describe('documents', () => {
  test('are read once and asked many things', async () => {
    const reader = await readDocument(model, story);
    const [first, second] = [await reader.ask('Who is Tom?'), await reader.ask('Who is Tom?')];
    expect(first).toEqual(second);
    expect(first.text).not.toMatch(/\n|^\s|\s$/);
    expect(first.text.length).toBeGreaterThan(1);
    // The same as going on from the whole text, up to the first end of a line.
    const session = model.session();
    await session.read(`${story}\n\nQuestion: Who is Tom?\n\nAnswer:`);
    const [word] = model.tokenizer.encode(` ${first.text}`, { addSpecialTokens: false });
    expect(first.tokens[0]).toBe(word);
    const measured = await score(session, [first.tokens]);
    expect(first.logProbability).toBeCloseTo(measured.logProbability, 1);
    const own = await reader.ask('Who is Tom?', { prompt: (question) => ` ${question} Tom is`, maxTokens: 12 });
    const generation = model
      .session()
      .generate(`${story} Who is Tom? Tom is`, { temperature: 0, maxTokens: 12, stop: '\n' });
    expect((await complete(generation)).text.trim()).toBe(own.text);
    reader.dispose();
  });

  test('answers can be one of a list, with their probability', async () => {
    const reader = await readDocument(model, story);
    const prompt = () => ' The name of the dog was';
    const choices = [' Rex', ' Tom', ' Anna'];
    const answer = await reader.ask('What is the name of the dog?', { prompt, constraint: { choices } });
    expect(answer.text).toBe('Rex');
    const session = model.session();
    await session.read(story + prompt());
    const measured = await score(session, [answer.tokens]);
    expect(answer.logProbability).toBeCloseTo(measured.logProbability, 2);
  });

  test('come as streams and files, and are kept', async () => {
    async function* pieces() {
      for (const word of story.split(/(?<= )/)) yield word;
    }
    const reader = await readDocument(model, pieces());
    const whole = await readDocument(model, story);
    const kept = await DocumentReader.load(model, reader.save());
    expect(kept.tokens).toBe(whole.tokens);
    expect((await kept.ask('Who?')).text).toBe((await whole.ask('Who?')).text);
    await expect(DocumentReader.load(bytes, reader.save())).rejects.toThrow(/the state is of/);
  });

  test('what is empty is refused', async () => {
    await expect(readDocument(model, '')).rejects.toThrow(/document is empty/);
    const reader = await readDocument(model, story);
    await expect(reader.ask(' ')).rejects.toThrow(/question is empty/);
    await expect(reader.ask('Who?', { temprature: 1 } as never)).rejects.toThrow(/did you mean temperature/);
  });

  test('are summarised', async () => {
    const options = { maxTokens: 20, prompt: ' In the end,' };
    const { text } = await complete(summarize(model, story, options));
    expect(text).toBe(
      (await complete(model.session().generate(`${story} In the end,`, { temperature: 0, stop: '\n', maxTokens: 20 })))
        .text,
    );
  });

  test('are summarised, also where the model begins with a line break', async () => {
    const base = await load('books-mamba', { threads: 1 });
    const text =
      'Once upon a time there was a king who had three sons. The eldest went into the wide world to seek his fortune, and he came to a great forest.';
    const prompt = '\n\nTL;DR:';
    const plain = (await complete(base.session().generate(text + prompt, { temperature: 0, maxTokens: 20 }))).text;
    expect(plain).toMatch(/^\n+\s*\S/);
    const summary = await complete(summarize(base, text, { maxTokens: 20 }));
    expect(summary.text).toBe(plain.replace(/^\n+/, '').split('\n')[0]);
    expect(summary.finishReason).toBe('length');
    base.dispose();
  });
});

describe('labels', () => {
  const animals = new LabelClassifier(model, ['dog', 'king', 'ship'], { template: ' This is the story of a {}.' });

  test.each([
    ['Rex barked and wagged his tail. He ran to his kennel with a big bone.', 'dog'],
    ['The crown was gold. The queen sat upon the throne in the palace with the prince.', 'king'],
    ['The sailors saw the waves. The captain set the sails and they sailed over the sea.', 'ship'],
  ])('%s', async (text, label) => {
    const scores = await animals.classify(text);
    expect(scores.map((one) => one.label)).toEqual(['dog', 'king', 'ship']);
    expect(scores.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 5);
    expect(scores.toSorted((a, b) => b.probability - a.probability)[0]!.label).toBe(label);
  });

  test('evidence is the text’s, not the label’s own', async () => {
    const template = ' This is the story of a {}.';
    const [dog] = await animals.classify(story);
    const given = await logProbability(`${story} This is the story of a`, ' dog.');
    const alone = await logProbability(' This is the story of a', ' dog.');
    expect(dog!.evidence).toBeCloseTo(given - alone, 2);
    const several = new LabelClassifier(model, ['dog', 'king'], { template, multiLabel: true });
    const [first] = await several.classify(story);
    expect(first!.probability).toBeCloseTo(1 / (1 + Math.exp(-dog!.evidence)), 3);
  });

  test.each([
    [[], {}, /labels must be a list/],
    [['a', 'a'], {}, /twice/],
    [['a'], { template: 'none' }, /must have \{\} once/],
    [['a'], { template: ' {}' }, /words before/],
    [['a'], { multi_label: true }, /unknown option multi_label/],
  ])('%j %j is refused', (labels, options, message) => {
    expect(() => new LabelClassifier(model, labels, options as never)).toThrow(message);
  });
});

describe('embeddings', () => {
  const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

  test('are of length 1, and nearer for texts that are alike', async () => {
    const [a, b, c] = await Promise.all(
      [
        'The dog ran after the cat in the garden.',
        'A cat was chased by a dog.',
        'The ship sailed over the stormy sea to an island.',
      ].map((text) => embed(model, text)),
    );
    expect(a).toHaveLength(model.hiddenSize);
    expect(dot(a!, a!)).toBeCloseTo(1, 5);
    expect(dot(a!, b!)).toBeGreaterThan(dot(a!, c!));
  });

  test('pool the hidden states of all tokens', async () => {
    const rows: number[][] = [];
    const session = model.session();
    const D = model.hiddenSize;
    await session.read(story, {
      onHidden: (hidden) => {
        for (let i = 0; i < hidden.length; i += D) rows.push([...hidden.subarray(i, i + D)]);
      },
    });
    const mean = await embed(model, story, { normalize: false });
    expect(mean[7]).toBeCloseTo(rows.reduce((sum, row) => sum + row[7]!, 0) / rows.length, 5);
    expect((await embed(model, story, { pooling: 'last', normalize: false }))[3]).toBeCloseTo(rows.at(-1)![3]!, 5);
    expect((await embed(model, story, { pooling: 'first', normalize: false }))[3]).toBeCloseTo(rows[0]![3]!, 5);
    await expect(embed(model, '')).rejects.toThrow(/text is empty/);
    await expect(embed(model, 'x', { pooling: 'max' as never })).rejects.toThrow(/pooling is max/);
  });
});

describe('chat', () => {
  const template = worldTemplate();
  const options = { maxTokens: 12, seed: 1 };

  test('reads nothing twice', async () => {
    const chat = new Chat(bytes, { template, system: 'Be kind.' });
    let generated = 0;
    for (const question of ['Who are you?', 'And who am I?', 'Good.']) {
      // Bytes of a random model are rarely text; a constraint keeps the answer as the template writes it.
      const constraint = { regex: ' [a-z]{4}( [a-z]{3})?' };
      const { tokens } = await complete(chat.send(question, { ...options, constraint }));
      generated += tokens.length;
    }
    expect(chat.messages.map(({ role }) => role)).toEqual([
      'system',
      'user',
      'assistant',
      'user',
      'assistant',
      'user',
      'assistant',
    ]);
    expect(chat.position).toBe(chat.tokensRead + generated);
    const text = template.render(chat.messages, { addGenerationPrompt: false }).trimEnd();
    expect(chat.position).toBe(bytes.tokenizer.encode(text).length);
    // What it knows is what one who reads all of it knows.
    const session = bytes.session();
    await session.read(text);
    const last = chat.save();
    const restored = bytes.session();
    await restored.state.restore(last);
    for (const [v, logit] of session.logits.entries()) expect(restored.logits[v]).toBeCloseTo(logit, 3);
  });

  test('an answer ends where the template ends it, by a mark', async () => {
    const chatMl = jinjaTemplate(
      "{% for m in messages %}{{ m.role + '> ' + m.content + '<|endoftext|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant> ' }}{% endif %}",
    );
    const chat = new Chat(model, { template: chatMl });
    const end = model.tokenizer.endOfText!;
    const { finishReason, text } = await complete(chat.send('Hello', { logitBias: { [end]: 100 }, temperature: 0 }));
    expect([finishReason, text]).toEqual(['end', '']);
    expect(chat.messages.at(-1)).toEqual({ role: 'assistant', content: '' });
  });

  test('goes on where it was saved, in another process', async () => {
    const [chat, whole] = [new Chat(model, { template }), new Chat(model, { template })];
    for (const one of [chat, whole]) await complete(one.send('Tell me a story.', options));
    const saved = chat.save();
    chat.dispose();
    const loaded = await Chat.load(model, saved, { template });
    expect(loaded.messages).toEqual(whole.messages);
    const [a, b] = [await complete(loaded.send('Go on.', options)), await complete(whole.send('Go on.', options))];
    expect(a).toEqual(b);
    expect(loaded.tokensRead).toBeLessThan(15);
    await expect(Chat.load(bytes, saved, { template })).rejects.toThrow(/is of/);
    await expect(Chat.load(model, model.session().state.save(), { template })).rejects.toThrow(
      /not one of a conversation/,
    );
  });

  test.each([
    [
      'ChatML',
      '{% for m in messages %}<{{ m.role }}>\n{{ m.content | trim }}</>\n{% endfor %}{% if add_generation_prompt %}<assistant>\n{% endif %}',
    ],
    [
      '[INST]',
      "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
    ],
    ['User:', worldTemplate()],
  ])('answers are read once, however %s writes their blanks', async (_, written) => {
    const template = typeof written === 'string' ? jinjaTemplate(written) : written;
    for (const regex of ['  [a-z]{4}', ' [a-z]{3}\n\n\n', '\n[a-z]{2}\n[a-z] ', ' ?']) {
      const chat = new Chat(bytes, { template });
      let generated = 0;
      const say = async (to: Chat, text: string) => {
        const { tokens } = await complete(to.send(text, { ...options, constraint: { regex } }));
        generated += tokens.length;
      };
      for (const text of ['Who are you?', 'And who am I?', 'Good.']) await say(chat, text);
      expect(chat.position).toBe(chat.tokensRead + generated);
      const loaded = await Chat.load(bytes, chat.save(), { template });
      await say(loaded, 'Hi');
      expect(loaded.tokensRead).toBeLessThan(40);
    }
  });

  test('a message that was stopped while it was read leaves the rest of the conversation read', async () => {
    const chat = new Chat(model, { template });
    await complete(chat.send('Tell me a story. '.repeat(30), options));
    const { position, messages } = chat;
    const controller = new AbortController();
    const stopped = complete(chat.send('And then? '.repeat(3000), { signal: controller.signal }));
    setTimeout(() => controller.abort(), 20);
    await expect(stopped).rejects.toThrow(/abort/);
    expect(chat.messages).toEqual(messages);
    const loaded = await Chat.load(model, chat.save(), { template });
    expect(loaded.position).toBeGreaterThanOrEqual(position);
    await complete(loaded.send('Hi', options));
    expect(loaded.tokensRead).toBeLessThan(15);
  });

  test('the end of an answer is a place to go back to', async () => {
    const chat = new Chat(bytes, { template });
    const said = { ...options, constraint: { regex: ' [a-z]{50}\n\n' }, maxTokens: 60 };
    await complete(chat.send('One.', said));
    await complete(chat.send('Two.', said));
    chat.undo();
    const before = chat.tokensRead;
    await complete(chat.send('Three.', said));
    expect(chat.tokensRead - before).toBeLessThan(30);
    const end = chat.position;
    const stopped = chat.send('x'.repeat(20_000), { signal: AbortSignal.timeout(30) });
    await expect(complete(stopped)).rejects.toThrow(/abort|timeout/);
    const loaded = await Chat.load(bytes, chat.save(), { template });
    expect(loaded.position).toBe(end);
    // Once more in the loaded conversation.
    const again = loaded.send('x'.repeat(20_000), { signal: AbortSignal.timeout(30) });
    await expect(complete(again)).rejects.toThrow(/abort|timeout/);
    expect((await Chat.load(bytes, loaded.save(), { template })).position).toBe(end);
  });

  test('turns can be taken back without reading the others again', async () => {
    const chat = new Chat(model, { template });
    await complete(chat.send('One.', options));
    const first = await complete(chat.send('Two, three and four.', options));
    const before = chat.tokensRead;
    expect(chat.undo()).toEqual({ role: 'user', content: 'Two, three and four.' });
    expect(chat.messages).toHaveLength(2);
    expect((await complete(chat.send('Two, three and four.', options))).text).toBe(first.text);
    expect(chat.tokensRead - before).toBeLessThanOrEqual(15);
    chat.undo();
    chat.undo();
    expect(() => chat.undo()).toThrow(/nothing to take back/);
  });

  test('what came before it was stopped is the answer', async () => {
    const chat = new Chat(model, { template });
    const controller = new AbortController();
    let [text, count] = ['', 0];
    const reading = (async () => {
      for await (const piece of chat.send('Tell me a story.', { seed: 1, maxTokens: 200, signal: controller.signal })) {
        text += piece;
        if (++count === 4) controller.abort();
      }
    })();
    await expect(reading).rejects.toThrow(/abort/);
    expect(chat.messages.at(-1)).toEqual({ role: 'assistant', content: text.trim() });
    for await (const _ of chat.send('And then?', options)) break;
    expect(chat.messages).toHaveLength(4);
    await complete(chat.send('And then?', options));
    expect(chat.messages).toHaveLength(6);
    const stopped = chat.send('x', { signal: AbortSignal.abort() });
    await expect(complete(stopped)).rejects.toThrow(/abort/);
    expect(chat.messages).toHaveLength(6);
  });

  test('one thing at a time, and only with a template', async () => {
    const chat = new Chat(model, { template });
    const first = chat.send('x', options);
    await first.next();
    await expect(chat.send('y').next()).rejects.toThrow(/still answering/);
    expect(() => chat.undo()).toThrow(/still answering/);
    await first.return(undefined as never);
    expect(() => new Chat(model)).toThrow(/no chat template/);
    expect(() => new Chat(model, { temperature: 1 } as never)).toThrow(/unknown option temperature/);
  });
});

import { afterAll, describe, expect, test } from 'vitest';
import { jinjaTemplate } from '../src/chat/template.ts';
import { InputError, UnsupportedError } from '../src/core/errors.ts';
import { load } from '../src/platform/node-load.ts';
import { type PipelineProgress, pipeline } from '../src/platform/pipeline.ts';
import { complete } from '../src/tasks/complete.ts';
import { embed } from '../src/tasks/embed.ts';

const model = await load(undefined, { threads: 1 });
afterAll(() => model.dispose());

const write = await pipeline('text-generation', model);
const prompt = 'Once upon a time';

/** The native generation that a call must be the same as. */
const native = async (options: object) =>
  (await complete(model.session().generate(prompt, { maxTokens: 10, ...options }))).text;

describe('text-generation', () => {
  test('takes the likeliest tokens by default, and gives the prompt too', async () => {
    const [first] = await write(prompt, { max_new_tokens: 10 });
    expect(first!.generated_text).toBe(prompt + (await native({ temperature: 0 })));
    const [without] = await write(prompt, { max_new_tokens: 10, return_full_text: false });
    expect(prompt + without!.generated_text).toBe(first!.generated_text);
    const { length } = model.tokenizer.encode(prompt);
    expect(await write(prompt, { max_length: length + 10 })).toEqual([first]);
    expect(await write([prompt, 'The king'], { max_new_tokens: 3 })).toEqual([
      await write(prompt, { max_new_tokens: 3 }),
      await write('The king', { max_new_tokens: 3 }),
    ]);
  });

  test('draws with the options of drawing', async () => {
    const options = { max_new_tokens: 10, do_sample: true, seed: 3, return_full_text: false };
    const [drawn] = await write(prompt, {
      ...options,
      temperature: 1.5,
      top_k: 20,
      top_p: 0.9,
      min_p: 0.01,
      typical_p: 0.95,
      repetition_penalty: 1.3,
    });
    const same = { seed: 3, temperature: 1.5, topK: 20, topP: 0.9, minP: 0.01, typicalP: 0.95, repetitionPenalty: 1.3 };
    expect(drawn!.generated_text).toBe(await native(same));
    const several = await write(prompt, { ...options, num_return_sequences: 3, repetition_penalty: 1.3 });
    expect(several).toHaveLength(3);
    expect(several[1]!.generated_text).toBe(await native({ seed: 4, temperature: 1, repetitionPenalty: 1.3 }));
  });

  test('searches with beams', async () => {
    const found = await write(prompt, {
      max_new_tokens: 8,
      num_beams: 4,
      num_return_sequences: 2,
      length_penalty: 0.5,
    });
    expect(new Set(found.map(({ generated_text }) => generated_text)).size).toBe(2);
  });

  test('ends at tokens and texts, and keeps to constraints', async () => {
    const [comma] = model.tokenizer.encode(',', { addSpecialTokens: false });
    const [ended] = await write(prompt, { eos_token_id: comma! });
    expect(ended!.generated_text).toBe(prompt);
    const [stopped] = await write(prompt, { stop_strings: [' a'], return_full_text: false });
    expect(stopped!.generated_text).not.toContain(' a');
    const [held] = await write(prompt, { constraint: { choices: ['!', '?'] }, return_full_text: false });
    expect(['!', '?']).toContain(held!.generated_text);
  });

  test('streams tokens as transformers.js does', async () => {
    const given: bigint[][][] = [];
    let ends = 0;
    const streamer = { put: (tokens: bigint[][]) => void given.push(tokens), end: () => void ends++ };
    const [result] = await write(prompt, { max_new_tokens: 5, streamer });
    const [first, ...others] = given.map(([tokens]) => tokens!.map(Number));
    expect(first).toEqual(model.tokenizer.encode(prompt));
    expect(prompt + model.tokenizer.decode(others.flat())).toBe(result!.generated_text);
    expect(ends).toBe(1);
  });

  test('begins as the model was trained to, or not', async () => {
    const [plain] = await write(prompt, { max_new_tokens: 1, add_special_tokens: false });
    const session = model.session();
    await session.read(model.tokenizer.encode(prompt, { addSpecialTokens: false }));
    const { text } = await complete(session.generate(undefined, { maxTokens: 1, temperature: 0 }));
    expect(plain!.generated_text).toBe(prompt + text);
  });

  test('answers conversations with the model’s template', async () => {
    const chat = [{ role: 'user', content: 'Hello' }];
    await expect(write(chat)).rejects.toThrow(/no chat template/);
    const template = jinjaTemplate("{% for m in messages %}{{ m.content + '\\n' }}{% endfor %}");
    const talking = new Proxy(model, {
      get: (target, name) => {
        const value = name === 'chatTemplate' ? template : Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const { textGenerator } = await import('../src/tasks/pipeline/text-generation.ts');
    const [answer] = await textGenerator(talking)(chat, { max_new_tokens: 4 });
    expect(answer!.generated_text).toHaveLength(2);
    expect(answer!.generated_text[1]!.role).toBe('assistant');
    expect(await textGenerator(talking)([chat, chat], { max_new_tokens: 4 })).toEqual([[answer], [answer]]);
  });

  test.each([
    [{ max_tokens: 3 }, /unknown option max_tokens/],
    [{ no_repeat_ngram_size: 3 }, /unknown option no_repeat_ngram_size/],
    [{ temperature: 1 }, /temperature has a meaning only with do_sample: true/],
    [{ do_sample: true, num_beams: 2 }, /do_sample does not go together with num_beams/],
    [{ num_return_sequences: 2 }, /needs do_sample: true or num_beams/],
    [{ length_penalty: 2 }, /only with num_beams/],
    [{ num_beams: 2, stop_strings: 'x' }, /stop_strings does not go together/],
    [{ max_length: 3, max_new_tokens: 3 }, /give one of them/],
    [{ streamer: {} }, /the streamer has no function put/],
    [{ num_beams: 2, streamer: { put: () => {}, end: () => {} } }, /a streamer is told of one text/],
    [{ do_sample: true, top_p: 2 }, /topP is 2/],
    [{ do_sample: 'yes' }, /do_sample is yes: it must be true or false/],
    [{ num_beams: 0 }, /num_beams is 0: it must be a whole number from 1/],
    [{ num_return_sequences: 0 }, /num_return_sequences is 0/],
    [{ max_new_tokens: -1 }, /max_new_tokens is -1/],
    [{ max_length: 2 }, /max_length is 2, and the prompt alone has \d+ tokens/],
    [{ eos_token_id: -5 }, /eos_token_id is -5/],
    [{ eos_token_id: ['a'] }, /eos_token_id is a/],
    [null, /the options are null/],
  ])('%j is refused', async (options, message) => {
    await expect(write(prompt, options as never)).rejects.toThrow(message);
  });
});

test('zero-shot-classification', async () => {
  const classify = await pipeline('zero-shot-classification', model);
  const text = 'The sailors saw the waves. The captain set the sails and they sailed over the sea.';
  const options = { hypothesis_template: 'This is the story of a {}.' };
  const result = await classify(text, ['dog', 'king', 'ship'], options);
  expect(result.sequence).toBe(text);
  expect(result.labels[0]).toBe('ship');
  expect([...result.scores].sort((a, b) => b - a)).toEqual(result.scores);
  expect(await classify([text], 'dog, king, ship', options)).toEqual([result]);
  const several = await classify(text, ['dog', 'ship'], { ...options, multi_label: true });
  expect(several.scores[0]! + several.scores[1]!).not.toBeCloseTo(1, 3);
  await expect(classify(text, ['a'], { multilabel: true } as never)).rejects.toThrow(/did you mean multi_label/);
});

test('question-answering', async () => {
  const ask = await pipeline('question-answering', model);
  const context = 'Tom had a dog. The dog was called Rex.';
  const one = await ask('What was the dog called?', context, { max_new_tokens: 8 });
  expect(one.score).toBeGreaterThan(0);
  expect(one.score).toBeLessThanOrEqual(1);
  expect(await ask(['What was the dog called?'], context, { max_new_tokens: 8 })).toEqual([one]);
  await expect(ask('Who?', context, { top_k: 3 } as never)).rejects.toThrow(/unknown option top_k/);
});

test('feature-extraction', async () => {
  const extract = await pipeline('feature-extraction', model);
  const texts = ['The cat.', 'The dog ran away.'];
  const D = model.hiddenSize;
  const pooled = await extract(texts, { pooling: 'mean', normalize: true });
  expect(pooled.dims).toEqual([2, D]);
  expect(pooled.data.slice(D)).toEqual(await embed(model, texts[1]!));
  expect((pooled.tolist() as number[][])[1]![3]).toBe(pooled.data[D + 3]);
  const all = await extract(texts);
  const longest = model.tokenizer.encode(texts[1]!).length;
  expect(all.dims).toEqual([2, longest, D]);
  const last = await extract(texts[1]!, { pooling: 'last_token' });
  expect(last.data).toEqual(all.data.slice(-D));
  const lengths = await extract(texts[0]!, { normalize: true });
  expect(Math.hypot(...lengths.data.slice(0, D))).toBeCloseTo(1, 5);
  await expect(extract('x', { quantize: true } as never)).rejects.toThrow(/unknown option quantize/);
  await expect(extract('x', { pooling: 'max' as never })).rejects.toThrow(/known: none, mean/);
});

test('summarization', async () => {
  const summarize = await pipeline('summarization', model);
  const [first] = await summarize('Tom had a dog. The dog was called Rex.', { max_new_tokens: 5 });
  expect(first!.summary_text).toBeTypeOf('string');
  await expect(summarize('x', { num_beams: 2 })).rejects.toThrow(/not for summarization/);
});

describe('pipelines', () => {
  test('load the model that they are told, and free it', async () => {
    const told: PipelineProgress[] = [];
    const progress_callback = (progress: PipelineProgress) => void told.push(progress);
    const embedding = await pipeline('feature-extraction', undefined, {
      dtype: 'fp32',
      device: 'wasm',
      progress_callback,
    });
    expect(told).toEqual([{ status: 'ready', task: 'feature-extraction', model: 'tiny-books-mamba-13m' }]);
    expect(embedding.model.bytes.weights).toBeGreaterThan(1.5 * model.bytes.weights);
    await embedding.dispose();
    await expect(embedding('x')).rejects.toThrow(/disposed/);
    await write.dispose();
    expect(await write('x', { max_new_tokens: 1 })).toHaveLength(1);
  });

  test('what there is not is refused by name', async () => {
    await expect(pipeline(undefined as never)).rejects.toThrow(/there is no task undefined/);
    await expect(pipeline('text-generaton' as never)).rejects.toThrow(/did you mean text-generation/);
    await expect(pipeline('text-classification', model)).rejects.toThrow(UnsupportedError);
    await expect(pipeline('text-classification', model)).rejects.toThrow(/trained head of labels.*zero-shot/);
    await expect(pipeline('summarization', undefined, { device: 'webgpu' as never })).rejects.toThrow(
      /device is webgpu/,
    );
    await expect(pipeline('summarization', undefined, { dtype: 'q2' as never })).rejects.toThrow(/dtype is q2; known/);
    await expect(pipeline('summarization', undefined, { quantized: true } as never)).rejects.toThrow(/unknown option/);
    await expect(pipeline('summarization', model, { dtype: 'q8' })).rejects.toThrow(/dtype comes too late/);
  });
});

test.each([
  ['text-generation', [], /the input is 5: it must be a text/],
  ['zero-shot-classification', [['a']], /the input is 5: it must be a text or a list of texts/],
  ['question-answering', ['A context.'], /the question is 5/],
  ['feature-extraction', [], /the input is 5/],
  ['summarization', [], /the input is 5/],
] as const)('%s of what is no text is refused', async (task, more, message) => {
  const run = (await pipeline(task, model)) as unknown as (...given: unknown[]) => Promise<unknown>;
  await expect(run(5, ...more)).rejects.toThrow(message);
  await expect(run([null], ...more)).rejects.toThrow(InputError);
  await expect(run('', ...more)).rejects.toThrow(InputError);
});

test('penalties count the whole text, as Hugging Face’s do', async () => {
  // What stands at the beginning is likely to come again, and longer ago than penalties look back natively.
  const long = `Then there was a dog, and it said. ${'The king went to the sea. '.repeat(60)}`;
  const [penalised] = await write(long, { max_new_tokens: 12, repetition_penalty: 8, return_full_text: false });
  const options = { maxTokens: 12, temperature: 0, repetitionPenalty: 8 };
  const text = async (penaltyWindow: number) =>
    (await complete(model.session().generate(long, { ...options, penaltyWindow }))).text;
  expect(penalised!.generated_text).toBe(await text(Infinity));
  expect(penalised!.generated_text).not.toBe(await text(256));
});

import { existsSync, readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { InputError } from '../src/core/errors.ts';
import { load } from '../src/platform/node-load.ts';
import type { GenerateOptions, Generation } from '../src/runtime/generate.ts';
import type { Model } from '../src/runtime/model.ts';
import type { Session } from '../src/runtime/session.ts';
import { byteTokenizer } from '../src/tokenizers/bytes.ts';
import { worldTokenizer } from '../src/tokenizers/rwkv-world.ts';
import { goldenModel } from './assembled.ts';

const model = await load(undefined, { threads: 1 });
const bytes = await goldenModel('mamba', referenceBackend('f32'), { tokenizer: byteTokenizer() });
afterAll(() => model.dispose());
afterAll(() => bytes.dispose());

const seeds = Array.from({ length: 20 }, (_, seed) => seed);

async function generate(
  from: Model | Session,
  prompt: string | number[],
  options: GenerateOptions,
): Promise<Generation> {
  const session = 'session' in from ? from.session() : from;
  const generation = session.generate(prompt, options);
  let text = '';
  for (;;) {
    const next = await generation.next();
    if (next.done) {
      expect(text).toBe(next.value.text);
      if (session !== from) session.dispose();
      return next.value;
    }
    text += next.value;
  }
}

describe('generated text is what the constraint says', () => {
  test.each(seeds)('regular expressions, seed %i', async (seed) => {
    const regex = / (The|A) [a-z]{2,8}( [a-z]{2,8}){2,5}[.!]/u;
    const { text, finishReason } = await generate(model, 'Once upon a time.', { constraint: { regex }, seed });
    expect(text).toMatch(new RegExp(`^${regex.source}$`, 'u'));
    expect(finishReason).toBe('complete');
  });

  test.each(seeds)('JSON, seed %i', async (seed) => {
    const jsonSchema = {
      type: 'object',
      properties: {
        name: { type: 'string', minLength: 1, maxLength: 12 },
        age: { type: 'integer', minimum: 1, maximum: 99 },
        friends: { type: 'array', items: { type: 'string', pattern: '^[A-Z][a-z]{1,6}$' }, maxItems: 3 },
        mood: { enum: ['glad', 'sad'] },
      },
      required: ['name', 'age', 'mood'],
    };
    const { text } = await generate(model, 'Tom is', { constraint: { jsonSchema }, seed, temperature: 1.2 });
    const value = JSON.parse(text);
    expect(value.name.length).toBeGreaterThan(0);
    expect([...value.name].length).toBeLessThanOrEqual(12);
    expect(value.age).toBeGreaterThan(0);
    expect(value.age).toBeLessThan(100);
    expect(['glad', 'sad']).toContain(value.mood);
    for (const friend of value.friends ?? []) expect(friend).toMatch(/^[A-Z][a-z]{1,6}$/);
  });

  test('choices: one of them, the likeliest first', async () => {
    const choices = [' castle', ' spaceship', ' forest'];
    const prompt = 'The king and the queen lived in a big';
    for (const seed of seeds) {
      const { text } = await generate(model, prompt, { constraint: { choices }, seed, temperature: 2 });
      expect(choices).toContain(text);
    }
    const greedy = await generate(model, prompt, { constraint: { choices }, temperature: 0 });
    expect(greedy.text).toBe(' castle');
  });

  test('every byte is a token', async () => {
    for (const seed of seeds) {
      const { text } = await generate(bytes, 'x', { constraint: { regex: '[α-ω]{3}€+!' }, seed, maxTokens: 500 });
      expect(text).toMatch(/^[α-ω]{3}€+!$/u);
    }
    // Without a token that ends texts a text ends as soon as it may.
    const { text, finishReason } = await generate(bytes, 'x', { constraint: { regex: 'a+' }, seed: 1 });
    expect([text, finishReason]).toEqual(['a', 'complete']);
  });

  const vocabulary = new URL('../../shared/tokenizers/rwkv_vocab_v20230424.txt', import.meta.url);
  test.skipIf(!existsSync(vocabulary))('the vocabulary of RWKV World (where its file is)', async () => {
    // The little model has logits for the first 256 tokens only: the single bytes.
    const world = worldTokenizer(readFileSync(vocabulary, 'utf8'));
    const small = await goldenModel('mamba', referenceBackend('f32'), { tokenizer: world });
    for (const seed of seeds.slice(0, 5)) {
      const constraint = { regex: '[a-zé]{4}( 😀)?' };
      const { text } = await generate(small, [1, 2], { constraint, seed });
      expect(text).toMatch(/^[a-zé]{4}( 😀)?$/u);
    }
    small.dispose();
  });
});

describe('together with the other options', () => {
  const constraint = { regex: '[a-z ]{1,200}' };

  test('a text that may go on ends when the model ends it, or at its longest', async () => {
    const { text, finishReason } = await generate(model, 'One day', { constraint, seed: 3, maxTokens: 10 });
    expect(finishReason).toBe('length');
    expect(text).toMatch(/^[a-z ]+$/);
  });

  test('stop texts end it sooner', async () => {
    const { text, finishReason } = await generate(model, 'One day', {
      constraint,
      stop: ' a',
      seed: 3,
      maxTokens: 100,
    });
    expect(finishReason).toBe('stop');
    expect(text).not.toContain(' a');
  });

  test('sessions of a batcher', async () => {
    const batcher = model.batcher();
    const choices = [' cat', ' dog', ' elephant'];
    const all = await Promise.all(
      seeds.map((seed) => generate(batcher.session(), 'Tom has a', { constraint: { choices }, seed, temperature: 3 })),
    );
    for (const { text } of all) expect(choices).toContain(text);
    expect(new Set(all.map(({ text }) => text)).size).toBeGreaterThan(1);
  });

  test('penalties and filters choose among what is left', async () => {
    const { text } = await generate(model, 'One day', {
      constraint: { regex: '(ab){20}' },
      topP: 0.01,
      topK: 1,
      minP: 1,
      typicalP: 0.1,
      repetitionPenalty: 10,
      seed: 1,
    });
    expect(text).toBe('ab'.repeat(20));
  });

  test('where no token is allowed it is an error', async () => {
    const logitBias = { 97: -Infinity };
    await expect(generate(bytes, 'x', { constraint: { regex: 'a' }, logitBias })).rejects.toThrow(/no token is left/);
    await expect(generate(bytes, 'x', { constraint: { regex: 'a' }, logitBias, temperature: 0 })).rejects.toThrow(
      InputError,
    );
  });

  test('a constraint that is not in order is refused before anything is read', () => {
    const session = model.session();
    expect(() => session.generate('x', { constraint: { regex: '(' } })).toThrow(/invalid regular expression/);
    expect(() => session.generate('x', { constraint: { json: {} } as never })).toThrow(/a constraint is one of/);
    expect(session.position).toBe(0);
  });
});

describe('log-probabilities', () => {
  test('are those of the tokens generated, with the likeliest', async () => {
    const { tokens, logprobs } = await generate(model, 'Once upon', {
      logprobs: 3,
      maxTokens: 6,
      seed: 2,
      temperature: 2,
    });
    expect(logprobs!.map(({ token }) => token)).toEqual(tokens);
    const session = model.session();
    await session.read('Once upon');
    for (const { token, logprob, top } of logprobs!) {
      const { logits } = session;
      const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
      expect(logprob).toBeCloseTo(logits[token]! - Math.log(sum), 4);
      const sorted = [...logits].sort((a, b) => b - a);
      expect(top.map((one) => logits[one.token])).toEqual(sorted.slice(0, 3));
      expect(top[0]!.logprob).toBeCloseTo(sorted[0]! - Math.log(sum), 4);
      await session.step(token);
    }
    session.dispose();
  });

  test('none are told unasked, and 0 tells only of the tokens themselves', async () => {
    expect((await generate(model, 'A', { maxTokens: 2, seed: 1 })).logprobs).toBeUndefined();
    const { logprobs } = await generate(model, 'A', { maxTokens: 2, seed: 1, logprobs: 0 });
    expect(logprobs!.map(({ top }) => top)).toEqual([[], []]);
    expect(() => model.session().generate('A', { logprobs: -1 })).toThrow(/logprobs is -1/);
  });

  test('stop tokens end a text', async () => {
    const options = { maxTokens: 30, temperature: 0 };
    const { tokens } = await generate(model, 'Once upon', options);
    const stopped = await generate(model, 'Once upon', { ...options, stopTokens: [tokens[5]!] });
    expect(stopped).toMatchObject({ finishReason: 'end', tokens: tokens.slice(0, tokens.indexOf(tokens[5]!)) });
  });
});

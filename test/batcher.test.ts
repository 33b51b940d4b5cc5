import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import { DisposedError } from '../src/core/errors.ts';
import { Random } from '../src/core/random.ts';
import { spawnThread } from '../src/platform/node.ts';
import type { GenerateOptions } from '../src/runtime/generate.ts';
import type { Model } from '../src/runtime/model.ts';
import type { Session } from '../src/runtime/session.ts';
import { byteTokenizer } from '../src/tokenizers/bytes.ts';
import { goldenModel, goldenNames } from './assembled.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const wasm = await wasmBackend({ threads: 1, spawn: spawnThread });
afterAll(() => wasm.dispose());
const tokenizer = byteTokenizer();
const reference = await goldenModel('mamba', referenceBackend('f32'), { tokenizer });
afterAll(() => reference.dispose());

const random = new Random(9);
const prompts = Array.from({ length: 64 }, () =>
  Array.from({ length: 1 + random.integer(random.uniform() < 0.05 ? 300 : 12) }, () => random.integer(256)),
);
const optionsOf = (i: number): GenerateOptions => ({ seed: i, temperature: 1, topK: 40, maxTokens: 3 + (i % 11) });

/** The tokens of a generation. */
async function generate(session: Session, prompt: number[], options: GenerateOptions): Promise<readonly number[]> {
  const generation = session.generate(prompt, options);
  for (;;) {
    const next = await generation.next();
    if (next.done) return next.value.tokens;
  }
}

async function together(
  model: Model,
  given = prompts,
): Promise<{ sessions: Session[]; tokens: (readonly number[])[]; steps: number }> {
  const batcher = model.batcher();
  const sessions = given.map(() => batcher.session());
  const tokens = await Promise.all(
    sessions.map(async (session, i) => {
      // Half of them join while the others are at work.
      if (i % 2 === 1) await new Promise((resolve) => setTimeout(resolve, i));
      return await generate(session, given[i]!, optionsOf(i));
    }),
  );
  return { sessions, tokens, steps: batcher.steps };
}

describe('batcher', () => {
  test('64 sessions together generate what each does alone, with the same state, bit for bit', async () => {
    const { sessions, tokens, steps } = await together(reference);
    for (const [i, session] of sessions.entries()) {
      const alone = reference.session();
      expect(tokens[i]).toEqual(await generate(alone, prompts[i]!, optionsOf(i)));
      expect(session.state.save()).toEqual(alone.state.save());
      alone.dispose();
      session.dispose();
    }
    const all = tokens.reduce((sum, { length }) => sum + length, 0);
    expect(steps).toBeLessThan(all / 3);
  });

  test.each([
    ...goldenNames.map((name) => [name, 'f32' as const] as const),
    ...['mamba', 'rwkv7-fla', 'llama'].map((name) => [name, 'q8' as const] as const),
    ['gla', 'q4' as const] as const,
    ['mamba2', 'bf16' as const] as const,
  ])('packed kernels give what each gives alone, bit for bit: %s in %s', async (name, weights) => {
    const model = await goldenModel(name, wasm, { tokenizer, weights });
    const few = prompts.slice(0, 12).map((prompt) => prompt.slice(0, 40).map((token) => token % model.vocabularySize));
    const { sessions, tokens } = await together(model, few);
    for (const [i, session] of sessions.entries()) {
      const alone = model.session();
      expect(tokens[i]).toEqual(await generate(alone, few[i]!, optionsOf(i)));
      expect(session.state.save()).toEqual(alone.state.save());
    }
    model.dispose();
  });

  test('a cancelled session leaves at once, and the others go on', async () => {
    const batcher = reference.batcher();
    const controller = new AbortController();
    const [first, second, third] = [batcher.session(), batcher.session(), batcher.session()];
    let count = 0;
    const onToken = () => {
      if (++count === 5) controller.abort(new Error('enough'));
    };
    const cancelled = generate(first, [1, 2], { seed: 1, maxTokens: 500, signal: controller.signal, onToken });
    const disposed = generate(second, [1, 2, 3], {
      seed: 2,
      maxTokens: 500,
      onToken: () => count > 3 && second.dispose(),
    });
    const others = generate(third, [1, 2, 3, 4], { seed: 3, maxTokens: 40 });
    const [outcome, ended, rest] = await Promise.allSettled([cancelled, disposed, others]);
    expect(outcome).toMatchObject({ status: 'rejected', reason: { message: 'enough' } });
    expect(ended).toMatchObject({ status: 'rejected', reason: expect.any(DisposedError) });
    expect(first.position).toBeLessThanOrEqual(2 + 6);
    expect(rest).toMatchObject({ status: 'fulfilled' });
    expect((rest as PromiseFulfilledResult<unknown>).value).toEqual(
      await generate(reference.session(), [1, 2, 3, 4], { seed: 3, maxTokens: 40 }),
    );
    expect(batcher.steps).toBeLessThan(60);
  });

  test('a session disposed while it waits is not run', async () => {
    const batcher = reference.batcher();
    const [first, second] = [batcher.session(), batcher.session()];
    const steps = [first.step(1), second.step(2)];
    first.dispose();
    await expect(steps[0]).rejects.toThrow(DisposedError);
    await steps[1];
    expect(second.position).toBe(1);
  });

  test('a long prompt does not hold up the others', async () => {
    const batcher = reference.batcher({ maxTokens: 256 });
    const long = batcher.session();
    const short = batcher.session();
    let isRead = false;
    const reading = long.read(new Array(4000).fill(7)).then(() => {
      isRead = true;
    });
    await generate(short, [1], { seed: 1, maxTokens: 10 });
    expect(isRead).toBe(false);
    await reading;
    const alone = reference.session();
    await alone.read(new Array(4000).fill(7));
    expect(long.state.save()).toEqual(alone.state.save());
  });

  test('no step takes more tokens of texts than it may, and blocks that are longer are read in parts', async () => {
    const tokens = Array.from({ length: 300 }, (_, i) => (i * 31) % 199);
    for (const name of ['mamba', 'rwkv7', 'llama']) {
      const model = await goldenModel(name, wasm);
      const alone = model.session();
      const hidden: number[] = [];
      await alone.read(tokens, { onHidden: (rows) => hidden.push(...rows) });
      const batcher = model.batcher({ maxTokens: 48 });
      const session = batcher.session();
      const parts: number[] = [];
      await session.read(tokens, { onHidden: (rows) => parts.push(...rows) });
      // Blocks of 256 and 44 tokens, the first in six parts.
      expect(batcher.steps).toBe(7);
      expect(errorRatio(session.logits, alone.logits)).toBeLessThan(tolerance.model);
      expect(errorRatio(Float32Array.from(parts), Float32Array.from(hidden))).toBeLessThan(tolerance.model);
      const logits = await session.logitsOf(tokens.slice(0, 100));
      expect(errorRatio(logits, await alone.logitsOf(tokens.slice(0, 100)))).toBeLessThan(tolerance.model);
      expect(session.position).toBe(400);
      const others = [batcher.session(), batcher.session(), batcher.session()];
      const before = batcher.steps;
      await Promise.all(others.map((other) => other.read(tokens.slice(0, 30))));
      expect(batcher.steps - before).toBe(3);
      model.dispose();
    }
  });

  test('more sessions than fit in a step take turns, and forks are packed too', async () => {
    const batcher = reference.batcher({ maxSessions: 3 });
    const session = batcher.session();
    await session.read([1, 2, 3]);
    const forks = Array.from({ length: 8 }, () => session.fork());
    const before = batcher.steps;
    await Promise.all(forks.map((fork, i) => fork.step(i)));
    expect(batcher.steps - before).toBe(3);
    const alone = reference.session();
    await alone.read([1, 2, 3]);
    await alone.step(7);
    expect(forks[7]!.logits).toEqual(alone.logits);
  });

  test.each([
    [{ maxSessions: 0 }, /maxSessions is 0/],
    [{ maxTokens: 1.5 }, /maxTokens is 1.5/],
    [{ max: 1 }, /unknown/],
  ])('%j is refused', (options, message) => {
    expect(() => reference.batcher(options as never)).toThrow(message);
  });
});

test('what fails in one session leaves the others alone', async () => {
  const batcher = reference.batcher();
  const [mine, other] = [batcher.session(), batcher.session()];
  const failing = mine.read(prompts[0]!, {
    onHidden: () => {
      throw new Error('mine');
    },
  });
  const reading = other.read(prompts[1]!);
  await expect(failing).rejects.toThrow('mine');
  await reading;
  const alone = reference.session();
  await alone.read(prompts[1]!);
  expect(other.state.save()).toEqual(alone.state.save());
  expect(mine.position).toBe(prompts[0]!.length);
});

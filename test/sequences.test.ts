import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Backend } from '../src/core/backend.ts';
import { Random } from '../src/core/random.ts';
import { spawnThread } from '../src/platform/node.ts';
import type { Session } from '../src/runtime/session.ts';
import { goldenModel, goldenNames } from './assembled.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const TOKENS = 200;
const wasm = (threads: number): Promise<Backend> => wasmBackend({ threads, spawn: spawnThread });
const backends: [string, Backend, number][] = [
  ['reference f64', referenceBackend('f64'), tolerance.exact],
  ['wasm', await wasm(1), tolerance.model],
  ['wasm, 2 threads', await wasm(2), tolerance.model],
  ['wasm, 4 threads', await wasm(4), tolerance.model],
];
const three = await wasm(3);
afterAll(() => {
  three.dispose();
  for (const [, backend] of backends) backend.dispose();
});

/** Splits `count` into random pieces, of 1 token and of many. */
function pieces(count: number, random: Random): number[] {
  const result: number[] = [];
  for (let left = count; left > 0; left -= result.at(-1)!)
    result.push(Math.min(left, 1 + random.integer(random.uniform() < 0.3 ? 2 : 70)));
  return result;
}

/** All carried states of a session, end to end. */
const stateOf = (session: Session): number[] =>
  session.stateNames.flatMap((name) => Array.from(session.readState(name)));

describe.each(goldenNames)('%s', (name) => {
  const random = new Random(11);
  test.each(backends)('any split of a text gives the same logits and state: %s', async (_, backend, limit) => {
    const model = await goldenModel(name, backend);
    const count = Math.min(TOKENS, model.longest);
    const tokens = Array.from({ length: count }, () => random.integer(model.vocabularySize));
    const whole = model.session();
    const expected = await whole.logitsOf(tokens);
    for (let round = 0; round < 3; round++) {
      const session = model.session();
      const logits: number[] = [];
      let start = 0;
      for (const length of pieces(count, random)) {
        logits.push(...(await session.logitsOf(tokens.slice(start, start + length))));
        start += length;
      }
      expect(errorRatio(logits, expected), 'logits').toBeLessThan(limit);
      expect(errorRatio(stateOf(session), stateOf(whole)), 'state').toBeLessThan(limit);
      session.dispose();
    }
    const stepped = model.session();
    for (const token of tokens) await stepped.step(token);
    expect(errorRatio(stepped.logits, expected.slice(-model.vocabularySize)), 'token by token').toBeLessThan(limit);
    model.dispose();
  });

  test.each(backends)('a sequence of a packed batch is as if it were alone: %s', async (_, backend, limit) => {
    const model = await goldenModel(name, backend);
    const lengths = [1, 7, 1, 33, 2];
    const texts = lengths.map((length) =>
      Array.from({ length: length + 3 }, () => random.integer(model.vocabularySize)),
    );
    const alone: number[][] = [];
    for (const tokens of texts) {
      const session = model.session();
      alone.push(Array.from(await session.logitsOf(tokens)));
      session.dispose();
    }
    // The first three tokens apart, so that the batch continues from different states.
    const sessions = texts.map(() => model.session());
    for (const [i, session] of sessions.entries()) await session.read(texts[i]!.slice(0, 3));
    const together = await model.readTogether(
      sessions,
      texts.map((tokens) => tokens.slice(3)),
    );
    for (const [i, logits] of together.entries()) {
      expect(errorRatio(logits, alone[i]!.slice(-model.vocabularySize)), `sequence ${i}`).toBeLessThan(limit);
    }
    model.dispose();
  });

  test('any number of threads gives the same logits', async () => {
    const results: Float32Array[] = [];
    const tokens = Array.from({ length: 63 }, (_, i) => (i * 37) % 200);
    for (const [, backend] of backends.slice(1)) {
      const model = await goldenModel(name, backend);
      results.push(await model.session().logitsOf(tokens));
      model.dispose();
    }
    for (const result of results.slice(1)) expect(errorRatio(result, results[0]!)).toBeLessThan(tolerance.op);
  });

  test.each(['bf16', 'f16', 'q8', 'q4'] as const)('and of odd lengths: %s', async (weights) => {
    const results: number[][] = [];
    for (const backend of [backends[1]![1], three]) {
      const model = await goldenModel(name, backend, { weights });
      const result: number[] = [];
      for (const length of [1, 3, 65]) {
        const count = Math.min(length, model.longest - 1);
        const session = model.session();
        result.push(...(await session.logitsOf(Array.from({ length: count }, (_, i) => (i * 37 + length) % 200))));
        await session.step(2);
        result.push(...session.logits, ...stateOf(session));
      }
      results.push(result);
      model.dispose();
    }
    // A difference in the last bit of an activation may be one in the last of its 16 or 8.
    expect(errorRatio(results[1]!, results[0]!)).toBeLessThan(weights.startsWith('q') ? tolerance.model : tolerance.op);
  });
});

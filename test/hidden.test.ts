import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import { spawnThread } from '../src/platform/node.ts';
import { PrefixCache } from '../src/runtime/prefix-cache.ts';
import type { Session } from '../src/runtime/session.ts';
import { goldenModel, goldenNames } from './assembled.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const wasm = await wasmBackend({ threads: 1, spawn: spawnThread });
const reference = referenceBackend('f64');
afterAll(() => wasm.dispose());

const tokens = Array.from({ length: 150 }, (_, i) => (i * 37 + 11) % 199);

/** The hidden states [tokens, D] of all that is read. */
async function hiddenOf(session: Session, source: number[]): Promise<Float32Array> {
  const all: number[] = [];
  await session.read(source, { onHidden: (hidden) => all.push(...hidden) });
  return Float32Array.from(all);
}

describe.each(goldenNames)('hidden states: %s', (name) => {
  test('are the same on every backend, and reading them is reading', async () => {
    const [fast, exact] = [await goldenModel(name, wasm), await goldenModel(name, reference)];
    const length = Math.min(tokens.length, fast.longest);
    const [a, b, read] = [fast.session(), exact.session(), fast.session()];
    const all = tokens.slice(0, length);
    const hidden = await hiddenOf(a, all);
    expect(hidden.length).toBe(length * fast.hiddenSize);
    expect(errorRatio(hidden, await hiddenOf(b, all))).toBeLessThan(tolerance.model);
    await read.read(all);
    expect(a.position).toBe(length);
    expect(errorRatio(a.logits, read.logits)).toBeLessThan(tolerance.model);
    fast.dispose();
    exact.dispose();
  });
});

test('sessions of a batcher are told their own', async () => {
  const model = await goldenModel('mamba', wasm);
  const batcher = model.batcher();
  const texts = [tokens.slice(0, 5), tokens.slice(5, 70), tokens.slice(70, 73)];
  const together = await Promise.all(texts.map((text) => hiddenOf(batcher.session(), text)));
  expect(batcher.steps).toBe(1);
  for (const [i, text] of texts.entries()) {
    const alone = model.session();
    expect(errorRatio(together[i]!, await hiddenOf(alone, text))).toBeLessThan(tolerance.model);
  }
  const cached = model.session().read([1], { onHidden: () => {}, cache: new PrefixCache() });
  await expect(cached).rejects.toThrow(/not with a checkpointFile or a cache/);
  model.dispose();
});

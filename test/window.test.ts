import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Backend } from '../src/core/backend.ts';
import { Random } from '../src/core/random.ts';
import { bytesSource } from '../src/formats/byte-source.ts';
import { openSafetensors } from '../src/formats/safetensors.ts';
import { modelSizes, stateBytesAt } from '../src/index.ts';
import { spawnThread } from '../src/platform/node.ts';
import { assemble, type Model } from '../src/runtime/model.ts';
import { State } from '../src/runtime/state.ts';
import { goldenFolder } from './golden.ts';
import { errorRatio, tolerance } from './tolerance.ts';

/*
 * Attention with a window: what it has passed is let go, and nothing is seen of it.
 */

const backends: [string, Backend][] = [
  ['reference', referenceBackend('f32')],
  ['wasm', await wasmBackend({ relaxed: false, poison: true })],
  ['wasm, 2 threads', await wasmBackend({ threads: 2, spawn: spawnThread, poison: true })],
];

/** A window that ends within a page, and one shorter than a page. */
const windows = [100, 5];
const random = new Random(8);
const tokens = Array.from({ length: 500 }, () => random.integer(256));

const checkpoint = async (name: string) =>
  await openSafetensors(bytesSource(readFileSync(`${goldenFolder(name)}model.safetensors`), name));
const configOf = (name: string) => JSON.parse(readFileSync(`${goldenFolder(name)}config.json`, 'utf8'));

async function windowed(backend: Backend, window: number, name = 'llama', more = {}): Promise<Model> {
  const config = { ...configOf(name), sliding_window: window, ...more };
  return await assemble({ config, checkpoint: await checkpoint(name) }, backend);
}

/** Bytes that one sequence's keys and values take for so many tokens, in whole pages of 64. */
const pages = (model: Model, tokens: number): number => Math.ceil(tokens / 64) * 64 * stateBytesOf(model);
const stateBytesOf = (model: Model): number =>
  model.bytesPerToken.windows.reduce((sum, one) => sum + one.bytesPerToken, 0);

describe.each(backends)('%s', (_, backend) => {
  test.each(windows)('a window of %i: the state stops growing, and in pieces all is as in one', async (window) => {
    const model = await windowed(backend, window);
    const whole = await model.session().logitsOf(tokens);
    const V = model.vocabularySize;
    const session = model.session();
    const sizes: number[] = [];
    const found: Float32Array[] = [];
    let at = 0;
    // One by one, in twos, in blocks of less and more than a page and than the window.
    for (const piece of [
      ...new Array<number>(150).fill(1),
      2,
      64,
      3,
      100,
      1,
      1,
      100,
      ...new Array<number>(79).fill(1),
    ]) {
      found.push((await session.logitsOf(tokens.slice(at, at + piece))).slice());
      at += piece;
      sizes.push(session.state.size);
    }
    expect(at).toBe(tokens.length);
    const joined = found.flatMap((logits) => Array.from(logits));
    expect(errorRatio(joined, whole)).toBeLessThan(tolerance.model);
    // After single tokens: the window, and what a page has besides.
    const [first, last] = [sizes[149]!, sizes.at(-1)!];
    if (window > 64)
      expect(first).toBeGreaterThanOrEqual(pages(model, window) / (backend.name.startsWith('wasm') ? 1 : 2));
    expect(last).toBeLessThanOrEqual(
      backend.name.startsWith('wasm') ? pages(model, window + 64) + 4096 : 2 * pages(model, 400),
    );
    const full = model.session();
    await full.read(tokens.slice(0, 64));
    expect(whole.subarray(-V)).not.toEqual(full.logits);
    model.dispose();
  });

  test('it takes no more after a thousand tokens than after five hundred', async () => {
    const model = await windowed(backend, 20);
    const session = model.session();
    const sizes: number[] = [];
    for (let n = 0; n < 20; n++) {
      await session.read(Array.from({ length: 50 }, (_, i) => (i * 7 + n) % 256));
      sizes.push(session.state.size);
    }
    expect(Math.max(...sizes.slice(10))).toBeLessThanOrEqual(Math.max(...sizes.slice(0, 10)));
    model.dispose();
  });

  test.each(windows)(
    'window of %i: saved, restored, forked, rewound and inspected it goes on the same',
    async (window) => {
      const model = await windowed(backend, window);
      const [before, after] = [tokens.slice(0, 333), tokens.slice(333, 420)];
      const straight = model.session();
      await straight.read(before.slice(0, 300));
      for (const token of before.slice(300)) await straight.step(token);
      const saved = straight.state.save();
      const kept = straight.state.copy();
      const fork = straight.fork();
      straight.checkpoints.mark('here');
      const expected = (await straight.logitsOf(after)).slice();
      for (const tensor of kept.tensors.values()) expect(tensor.shape[0]).toBe(window);
      expect(kept.size).toBe(4 * (model.vocabularySize + (window * stateBytesOf(model)) / 4));

      expect(await fork.logitsOf(after), 'forked').toEqual(expected);
      const restored = model.session();
      await restored.state.restore(saved);
      expect(await restored.logitsOf(after), 'restored').toEqual(expected);
      // Into a session that is elsewhere: further on, and of fewer tokens than a page.
      for (const length of [450, 10]) {
        const other = model.session();
        await other.read(tokens.slice(0, length));
        await other.state.restore(kept);
        expect(await other.logitsOf(after), `restored after ${length}`).toEqual(expected);
      }
      straight.checkpoints.rewind('here');
      expect(straight.position).toBe(333);
      expect(await straight.logitsOf(after), 'rewound').toEqual(expected);
      const again = straight.fork();
      again.state.reset();
      expect(errorRatio(await again.logitsOf(before), await model.session().logitsOf(before))).toBeLessThan(1e-6);

      // What a page holds before the window, and rows that were let go, are nothing to the probe either.
      const [one, other] = [model.session(), model.session()];
      await one.read(before);
      await other.state.restore(kept);
      const [a, b] = [await one.inspect(after.slice(0, 20)), await other.inspect(after.slice(0, 20))];
      expect(errorRatio(b.layers[0]!.map!.weights, a.layers[0]!.map!.weights)).toBeLessThan(tolerance.model);
      expect(errorRatio(b.layers[1]!.past, a.layers[1]!.past)).toBeLessThan(tolerance.model);
      model.dispose();
    },
  );

  test('sequences of different lengths go on together', async () => {
    const model = await windowed(backend, 20);
    const starts = [3, 90, 200];
    const sessions = starts.map(() => model.session());
    for (const [i, session] of sessions.entries()) await session.read(tokens.slice(0, starts[i]));
    for (let n = 0; n < 70; n++)
      await model.readTogether(
        sessions,
        starts.map((start) => [tokens[start + n]!]),
      );
    for (const [i, session] of sessions.entries()) {
      const alone = model.session();
      await alone.read(tokens.slice(0, starts[i]! + 70));
      expect(errorRatio(session.logits, alone.logits)).toBeLessThan(tolerance.model);
    }
    model.dispose();
  });

  test('layers that see everything keep everything beside those with a window', async () => {
    const options = { use_sliding_window: true, max_window_layers: 1, layer_types: undefined };
    const model = await windowed(backend, 5, 'qwen2', options);
    const whole = await model.session().logitsOf(tokens.slice(0, 400));
    const session = model.session();
    await session.read(tokens.slice(0, 399));
    await session.step(tokens[399]!);
    expect(errorRatio(session.logits, whole.subarray(-model.vocabularySize))).toBeLessThan(tolerance.model);
    const rows = [...session.state.copy().tensors].map(([name, { shape }]) => [
      /layers\.(\d)/.exec(name)![1],
      shape[0],
    ]);
    expect(rows).toEqual(
      [
        ['0', 400],
        ['0', 400],
        ['1', 5],
        ['1', 5],
      ].sort(),
    );
    model.dispose();
  });

  test('a state that was saved with all rows is read: those before the window mean nothing', async () => {
    const model = await windowed(backend, 5);
    const session = model.session();
    await session.read(tokens.slice(0, 90));
    const { tensors, ...rest } = session.state.copy();
    const all = [...tensors].map(([name, { shape, values }]) => {
      const row = values.length / shape[0]!;
      const padded = new Float32Array(90 * row).fill(1e6);
      padded.set(values, padded.length - values.length);
      return [name, { shape: [90, ...shape.slice(1)], values: padded }] as const;
    });
    const older = new State({ ...rest, tensors: new Map(all) }).save();
    const other = model.session();
    await other.state.restore(older);
    const next = tokens.slice(90, 200);
    expect(await other.logitsOf(next)).toEqual(await session.logitsOf(next));
    model.dispose();
  });
});

test('what a model takes is told with its windows', async () => {
  const config = {
    ...configOf('qwen2'),
    use_sliding_window: true,
    sliding_window: 5,
    max_window_layers: 1,
    layer_types: undefined,
  };
  const sizes = modelSizes(config, await checkpoint('qwen2'));
  expect(sizes.stateWindows).toEqual([{ tokens: 5, bytesPerToken: sizes.stateBytesPerToken }]);
  expect(stateBytesAt(sizes, 3)).toBe(2 * 3 * sizes.stateBytesPerToken);
  expect(stateBytesAt(sizes, 1000)).toBe(1005 * sizes.stateBytesPerToken);
});

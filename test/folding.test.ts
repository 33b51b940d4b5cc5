import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Backend, Weights } from '../src/core/backend.ts';
import { Random } from '../src/core/random.ts';
import { bytesSource } from '../src/formats/byte-source.ts';
import { openSafetensors } from '../src/formats/safetensors.ts';
import { architectureOf } from '../src/models/index.ts';
import { spawnThread } from '../src/platform/node.ts';
import { derivingWeights, foldConstants } from '../src/runtime/fold.ts';
import { traceModel } from '../src/runtime/graph.ts';
import { loadParameters } from '../src/runtime/load-parameters.ts';
import { matchModel } from '../src/runtime/matched.ts';
import { declareWeights } from '../src/runtime/parameters.ts';
import { Runner } from '../src/runtime/runner.ts';
import { goldenModel } from './assembled.ts';
import { goldenFolder } from './golden.ts';

const backends: [string, Backend][] = [
  ['one thread', await wasmBackend()],
  ['two threads', await wasmBackend({ threads: 2, spawn: spawnThread })],
];

describe.each(backends)('constants computed at load, on %s', (_, backend) => {
  test.each(['mamba', 'mamba2', 'rwkv4', 'rwkv5'])(
    'are what every step would compute, to the last bit: %s',
    async (name) => {
      const folder = goldenFolder(name);
      const checkpoint = await openSafetensors(bytesSource(readFileSync(`${folder}model.safetensors`), name));
      const { graph, origins } = matchModel(JSON.parse(readFileSync(`${folder}config.json`, 'utf8')), checkpoint);
      expect(foldConstants(graph).derived.length).toBeGreaterThan(0);
      const weights = backend.weights(declareWeights(graph, 'f32'));
      await loadParameters(origins, checkpoint, weights, {});
      const runner = new Runner(backend, weights, graph, graph.logits.shape[1] as number);
      const tokens = [3, 1, 4, 1, 5, 9, 2, 6];
      const slot = backend.slot(graph.carries);
      let inFull = new Float32Array(0);
      await runner.run([{ slot, tokens, position: 0, outputs: 'all' }], (logits) => {
        inFull = logits.slice();
      });
      const model = await goldenModel(name, backend);
      const session = model.session();
      expect(await session.logitsOf(tokens)).toEqual(inFull);
      session.dispose();
      slot.dispose();
      runner.dispose();
      weights.dispose();
      model.dispose();
    },
  );

  test.each(['one after the other', 'all at the same time'])(
    'are computed of a few megabytes of parameters at a time: parameters that come %s',
    async (order) => {
      const json = { model_type: 'mamba', vocab_size: 64, hidden_size: 4096, num_hidden_layers: 6, state_size: 32 };
      const architecture = architectureOf(json, new Map());
      const graph = foldConstants(traceModel(architecture, architecture.config(json, new Map())));
      const numbers = new Random(7);
      const sources = graph.derived.map(({ sources }) => {
        const [[name, shape]] = [...sources] as [[string, readonly number[]]];
        return { name, values: Float32Array.from({ length: shape[0]! * shape[1]! }, () => 4 * numbers.uniform() - 2) };
      });
      expect(sources.map(({ values }) => values.byteLength)).toEqual(new Array(6).fill(1 << 20));
      const held = { now: 0, most: 0 };
      const counting: Backend = {
        ...backend,
        weights(declarations) {
          const kept = backend.weights(declarations);
          const { bytes } = kept;
          const dispose = kept.dispose.bind(kept);
          held.now += bytes;
          held.most = Math.max(held.most, held.now);
          kept.dispose = () => {
            held.now -= bytes;
            dispose();
          };
          return kept;
        },
      };
      const written = new Map<string, Float32Array>();
      const sink = { write: (name: string, values: Float32Array) => void written.set(name, values) };
      const deriving = derivingWeights(graph, sink as unknown as Weights, counting);
      const pieces = sources.flatMap(({ name, values }) =>
        [0, 1, 2, 3].map((n) => ({ name, n, start: n * 65536, piece: values.subarray(n * 65536, (n + 1) * 65536) })),
      );
      if (order === 'all at the same time') pieces.sort((a, b) => a.n - b.n);
      for (const { name, piece, start } of pieces) await deriving.write(name, piece, start);
      expect(held.now).toBe(0);
      if (order === 'one after the other') expect(held.most).toBe(4 << 20);
      for (const [n, { name }] of graph.derived.entries()) {
        const expected = sources[n]!.values.map((x) => -Math.exp(x));
        const difference = written.get(name)!.reduce((most, y, i) => Math.max(most, Math.abs(y / expected[i]! - 1)), 0);
        expect(difference).toBeLessThan(1e-6);
      }
    },
  );

  test('leave nothing behind where loading ends early', async () => {
    const json = { model_type: 'mamba', vocab_size: 64, hidden_size: 64, num_hidden_layers: 1 };
    const architecture = architectureOf(json, new Map());
    const graph = foldConstants(traceModel(architecture, architecture.config(json, new Map())));
    let isHeld = false;
    const watched: Backend = {
      ...backend,
      weights(declarations) {
        const kept = backend.weights(declarations);
        const dispose = kept.dispose.bind(kept);
        isHeld = true;
        kept.dispose = () => {
          isHeld = false;
          dispose();
        };
        return kept;
      },
    };
    const deriving = derivingWeights(graph, { write() {} } as unknown as Weights, watched);
    const [name] = [...graph.derived[0]!.sources.keys()];
    await deriving.write(name!, new Float32Array(16));
    expect(isHeld).toBe(true);
    deriving.dispose();
    expect(isHeld).toBe(false);
  });
});

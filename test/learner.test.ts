import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Backend } from '../src/core/backend.ts';
import { Random } from '../src/core/random.ts';
import { architectureOf } from '../src/models/index.ts';
import { spawnThread } from '../src/platform/node.ts';
import { traceModel } from '../src/runtime/graph.ts';
import { initialise } from '../src/train/initialise.ts';
import { Learner, type Part } from '../src/train/learner.ts';
import { learnedBy } from '../src/train/method.ts';
import { prediction } from '../src/train/objective.ts';
import { goldenNames } from './assembled.ts';
import { goldenFolder, readTensors } from './golden.ts';

const wasm = await wasmBackend({ threads: 2, spawn: spawnThread, poison: true });
afterAll(() => wasm.dispose());

/** A golden's architecture in its small size, with initial values drawn from a seed. */
function learnerOf(name: string, backend: Backend, tokens: number, weightDecay = 0.1, recompute = false): Learner {
  const folder = goldenFolder(name);
  const json = JSON.parse(readFileSync(`${folder}config.json`, 'utf8'));
  const stored = readTensors(`${folder}model.safetensors`);
  const architecture = architectureOf(json, stored);
  const graph = traceModel(architecture, architecture.config(json, stored));
  const objective = prediction(graph, learnedBy(graph, { weightDecay }));
  const learner = new Learner(backend, objective, { tokens, segments: 8, outputs: tokens }, { recompute });
  const random = new Random(11);
  for (const { name: parameter, initial, shape } of graph.parameters.values())
    learner.write(parameter, initialise(initial, shape, random));
  return learner;
}

/** `tokens` tokens in two segments, every next one to be predicted. */
function part(seed: number, tokens: number): Part {
  const random = new Random(seed);
  const ids = Int32Array.from({ length: tokens + 1 }, () => random.integer(40));
  return {
    tokens: ids.subarray(0, tokens),
    ends: [Math.ceil(tokens / 3), tokens],
    rows: Int32Array.from({ length: tokens }, (_, i) => i),
    inputs: { targets: ids.subarray(1), weights: new Float32Array(tokens).fill(1 / tokens) },
  };
}

describe('a seeded training', () => {
  test.each(goldenNames)('has the losses of the float64 reference: %s', async (name) => {
    const losses = async (backend: Backend) => {
      const learner = learnerOf(name, backend, 9);
      const result: number[] = [];
      for (let n = 1; n <= 20; n++) {
        const { loss } = await learner.step([part(n, 9)], 1e-3, n);
        result.push(loss);
      }
      learner.dispose();
      return result;
    };
    const [truth, found] = [await losses(referenceBackend('f64')), await losses(wasm)];
    for (const [i, loss] of truth.entries()) expect(Math.abs(found[i]! - loss) / loss, `loss ${i}`).toBeLessThan(1e-4);
  });
});

test.each(goldenNames)('512 random tokens are learned by heart: %s', async (name) => {
  const [segments, length] = [8, 64];
  const tokens = segments * length;
  const learner = learnerOf(name, wasm, tokens, 0);
  const random = new Random(5);
  const ids = Int32Array.from({ length: tokens }, () => random.integer(256));
  // The last token of a segment has no next one.
  const isLast = (i: number) => (i + 1) % length === 0;
  const whole: Part = {
    tokens: ids,
    ends: Array.from({ length: segments }, (_, i) => (i + 1) * length),
    rows: Int32Array.from(ids.keys()),
    inputs: {
      targets: Int32Array.from(ids, (_, i) => (isLast(i) ? -1 : ids[i + 1]!)),
      weights: Float32Array.from(ids, (_, i) => (isLast(i) ? 0 : 1 / (tokens - segments))),
    },
  };
  let loss = Infinity;
  for (let step = 1; loss >= 0.05 && step <= 100; step++)
    ({ loss } = await learner.step([whole], 1e-2 * Math.min(1, step / 10), step));
  expect(loss).toBeLessThan(0.05);
  learner.dispose();
});

test.each(goldenNames)('layers computed once more have the same gradients, in less memory: %s', async (name) => {
  const [kept, again] = [false, true].map((recompute) => learnerOf(name, wasm, 64, 0.1, recompute));
  const one = part(3, 64);
  const [expected, found] = [await kept!.gradients(one), await again!.gradients(one)];
  for (const [parameter, gradient] of expected) expect(found.get(parameter), parameter).toEqual(gradient);
  expect(again!.bytes).toBeLessThan(kept!.bytes);
  kept!.dispose();
  again!.dispose();
});

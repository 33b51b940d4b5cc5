import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Backend } from '../src/core/backend.ts';
import { Random } from '../src/core/random.ts';
import { architectureOf } from '../src/models/index.ts';
import { spawnThread } from '../src/platform/node.ts';
import { traceModel } from '../src/runtime/graph.ts';
import { newModel } from '../src/train/configurations.ts';
import { streams } from '../src/train/corpus.ts';
import { initialise } from '../src/train/initialise.ts';
import { Learner, type Part } from '../src/train/learner.ts';
import { learnedBy } from '../src/train/method.ts';
import { prediction } from '../src/train/objective.ts';
import { goldenNames } from './assembled.ts';
import { goldenFolder, readTensors } from './golden.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const wasm = await wasmBackend({ threads: 2, spawn: spawnThread, poison: true });
afterAll(() => wasm.dispose());

/** A golden's architecture in its small size. */
function configured(name: string) {
  const folder = goldenFolder(name);
  const json = JSON.parse(readFileSync(`${folder}config.json`, 'utf8'));
  const stored = readTensors(`${folder}model.safetensors`);
  const architecture = architectureOf(json, stored);
  return { architecture, config: architecture.config(json, stored) };
}

/** It, with initial values drawn from a seed. */
function learnerOf(name: string, backend: Backend, tokens: number, weightDecay = 0.1, recompute = false): Learner {
  const { architecture, config } = configured(name);
  const graph = traceModel(architecture, config);
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

describe('the update', () => {
  const { config, tensors } = newModel('mamba', { width: 16, layers: 2, vocabulary: 40 });
  const architecture = architectureOf(config, tensors);
  const graph = traceModel(architecture, architecture.config(config, tensors));
  const [beta1, beta2, epsilon] = [0.9, 0.95, 1e-8];
  const groups = { weightDecay: 0.3, undecayed: ['x_proj'], rates: { 'layers\\.1': 0.5 } };

  test.each([
    ['shortens every gradient', 0.02, 8],
    ['shortens some gradients', undefined, 4],
    ['shortens none', 1e6, 0],
  ] as const)('is AdamW, written out in float64, where the clip %s', async (_, given, expected) => {
    const steps = 8;
    const parts = Array.from({ length: steps }, (_, n) => part(n, 15));
    const build = (clip: number) => {
      const objective = prediction(graph, learnedBy(graph, groups));
      const learner = new Learner(wasm, objective, { tokens: 15, segments: 2, outputs: 15 }, { clip });
      const random = new Random(11);
      for (const { name, initial, shape } of graph.parameters.values())
        learner.write(name, initialise(initial, shape, random));
      return { learner, trained: objective.trained };
    };
    // In the middle of what the norms are, some are longer.
    let clip: number = given ?? 0;
    if (given === undefined) {
      const { learner } = build(1e6);
      const norms: number[] = [];
      for (const [n, one] of parts.entries()) norms.push((await learner.step([one], 1e-6, n + 1)).gradientNorm);
      learner.dispose();
      norms.sort((a, b) => a - b);
      clip = (norms[3]! + norms[4]!) / 2;
    }
    const { learner, trained } = build(clip);
    const state = new Map(
      learner.trained.map((name) => {
        const p = Float64Array.from(learner.read(name));
        return [name, { p, m: new Float64Array(p.length), v: new Float64Array(p.length) }] as const;
      }),
    );
    let shortened = 0;
    for (const [n, one] of parts.entries()) {
      const t = n + 1;
      const rate = given === undefined ? 1e-6 : 1e-2 / t;
      const gradients = await learner.gradients(one);
      const { gradientNorm } = await learner.step([one], rate, t);
      let squares = 0;
      for (const g of gradients.values()) for (const x of g) squares += x * x;
      const norm = Math.sqrt(squares);
      expect(Math.abs(gradientNorm / norm - 1)).toBeLessThan(1e-5);
      const scale = Math.min(1, clip / (norm + 1e-6));
      if (scale < 1) shortened++;
      for (const [name, { p, m, v }] of state) {
        const { decay, rate: factor } = trained.get(name)!;
        for (const [i, x] of gradients.get(name)!.entries()) {
          const g = x * scale;
          m[i] = beta1 * m[i]! + (1 - beta1) * g;
          v[i] = beta2 * v[i]! + (1 - beta2) * g * g;
          const direction = m[i]! / (1 - beta1 ** t) / (Math.sqrt(v[i]! / (1 - beta2 ** t)) + epsilon);
          p[i] = p[i]! - rate * factor * (decay * p[i]! + direction);
        }
        for (const [key, truth] of [['', p] as const, ['mean:', m] as const, ['square:', v] as const])
          expect(errorRatio(learner.read(`${key}${name}`), Float32Array.from(truth)), `${key}${name}`).toBeLessThan(
            1e-5,
          );
      }
    }
    expect(shortened).toBe(expected);
    const decays = new Set([...trained.values()].map(({ decay }) => decay));
    expect([...decays].sort()).toEqual([0, 0.3]);
    learner.dispose();
  });
});

/** Windows of 7 and 9 tokens of one text, one long window of both, and the second with a stretch that continues the first. */
function carried(seed: number): { whole: Part; first: Part; second: Part } {
  const random = new Random(seed);
  const ids = Int32Array.from({ length: 17 }, () => random.integer(40));
  const window = (from: number, to: number, rows: readonly number[]): Part => ({
    tokens: ids.subarray(from, to),
    ends: [to - from],
    rows: Int32Array.from(rows),
    inputs: {
      targets: Int32Array.from(rows, (row) => ids[from + row + 1]!),
      weights: new Float32Array(rows.length).fill(1 / 9),
    },
  });
  const count = (n: number, from = 0) => Array.from({ length: n }, (_, i) => from + i);
  const stretch = (continues: boolean) => ({ streams: [{ stream: 3, first: 0, last: 0, continues }] });
  return {
    whole: window(0, 16, count(9, 7)),
    first: { ...window(0, 7, count(7)), ...stretch(false) },
    second: { ...window(7, 16, count(9)), ...stretch(true) },
  };
}

describe('carried states', () => {
  const recurrent = goldenNames.filter((name) => {
    const learner = learnerOf(name, referenceBackend('f64'), 1);
    const isRecurrent = learner.carries.every(({ growing }) => !growing);
    learner.dispose();
    return isRecurrent && learner.carries.length > 0;
  });

  test('belong to most architectures', () => expect(recurrent.length).toBeGreaterThan(8));

  test.each(recurrent)('give a window the loss that it has within a longer one: %s', async (name) => {
    for (const [backend, most] of [
      [referenceBackend('f64'), tolerance.f64] as const,
      [wasm, tolerance.model] as const,
    ]) {
      const learner = learnerOf(name, backend, 16);
      // Matrices as small as they begin leave less in some states than a loss in f32 tells.
      for (const { name: key, shape } of learner.parameters.values())
        if (shape.length === 2)
          learner.write(
            key,
            learner.read(key).map((value) => 4 * value),
          );
      const { whole, first, second } = carried(7);
      const expected = await learner.evaluate([whole]);
      const alone = await learner.evaluate([{ ...second, streams: [] }]);
      await learner.evaluate([first]);
      // The learner's own evaluations in between begin texts of their own.
      await learner.evaluate([part(2, 9)]);
      const found = await learner.evaluate([second]);
      expect(Math.abs(found - expected) / expected).toBeLessThan(most);
      expect(found).not.toBe(alone);
      learner.dispose();
    }
  });

  test.each(recurrent)('over one long text are those of one unbroken reading in float64: %s', async (name) => {
    const [length, count] = [6, 9];
    const random = new Random(5);
    const tokens = Uint16Array.from({ length: (count + 1) * length + 1 }, () => random.integer(40));
    const batches = streams({ tokens, starts: Uint32Array.of(0) }, { length, batch: 1, seed: 1 });
    const all = count * length;
    const whole: Part = {
      tokens: Int32Array.from(tokens.subarray(0, all)),
      ends: [all],
      rows: Int32Array.from({ length: all }, (_, i) => i),
      inputs: {
        targets: Int32Array.from(tokens.subarray(1, all + 1)),
        weights: new Float32Array(all).fill(1 / all),
      },
      streams: [{ stream: 0, first: 0, last: 0, continues: false }],
    };
    const reference = learnerOf(name, referenceBackend('f64'), all);
    const learner = learnerOf(name, wasm, all);
    const truth = await reference.evaluate([whole]);
    let sum = 0;
    for (let step = 0; step < count; step++) sum += await learner.evaluate(batches.parts(step));
    expect(batches.stepsPerEpoch).toBe(count);
    expect(Math.abs(sum / count - truth) / truth).toBeLessThan(tolerance.model);
    const [left, expected] = [learner.streams.get(0)!, reference.streams.get(0)!];
    expect(left.position).toBe(all);
    for (const [carry, values] of expected.states)
      expect(errorRatio(left.states.get(carry)!, values), carry).toBeLessThan(tolerance.model);
    reference.dispose();
    learner.dispose();
  });

  // With the state a constant, the derivative along a direction is a central difference of losses from that state.
  test.each(recurrent)('have no gradient through them, and all of it after: %s', async (name) => {
    const learner = learnerOf(name, referenceBackend('f64'), 16);
    const { first, second } = carried(8);
    await learner.evaluate([first]);
    const { position, states } = learner.streams.get(3)!;
    const lossOf = async (parameters: ReadonlyMap<string, Float32Array>) => {
      for (const [key, values] of parameters) learner.write(key, values);
      learner.resumeStream(3, position, states);
      return await learner.evaluate([second]);
    };
    learner.resumeStream(3, position, states);
    const gradients = await learner.gradients(second);
    // Steps in proportion to what a parameter's numbers are, as f32 holds them.
    const random = new Random(9);
    let product = 0;
    const sides = [new Map<string, Float32Array>(), new Map<string, Float32Array>()] as const;
    for (const [key, gradient] of gradients) {
      const values = learner.read(key);
      const size =
        1e-4 * Math.max(1e-3, Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length));
      const steps = Array.from(values, () => size * random.normal());
      const [less, more] = [values.map((value, i) => value - steps[i]!), values.map((value, i) => value + steps[i]!)];
      for (const [i, one] of gradient.entries()) product += one * (more[i]! - less[i]!);
      sides[0].set(key, less);
      sides[1].set(key, more);
    }
    const [less, more] = [await lossOf(sides[0]), await lossOf(sides[1])];
    expect(Math.abs(more - less - product)).toBeLessThan(tolerance.heldDifference * Math.abs(product));
    learner.dispose();
  });
});

test.each(goldenNames)('512 random tokens are learned by heart: %s', async (name) => {
  const [segments, length] = [8, 64];
  const tokens = segments * length;
  const learner = learnerOf(name, wasm, tokens, 0);
  const { architecture, config } = configured(name);
  const vocabulary = architecture.vocabulary(config);
  const random = new Random(5);
  const ids = Int32Array.from({ length: tokens }, () => random.integer(vocabulary));
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

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Backend } from '../src/core/backend.ts';
import { type Carry, input, leaf } from '../src/core/trace.ts';
import type { Checkpoint } from '../src/formats/checkpoint.ts';
import { architectureOf } from '../src/models/index.ts';
import { expr } from '../src/ops/expr.ts';
import { recurrence } from '../src/ops/recurrence.ts';
import { traceModel } from '../src/runtime/graph.ts';
import { assemble, type Model } from '../src/runtime/model.ts';
import { goldenModel } from './assembled.ts';
import { type GoldenTensor, goldenFolder, readTensors } from './golden.ts';
import { evaluate } from './op-cases.ts';
import { errorRatio, tolerance } from './tolerance.ts';

/*
 * What most often breaks an implementation of these models, each with a test that fails when it is stepped into. The traps that
 * concern numbers of whole models are held by their goldens as well.
 */

const f64 = referenceBackend('f64');
const wasm = await wasmBackend();
const golden = (name: string) => readTensors(`${goldenFolder(name)}golden.safetensors`);
const stored = (name: string) => readTensors(`${goldenFolder(name)}model.safetensors`);
const configOf = (name: string) => JSON.parse(readFileSync(`${goldenFolder(name)}config.json`, 'utf8'));

/** A fixture's model with its configuration or tensors changed. */
async function changed(
  name: string,
  edit: { config?: object; tensors?: (tensors: Map<string, GoldenTensor>) => void },
  backend: Backend = f64,
): Promise<Model> {
  const tensors = stored(name);
  edit.tensors?.(tensors);
  const checkpoint: Checkpoint = {
    name,
    format: 'safetensors',
    metadata: {},
    tensors: new Map(
      [...tensors].map(([key, { shape, data }]) => [
        key,
        { name: key, type: 'f32' as const, shape, byteLength: data.byteLength },
      ]),
    ),
    async read(key, into, offset = 0) {
      const { data } = tensors.get(key)!;
      into.set(new Uint8Array(data.buffer, data.byteOffset + offset, into.length));
    },
    async close() {},
  };
  return await assemble({ config: { ...configOf(name), ...edit.config }, checkpoint }, backend);
}

const tokensOf = (name: string): number[] => Array.from(golden(name).get('tokens')!.data);

test.each(['mamba', 'falcon_mamba', 'mamba2', 'bamba'])(
  '1: %s read in two pieces is %s read at once: the state is not begun anew',
  async (name) => {
    const model = await goldenModel(name, wasm);
    const session = model.session();
    const tokens = tokensOf(name);
    await session.logitsOf(tokens.slice(0, 20));
    const rest = await session.logitsOf(tokens.slice(20));
    expect(
      errorRatio(
        rest,
        golden(name)
          .get('logits')!
          .data.subarray(20 * model.vocabularySize),
      ),
    ).toBeLessThan(tolerance.model);
  },
);

test('2: the limit of Δ in Mamba-2 holds token by token as in one pass', async () => {
  const limited = await changed('mamba2', { config: { time_step_limit: [0.3, 0.9] } });
  const free = await changed('mamba2', {});
  const tokens = tokensOf('mamba2');
  const whole = await limited.session().logitsOf(tokens);
  const session = limited.session();
  for (const token of tokens) await session.step(token);
  expect(errorRatio(session.logits, whole.subarray(-limited.vocabularySize))).toBeLessThan(tolerance.f64);
  expect(errorRatio(whole, await free.session().logitsOf(tokens))).toBeGreaterThan(0.01);
});

test('3: the gated norm of Mamba-2 is made per group', async () => {
  const tokens = tokensOf('mamba2-groups');
  const expected = golden('mamba2-groups').get('logits')!.data;
  const grouped = await changed('mamba2-groups', {});
  expect(errorRatio(await grouped.session().logitsOf(tokens), expected)).toBeLessThan(tolerance.f64);
});

test('6: softplus neither overflows nor loses small values', () => {
  const x = [-100, -30, -1e-3, 0, 1e-3, 19.9, 20.1, 100, 1000];
  const y = expr`softplus(${input('x', ['tokens'])})`;
  const counts = { tokens: x.length, segments: 1, outputs: 1 };
  const exact = x.map((value) => Math.max(value, 0) + Math.log1p(Math.exp(-Math.abs(value))));
  for (const backend of [f64, wasm]) {
    const result = evaluate(new Map([['y', y]]), [], counts, { x }, backend)['y']!;
    for (const [i, value] of exact.entries())
      expect(Math.abs(result[i]! - value) / (value + 1e-37), `at ${x[i]}`).toBeLessThan(3e-6);
  }
});

test.each(['mamba', 'mamba2', 'delta_net'])('7: the convolution of %s carries k − 1 inputs', (name) => {
  const tensors = stored(name);
  const architecture = architectureOf(configOf(name), tensors);
  const convs = traceModel(architecture, architecture.config(configOf(name), tensors)).carries.filter((carry) =>
    /conv/.test(carry.name),
  );
  expect(convs.length).toBeGreaterThan(0);
  for (const { shape } of convs) expect(shape.at(-1)).toBe(3);
});

test('8: only model_type tells Falcon-Mamba from Mamba', () => {
  const tensors = stored('falcon_mamba');
  expect(architectureOf({ model_type: 'falcon_mamba' }, tensors).type).toBe('falcon_mamba');
  expect(architectureOf({ model_type: 'mamba' }, tensors).type).toBe('mamba');
});

test('9: the head norm of RWKV-5 has ε = 64·10⁻⁵, but 10⁻⁵ in files of rwkv.cpp', () => {
  const tensors = stored('rwkv5');
  const architecture = architectureOf({}, tensors);
  expect(architecture.config({}, tensors)).toMatchObject({ headEpsilon: 64e-5 });
  expect(architecture.config({ format: 'rwkv.cpp' }, tensors)).toMatchObject({ headEpsilon: 1e-5 });
});

test('10 and 11: RWKV-7 as its author computes it and as fla does differ in the keys’ norm', () => {
  const keyEpsilon = (name: string, config: object) =>
    architectureOf(config as never, stored(name)).config(config as never, stored(name));
  expect(keyEpsilon('rwkv7', {})).toMatchObject({ keyEpsilon: 1e-24 });
  expect(keyEpsilon('rwkv7-fla', { ...configOf('rwkv7-fla'), fuse_norm: true })).toMatchObject({ keyEpsilon: 1e-6 });
});

test('12: RWKV-7 uses no value residual in layer 0, whatever the file holds there', async () => {
  const spoiled = await changed('rwkv7', {
    tensors(tensors) {
      for (const letter of ['v0', 'v1', 'v2']) tensors.get(`blocks.0.att.${letter}`)!.data.fill(1e6);
    },
  });
  expect(
    errorRatio(await spoiled.session().logitsOf(tokensOf('rwkv7')), golden('rwkv7').get('logits')!.data),
  ).toBeLessThan(tolerance.f64);
});

test('16: RWKV-4 computes without the rescaling of deep layers that half precision needs', async () => {
  const rescaled = await changed('rwkv4', { config: { rescale_every: 1 } });
  expect(
    errorRatio(await rescaled.session().logitsOf(tokensOf('rwkv4')), golden('rwkv4').get('logits')!.data),
  ).toBeLessThan(tolerance.f64);
});

test('19: GPT-NeoX turns a quarter of each head, with the exact GELU', () => {
  const tensors = stored('gpt_neox');
  const architecture = architectureOf(configOf('gpt_neox'), tensors);
  const config = architecture.config(configOf('gpt_neox'), tensors) as { frequencies: number[]; K: number };
  expect(2 * config.frequencies.length).toBe(config.K / 4);
  expect(() => architecture.config({ ...configOf('gpt_neox'), hidden_act: 'gelu_new' }, tensors)).toThrow(/exact GELU/);
});

test('24: decays so strong that e^−g would overflow leave finite numbers', () => {
  const [T, K] = [300, 8];
  const previous = leaf({ kind: 'state', name: 'S', fill: 0 }, ['segments', 1, 1, K]);
  const rows = (name: string, width: number) => input(name, ['tokens', 1, width]);
  const [y, next] = recurrence({
    r: rows('r', K),
    k: rows('k', K),
    v: rows('v', 1),
    g: rows('g', K),
    state: previous,
    ends: input('ends', ['segments'], 'i32'),
  });
  const carries: Carry[] = [{ name: 'S', shape: [1, 1, K], fill: 0, growing: false, previous, next }];
  const ones = new Array<number>(T * K).fill(1);
  const g = ones.map((_, i) => (i % K === 0 ? -1000 : i % K === 1 ? -90 : -0.01));
  const data = { r: ones, k: ones, v: ones.slice(0, T), g, S: new Array(K).fill(0), ends: [T] };
  const counts = { tokens: T, segments: 1, outputs: 1 };
  const [exact, fast] = [f64, wasm].map(
    (backend) => evaluate(new Map([['y', y]]), carries, counts, data, backend)['y']!,
  );
  expect(exact!.every(Number.isFinite)).toBe(true);
  expect(errorRatio(fast!, exact!)).toBeLessThan(tolerance.model);
});

describe('25: what a recurrence is sensitive to stays in f32, whatever the weights are held in', () => {
  test.each([
    ['mamba', /A_log$|\.D$|dt_proj\.bias$|conv1d|norm/],
    ['mamba2', /A_log$|\.D$|dt_bias$|conv1d|norm/],
    ['rwkv7', /\.w0$|\.a0$|\.k_k$|\.k_a$|\.r_k$|x_\w$|ln/],
    ['gated_deltanet', /A_log$|dt_bias$|conv1d|norm/],
  ])('%s', (name, sensitive) => {
    const tensors = stored(name);
    const architecture = architectureOf(configOf(name), tensors);
    const { parameters, layouts } = traceModel(architecture, architecture.config(configOf(name), tensors));
    const found = [...parameters.keys()].filter((parameter) => sensitive.test(parameter));
    expect(found.length).toBeGreaterThan(8);
    for (const parameter of found) expect(layouts.get(parameter), parameter).toBe('rows');
  });
});

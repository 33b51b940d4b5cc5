import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Backend } from '../src/core/backend.ts';
import { type Carry, input, leaf } from '../src/core/trace.ts';
import { bytesSource } from '../src/formats/byte-source.ts';
import type { Checkpoint } from '../src/formats/checkpoint.ts';
import { openGguf } from '../src/formats/gguf.ts';
import { readF32 } from '../src/formats/read-f32.ts';
import { ggufModel } from '../src/gguf/index.ts';
import { convert } from '../src/index.ts';
import type { StoredParameter } from '../src/models/architecture.ts';
import { architectureOf } from '../src/models/index.ts';
import { rwkv6Names } from '../src/models/rwkv6-names.ts';
import { expr } from '../src/ops/expr.ts';
import { recurrence } from '../src/ops/recurrence.ts';
import { traceModel } from '../src/runtime/graph.ts';
import { assemble, type Model } from '../src/runtime/model.ts';
import { declareWeights } from '../src/runtime/parameters.ts';
import { rwkvState } from '../src/runtime/rwkv-state.ts';
import { evaluate } from '../src/verification/op-cases.ts';
import { goldenModel } from './assembled.ts';
import { type GoldenTensor, goldenFolder, readTensors } from './golden.ts';
import { lookAt } from './looked-at.ts';
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

/** A fixture as a GGUF file. */
async function asGguf(name: string): Promise<Checkpoint> {
  const path = join(folder, `${name}.gguf`);
  if (!existsSync(path)) await convert(goldenFolder(name), path, { type: 'f32' });
  return await openGguf(bytesSource(readFileSync(path), path));
}

const folder = mkdtempSync(join(tmpdir(), 'riverrun-traps-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A list of numbers in rows of a width. */
const rowsOf = (values: readonly number[], width: number): number[][] =>
  Array.from({ length: values.length / width }, (_, i) => values.slice(i * width, (i + 1) * width));

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
  const free = await (await changed('mamba2', {})).session().logitsOf(tokensOf('mamba2'));
  const tokens = tokensOf('mamba2');
  const whole = await limited.session().logitsOf(tokens);
  const session = limited.session();
  for (const token of tokens) await session.step(token);
  expect(errorRatio(session.logits, whole.subarray(-limited.vocabularySize))).toBeLessThan(tolerance.f64);
  expect(errorRatio(whole, free)).toBeGreaterThan(0.01);
  // Either end alone, and far beyond what Δ comes to, none.
  const by = async (low: number, high: number) => {
    const model = await changed('mamba2', { config: { time_step_limit: [low, high] } });
    return errorRatio(await model.session().logitsOf(tokens), free);
  };
  expect(await by(0.3, 1e9)).toBeGreaterThan(0.01);
  expect(await by(0, 0.001)).toBeGreaterThan(0.001);
  expect(await by(0, 1e9)).toBeLessThan(tolerance.f64);
});

test('3: the gated norm of Mamba-2 is made per group', async () => {
  const tokens = tokensOf('mamba2-groups');
  const expected = golden('mamba2-groups').get('logits')!.data;
  const grouped = await changed('mamba2-groups', {});
  expect(errorRatio(await grouped.session().logitsOf(tokens), expected)).toBeLessThan(tolerance.f64);
});

test.each([
  ['mamba', (E: number) => [E, 2 * E] as const],
  ['mamba2', (E: number) => [0, E] as const],
])(
  '4: the gate is the %s input projection’s rows where its paper has them: zero, it lets nothing through',
  async (name, gate) => {
    const layers = (tensors: Map<string, GoldenTensor>, part: string) =>
      [...tensors].filter(([key]) => key.endsWith(`mixer.${part}.weight`)).map(([, tensor]) => tensor);
    const shut = await changed(name, {
      tensors(tensors) {
        const E = layers(tensors, 'out_proj')[0]!.shape[1]!;
        const [first, last] = gate(E);
        for (const { shape, data } of layers(tensors, 'in_proj')) data.fill(0, first * shape[1]!, last * shape[1]!);
      },
    });
    const without = await changed(name, {
      tensors(tensors) {
        for (const { data } of layers(tensors, 'out_proj')) data.fill(0);
      },
    });
    const tokens = tokensOf(name);
    expect(await shut.session().logitsOf(tokens)).toEqual(await without.session().logitsOf(tokens));
  },
);

test('4: Mamba-2’s projection is [z, x, B, C, Δ], all of x, B and C convolved, with SiLU after', () => {
  const { H, P, N } = { H: 8, P: 16, N: 16 };
  const E = H * P;
  const parts = { z: [0, E], v: [E, 2 * E], k: [2 * E, 2 * E + N], r: [2 * E + N, 2 * E + 2 * N] } as const;
  const operands = (zeroed?: keyof typeof parts) => {
    const model = lookAt('mamba2', {
      tensors(tensors) {
        tensors.get('backbone.layers.0.mixer.conv1d.bias')!.data.fill(0);
        const { shape, data } = tensors.get('backbone.layers.0.mixer.in_proj.weight')!;
        expect(shape[0]).toBe(2 * E + 2 * N + H);
        if (zeroed) data.fill(0, parts[zeroed][0] * shape[1]!, parts[zeroed][1] * shape[1]!);
      },
    });
    const { inputs } = model.op('recurrence', 'layers.0.');
    const convolved = model.op('conv', 'layers.0.').outputs[0]!;
    return model.values({ r: inputs['r']!, k: inputs['k']!, v: inputs['v']!, dt: inputs['dt']!, convolved });
  };
  const whole = operands();
  for (const part of ['r', 'k', 'v'] as const) {
    const without = operands(part);
    for (const other of ['r', 'k', 'v', 'dt'] as const)
      if (other === part) expect(without[other].every((value) => Math.abs(value) === 0)).toBe(true);
      else expect(without[other], `${other} without ${part}`).toEqual(whole[other]);
  }
  expect(operands('z')).toEqual(whole);
  const width = E + 2 * N;
  const silu = (x: number) => x / (1 + Math.exp(-x));
  expect(
    errorRatio(whole.k, whole.convolved.filter((_, i) => i % width >= E && i % width < E + N).map(silu)),
  ).toBeLessThan(tolerance.exact);
});

test.each(['mamba', 'mamba2'])('5: GGUF files of %s hold A, checkpoints the logarithm of −A', async (name) => {
  const logarithms = stored(name).get('backbone.layers.0.mixer.A_log')!.data;
  const file = await asGguf(name);
  const A = await readF32(file, file.tensors.get('blk.0.ssm_a')!);
  expect(A).toEqual(Float32Array.from(logarithms, (log) => -Math.exp(log)));
});

test('6: softplus neither overflows nor loses small values', () => {
  const x = [-100, -30, -1e-3, 0, 1e-3, 19.9, 20.1, 100, 1000];
  const y = expr`softplus(${input('x', ['tokens'])})`;
  const counts = { tokens: x.length, segments: 1, outputs: 1 };
  const exact = x.map((value) => Math.max(value, 0) + Math.log1p(Math.exp(-Math.abs(value))));
  for (const backend of [f64, wasm]) {
    const result = evaluate(new Map([['y', y]]), [], counts, { x }, backend)['y']!;
    // The kernel ends at e⁻⁸⁷, about the least normal number of f32: what is smaller counts as next to nothing.
    for (const [i, value] of exact.entries())
      expect(Math.abs(result[i]! - value) / (value + 1e-32), `at ${x[i]}`).toBeLessThan(3e-6);
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

test('8: only model_type tells Falcon-Mamba, which norms Δ, B and C without weights, from Mamba', () => {
  const tensors = stored('falcon_mamba');
  expect(architectureOf({ model_type: 'falcon_mamba' }, tensors).type).toBe('falcon_mamba');
  expect(architectureOf({ model_type: 'mamba' }, tensors).type).toBe('mamba');
  const [R, N] = [tensors.get('backbone.layers.0.mixer.dt_proj.weight')!.shape[1]!, 16];
  for (const model_type of ['falcon_mamba', 'mamba']) {
    const model = lookAt('falcon_mamba', {
      config: { model_type, mixer_rms_eps: undefined },
      tensors(tensors) {
        // So small that ε counts.
        const { data } = tensors.get('backbone.layers.0.mixer.x_proj.weight')!;
        for (let i = 0; i < data.length; i++) data[i]! *= 0.05;
      },
    });
    const { inputs } = model.op('recurrence', 'layers.0.');
    const found = model.values({
      projected: model.reader('backbone.layers.0.mixer.x_proj.weight').outputs[0]!,
      δ: model.reader('backbone.layers.0.mixer.dt_proj.weight').inputs['x']!,
      B: inputs['k']!,
      C: inputs['r']!,
    });
    const width = R + 2 * N;
    const part = (from: number, length: number) =>
      rowsOf(found.projected, width).flatMap((row) => {
        const x = row.slice(from, from + length);
        const root = Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / length + 1e-6);
        return model_type === 'mamba' ? x : x.map((value) => value / root);
      });
    expect(errorRatio(found.δ, part(0, R)), `Δ of ${model_type}`).toBeLessThan(tolerance.exact);
    expect(errorRatio(found.B, part(R, N)), `B of ${model_type}`).toBeLessThan(tolerance.exact);
    expect(errorRatio(found.C, part(R + N, N)), `C of ${model_type}`).toBeLessThan(tolerance.exact);
  }
});

test.each([
  ['rwkv5', {}, 64e-5],
  ['rwkv5', { format: 'rwkv.cpp' }, 1e-5],
  ['rwkv6', {}, 64e-5],
  ['rwkv7', {}, 64e-5],
] as const)('9: the head norm of %s %j has ε = %f', (name, config, ε) => {
  const model = lookAt(name, {
    config,
    tensors(tensors) {
      // So small that ε counts.
      const { data } = tensors.get('blocks.0.att.value.weight')!;
      for (let i = 0; i < data.length; i++) data[i]! *= 0.02;
    },
  });
  const norm = model.op('layerNorm', 'blocks.0.att');
  const { x: given, w: weight, b: bias } = norm.inputs;
  const N = given!.shape[2] as number;
  const { x, w, b, y } = model.values({ x: given!, w: weight!, b: bias!, y: norm.outputs[0]! });
  // Weight and bias are those of a head's channels.
  const channel = (row: number, i: number) => (row * N + i) % w.length;
  const normed = (epsilon: number) =>
    rowsOf(x, N).flatMap((values, row) => {
      const mean = values.reduce((a, b) => a + b) / N;
      const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / N;
      return values.map(
        (value, i) => ((value - mean) / Math.sqrt(variance + epsilon)) * w[channel(row, i)]! + b[channel(row, i)]!,
      );
    });
  expect(errorRatio(y, normed(ε))).toBeLessThan(tolerance.exact);
  expect(errorRatio(normed(1e-5), normed(64e-5)), 'the numbers tell one from the other').toBeGreaterThan(0.01);
});

test('10: RWKV-7’s decay is exp(−e^(−1/2) σ(w₀ + tanh(x W₁) W₂))', () => {
  const model = lookAt('rwkv7');
  const { g } = model.op('recurrence', 'blocks.0.').inputs;
  const found = model.values({ g: g!, low: model.reader('blocks.0.att.w2').outputs[0]! });
  const w0 = stored('rwkv7').get('blocks.0.att.w0')!.data;
  const expected = found.low.map((x, i) => -0.6065306597126334 / (1 + Math.exp(-x - w0[i % w0.length]!)));
  expect(errorRatio(found.g, expected)).toBeLessThan(tolerance.exact);
});

test('11: RWKV-7 norms keys by max(‖k‖, 10⁻¹²) as its author does; fla adds 10⁻⁶ under the root', () => {
  const model = lookAt('rwkv7', {
    tensors(tensors) {
      // Keys of about 10⁻³: 10⁻⁶ would count.
      const { data } = tensors.get('blocks.0.att.k_k')!;
      for (let i = 0; i < data.length; i++) data[i]! *= 1e-4;
    },
  });
  const { a } = model.op('recurrence', 'blocks.0.').inputs;
  const N = a!.shape[2] as number;
  const lengths = rowsOf(model.values({ a: a! }).a, N).map((row) => Math.hypot(...row));
  for (const length of lengths) expect(length).toBeCloseTo(1, 9);
  const keyEpsilon = (fuse_norm: boolean) => {
    const config = { ...configOf('rwkv7-fla'), fuse_norm };
    return architectureOf(config, stored('rwkv7-fla')).config(config, stored('rwkv7-fla'));
  };
  expect(keyEpsilon(true)).toMatchObject({ keyEpsilon: 1e-6 });
  expect(keyEpsilon(false)).toMatchObject({ keyEpsilon: 1e-24 });
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

test('12: RWKV-7 mixes the values of layer 0 into those of all later layers', async () => {
  // Three layers, of which the second says nothing: what its own values are must not matter to the third.
  const three = (values: number) =>
    changed('rwkv7', {
      config: { n_layer: 3 },
      tensors(tensors) {
        for (const [name, { shape, data }] of [...tensors])
          if (name.startsWith('blocks.1.'))
            tensors.set(name.replace('blocks.1.', 'blocks.2.'), { shape, data: data.slice() });
        for (const part of ['att.output', 'ffn.value']) tensors.get(`blocks.1.${part}.weight`)!.data.fill(0);
        const { data } = tensors.get('blocks.1.att.value.weight')!;
        for (let i = 0; i < data.length; i++) data[i]! *= values;
      },
    });
  const [a, b] = await Promise.all(
    [1, -3].map(async (values) => (await three(values)).session().logitsOf(tokensOf('rwkv7'))),
  );
  expect(errorRatio(a!, b!)).toBeLessThan(tolerance.f64);
});

test('13: low-rank matrices multiply from the right in the author’s files, and are transposed in GGUF and fla', async () => {
  const own = stored('rwkv7').get('blocks.1.att.w1')!;
  const file = await asGguf('rwkv7');
  const tensor = file.tensors.get('blk.1.time_mix_w1.weight')!;
  expect(tensor.shape).toEqual(own.shape.toReversed());
  const values = await readF32(file, tensor);
  expect(values[1]).toBe(own.data[own.shape[1]!]);
  const fla = stored('rwkv7-fla').get('model.layers.1.attn.w_lora.lora.0.weight')!;
  const parsed = configOf('rwkv7-fla');
  expect(fla.shape).toEqual([parsed.decay_low_rank_dim, parsed.hidden_size]);
  // What is read of both is the author's matrix again.
  const { checkpoint } = await ggufModel(file);
  expect(await readF32(checkpoint, checkpoint.tensors.get('blocks.1.att.w1')!)).toEqual(own.data);
  const architecture = architectureOf(parsed, stored('rwkv7-fla'));
  const renamed = architecture.rename!(
    'model.layers.1.attn.w_lora.lora.0.weight',
    architecture.config(parsed, stored('rwkv7-fla')),
  ) as StoredParameter;
  expect(renamed.name).toBe('blocks.1.att.w1');
  const read = renamed.convert!(fla.data as Float32Array, fla.shape);
  expect([read[1], read[parsed.decay_low_rank_dim]]).toEqual([fla.data[parsed.hidden_size], fla.data[1]]);
});

test.each([
  ['rwkv6', 'time_maa_', 'wkvrg'],
  ['rwkv7', 'x_', 'rwkvag'],
])('14: the joined mixing vectors of %s are in the order %s%s', async (name, prefix, letters) => {
  const file = await asGguf(name);
  const joined = await readF32(file, file.tensors.get('blk.1.time_mix_lerp_fused.weight')!);
  const D = joined.length / letters.length;
  for (const [i, letter] of [...letters].entries())
    expect(joined.subarray(i * D, (i + 1) * D), letter).toEqual(
      stored(name).get(`blocks.1.att.${prefix}${letter}`)!.data,
    );
});

test('14: the matrices of RWKV-6’s mixing are in the order w, k, v, r, g, and r, w, k, v, g in fla', () => {
  const projections = { k: 'key', v: 'value', r: 'receptance', g: 'gate' } as const;
  const mixed = (only: number, vector?: string) => {
    const model = lookAt('rwkv6', {
      tensors(tensors) {
        if (vector) tensors.get(`blocks.0.att.time_maa_${vector}`)!.data.fill(0.5);
        const { shape, data } = tensors.get('blocks.0.att.time_maa_w2')!;
        const block = shape[1]! * shape[2]!;
        for (let i = 0; i < data.length; i++) if (Math.floor(i / block) !== only) data[i] = 0;
      },
    });
    const inputs = Object.entries(projections).map(
      ([letter, name]) => [letter, model.reader(`blocks.0.att.${name}.weight`).inputs['x']!] as const,
    );
    return model.values({ w: model.reader('blocks.0.att.time_decay_w1').inputs['x']!, ...Object.fromEntries(inputs) });
  };
  const none: Record<string, number[]> = mixed(-1);
  const moved = (found: Record<string, number[]>) =>
    Object.keys(none).filter((name) => errorRatio(found[name]!, none[name]!) > 1e-6);
  for (const [i, letter] of ['w', 'k', 'v', 'r', 'g'].entries()) {
    expect(moved(mixed(i)), `matrix ${i}`).toEqual([letter]);
    expect(moved(mixed(-1, letter)), `vector ${letter}`).toEqual([letter]);
  }
  // In fla's files r is the first of five rows, here the fourth.
  const read = (name: string, values: number[], shape: number[]) =>
    (rwkv6Names(name, 'fla') as StoredParameter).convert!(Float32Array.from(values), shape);
  const rows = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4];
  expect([...read('model.layers.0.attn.x_bias', rows, [5, 2])]).toEqual([1, 1, 2, 2, 3, 3, 0, 0, 4, 4]);
  // [5 R, D] → [D, 5 R], and [D, 5 R] → [5, R, D], for R = 1 and D = 2.
  expect([...read('model.layers.0.attn.x_proj.0.weight', rows, [5, 2])]).toEqual([1, 2, 3, 0, 4, 1, 2, 3, 0, 4]);
  expect([...read('model.layers.0.attn.x_proj.2.weight', [0, 1, 2, 3, 4, 0, 1, 2, 3, 4], [2, 5])]).toEqual([
    1, 1, 2, 2, 3, 3, 0, 0, 4, 4,
  ]);
});

test('15: a state of RWKV is [value, key]: what a key writes, a query of that key reads from every value’s row', () => {
  const K = 4;
  const V = 2;
  const previous = leaf({ kind: 'state', name: 'S', fill: 0 }, ['segments', 1, V, K]);
  const [y, next] = recurrence({
    r: input('r', ['tokens', 1, K]),
    k: input('k', ['tokens', 1, K]),
    v: input('v', ['tokens', 1, V]),
    state: previous,
    ends: input('ends', ['segments'], 'i32'),
  });
  const carries: Carry[] = [{ name: 'S', shape: [1, V, K], fill: 0, growing: false, previous, next }];
  const data = { r: [0, 0, 1, 0], k: [0, 0, 1, 0], v: [3, 5], S: new Array(V * K).fill(0), ends: [1] };
  for (const backend of [f64, wasm]) {
    const roots = new Map([
      ['y', y],
      ['S', next],
    ]);
    const result = evaluate(roots, carries, { tokens: 1, segments: 1, outputs: 1 }, data, backend);
    expect([...result['S']!]).toEqual([0, 0, 3, 0, 0, 0, 5, 0]);
    expect([...result['y']!]).toEqual([3, 5]);
  }
});

test.each(['pth', 'safetensors'] as const)(
  '15: a tuned state is [value, key] in a trainer’s .pth, and transposed in web-rwkv’s safetensors: %s',
  async (format) => {
    const model = await goldenModel('rwkv6', f64);
    const [H, N] = stored('rwkv6').get('blocks.0.att.time_faaaa')!.shape as [number, number];
    const values = Float32Array.from({ length: H * N * N }, (_, i) => i);
    const shape = [H, N, N];
    const names = Array.from({ length: 2 }, (_, layer) => `blocks.${layer}.att.time_state`);
    const checkpoint: Checkpoint = {
      name: 'a state',
      format,
      metadata: {},
      tensors: new Map(names.map((name) => [name, { name, type: 'f32', shape, byteLength: values.byteLength }])),
      async read(_, into, offset = 0) {
        into.set(new Uint8Array(values.buffer, offset, into.length));
      },
      async close() {},
    };
    const { tensors } = await rwkvState(model, checkpoint);
    const held = tensors.get('blocks.0.att.wkv')!.values;
    // Value 2, key 5 of head 1.
    const [row, column] = format === 'pth' ? [2, 5] : [5, 2];
    expect(held[N * N + 2 * N + 5]).toBe(N * N + row * N + column);
  },
);

test('16: RWKV-4 computes without the rescaling of deep layers that half precision needs', async () => {
  const rescaled = await changed('rwkv4', { config: { rescale_every: 1 } });
  expect(
    errorRatio(await rescaled.session().logitsOf(tokensOf('rwkv4')), golden('rwkv4').get('logits')!.data),
  ).toBeLessThan(tolerance.f64);
});

test('17: RWKV-4 decodes several sequences together as each alone', async () => {
  const model = await goldenModel('rwkv4', wasm);
  const texts = [
    [3, 1, 4],
    [1, 5, 9],
    [2, 6, 5],
  ];
  const together = texts.map(() => model.session());
  for (const step of [0, 1, 2])
    await model.readTogether(
      together,
      texts.map((tokens) => [tokens[step]!]),
    );
  for (const [i, tokens] of texts.entries()) {
    const alone = model.session();
    for (const token of tokens) await alone.step(token);
    expect(errorRatio(together[i]!.logits, alone.logits)).toBeLessThan(1e-6);
  }
});

test.each([
  ['rwkv4', 'rwkv.blocks.0.pre_ln.weight'],
  ['rwkv6', 'blocks.0.ln0.weight'],
  ['rwkv7', 'blocks.0.ln0.weight'],
  ['rwkv7-fla', 'model.layers.0.pre_norm.weight'],
])('18: the embedding of %s is normed before the first layer', async (name, norm) => {
  const twice = await changed(name, {
    tensors(tensors) {
      const { data } = tensors.get(norm)!;
      for (let i = 0; i < data.length; i++) data[i]! *= 2;
    },
  });
  const scaled = await changed(name, {
    tensors(tensors) {
      // An embedding of twice the size is the same once it is normed.
      const [, { data }] = [...tensors].find(([key]) => /emb(eddings)?\.weight$/.test(key))!;
      for (let i = 0; i < data.length; i++) data[i]! *= 2;
    },
  });
  const expected = golden(name).get('logits')!.data;
  expect(errorRatio(await twice.session().logitsOf(tokensOf(name)), expected)).toBeGreaterThan(1e-2);
  expect(errorRatio(await scaled.session().logitsOf(tokensOf(name)), expected)).toBeLessThan(1e-2);
});

test('19: GPT-NeoX turns a quarter of each head, half against half, with the exact GELU and two norms', () => {
  const model = lookAt('gpt_neox');
  const rope = model.op('rope', 'layers.0.');
  const layer = 'gpt_neox.layers.0';
  const [up, down] = ['dense_h_to_4h', 'dense_4h_to_h'].map((name) => model.reader(`${layer}.mlp.${name}.weight`));
  const [first, second] = ['input_layernorm', 'post_attention_layernorm'].map((name) =>
    model.reader(`${layer}.${name}.weight`),
  );
  const found = model.values({
    x: rope.inputs['x']!,
    turned: rope.outputs[0]!,
    hidden: up!.outputs[0]!,
    active: down!.inputs['x']!,
  });
  const K = rope.inputs['x']!.shape[2] as number;
  const H = rope.inputs['x']!.shape[1] as number;
  const pairs = K / 8;
  const expected = rowsOf(found.x, K).flatMap((row, i) =>
    row.map((value, c) => {
      if (c >= 2 * pairs) return value;
      const angle = Math.floor(i / H) * 10000 ** (-(c % pairs) / pairs);
      const other = c < pairs ? -row[c + pairs]! : row[c - pairs]!;
      return value * Math.cos(angle) + other * Math.sin(angle);
    }),
  );
  expect(errorRatio(found.turned, expected)).toBeLessThan(tolerance.exact);
  // x Φ(x), with Φ by its Taylor series.
  const Φ = (x: number) => {
    let [term, sum] = [x, x];
    for (let n = 1; n < 200; n++) {
      term *= (-x * x) / (2 * n);
      sum += term / (2 * n + 1);
    }
    return 0.5 + sum / Math.sqrt(2 * Math.PI);
  };
  expect(
    errorRatio(
      found.active,
      found.hidden.map((x) => x * Φ(x)),
    ),
  ).toBeLessThan(tolerance.f64);
  // Every head's rows of q, k and v lie together.
  const attention = model.op('attention', 'layers.0.');
  const { fused, v } = model.values({
    fused: model.reader(`${layer}.attention.query_key_value.weight`).outputs[0]!,
    v: attention.inputs['v']!,
  });
  const parts = (part: number) => rowsOf(fused, 3 * K).flatMap((row) => row.slice(part * K, (part + 1) * K));
  expect([found.x, v]).toEqual([parts(0), parts(2)]);
  // A quarter is what models turn that do not say how much.
  const unsaid = { rope_parameters: undefined, rotary_pct: undefined, partial_rotary_factor: undefined };
  const { frequencies } = lookAt('gpt_neox', { config: unsaid }).op('rope').attributes;
  expect(frequencies).toHaveLength(K / 8);
  // Side by side: both norms are of what comes into the layer.
  expect(second!.inputs['x']).toBe(first!.inputs['x']);
});

test('19 and 20: GGUF has GPT-NeoX’s queries, keys and values apart, and the channels of Llama’s heads in pairs', async () => {
  const row = (values: Float32Array, width: number, n: number) => values.subarray(n * width, (n + 1) * width);
  const neox = stored('gpt_neox').get('gpt_neox.layers.0.attention.query_key_value.weight')!;
  const neoxFile = await asGguf('gpt_neox');
  const fused = await readF32(neoxFile, neoxFile.tensors.get('blk.0.attn_qkv.weight')!);
  const D = neox.shape[1]!;
  const H = configOf('gpt_neox').num_attention_heads;
  const K = D / H;
  // The first key channel of head 1: after the D rows of queries and head 0's keys; in checkpoints after head 0's and its own queries.
  expect(row(fused, D, D + K)).toEqual(row(neox.data as Float32Array, D, 3 * K + K));

  const q = stored('llama').get('model.layers.0.self_attn.q_proj.weight')!;
  const llamaFile = await asGguf('llama');
  const permuted = await readF32(llamaFile, llamaFile.tensors.get('blk.0.attn_q.weight')!);
  const width = q.shape[1]!;
  const head = q.shape[0]! / configOf('llama').num_attention_heads;
  expect(row(permuted, width, 1)).toEqual(row(q.data as Float32Array, width, head / 2));
  expect(row(permuted, width, 2)).toEqual(row(q.data as Float32Array, width, 1));
});

test('21: Gated DeltaNet norms and then gates, Mamba-2 gates and then norms', () => {
  const silu = (x: number) => x / (1 + Math.exp(-x));
  const deltaNet = lookAt('gated_deltanet');
  const { normed, gate, out } = deltaNet.values({
    normed: deltaNet.reader('model.layers.0.attn.o_norm.weight').outputs[0]!,
    gate: deltaNet.reader('model.layers.0.attn.g_proj.weight').outputs[0]!,
    out: deltaNet.reader('model.layers.0.attn.o_proj.weight').inputs['x']!,
  });
  expect(
    errorRatio(
      out,
      normed.map((x, i) => x * silu(gate[i]!)),
    ),
  ).toBeLessThan(tolerance.exact);

  const mamba2 = lookAt('mamba2');
  const mixer = 'backbone.layers.0.mixer';
  const norm = mamba2.op('rmsNorm', mixer);
  const read = mamba2.op('recurrence', mixer).outputs[0]!;
  const [, H, P] = read.shape as [unknown, number, number];
  const found = mamba2.values({
    gated: norm.inputs['x']!,
    read,
    convolved: mamba2.op('conv', mixer).outputs[0]!,
    projected: mamba2.reader(`${mixer}.in_proj.weight`).outputs[0]!,
  });
  const D = stored('mamba2').get(`${mixer}.D`)!.data;
  const E = H * P;
  const part = (values: number[]) =>
    rowsOf(values, values.length / (found.read.length / E)).map((row) => row.slice(0, E));
  const [x, z] = [part(found.convolved).flat(), part(found.projected).flat()];
  const expected = found.read.map((y, i) => (y + D[Math.floor((i % E) / P)]! * silu(x[i]!)) * silu(z[i]!));
  expect(errorRatio(found.gated, expected)).toBeLessThan(tolerance.exact);
});

test('23: GLA’s decay is σ(…) to the power 1/16', async () => {
  const bias = -8;
  const model = await changed('gla', {
    tensors(tensors) {
      tensors.get('model.layers.0.attn.gk_proj.0.weight')!.data.fill(0);
      tensors.get('model.layers.0.attn.gk_proj.1.bias')!.data.fill(bias);
    },
  });
  const session = model.session();
  const first = session.stateNames.find((name) => name.startsWith('model.layers.0.attn'))!;
  await session.step(7);
  const once = session.readState(first).slice();
  await session.step(7);
  // The same token again: what it wrote before, faded, and once more.
  const α = (1 / (1 + Math.exp(-bias))) ** (1 / 16);
  expect(
    errorRatio(
      session.readState(first),
      once.map((s) => s * (1 + α)),
    ),
  ).toBeLessThan(1e-6);
});

test.each(['linear_attn', 'retnet', 'gla', 'delta_net', 'gated_deltanet'])(
  '23: %s reads its state with q / √K: made as its keys are, its queries are as many times smaller',
  (name) => {
    const model = lookAt(name, {
      tensors(tensors) {
        for (const [key, { data }] of tensors)
          if (/\.attn\.(q_|feature_map_q)/.test(key))
            data.set(tensors.get(key.replace(/(q)(?=_|\.)/, 'k'))!.data as Float32Array);
      },
    });
    const { r, k, a } = model.op('recurrence', 'layers.0.').inputs;
    const K = r!.shape[2] as number;
    // What a delta rule writes with is k times the strength of the correction; what it corrects at is k itself.
    const found = model.values({ r: r!, k: a ?? k! });
    expect(
      errorRatio(
        found.r,
        found.k.map((x) => x / Math.sqrt(K)),
      ),
    ).toBeLessThan(tolerance.exact);
  },
);

test.each([
  ['every key channel', 8],
  // One decay a head: many tokens go in chunks.
  ['each head', 1],
])('24: decays so strong that e^−g would overflow leave finite numbers: one for %s', (_, width) => {
  const [T, K, V] = [300, 8, 8];
  const previous = leaf({ kind: 'state', name: 'S', fill: 0 }, ['segments', 1, V, K]);
  const rows = (name: string, size: number) => input(name, ['tokens', 1, size]);
  const [y, next] = recurrence({
    r: rows('r', K),
    k: rows('k', K),
    v: rows('v', V),
    g: rows('g', width),
    state: previous,
    ends: input('ends', ['segments'], 'i32'),
  });
  const carries: Carry[] = [{ name: 'S', shape: [1, V, K], fill: 0, growing: false, previous, next }];
  const ones = new Array<number>(T * K).fill(1);
  const strong = (i: number) => (i % 3 === 0 ? -1000 : i % 3 === 1 ? -90 : -0.01);
  // By channel, or by token: the sum within a chunk is far below what e^x can undo.
  const g = Array.from({ length: T * width }, (_, i) => strong(width === 1 ? i : i % K));
  const data = { r: ones, k: ones, v: ones, g, S: new Array(V * K).fill(0), ends: [T] };
  const counts = { tokens: T, segments: 1, outputs: T };
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
    const graph = traceModel(architecture, architecture.config(configOf(name), tensors));
    for (const format of ['bf16', 'f16', 'q8', 'q4'] as const) {
      const declared = declareWeights(graph, format);
      const found = declared.filter((parameter) => sensitive.test(parameter.name));
      expect(found.length).toBeGreaterThan(8);
      for (const parameter of found) expect(parameter.format, parameter.name).toBe('f32');
      expect(declared.some((parameter) => parameter.format === format)).toBe(true);
    }
  });
});

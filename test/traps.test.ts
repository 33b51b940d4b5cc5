import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Backend } from '../src/core/backend.ts';
import { reachable } from '../src/core/grad.ts';
import { type Carry, input, leaf } from '../src/core/trace.ts';
import { bytesSource } from '../src/formats/byte-source.ts';
import type { Checkpoint } from '../src/formats/checkpoint.ts';
import { openGguf } from '../src/formats/gguf.ts';
import { readF32 } from '../src/formats/read-f32.ts';
import { convert } from '../src/index.ts';
import { architectureOf } from '../src/models/index.ts';
import { expr } from '../src/ops/expr.ts';
import { recurrence } from '../src/ops/recurrence.ts';
import { traceModel } from '../src/runtime/graph.ts';
import { assemble, type Model } from '../src/runtime/model.ts';
import { evaluate } from '../src/verification/op-cases.ts';
import { goldenModel } from './assembled.ts';
import { type GoldenTensor, goldenFolder, readTensors } from './golden.ts';
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

test('19: GPT-NeoX turns a quarter of each head, with the exact GELU', () => {
  const tensors = stored('gpt_neox');
  const architecture = architectureOf(configOf('gpt_neox'), tensors);
  const config = architecture.config(configOf('gpt_neox'), tensors) as {
    frequencies: number[];
    K: number;
    activation: string;
  };
  expect(2 * config.frequencies.length).toBe(config.K / 4);
  expect(config.activation).toBe('gelu');
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
  const graphOf = (name: string) => {
    const tensors = stored(name);
    const architecture = architectureOf(configOf(name), tensors);
    return traceModel(architecture, architecture.config(configOf(name), tensors));
  };
  /** Whether a norm of the first layer's mixer has the gate below it. */
  const gateInsideNorm = (name: string, gateWeight: RegExp) => {
    const norms = [...reachable([graphOf(name).logits.node])].filter(
      ({ op, path }) => op?.name === 'rmsNorm' && /layers\.0\.(mixer|attn)/.test(path),
    );
    return norms.some(({ inputs }) =>
      [...reachable([inputs['x']!.node])].some(
        ({ leaf: from }) => from?.kind === 'parameter' && gateWeight.test(from.name),
      ),
    );
  };
  expect(gateInsideNorm('gated_deltanet', /layers\.0\.attn\.g_proj/)).toBe(false);
  expect(gateInsideNorm('mamba2', /layers\.0\.mixer\.in_proj/)).toBe(true);
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

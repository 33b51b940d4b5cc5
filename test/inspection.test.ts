import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Case, Op } from '../src/core/op.ts';
import { apply } from '../src/core/trace.ts';
import { attentionOp } from '../src/ops/attention.ts';
import { recurrenceOp } from '../src/ops/recurrence.ts';
import { wkv4Op } from '../src/ops/wkv4.ts';
import { load } from '../src/platform/node-load.ts';
import { type Inspection, quantityNames, type TokenNorms } from '../src/runtime/inspection/inspection.ts';
import type { ProbedBlock } from '../src/runtime/inspection/probe.ts';
import { probes } from '../src/runtime/inspection/probes.ts';
import { RecurrenceProbe } from '../src/runtime/inspection/recurrence-probe.ts';
import { score } from '../src/tasks/score.ts';
import { setting } from '../src/verification/op-cases.ts';
import { goldenModel, goldenNames } from './assembled.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const wasm = await wasmBackend({ threads: 1 });
const reference = referenceBackend('f64');
afterAll(() => wasm.dispose());

/** An op's case with one segment, run by the op's own loops, and the same as a probe is shown it. */
function probed(op: Op, one: Case, position = 0) {
  const { inputs, data } = setting(op, { ...one, segments: [one.segments![0]!] }, 7);
  const node = apply(op, inputs, one.attributes)[0]!.node;
  const tokens = one.segments![0]!;
  const shapeOf = (name: string) =>
    inputs[name]!.shape.map((dim) => (typeof dim === 'number' ? dim : dim === 'tokens' ? tokens : 1));
  const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
  const view = (values: Float64Array, shape: readonly number[]) => ({
    data: values,
    shape,
    row: (t: number) => t * size(shape.slice(1)),
  });
  const given = Object.fromEntries(
    Object.keys(inputs).map((name) => [name, view(Float64Array.from(data[name]!), shapeOf(name))]),
  );
  if (given['positions']) given['positions'].data[0] = position;
  const states = Object.keys(op.state ?? {});
  if (op === attentionOp)
    for (const name of states)
      given[name] = view(
        Float64Array.from({ length: 200 * size(shapeOf(name)) }, (_, i) => Math.sin(i + name.length)),
        shapeOf(name),
      );
  const outputs = Object.fromEntries(
    node.outputs.map(({ shape }, i) => {
      const dims = shape.map((dim) => (typeof dim === 'number' ? dim : dim === 'tokens' ? tokens : 1));
      const name = Object.keys(op.outputs)[i]!;
      // A growing state's rows lie back to back, those before this segment included.
      const from = Object.entries(op.state ?? {}).find(([, output]) => output === name)?.[0];
      const values = op === attentionOp && from ? given[from]!.data.slice() : new Float64Array(size(dims));
      return [name, view(values as Float64Array, dims)];
    }),
  );
  op.reference(given, outputs, one.attributes ?? {});
  const block: ProbedBlock = {
    tokens,
    position,
    operands: Object.fromEntries(Object.entries(given).filter(([name]) => !states.includes(name))),
    states: Object.fromEntries(
      states.map((name) => {
        const row = size(shapeOf(name));
        return [name, Float32Array.from(given[name]!.data.subarray(0, op === attentionOp ? position * row : row))];
      }),
    ),
  };
  return { node, block, y: outputs['y']!.data as Float64Array, given };
}

const observed = (probe: { observe: InstanceType<typeof RecurrenceProbe>['observe'] }, block: ProbedBlock) => {
  const all: { token: number; head: number; norms: TokenNorms }[] = [];
  probe.observe(block, (token, head, norms) => all.push({ token, head, norms }));
  return all;
};

describe('recurrence', () => {
  test.each(recurrenceOp.cases.map((one, i) => [i, one] as const))(
    'case %i: what the hidden attention weighs is the output',
    (_, one) => {
      const { node, block, y } = probed(recurrenceOp, one);
      const probe = new RecurrenceProbe(node, true);
      const all = observed(probe, block);
      const [, H, V] = node.inputs['v']!.shape as [unknown, number, number];
      const v = block.operands['v']!.data;
      const T = block.tokens;
      const rebuilt = new Float64Array(T * H * V);
      for (let h = 0; h < H; h++) {
        const { weights, before } = probe.attention(h);
        for (let t = 0; t < T; t++)
          for (let i = 0; i < V; i++) {
            let sum = before[t]![i]!;
            for (let s = 0; s <= t; s++) sum += weights[t * T + s]! * v[(s * H + h) * V + i]!;
            rebuilt[(t * H + h) * V + i] = sum;
          }
      }
      // States are shown to probes as f32.
      expect(errorRatio(rebuilt, y)).toBeLessThan(tolerance.op);
      for (const { token, head, norms } of all) {
        const row = y.subarray((token * H + head) * V, (token * H + head + 1) * V);
        expect(Math.sqrt(norms.read)).toBeCloseTo(Math.hypot(...row), 4);
      }
      for (let h = 0; h < H; h++) expectRows(probe.map(h), T);
    },
  );
});

test.each(attentionOp.cases.map((one, i) => [i, one] as const))(
  'attention, case %i: its weights make the output',
  (_, one) => {
    const position = 5;
    const { node, block, y, given } = probed(attentionOp, one, position);
    const probe = probes['attention']!(node, true);
    const all = observed(probe, block);
    const [, H] = node.inputs['q']!.shape as [unknown, number];
    const V = node.inputs['v']!.shape[2] as number;
    for (const { token, head, norms } of all)
      expect(Math.sqrt(norms.read)).toBeCloseTo(
        Math.hypot(...y.subarray((token * H + head) * V, (token * H + head + 1) * V)),
        4,
      );
    for (let h = 0; h < H; h++) expectRows(probe.map(h), block.tokens);
    const window = one.attributes!['window'] as number;
    const last = probe.map(0).weights.subarray((block.tokens - 1) * block.tokens);
    if (window > 0) expect(last.filter((weight) => weight > 0).length).toBeLessThanOrEqual(window);
    expect(given['q']).toBeDefined();
  },
);

test.each(wkv4Op.cases.map((one, i) => [i, one] as const))(
  'wkv4, case %i: its weights average v to the output',
  (_, one) => {
    const { node, block, y } = probed(wkv4Op, { ...one, fill: { ...one.fill, num: 'zero', den: 'zero', max: 'zero' } });
    const probe = probes['wkv4']!(node, true);
    observed(probe, block);
    const v = block.operands['v']!.data;
    const [T, C] = [block.tokens, probe.heads];
    for (let c = 0; c < C; c++) {
      const map = probe.map(c);
      expectRows(map, T);
      for (let t = 0; t < T; t++) {
        let sum = 0;
        for (let s = 0; s <= t; s++) sum += map.weights[t * T + s]! * v[s * C + c]!;
        expect(sum).toBeCloseTo(y[t * C + c]!, 4);
      }
    }
  },
);

function expectRows({ weights, before }: { weights: Float32Array; before: Float32Array }, T: number): void {
  for (let t = 0; t < T; t++) {
    const row = weights.subarray(t * T, (t + 1) * T);
    expect(row.reduce((a, b) => a + b, before[t]!)).toBeCloseTo(1, 4);
    expect(row.subarray(t + 1).every((weight) => weight === 0)).toBe(true);
  }
}

const tokens = Array.from({ length: 131 }, (_, i) => (i * 37 + 11) % 199);

function expectSane(inspection: Inspection, T: number): void {
  expect(inspection.layers.length).toBeGreaterThan(0);
  for (const layer of inspection.layers) {
    for (const name of quantityNames) expect(layer[name].length, `${layer.path} ${name}`).toBe(T);
    for (const name of ['write', 'past'] as const)
      for (const x of layer[name]) expect(x >= 0 && x <= 1.000001, `${layer.path} ${name} is ${x}`).toBe(true);
    for (const x of layer.keep) expect(x >= 0 && x <= 1.000001).toBe(true);
    for (const [t, x] of layer.memory.entries()) {
      const keep = layer.keep[t]!;
      if (keep < 0.999) expect(x * -Math.log(keep)).toBeCloseTo(1, 3);
      else expect(x).toBeGreaterThan(900);
    }
  }
}

describe.each(goldenNames)('%s', (name) => {
  test('inspecting is reading, in blocks or forks, and the same on both backends', async () => {
    const [fast, exact] = [await goldenModel(name, wasm), await goldenModel(name, reference)];
    const all = tokens.slice(0, Math.min(tokens.length, fast.longest));
    const first = all.slice(0, 9);
    const [a, b, read] = [fast.session(), exact.session(), fast.session()];
    await read.read(all);
    await a.read(first);
    await b.read(first);
    const [seen, truth] = [await a.inspect(all.slice(9)), await b.inspect(all.slice(9))];
    expect(seen.position).toBe(9);
    expect(a.position).toBe(all.length);
    expect(errorRatio(a.logits, read.logits)).toBeLessThan(tolerance.model);
    for (const state of read.stateNames)
      expect(errorRatio(a.readState(state), read.readState(state))).toBeLessThan(tolerance.model);
    expectSane(seen, all.length - 9);
    const scored: (number | undefined)[] = [];
    await score(fast.session(), [all], { onToken: (_, logProbability) => scored.push(logProbability) });
    expect(
      errorRatio(
        seen.surprise,
        scored.slice(9).map((x) => -x!),
      ),
    ).toBeLessThan(tolerance.model);
    for (const [i, layer] of seen.layers.entries()) {
      for (const quantity of ['write', 'keep', 'read', 'past', 'erase'] as const)
        expect(errorRatio(layer[quantity], truth.layers[i]![quantity]), `${layer.path} ${quantity}`).toBeLessThan(2e-4);
    }
    fast.dispose();
    exact.dispose();
  });

  test('every head and every map, on short texts', async () => {
    const model = await goldenModel(name, wasm);
    const session = model.session();
    const seen = await session.inspect(tokens.slice(0, 12), { heads: true, maps: 'heads' });
    expect(Number.isNaN(seen.surprise[0])).toBe(true);
    for (const layer of seen.layers) {
      expect(layer.byHead!.write.length).toBe(12 * layer.heads);
      expect(layer.headMaps!.length).toBe(layer.heads);
      expectRows(layer.map!, 12);
      expect(layer.past[0]).toBeCloseTo(0, 6);
      expect(layer.write[0]).toBe(1);
      expect(layer.map!.weights[0]).toBeCloseTo(1, 6);
    }
    model.dispose();
  });
});

test('RetNet forgets as fast as its paper says', async () => {
  const model = await goldenModel('retnet', reference);
  const { layers } = await model.session().inspect(tokens.slice(0, 20), { heads: true });
  for (const { heads, byHead } of layers)
    for (let h = 0; h < heads; h++) {
      const gamma = 1 - 2 ** (-5 - h);
      expect(byHead!.keep[19 * heads + h]).toBeCloseTo(gamma, 5);
      expect(byHead!.memory[19 * heads + h]! * -Math.log(gamma)).toBeCloseTo(1, 3);
    }
  model.dispose();
});

test('a Transformer keeps all, and its n-th token is 1/n of that', async () => {
  const model = await goldenModel('llama', wasm);
  const { layers } = await model.session().inspect(tokens.slice(0, 20));
  for (const { keep, memory, write } of layers) {
    expect([...keep]).toEqual(Array(20).fill(1));
    expect(memory[19]).toBe(Infinity);
    expect(write[19]).toBeCloseTo(1 / 20, 6);
  }
  model.dispose();
});

test('delta rules take out before they write; others do not', async () => {
  for (const [name, erases] of [
    ['delta_net', true],
    ['rwkv7', true],
    ['mamba2', false],
    ['gla', false],
  ] as const) {
    const model = await goldenModel(name, wasm);
    const { layers } = await model.session().inspect(tokens.slice(0, 20));
    for (const { erase } of layers) expect(erase.subarray(1).every((x) => x > 0)).toBe(erases);
    model.dispose();
  }
});

test('of texts, the pieces are told; bad options and sources are refused', async () => {
  const model = await load('tiny-books-mamba-13m', { threads: 1 });
  const session = model.session();
  const text = 'The old man looked at the sea.';
  const { pieces, layers } = await session.inspect(text);
  expect(pieces.join('')).toContain(text);
  expect(layers.map(({ op }) => op)).toEqual(Array(layers.length).fill('recurrence'));
  await expect(session.inspect('')).rejects.toThrow(/nothing to inspect/);
  await expect(session.inspect('a', { map: 'layers' } as object)).rejects.toThrow(/map/);
  await expect(session.inspect('a', { maps: 'all' as 'none' })).rejects.toThrow(/none, layers, heads/);
  await expect(session.inspect([1, 99999])).rejects.toThrow(/out of range/);
  const long = Array.from({ length: 1100 }, () => 5);
  await expect(session.inspect(long, { maps: 'layers' })).rejects.toThrow(/1100 tokens/);
  const before = session.position;
  await expect(session.inspect('a b c', { signal: AbortSignal.abort() })).rejects.toThrow();
  expect(session.position).toBe(before);
  model.dispose();
});

import type { WeightLayout } from '../../core/backend.ts';
import type { Joined, Place, Step } from '../../core/plan.ts';
import { type Counts, elementCount, rowSize, type Shape, sameShape } from '../../core/shape.ts';
import type { Node, Tensor } from '../../core/tensor.ts';
import { broadcastPattern } from '../../ops/broadcast.ts';
import { call, type Expression, format, operand } from '../../ops/expression.ts';
import type { OpName } from '../../ops/index.ts';
import { type Encoder, Float } from './encoder.ts';
import { encodeExpr, exprScratch } from './expr-program.ts';
import { formatCodes, isQuantised, ownRow, PANEL, productScratch } from './packing.ts';
import { PAGE_TOKENS, paddedWidth } from './slot.ts';
import type { StoredWeight, WasmWeights } from './weights.ts';

/** How a step of an op becomes kernel calls. */
export interface Kernel {
  encode(step: Step, encoder: Encoder): void;
  /** Elements of scratch memory, all threads together; `weights` are those that the kernel will run with, if any. */
  scratch?(node: Node, capacity: Counts, threads: number, weights?: WasmWeights): number;
  /** Whether input rows may lie apart; by default all may. */
  strided?(input: string, shape: Shape): boolean;
}

const last = (shape: Shape): number => shape.at(-1) as number;
const first = ({ shape }: Place) => shape[0] ?? 1;
/** How many rows of the last axis one row of the first axis holds. */
const innerRows = ({ shape }: Place): number => (shape.length < 2 ? 1 : rowSize(shape) / last(shape));
const fixed = (dim: unknown): number => dim as number;

/** Norms over the last axis: rows of the first axis may lie apart, rows within one are dense. */
const norm = (kernel: 'rmsNorm' | 'layerNorm'): Kernel => ({
  encode({ inputs: { x, w, b }, outputs: { y }, attributes }, e) {
    const weights = kernel === 'rmsNorm' ? [e.optional(w)] : [e.optional(w), e.optional(b)];
    const epsilon = new Float(attributes['epsilon'] as number);
    const own = kernel === 'rmsNorm' ? [] : [w && w.shape.length > 1 ? 1 : 0];
    e.call(
      kernel,
      e.count(first(x!)),
      innerRows(x!),
      ...e.operand(x),
      ...e.operand(y),
      last(x!.shape),
      ...weights,
      epsilon,
      ...own,
    );
  },
});

/** Rows whose sums backward kernels make apart from others', so that who makes them does not matter. */
const SUM_BLOCK = 32;

/** The sums of all blocks of rows together, one vector of `width` for each of `found`. */
const sumBlocks = (e: Encoder, rows: number, sums: number, width: number, found: readonly Place[]): void =>
  e.call('sumBlocks', rows, SUM_BLOCK, sums, width, found.length, ...found.map((place) => e.address(place)));

/** The adjoints of norms, over rows as the norms themselves; with the sums over all rows that their weights get. */
const normGrad = (kernel: 'rmsNormGrad' | 'layerNormGrad'): Kernel => ({
  scratch({ inputs: { x, w }, outputs }, capacity) {
    const blocks = Math.ceil(elementCount(x!.shape, capacity) / last(x!.shape) / SUM_BLOCK);
    return outputs.length > 1 ? blocks * (outputs.length - 1) * elementCount(w!.shape, capacity) : 0;
  },
  encode({ inputs: { x, dy, w }, outputs: { dx, ...found }, attributes, scratch }, e) {
    const rows = [x, dy, dx].flatMap((place) => e.operand(place));
    const epsilon = new Float(attributes['epsilon'] as number);
    const sums = Object.values(found);
    const area = sums.length > 0 ? e.scratch(scratch) : 0;
    const own = kernel === 'rmsNormGrad' ? [] : [w && w.shape.length > 1 ? 1 : 0];
    e.call(kernel, e.count(first(x!)), innerRows(x!), ...rows, last(x!.shape), epsilon, e.optional(w), area, ...own);
    if (area > 0) sumBlocks(e, e.count(first(x!), innerRows(x!)), area, elements(w!), sums);
  },
});

/** Elements of a tensor without run-time axes. */
const elements = ({ shape }: Place): number => shape.reduce<number>((a, b) => a * fixed(b), 1);

/** Elements of [rows, columns] in whole groups of columns. */
const grouped = (columns: number, group: number, rows: number): number =>
  4 * Math.ceil((Math.ceil(columns / group) * group * rows) / 4);

/** Tokens whose states the backward kernels of the recurrence keep at a time: of channels, and of a head's rows, so many at once. */
const CHANNEL_BLOCK = 256;
const HEAD_BLOCK = 16;
const HEAD_ROWS = 4;
/** Channels that go together. */
const CHANNELS = 16;

/**
 * Floats that the attention kernel wants for each thread: 72 queries, their sums, scores with a page and three numbers, a page of keys
 * and one of values.
 */
const attentionScratch = (K: number, V: number): number =>
  72 * (paddedWidth(K) + paddedWidth(V) + PAGE_TOKENS + 3) + PAGE_TOKENS * (paddedWidth(K) + paddedWidth(V));

/** Floats that the adjoint of attention wants for each thread: a segment's keys and values in three forms, and 48 queries with their weights. */
function attentionGradScratch(K: number, V: number, tokens: number): number {
  const rows = 24 * Math.ceil(tokens / 24);
  const stride = 64 * Math.ceil(rows / 64) + 16;
  const [wideK, wideV] = [K, V].map((width) => 8 * Math.ceil(width / 8)) as [number, number];
  const segment = rows * (K + V + 2 * wideK + wideV);
  return 4 * Math.ceil((segment + 48 * (K + V + wideK + wideV + 2 * stride) + 6 * rows + 48) / 4);
}

/** Tokens of a chunk of the recurrence, and how many chunks go together. */
const [CHUNK, CHUNKS] = [48, 3];

/** Floats that the recurrence wants for each thread where it goes in chunks. */
function chunkScratch(K: number, V: number): number {
  const row = 4 * Math.ceil((6 * Math.ceil(K / 6)) / 4);
  const shared = CHUNKS * CHUNK * (K + row + CHUNK);
  return shared + CHUNK * K + 2 * CHUNK * CHUNK + 4 * CHUNK + 56 + 8 * Math.ceil(V / 8) * (CHUNK + row);
}

/** Floats that each thread wants for itself, and for its part of the sums over the heads of a group. */
function recurrenceGradScratch(
  { r, v }: Readonly<Record<string, { readonly shape: Shape }>>,
  tokens: number,
  threads: number,
): { own: number; parts: number } {
  const [, H, V] = v!.shape as [unknown, number, number];
  const [, G, K] = r!.shape as [unknown, number, number];
  const width = Math.ceil(K / 4) * 4;
  // Histories of one channel, then the states and turned tiles of all.
  const histories = 2 * 16 * (CHANNEL_BLOCK + 1);
  const channel = histories + CHANNELS * (16 * (Math.ceil(tokens / CHANNEL_BLOCK) + 2) + 5 * CHANNEL_BLOCK);
  const kept =
    HEAD_ROWS * (HEAD_BLOCK + 1) +
    HEAD_ROWS * Math.ceil(V / HEAD_ROWS) * (1 + Math.max(1, Math.ceil(tokens / HEAD_BLOCK)));
  const removed = tokens * HEAD_ROWS * Math.ceil(V / HEAD_ROWS);
  const head = (10 * HEAD_BLOCK + kept) * width + 8 * HEAD_ROWS + removed;
  return { own: Math.max(channel, head), parts: threads > 1 && G < H ? 2 * tokens * G * K : 0 };
}

const panelElements = (O: number, I: number): number => Math.ceil(O / PANEL) * PANEL * I;

/** The parameter that a matrix is, if it is packed for the op that reads it. */
function packed(w: Tensor, layout: WeightLayout, weights: WasmWeights | undefined): StoredWeight | undefined {
  const { leaf } = w.node;
  const stored = leaf?.kind === 'parameter' ? weights?.get(leaf.name) : undefined;
  return stored?.declaration.layout === layout ? stored : undefined;
}

/** The ops of matrix products, and how their matrices are packed. */
const layouts: Readonly<Record<string, WeightLayout>> = { linear: 'linear', linearTransposed: 'linearTransposed' };

/** The packed matrix of a node that is a matrix product. */
function packedMatrix(node: Node, weights: WasmWeights | undefined): StoredWeight | undefined {
  const layout = layouts[node.op?.name ?? ''];
  return layout && packed(node.inputs['w']!, layout, weights);
}

/**
 * Whether the kernels of all that read a node's value compute it too. Of packed matrices:
 * - a product that is only read by a sum with rows of the same shape is added to these as it is stored;
 * - in a plan for one token, a norm that only quantised products read is part of their row's way to integers (assembly/own-row.ts).
 */
export function isJoined(node: Node, readers: readonly Node[], capacity: Counts, weights?: WasmWeights): boolean {
  const [value] = node.outputs as [Tensor];
  const [reader] = readers as [Node];
  if (packedMatrix(node, weights)) return readers.length === 1 && isSumWith(reader, value);
  if (node.op!.name !== 'rmsNorm' || elementCount(value.shape, capacity) !== last(value.shape)) return false;
  return readers.every((product) => {
    const weight = packedMatrix(product, weights);
    return weight !== undefined && isQuantised(weight.declaration.format) && product.inputs['x'] === value;
  });
}

/** Whether a node adds `part` to another value of the same shape, and does nothing else. */
function isSumWith({ op, inputs: { a, b, c }, outputs, attributes }: Node, part: Tensor): boolean {
  if (op!.name !== 'expr' || !a || !b || c || a === b) return false;
  const isSum = format(attributes['formula'] as Expression) === format(call('add', operand(0), operand(1)));
  return isSum && part.shape.length > 1 && [a, b].every(({ shape }) => sameShape(shape, outputs[0]!.shape));
}

/** A matrix product; a matrix that is not packed at load is packed into scratch first. */
const product = (transposed: boolean): Kernel => {
  const layout = transposed ? 'linearTransposed' : 'linear';
  return {
    scratch({ inputs: { w, x } }, capacity, threads, weights) {
      const [O, I] = matrixSizes(w!.shape, transposed);
      const weight = packed(w!, layout, weights);
      if (!weight) return panelElements(O, I);
      const rows = elementCount(x!.shape, capacity) / I;
      const { x: integers, panels } = productScratch(weight.declaration.format, rows, I, threads);
      return integers + panels;
    },
    encode: (step, e) => encodeProduct(step, step.outputs['y']!, undefined, e),
  };
};

const matrixSizes = ([rows, columns]: Shape, transposed: boolean): [O: number, I: number] =>
  (transposed ? [columns, rows] : [rows, columns]) as [number, number];

/** y = residual + (x Wᵀ + bias), or without a residual; x may be a norm that is joined to the product. */
function encodeProduct(step: Joined, y: Place, residual: Place | undefined, e: Encoder): void {
  const { w, bias } = step.inputs;
  const norm = step.joined['x'];
  const x = (norm ?? step).inputs['x']!;
  const layout = layouts[step.op.name]!;
  const [O, I] = matrixSizes(w!.shape, layout === 'linearTransposed');
  const weight = e.weight(w!);
  const isPacked = weight !== undefined && weight.declaration.layout !== 'rows';
  if (isPacked && weight.declaration.layout !== layout)
    throw new Error(`${w!.name} is packed for ${weight.declaration.layout}, not ${layout}`);
  const format = isPacked ? weight.declaration.format : 'f32';
  const area = e.scratch(step.scratch);
  const panels = isPacked ? weight.address : area;
  if (!isPacked) e.call('packPanels', e.address(w!), ...(layout === 'linear' ? [I, 1] : [1, O]), O, e.count(I), panels);
  const rows = [e.count(first(x)), innerRows(x)] as const;
  const result = [panels, e.optional(bias), ...e.operand(y), e.count(I), O] as const;
  if (!isQuantised(format)) {
    e.call('linear', ...rows, ...e.operand(x), ...result, formatCodes[format], area, ...e.operand(residual));
    return;
  }
  const [quantise, multiply] = quantisedKernels[format];
  const most = e.capacity(first(x)) * innerRows(x);
  const expanded = area + 4 * productScratch(format, most, I, e.threads).x;
  const rest = [...result, 0, expanded, ...e.operand(residual)] as const;
  // Products of the same rows, one after the other, such as q, k and v, are with the integers that the first of them made.
  const source = [...rows, ...e.operand(x), e.count(I), area] as const;
  if (most > 1) {
    if (!e.hasMade(source.join(), [quantise, multiply])) e.call(quantise, ...source);
    e.call(multiply, ...rows, area, 0, ...rest, 0, 0, 0, 0);
    return;
  }
  const epsilon = (norm?.attributes['epsilon'] as number | undefined) ?? 0;
  const own = [e.address(x), norm ? 1 : 0, e.optional(norm?.inputs['w'])] as const;
  const isMade = e.hasMade([...source, ...own, epsilon].join(), [multiply]);
  const made = isMade ? [0, 0, 0, 0] : [...own, new Float(epsilon)];
  e.call(multiply, ...rows, area, 4 * ownRow(format, I), ...rest, ...made);
}

const quantisedKernels = {
  q8: ['quantiseRowsQ8', 'linearQ8'],
  q4: ['quantiseRowsQ4', 'linearQ4'],
} as const;

/** Copies along an axis: runs of `run` elements in every row. */
function copyAxis(
  e: Encoder,
  from: Place,
  to: Place,
  axis: number,
  length: number,
  fromStart: number,
  toStart: number,
): void {
  const inner = to.shape.slice(axis + 1).reduce<number>((a, b) => a * fixed(b), 1);
  if (axis === 0) {
    const x = [e.address(from) + 4 * fromStart * from.stride, from.stride] as const;
    e.call(
      'copyBlocks',
      e.count(length),
      ...x,
      e.address(to) + 4 * toStart * to.stride,
      to.stride,
      1,
      rowSize(to.shape),
      0,
      0,
      1,
    );
    return;
  }
  const blocks = to.shape.slice(1, axis).reduce<number>((a, b) => a * fixed(b), 1);
  const fromBlock = fixed(from.shape[axis]) * inner;
  const toBlock = fixed(to.shape[axis]) * inner;
  const x = [e.address(from) + 4 * fromStart * inner, from.stride] as const;
  e.call(
    'copyBlocks',
    e.count(first(to)),
    ...x,
    e.address(to) + 4 * toStart * inner,
    to.stride,
    blocks,
    length * inner,
    fromBlock,
    toBlock,
    1,
  );
}

/**
 * The wasm backend's answer to every op. `reference` runs the op's own plain loops over the same memory on one thread:
 * right, and slow; inference and training never meet it on their hot paths.
 */
export const kernels: { readonly [Name in OpName]: Kernel | 'reference' } = {
  accumulate: {
    strided: () => false,
    encode({ inputs: { total, x, keep }, outputs: { y } }, e) {
      e.call('accumulate', e.address(total!), e.address(x!), e.address(keep!), e.address(y!), elements(y!));
    },
  },
  adamw: {
    strided: () => false,
    encode({ inputs: { p, g, m, v, step, scale }, outputs: { nextP, nextM, nextV }, attributes }, e) {
      const places = [p, g, m, v, step, scale, nextP, nextM, nextV].map((place) => e.address(place!));
      const constants = ['beta1', 'beta2', 'epsilon', 'decay', 'rate'].map(
        (name) => new Float(attributes[name] as number),
      );
      e.call('adamw', ...places, elements(p!), ...constants);
    },
  },
  attention: {
    scratch: ({ inputs: { k, v } }, _, threads) => threads * attentionScratch(last(k!.shape), last(v!.shape)),
    encode({ inputs: { q, k, v, keys, values, positions, ends }, outputs: { y }, attributes, scratch }, e) {
      const [, H, K] = q!.shape as [unknown, number, number];
      const [, G, V] = v!.shape as [unknown, number, number];
      const times = [e.count(first(ends!)), e.address(ends!), e.address(positions!)];
      const formats = [keys, values].map((place) => formatCodes[e.stateFormat(place!)]);
      e.call('appendRows', ...times, ...e.operand(k), ...e.state(keys!), G, K, formats[0]!, e.beyond(keys!));
      e.call('appendRows', ...times, ...e.operand(v), ...e.state(values!), G, V, formats[1]!, e.beyond(values!));
      const [scale, window] = [new Float(attributes['scale'] as number), attributes['window'] as number];
      const states = [...e.state(keys!), ...e.state(values!)];
      e.call(
        'attention',
        ...times,
        ...e.operand(q),
        ...states,
        ...e.operand(y),
        H,
        G,
        K,
        V,
        scale,
        window,
        e.scratch(scratch),
        attentionScratch(K, V),
        ...formats,
      );
    },
  },
  attentionGrad: {
    scratch: ({ inputs: { k, v } }, { tokens }, threads) =>
      threads * attentionGradScratch(last(k!.shape), last(v!.shape), tokens),
    encode({ inputs: { q, k, v, ends, dy }, outputs: { dq, dk, dv }, attributes, scratch }, e) {
      const [, H, K] = q!.shape as [unknown, number, number];
      const [, G, V] = v!.shape as [unknown, number, number];
      const rows = [q, k, v, dy, dq, dk, dv].flatMap((place) => e.operand(place));
      const [scale, window] = [new Float(attributes['scale'] as number), attributes['window'] as number];
      const own = attentionGradScratch(K, V, e.capacity('tokens'));
      const times = [e.count(first(ends!)), e.address(ends!)];
      e.call('attentionGrad', ...times, ...rows, H, G, K, V, scale, window, e.scratch(scratch), own);
    },
  },
  concat: {
    encode({ inputs, outputs: { y }, attributes }, e) {
      let start = 0;
      for (const part of Object.values(inputs)) {
        const axis = attributes['axis'] as number;
        copyAxis(e, part, y!, axis, fixed(part.shape[axis]), 0, start);
        start += fixed(part.shape[axis]);
      }
    },
  },
  conv: {
    encode({ inputs: { x, w, bias, state, ends }, outputs: { y, next } }, e) {
      const [C, K] = w!.shape as [number, number];
      e.call(
        'conv',
        e.count(first(ends!)),
        e.address(ends!),
        ...e.operand(x),
        e.address(w!),
        e.optional(bias),
        ...e.state(state!),
        ...e.state(next!),
        ...e.operand(y),
        C,
        K,
      );
    },
  },
  convGrad: {
    scratch: ({ inputs: { w } }, _, threads) => 8 * fixed(w!.shape[1]) * threads,
    encode({ inputs: { x, w, state, ends, dy, dnext }, outputs: { dx, dw, dbias, dstate }, scratch }, e) {
      const [C, K] = w!.shape as [number, number];
      const times = [e.count(first(ends!)), e.address(ends!)];
      const given = [...e.operand(x), e.address(w!), ...e.state(state!), ...e.operand(dy), ...e.operand(dnext)];
      const found = [...e.operand(dx), e.address(dw!), e.address(dbias!), ...e.operand(dstate)];
      e.call('convGrad', ...times, ...given, ...found, C, K, e.scratch(scratch));
    },
  },
  copy: {
    encode({ inputs: { x }, outputs: { y } }, e) {
      if (x!.region === 'state' || y!.region === 'state') {
        e.call('copyState', e.count('segments'), ...e.state(x!), ...e.state(y!), rowSize(x!.shape));
      } else {
        const width = rowSize(x!.shape);
        e.call('copyBlocks', e.count(first(x!)), ...e.operand(x), ...e.operand(y), 1, width, 0, 0, 1);
      }
    },
  },
  crossEntropy: {
    encode({ inputs: { logits, targets }, outputs: { y } }, e) {
      const V = fixed(logits!.shape[1]);
      e.call('crossEntropy', e.count(first(y!)), ...e.operand(logits), e.address(targets!), ...e.operand(y), V);
    },
  },
  crossEntropyGrad: {
    encode({ inputs: { logits, targets, dy }, outputs: { dlogits } }, e) {
      const given = [...e.operand(logits), e.address(targets!), ...e.operand(dy)];
      e.call('crossEntropyGrad', e.count(first(dy!)), ...given, ...e.operand(dlogits), fixed(logits!.shape[1]));
    },
  },
  embed: {
    encode({ inputs: { ids, table }, outputs: { y } }, e) {
      const weight = e.weight(table!);
      const D = fixed(table!.shape[1]);
      if (!weight || weight.declaration.layout === 'rows') {
        e.call('selectRows', e.count(first(ids!)), ...e.operand(table), e.address(ids!), ...e.operand(y), D);
      } else {
        e.call(
          'embedPanels',
          e.count(first(ids!)),
          e.address(ids!),
          weight.address,
          ...e.operand(y),
          D,
          formatCodes[weight.declaration.format]!,
        );
      }
    },
  },
  embedGrad: {
    encode({ inputs: { ids, dy }, outputs: { dtable } }, e) {
      const [V, D] = dtable!.shape as [number, number];
      e.call(
        'scatterRows',
        e.count(first(ids!)),
        e.address(ids!),
        ...e.operand(dy),
        e.count(V),
        ...e.operand(dtable),
        D,
      );
    },
  },
  expr: {
    scratch: (_, __, threads) => exprScratch(threads),
    encode(step, e) {
      const [product] = Object.values(step.joined);
      if (product) encodeProduct(product, step.outputs['y']!, Object.values(step.inputs)[0], e);
      else encodeExpr(step, e);
    },
  },
  layerNorm: norm('layerNorm'),
  layerNormGrad: normGrad('layerNormGrad'),
  linear: product(false),
  linearTransposed: product(true),
  mean: {
    encode({ inputs: { x, weights }, outputs: { y } }, e) {
      e.call('mean', e.count(first(x!)), ...e.operand(x), ...e.operand(weights), e.address(y!));
    },
  },
  meanGrad: {
    encode({ inputs: { x, weights, dy }, outputs: { dx, dweights } }, e) {
      const given = [...e.operand(x), ...e.operand(weights), e.address(dy!)];
      e.call('meanGrad', e.count(first(x!)), ...given, ...e.operand(dx), ...e.operand(dweights));
    },
  },
  outerSum: {
    // Columns in groups, as its tiles read them; rows are what is summed over.
    strided: (_, shape) => shape.length <= 2,
    scratch({ inputs: { a, b } }, capacity) {
      const rows = elementCount(a!.shape, capacity) / last(a!.shape);
      return grouped(last(a!.shape), 6, rows) + grouped(last(b!.shape), 8, rows);
    },
    encode({ inputs: { a, b }, outputs: { y }, scratch }, e) {
      const [O, I] = y!.shape as [number, number];
      const rows = e.count(first(a!), innerRows(a!));
      const stride = (place: Place) => (innerRows(place) === 1 ? place.stride : last(place.shape));
      const left = e.scratch(scratch);
      const right = e.scratch(scratch + grouped(O, 6, e.capacity(first(a!)) * innerRows(a!)));
      e.call('groupColumns', rows, e.address(a!), stride(a!), O, 6, left);
      e.call('groupColumns', rows, e.address(b!), stride(b!), I, 8, right);
      e.call('outerSum', rows, left, right, ...e.operand(y), O, I);
    },
  },
  recurrence: {
    scratch({ inputs: { g, a, u, state } }, _, threads) {
      const [V, K] = state!.shape.slice(2) as [number, number];
      // Decays and a bonus of 64 tokens, three tiles of 16 channels × 64 tokens, or chunks where one decay serves a head.
      const perHead = !a && !u && (!g || last(g.shape) === 1 || K === 1) && K >= 4 && V >= 4;
      return threads * Math.max(64 * Math.max(K + 1, 3 * 16), perHead ? chunkScratch(K, V) : 0);
    },
    encode({ inputs: { r, k, v, g, dt, a, b, u, state, ends }, outputs: { y, next }, scratch }, e) {
      const [, H, V] = v!.shape as [unknown, number, number];
      const [, G, K] = r!.shape as [unknown, number, number];
      const varies = g && last(g.shape) > 1 ? 1 : 0;
      const perToken = g?.shape.length === 3 ? g.stride : 0;
      const perHead = g ? last(g.shape) : 0;
      e.call(
        'recurrence',
        e.count(first(ends!)),
        e.address(ends!),
        H,
        G,
        V,
        K,
        ...e.operand(r),
        ...e.operand(k),
        ...e.operand(v),
        ...e.operand(y),
        ...e.state(state!),
        ...e.state(next!),
        e.scratch(scratch),
        e.optional(g),
        perToken,
        perHead,
        varies,
        ...e.operand(dt),
        ...e.operand(a),
        ...e.operand(b),
        e.optional(u),
      );
    },
  },
  recurrenceGrad: {
    scratch(node, { tokens }, threads) {
      const { own, parts } = recurrenceGradScratch(node.inputs, tokens, threads);
      return threads * (own + parts);
    },
    encode({ inputs, outputs, scratch }, e) {
      const { r, k, v, g, dt, a, b, u, state, ends, dy, dnext } = inputs;
      const { dr, dk, dv, dg, ddt, da, db, du, dstate } = outputs;
      const [, H, V] = v!.shape as [unknown, number, number];
      const [, G, K] = r!.shape as [unknown, number, number];
      const tokens = e.capacity('tokens');
      const { own, parts } = recurrenceGradScratch(inputs, tokens, e.threads);
      const sums = parts > 0 ? e.scratch(scratch + e.threads * own) : 0;
      const perToken = g?.shape.length === 3;
      const width = g ? last(g.shape) : 0;
      e.call(
        'recurrenceGrad',
        ...[e.count(first(ends!)), e.address(ends!), H, G, V, K],
        ...[r, k, v, dy].flatMap((place) => e.operand(place)),
        ...e.state(state!),
        ...e.operand(dnext),
        ...[e.scratch(scratch), e.optional(g), perToken ? g.stride : 0, width, width > 1 ? 1 : 0],
        ...[dt, a, b].flatMap((place) => e.operand(place)),
        e.optional(u),
        ...[dr, dk, dv].flatMap((place) => e.operand(place)),
        ...[e.address(dg!), perToken ? dg!.stride : 0],
        ...[ddt, da, db].flatMap((place) => e.operand(place)),
        e.address(du!),
        ...e.operand(dstate),
        ...[sums, tokens, own, e.count('tokens')],
      );
      if (parts > 0)
        e.call('addParts', e.count('tokens'), sums, e.threads, tokens, ...e.operand(dr), ...e.operand(dk), G * K);
    },
  },
  repeat: {
    encode({ inputs: { x }, outputs: { y }, attributes }, e) {
      const [, G, K] = x!.shape as [unknown, number, number];
      const times = attributes['times'] as number;
      e.call('copyBlocks', e.count(first(x!)), ...e.operand(x), ...e.operand(y), G, K, K, K * times, times);
    },
  },
  repeatGrad: {
    encode({ inputs: { dy }, outputs: { dx }, attributes }, e) {
      const [, G, K] = dx!.shape as [unknown, number, number];
      e.call(
        'sumRepeats',
        e.count(first(dx!)),
        ...e.operand(dy),
        ...e.operand(dx),
        G,
        K,
        attributes['times'] as number,
      );
    },
  },
  reshape: {
    strided: () => false,
    encode({ inputs: { x }, outputs: { y } }, e) {
      e.call(
        'copyBlocks',
        e.count(first(x!)),
        ...e.operand(x),
        e.address(y!),
        x!.stride,
        1,
        rowSize(x!.shape),
        0,
        0,
        1,
      );
    },
  },
  rmsNorm: norm('rmsNorm'),
  rmsNormGrad: normGrad('rmsNormGrad'),
  rope: {
    scratch: ({ attributes }, _, threads) => 2 * threads * (attributes['frequencies'] as readonly number[]).length,
    encode({ inputs: { x, positions, ends }, outputs: { y }, attributes, scratch }, e) {
      const [, H, K] = x!.shape as [unknown, number, number];
      const frequencies = attributes['frequencies'] as readonly number[];
      const flags = [attributes['interleaved'] ? 1 : 0, attributes['inverse'] ? 1 : 0];
      const times = [e.count(first(ends!)), e.address(ends!), e.address(positions!)];
      const table = e.doubles(frequencies);
      e.call(
        'rope',
        ...times,
        ...e.operand(x),
        ...e.operand(y),
        H,
        K,
        frequencies.length,
        table,
        ...flags,
        e.scratch(scratch),
        new Float((attributes['magnitude'] as number | undefined) ?? 1),
      );
    },
  },
  sample: 'reference',
  segmentCrossEntropy: {
    encode({ inputs: { x, targets, ends }, outputs: { y } }, e) {
      const times = [e.count(first(ends!)), e.address(ends!)];
      e.call('segmentCrossEntropy', ...times, ...e.operand(x), e.address(targets!), ...e.operand(y), last(x!.shape));
    },
  },
  segmentCrossEntropyGrad: {
    encode({ inputs: { x, targets, ends, dy }, outputs: { dx } }, e) {
      const given = [e.count(first(ends!)), e.address(ends!), ...e.operand(x), e.address(targets!), ...e.operand(dy)];
      e.call('segmentCrossEntropyGrad', ...given, ...e.operand(dx), last(x!.shape));
    },
  },
  select: {
    encode({ inputs: { x, rows }, outputs: { y } }, e) {
      e.call(
        'selectRows',
        e.count(first(rows!)),
        ...e.operand(x),
        e.address(rows!),
        ...e.operand(y),
        fixed(x!.shape[1]),
      );
    },
  },
  selectGrad: {
    encode({ inputs: { rows, dy }, outputs: { dx } }, e) {
      const given = [e.count(first(rows!)), e.address(rows!), ...e.operand(dy)];
      e.call('scatterRows', ...given, e.count(first(dx!)), ...e.operand(dx), fixed(dx!.shape[1]));
    },
  },
  shift: {
    encode({ inputs: { x, state, ends }, outputs: { y, next } }, e) {
      const times = [e.count(first(ends!)), e.address(ends!)];
      e.call(
        'shift',
        ...times,
        ...e.operand(x),
        ...e.state(state!),
        ...e.state(next!),
        ...e.operand(y),
        fixed(x!.shape[1]),
      );
    },
  },
  shiftGrad: {
    encode({ inputs: { x, ends, dy, dnext }, outputs: { dx, dstate } }, e) {
      const times = [e.count(first(ends!)), e.address(ends!)];
      const rows = [dy, dnext, dx, dstate].flatMap((place) => e.operand(place));
      e.call('shiftGrad', ...times, ...rows, fixed(x!.shape[1]));
    },
  },
  shiftMix: {
    encode({ inputs: { x, state, ends, ...weights }, outputs: { next, ...mixtures } }, e) {
      const times = [e.count(first(ends!)), e.address(ends!)];
      const rows = [...e.operand(x), ...e.state(state!), ...e.state(next!)];
      const found = Object.values(mixtures);
      const own = Object.values(weights).flatMap((μ, i) => [e.address(μ), ...e.operand(found[i])]);
      e.call('shiftMix', ...times, ...rows, fixed(x!.shape[1]), found.length, ...own);
    },
  },
  shiftMixGrad: {
    scratch: ({ inputs: { x }, outputs }, { tokens }) =>
      Math.ceil(tokens / SUM_BLOCK) * (outputs.length - 2) * fixed(x!.shape[1]),
    encode({ inputs: { x, state, ends, dnext, ...given }, outputs: { dx, dstate, ...found }, scratch }, e) {
      const C = fixed(x!.shape[1]);
      const times = [e.count('tokens'), e.count(first(ends!)), e.address(ends!)];
      const rows = [...e.operand(x), ...e.state(state!), ...[dnext, dx, dstate].flatMap((place) => e.operand(place))];
      const letters = Object.keys(found).map((name) => name.at(-1)!);
      const own = letters.flatMap((letter) => [e.address(given[`μ${letter}`]!), ...e.operand(given[`d${letter}`])]);
      e.call('shiftMixGrad', ...times, ...rows, C, e.scratch(scratch), letters.length, ...own);
      sumBlocks(e, e.count('tokens'), e.scratch(scratch), C, Object.values(found));
    },
  },
  slice: {
    encode({ inputs: { x }, outputs: { y }, attributes }, e) {
      const [axis, start, length] = [attributes['axis'], attributes['start'], attributes['length']] as [
        number,
        number,
        number,
      ];
      copyAxis(e, x!, y!, axis, length, start, 0);
    },
  },
  softmax: {
    encode({ inputs: { x }, outputs: { y }, attributes }, e) {
      const rows = [e.count(first(x!)), innerRows(x!), ...e.operand(x), ...e.operand(y)];
      e.call('softmax', ...rows, last(x!.shape), attributes['log'] ? 1 : 0);
    },
  },
  softmaxGrad: {
    encode({ inputs: { y, dy }, outputs: { dx }, attributes }, e) {
      const rows = [e.count(first(y!)), innerRows(y!), ...e.operand(y), ...e.operand(dy), ...e.operand(dx)];
      e.call('softmaxGrad', ...rows, last(y!.shape), attributes['log'] ? 1 : 0);
    },
  },
  sumTo: {
    encode({ inputs: { x }, outputs: { y } }, e) {
      const { perRow, inner, size } = broadcastPattern(y!.shape, x!.shape);
      const rows = [e.count(first(x!)), ...e.operand(x), rowSize(x!.shape), ...e.operand(y)];
      e.call('sumTo', ...rows, perRow ? 1 : 0, inner, size);
    },
  },
  tokenPositions: {
    encode({ inputs: { positions, ends }, outputs: { y } }, e) {
      e.call('tokenPositions', e.count(first(ends!)), e.address(ends!), e.address(positions!), e.address(y!));
    },
  },
  wkv4: {
    encode({ inputs: { k, v, w, u, num, den, max, ends }, outputs: { y, nextNum, nextDen, nextMax } }, e) {
      const times = [e.count(first(ends!)), e.address(ends!)];
      const given = [...e.operand(k), ...e.operand(v), e.address(w!), e.address(u!)];
      const before = [num, den, max].flatMap((place) => e.state(place!));
      const after = [nextNum, nextDen, nextMax].flatMap((place) => e.state(place!));
      e.call('wkv4', ...times, ...given, ...before, ...e.operand(y), ...after, fixed(k!.shape[1]));
    },
  },
  wkv4Grad: {
    scratch: (_, { tokens }, threads) => threads * 12 * (tokens + 1),
    encode({ inputs, outputs: { dk, dv, dw, du, dn, dd, dm }, scratch }, e) {
      const { k, v, w, u, num, den, max, ends, dy, dnum, dden, dmax } = inputs;
      const times = [e.count(first(ends!)), e.address(ends!)];
      const given = [...e.operand(k), ...e.operand(v), e.address(w!), e.address(u!)];
      const before = [num, den, max].flatMap((place) => e.state(place!));
      const arriving = [dy, dnum, dden, dmax].flatMap((place) => e.operand(place));
      const found = [...e.operand(dk), ...e.operand(dv), e.address(dw!), e.address(du!)];
      const states = [dn, dd, dm].flatMap((place) => e.operand(place));
      const own = 12 * (e.capacity('tokens') + 1);
      const area = [fixed(k!.shape[1]), e.scratch(scratch), own];
      e.call('wkv4Grad', ...times, ...given, ...before, ...arriving, ...found, ...states, ...area);
    },
  },
};

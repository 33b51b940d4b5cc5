import { ShapeError } from '../core/errors.ts';
import { type Op, position } from '../core/op.ts';
import { type Dim, formatShape, isRuntime, product, rowSize, type Shape } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply, constant } from '../core/trace.ts';
import { broadcastTo } from './expr.ts';

/** The same numbers under another shape; a run-time first axis stays. */
export const reshapeOp: Op = {
  name: 'reshape',
  inputs: { x: '*' },
  outputs: { y: '*' },
  infer: (_, { shape }) => [shape as Shape],
  view: () => ({ offset: 0 }),
  reference({ x }, { y }) {
    // Rows are dense on both sides unless the first axis is the same, so element order decides.
    const width = y!.shape.slice(1).reduce((a, b) => a * b, 1);
    const sourceWidth = x!.shape.slice(1).reduce((a, b) => a * b, 1);
    for (let n = 0; n < width * (y!.shape[0] ?? 1); n++) {
      y!.data[y!.row(Math.floor(n / width)) + (n % width)] =
        x!.data[x!.row(Math.floor(n / sourceWidth)) + (n % sourceWidth)]!;
    }
  },
  grad: ({ inputs: { x }, gradients: { y: dy } }) => ({ x: reshape(dy!, x!.shape) }),
  cases: [
    { axes: { I: 12 }, segments: [3], attributes: { shape: ['tokens', 3, 4] }, patterns: { x: 'T I' } },
    { axes: { I: 63 }, segments: [5], attributes: { shape: ['tokens', 7, 9] }, patterns: { x: 'T I' } },
  ],
};

/** `x` with the axes of `shape`, of as many elements. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const fits = isRuntime(x.shape[0])
    ? shape[0] === x.shape[0] && rowSize(shape) === rowSize(x.shape)
    : product(shape) === product(x.shape);
  if (!fits) throw new ShapeError(`reshape: ${formatShape(x.shape)} can't become ${formatShape(shape)}`);
  return apply(reshapeOp, { x }, { shape })[0]!;
}

/** y = x[…, start : start + length] along one axis. */
export const sliceOp: Op = {
  name: 'slice',
  inputs: { x: '*' },
  outputs: { y: '*' },
  infer: ({ x }, { axis, length }) => [x!.shape.map((dim, i) => (i === axis ? (length as number) : dim))],
  view({ shape }, { axis, start }) {
    // Rows of a run-time axis may lie apart, so the axis after it can be cut; of fixed shapes only the first can.
    const outermost = isRuntime(shape[0]) ? 1 : 0;
    if (axis !== outermost) return undefined;
    return { offset: (start as number) * product(shape.slice(outermost + 1)) };
  },
  reference({ x }, { y }, { axis, start }) {
    const inner = y!.shape.slice((axis as number) + 1).reduce((a, b) => a * b, 1);
    const length = y!.shape[axis as number]! * inner;
    const full = x!.shape[axis as number]! * inner;
    const blocks = y!.shape.reduce((a, b) => a * b, 1) / length;
    for (let n = 0; n < blocks; n++) {
      const from =
        (axis === 0 ? x!.row(start as number) : position(x!, n, full)) + (axis === 0 ? 0 : (start as number) * inner);
      const to = axis === 0 ? y!.row(0) : position(y!, n, length);
      for (let i = 0; i < length; i++) y!.data[to + i] = x!.data[from + i]!;
    }
  },
  grad: ({ inputs: { x }, attributes: { axis, start, length }, gradients: { y: dy } }) => {
    const before = start as number;
    const after = (x!.shape[axis as number] as number) - before - (length as number);
    return { x: pad(dy!, axis as number, before, after) };
  },
  cases: [
    { axes: { I: 12 }, segments: [3], attributes: { axis: 1, start: 5, length: 4 }, patterns: { x: 'T I' } },
    { axes: { H: 3, I: 8 }, segments: [2], attributes: { axis: 2, start: 1, length: 3 }, patterns: { x: 'T H I' } },
    { axes: { H: 3, I: 8 }, segments: [2], attributes: { axis: 1, start: 1, length: 2 }, patterns: { x: 'T H I' } },
    { axes: { O: 6, I: 5 }, segments: [1], attributes: { axis: 0, start: 2, length: 3 }, patterns: { x: 'O I' } },
  ],
};

/** Elements `start` to `start + length` of `axis`. */
export function slice(x: Tensor, axis: number, start: number, length: number): Tensor {
  const dim = x.shape[axis];
  if (typeof dim !== 'number' || start < 0 || length < 1 || start + length > dim) {
    throw new ShapeError(`slice: ${start} to ${start + length} of axis ${axis} of ${formatShape(x.shape)}`);
  }
  return start === 0 && length === dim ? x : apply(sliceOp, { x }, { axis, start, length })[0]!;
}

/** Cuts the last axis into parts of the given sizes, which must add up to it. */
export function split(x: Tensor, sizes: readonly number[]): Tensor[] {
  const axis = x.shape.length - 1;
  const total = sizes.reduce((a, b) => a + b, 0);
  if (total !== x.shape[axis])
    throw new ShapeError(`split: ${sizes.join(' + ')} is ${total}, not the last axis of ${formatShape(x.shape)}`);
  let start = 0;
  return sizes.map((size) => {
    start += size;
    return slice(x, axis, start - size, size);
  });
}

const parts = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'] as const;

/** y = x with other tensors joined to it along one axis. */
export const concatOp: Op = {
  name: 'concat',
  inputs: Object.fromEntries(parts.map((name) => [`${name}?`, '*'])),
  outputs: { y: '*' },
  infer: (inputs, { axis }) => [concatShape(Object.values(inputs), axis as number)],
  reference(inputs, { y }, { axis }) {
    const inner = y!.shape.slice((axis as number) + 1).reduce((a, b) => a * b, 1);
    const full = y!.shape[axis as number]! * inner;
    const blocks = y!.shape.reduce((a, b) => a * b, 1) / full;
    let start = 0;
    for (const x of parts.flatMap((name) => inputs[name] ?? [])) {
      const length = x.shape[axis as number]! * inner;
      for (let n = 0; n < blocks; n++) {
        const to = (axis === 0 ? y!.row(0) : position(y!, n, full)) + start;
        const from = axis === 0 ? x.row(0) : position(x, n, length);
        for (let i = 0; i < length; i++) y!.data[to + i] = x.data[from + i]!;
      }
      start += length;
    }
  },
  grad({ inputs, attributes, gradients: { y: dy } }) {
    const axis = attributes['axis'] as number;
    let start = 0;
    const result: Record<string, Tensor> = {};
    for (const name of parts) {
      const part = inputs[name];
      if (!part) continue;
      const length = part.shape[axis] as number;
      result[name] = slice(dy!, axis, start, length);
      start += length;
    }
    return result;
  },
  cases: [
    { axes: { I: 3, J: 5 }, segments: [4], attributes: { axis: 1 }, optional: { a: 'T I', b: 'T J' } },
    {
      axes: { H: 2, I: 3, J: 5 },
      segments: [4],
      attributes: { axis: 2 },
      optional: { a: 'T H I', b: 'T H J', c: 'T H I' },
    },
    { axes: { H: 2, O: 4, I: 3 }, segments: [1], attributes: { axis: 0 }, optional: { a: 'H I', b: 'O I' } },
  ],
};

function concatShape(tensors: readonly Tensor[], axis: number): Dim[] {
  const [first, ...rest] = tensors.map(({ shape }) => shape);
  let length = first![axis] as number;
  for (const shape of rest) {
    if (shape.length !== first!.length || shape.some((dim, i) => i !== axis && dim !== first![i])) {
      throw new ShapeError(
        `concat: ${tensors.map(({ shape }) => formatShape(shape)).join(' and ')} differ outside axis ${axis}`,
      );
    }
    length += shape[axis] as number;
  }
  return first!.map((dim, i) => (i === axis ? length : dim));
}

/** Joins tensors along an axis of fixed length. */
export function concat(tensors: readonly Tensor[], axis: number): Tensor {
  if (tensors.length > parts.length) {
    return concat([concat(tensors.slice(0, parts.length), axis), ...tensors.slice(parts.length)], axis);
  }
  const inputs = Object.fromEntries(tensors.map((tensor, i) => [parts[i]!, tensor]));
  return tensors.length === 1 ? tensors[0]! : apply(concatOp, inputs, { axis })[0]!;
}

/** Zeros before and after along an axis. */
function pad(x: Tensor, axis: number, before: number, after: number): Tensor {
  const zeros = (length: number) =>
    broadcastTo(
      constant([0]),
      x.shape.map((dim, i) => (i === axis ? length : dim)),
    );
  return concat([...(before ? [zeros(before)] : []), x, ...(after ? [zeros(after)] : [])], axis);
}

/** y = each row of the axis `times` times in succession (as PyTorch's repeat_interleave): heads shared by groups. */
export const repeatOp: Op = {
  name: 'repeat',
  inputs: { x: 'T G K' },
  outputs: { y: 'T H K' },
  axes: ({ times }, bound) => ({ H: (bound.get('G') as number) * (times as number) }),
  reference({ x }, { y }, { times }) {
    const [T, H, K] = y!.shape as [number, number, number];
    for (let t = 0; t < T; t++) {
      for (let h = 0; h < H; h++) {
        const from = x!.row(t) + Math.floor(h / (times as number)) * K;
        for (let i = 0; i < K; i++) y!.data[y!.row(t) + h * K + i] = x!.data[from + i]!;
      }
    }
  },
  grad: ({ attributes, gradients: { y: dy } }) => ({ x: apply(repeatGradOp, { dy }, attributes)[0] }),
  cases: [{ axes: { G: 2, K: 5 }, segments: [3], attributes: { times: 3 } }],
};

/** dx[g] = Σ of dy over the `times` copies of g. */
export const repeatGradOp: Op = {
  name: 'repeatGrad',
  inputs: { dy: 'T H K' },
  outputs: { dx: 'T G K' },
  axes: ({ times }, bound) => ({ G: (bound.get('H') as number) / (times as number) }),
  reference({ dy }, { dx }, { times }) {
    const [T, H, K] = dy!.shape as [number, number, number];
    for (let t = 0; t < T; t++) {
      dx!.data.fill(0, dx!.row(t), dx!.row(t) + (H / (times as number)) * K);
      for (let h = 0; h < H; h++) {
        const to = dx!.row(t) + Math.floor(h / (times as number)) * K;
        for (let i = 0; i < K; i++) dx!.data[to + i]! += dy!.data[dy!.row(t) + h * K + i]!;
      }
    }
  },
  grad: ({ attributes, gradients: { dx: ddx } }) => ({ dy: apply(repeatOp, { x: ddx }, attributes)[0] }),
  cases: [{ axes: { H: 6, K: 5 }, segments: [3], attributes: { times: 3 } }],
};

/** `x` [tokens, G, K] with each of the G rows repeated `times` times → [tokens, G·times, K]. */
export const repeat = (x: Tensor, times: number): Tensor => (times === 1 ? x : apply(repeatOp, { x }, { times })[0]!);

/** y[r] = x[rows[r]]: the tokens whose logits are wanted. */
export const selectOp: Op = {
  name: 'select',
  inputs: { x: 'T D', rows: 'R' },
  outputs: { y: 'R D' },
  dtypes: { rows: 'i32' },
  reference({ x, rows }, { y }) {
    for (let r = 0; r < rows!.shape[0]!; r++) {
      const from = x!.row(rows!.data[rows!.row(r)]!);
      for (let i = 0; i < x!.shape[1]!; i++) y!.data[y!.row(r) + i] = x!.data[from + i]!;
    }
  },
  grad: ({ inputs: { x, rows }, gradients: { y: dy } }) => ({ x: apply(selectGradOp, { x, rows, dy })[0] }),
  cases: [{ axes: { D: 7 }, segments: [5] }],
};

/** dx[t] = Σ of dy[r] over the rows r that selected t. */
export const selectGradOp: Op = {
  name: 'selectGrad',
  inputs: { x: 'T D', rows: 'R', dy: 'R D' },
  outputs: { dx: 'T D' },
  dtypes: { rows: 'i32' },
  reference({ rows, dy }, { dx }) {
    const [T, D] = dx!.shape as [number, number];
    for (let t = 0; t < T; t++) dx!.data.fill(0, dx!.row(t), dx!.row(t) + D);
    for (let r = 0; r < rows!.shape[0]!; r++) {
      const to = dx!.row(rows!.data[rows!.row(r)]!);
      for (let i = 0; i < D; i++) dx!.data[to + i]! += dy!.data[dy!.row(r) + i]!;
    }
  },
  cases: [{ axes: { D: 7 }, segments: [5] }],
};

/** Rows `rows` [outputs] of `x` [tokens, D] → [outputs, D]. */
export const select = (x: Tensor, rows: Tensor): Tensor => apply(selectOp, { x, rows })[0]!;

import { type Op, position, rowCount } from '../core/op.ts';

import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';
import { sumTo } from './expr.ts';

const cases = [
  { axes: { I: 1, O: 1 }, segments: [1] },
  { axes: { I: 3, O: 63 }, segments: [2] },
  { axes: { I: 65, O: 3 }, segments: [3], optional: { bias: true } },
  { axes: { I: 64, O: 96 }, segments: [17], optional: { bias: true } },
  // Rests of six columns, which are whole groups of one kind and not of the other.
  { axes: { I: 70, O: 14 }, segments: [9] },
];

/** y = W x + b, with W stored as rows of outputs [O, I] (PyTorch's Linear). */
export const linearOp: Op = {
  name: 'linear',
  inputs: { x: '… I', w: 'O I', 'bias?': 'O' },
  outputs: { y: '… O' },
  reference({ x, w, bias }, { y }) {
    const [O, I] = w!.shape as [number, number];
    for (let r = 0; r < rowCount(x!, I); r++) {
      const from = position(x!, r, I);
      const to = position(y!, r, O);
      for (let o = 0; o < O; o++) {
        const row = w!.row(o);
        let sum = bias ? bias.data[bias.row(o)]! : 0;
        for (let i = 0; i < I; i++) sum += x!.data[from + i]! * w!.data[row + i]!;
        y!.data[to + o] = sum;
      }
    }
  },
  grad: ({ inputs: { x, w, bias }, gradients: { y: dy }, wants }) => ({
    x: wants('x') ? linearTransposed(dy!, w!) : undefined,
    w: wants('w') ? apply(outerSumOp, { a: dy, b: x })[0] : undefined,
    bias: bias && wants('bias') ? sumTo(dy!, bias.shape) : undefined,
  }),
  cases: cases.map((one) => ({ ...one, patterns: { x: 'T I' } })),
};

/** y = Wᵀ x + b, with W stored as rows of inputs [I, O] (GPT-2, RWKV's low-rank matrices). */
export const linearTransposedOp: Op = {
  name: 'linearTransposed',
  inputs: { x: '… I', w: 'I O', 'bias?': 'O' },
  outputs: { y: '… O' },
  reference({ x, w, bias }, { y }) {
    const [I, O] = w!.shape as [number, number];
    for (let r = 0; r < rowCount(x!, I); r++) {
      const from = position(x!, r, I);
      const to = position(y!, r, O);
      for (let o = 0; o < O; o++) y!.data[to + o] = bias ? bias.data[bias.row(o)]! : 0;
      for (let i = 0; i < I; i++) {
        const row = w!.row(i);
        const xi = x!.data[from + i]!;
        for (let o = 0; o < O; o++) y!.data[to + o]! += xi * w!.data[row + o]!;
      }
    }
  },
  grad: ({ inputs: { x, w, bias }, gradients: { y: dy }, wants }) => ({
    x: wants('x') ? linear(dy!, w!) : undefined,
    w: wants('w') ? apply(outerSumOp, { a: x, b: dy })[0] : undefined,
    bias: bias && wants('bias') ? sumTo(dy!, bias.shape) : undefined,
  }),
  cases: cases.map((one) => ({ ...one, patterns: { x: 'T I' } })),
};

/** y = Σ_t a_t ⊗ b_t: the gradient of a linear map's matrix. */
export const outerSumOp: Op = {
  name: 'outerSum',
  inputs: { a: '… O', b: '… I' },
  outputs: { y: 'O I' },
  reference({ a, b }, { y }) {
    const [O, I] = y!.shape as [number, number];
    for (let o = 0; o < O; o++) y!.data.fill(0, y!.row(o), y!.row(o) + I);
    for (let r = 0; r < rowCount(a!, O); r++) {
      const from = position(b!, r, I);
      for (let o = 0; o < O; o++) {
        const ao = a!.data[position(a!, r, O) + o]!;
        const to = y!.row(o);
        for (let i = 0; i < I; i++) y!.data[to + i]! += ao * b!.data[from + i]!;
      }
    }
  },
  grad: ({ inputs: { a, b }, gradients: { y: dy }, wants }) => ({
    a: wants('a') ? linear(b!, dy!) : undefined,
    b: wants('b') ? linearTransposed(a!, dy!) : undefined,
  }),
  cases: [
    { axes: { I: 3, O: 63 }, segments: [5], patterns: { a: 'T O', b: 'T I' } },
    { axes: { I: 65, O: 1 }, segments: [1], patterns: { a: 'T O', b: 'T I' } },
    { axes: { I: 64, O: 48 }, segments: [33], patterns: { a: 'T O', b: 'T I' } },
    { axes: { I: 6, O: 14 }, segments: [9], patterns: { a: 'T O', b: 'T I' } },
    { axes: { I: 70, O: 22 }, segments: [9], patterns: { a: 'T O', b: 'T I' } },
  ],
};

/** y = W x + b: `x` […, I], `w` [O, I], `bias` [O] → […, O]. */
export const linear = (x: Tensor, w: Tensor, bias?: Tensor): Tensor => apply(linearOp, { x, w, bias })[0]!;

/** y = Wᵀ x + b: `x` […, I], `w` [I, O], `bias` [O] → […, O]. */
export const linearTransposed = (x: Tensor, w: Tensor, bias?: Tensor): Tensor =>
  apply(linearTransposedOp, { x, w, bias })[0]!;

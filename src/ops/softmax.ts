import { type Op, position, rowCount } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';
import { logSumExp } from './cross-entropy.ts';

const cases = [1, 3, 63, 256].map((I) => ({ axes: { I }, segments: [3], patterns: { x: 'T I' } }));

/** y = exp(x) / Σ exp(x) over the last axis; with `log`, its logarithm. */
export const softmaxOp: Op = {
  name: 'softmax',
  inputs: { x: '… I' },
  outputs: { y: '… I' },
  reference({ x }, { y }, { log }) {
    const I = x!.shape.at(-1)!;
    for (let r = 0; r < rowCount(x!, I); r++) {
      const from = position(x!, r, I);
      const to = position(y!, r, I);
      const normaliser = logSumExp(x!.data, from, I);
      for (let i = 0; i < I; i++) {
        const value = x!.data[from + i]! - normaliser;
        y!.data[to + i] = log ? value : Math.exp(value);
      }
    }
  },
  grad: ({ outputs: { y }, attributes, gradients: { y: dy } }) => ({
    x: apply(softmaxGradOp, { y, dy }, attributes)[0],
  }),
  cases: [
    ...cases.map((one) => ({ ...one, attributes: { log: false } })),
    ...cases.map((one) => ({ ...one, attributes: { log: true } })),
    { axes: { I: 63 }, segments: [2], patterns: { x: 'T I' }, attributes: { log: false }, fill: { x: 'large' } },
  ],
};

/** dx = y·(dy − Σ dy·y), or dy − exp(y)·Σ dy for the logarithm. */
export const softmaxGradOp: Op = {
  name: 'softmaxGrad',
  inputs: { y: '… I', dy: '… I' },
  outputs: { dx: '… I' },
  reference({ y, dy }, { dx }, { log }) {
    const I = y!.shape.at(-1)!;
    for (let r = 0; r < rowCount(y!, I); r++) {
      const at = position(y!, r, I);
      const arriving = position(dy!, r, I);
      const to = position(dx!, r, I);
      let sum = 0;
      for (let i = 0; i < I; i++) sum += dy!.data[arriving + i]! * (log ? 1 : y!.data[at + i]!);
      for (let i = 0; i < I; i++) {
        const dyi = dy!.data[arriving + i]!;
        const yi = y!.data[at + i]!;
        dx!.data[to + i] = log ? dyi - Math.exp(yi) * sum : yi * (dyi - sum);
      }
    }
  },
  cases: [3, 63].flatMap((I) =>
    [false, true].map((log) => ({
      axes: { I },
      segments: [3],
      patterns: { y: 'T I', dy: 'T I' },
      attributes: { log },
    })),
  ),
};

/** Softmax over the last axis. */
export const softmax = (x: Tensor): Tensor => apply(softmaxOp, { x }, { log: false })[0]!;

/** Logarithm of the softmax over the last axis. */
export const logSoftmax = (x: Tensor): Tensor => apply(softmaxOp, { x }, { log: true })[0]!;

import type { Op, View } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';
import { forEachSegment } from './conv.ts';

/**
 * y[b, c] = log Σ_t exp(x[t, c]) − x[target, c], over the tokens t of segment b: the surprise, in nats, that of all its tokens the
 * target is the one. Targets count from the segment's first token.
 */
export const segmentCrossEntropyOp: Op = {
  name: 'segmentCrossEntropy',
  inputs: { x: 'T C', targets: 'B C', ends: 'B' },
  outputs: { y: 'B C' },
  dtypes: { targets: 'i32', ends: 'i32' },
  reference({ x, targets, ends }, { y }) {
    const C = x!.shape[1]!;
    forEachSegment(ends!, (b, first, last) => {
      for (let c = 0; c < C; c++) {
        const target = first + targets!.data[targets!.row(b) + c]!;
        y!.data[y!.row(b) + c] = logSumOf(x!, c, first, last) - x!.data[x!.row(target) + c]!;
      }
    });
  },
  grad: ({ inputs: { x, targets, ends }, gradients: { y: dy } }) => ({
    x: apply(segmentCrossEntropyGradOp, { x, targets, ends, dy })[0],
  }),
  cases: [
    { axes: { C: 2, V: 3 }, segments: [3, 5, 4], fill: { targets: 'token' } },
    { axes: { C: 1, V: 1 }, segments: [1, 9], fill: { targets: 'token' } },
    { axes: { C: 5, V: 4 }, segments: [4], fill: { targets: 'token', x: 'large' } },
  ],
};

/** dx[t, c] = dy[b, c] · (softmax over the segment's tokens − onehot(target)). */
export const segmentCrossEntropyGradOp: Op = {
  name: 'segmentCrossEntropyGrad',
  inputs: { x: 'T C', targets: 'B C', ends: 'B', dy: 'B C' },
  outputs: { dx: 'T C' },
  dtypes: { targets: 'i32', ends: 'i32' },
  reference({ x, targets, ends, dy }, { dx }) {
    const C = x!.shape[1]!;
    forEachSegment(ends!, (b, first, last) => {
      for (let c = 0; c < C; c++) {
        const target = first + targets!.data[targets!.row(b) + c]!;
        const arriving = dy!.data[dy!.row(b) + c]!;
        const normaliser = logSumOf(x!, c, first, last);
        for (let t = first; t < last; t++) {
          const p = Math.exp(x!.data[x!.row(t) + c]! - normaliser);
          dx!.data[dx!.row(t) + c] = arriving * (p - (t === target ? 1 : 0));
        }
      }
    });
  },
  cases: [
    { axes: { C: 2, V: 3 }, segments: [3, 5, 4], fill: { targets: 'token' } },
    { axes: { C: 3, V: 1 }, segments: [1, 9], fill: { targets: 'token' } },
  ],
};

/** log Σ exp of a column's elements from row `first` up to `last`, without overflow. */
function logSumOf(x: View, column: number, first: number, last: number): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let t = first; t < last; t++) max = Math.max(max, x.data[x.row(t) + column]!);
  let sum = 0;
  for (let t = first; t < last; t++) sum += Math.exp(x.data[x.row(t) + column]! - max);
  return max + Math.log(sum);
}

/** Surprise [segments, C] of the `targets` [segments, C] among the rows of each segment of x [tokens, C]. */
export const segmentCrossEntropy = (x: Tensor, targets: Tensor, ends: Tensor): Tensor =>
  apply(segmentCrossEntropyOp, { x, targets, ends })[0]!;

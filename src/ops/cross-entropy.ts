import type { Op } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';

/** y = log Σ exp(x) − x[target] per row: the surprise of the target, in nats. A negative target gives 0: not counted. */
export const crossEntropyOp: Op = {
  name: 'crossEntropy',
  inputs: { logits: 'R V', targets: 'R' },
  outputs: { y: 'R' },
  dtypes: { targets: 'i32' },
  reference({ logits, targets }, { y }) {
    const V = logits!.shape[1]!;
    for (let r = 0; r < logits!.shape[0]!; r++) {
      const from = logits!.row(r);
      const target = targets!.data[targets!.row(r)]!;
      y!.data[y!.row(r)] = target < 0 ? 0 : logSumExp(logits!.data, from, V) - logits!.data[from + target]!;
    }
  },
  grad: ({ inputs: { logits, targets }, gradients: { y: dy } }) => ({
    logits: apply(crossEntropyGradOp, { logits, targets, dy })[0],
  }),
  cases: [
    { axes: { V: 3 }, segments: [1], fill: { targets: 'token' } },
    { axes: { V: 63 }, segments: [5], fill: { targets: 'token' } },
    { axes: { V: 256 }, segments: [2], fill: { targets: 'token', logits: 'large' } },
  ],
};

/** dlogits = dy · (softmax(logits) − onehot(target)), in the place of the logits: [R, V] is the largest tensor of a step. */
export const crossEntropyGradOp: Op = {
  name: 'crossEntropyGrad',
  inputs: { logits: 'R V', targets: 'R', dy: 'R' },
  outputs: { dlogits: 'R V' },
  dtypes: { targets: 'i32' },
  overwrites: { logits: 'dlogits' },
  reference({ logits, targets, dy }, { dlogits }) {
    const V = logits!.shape[1]!;
    for (let r = 0; r < logits!.shape[0]!; r++) {
      const from = logits!.row(r);
      const to = dlogits!.row(r);
      const target = targets!.data[targets!.row(r)]!;
      const arriving = target < 0 ? 0 : dy!.data[dy!.row(r)]!;
      const normaliser = logSumExp(logits!.data, from, V);
      for (let v = 0; v < V; v++) {
        dlogits!.data[to + v] = arriving * (Math.exp(logits!.data[from + v]! - normaliser) - (v === target ? 1 : 0));
      }
    }
  },
  cases: [
    { axes: { V: 3 }, segments: [1], fill: { targets: 'token' } },
    { axes: { V: 63 }, segments: [5], fill: { targets: 'token' } },
  ],
};

/** log Σ exp over `count` numbers from `from` on, without overflow. */
export function logSumExp(x: ArrayLike<number>, from: number, count: number): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < count; i++) max = Math.max(max, x[from + i]!);
  let sum = 0;
  for (let i = 0; i < count; i++) sum += Math.exp(x[from + i]! - max);
  return max + Math.log(sum);
}

/** Surprise of `targets` [R] under `logits` [R, V], nats per row [R]. */
export const crossEntropy = (logits: Tensor, targets: Tensor): Tensor => apply(crossEntropyOp, { logits, targets })[0]!;

import type { Op } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';

/**
 * y = Σ_t x[t] / n over the first axis, whose length n is known only when the plan runs; with `weights` the weighted
 * mean Σ w[t] x[t] / Σ w[t], and 0 where all weights are 0.
 */
export const meanOp: Op = {
  name: 'mean',
  inputs: { x: 'T', 'weights?': 'T' },
  outputs: { y: '1' },
  reference({ x, weights }, { y }) {
    let sum = 0;
    let total = 0;
    for (let t = 0; t < x!.shape[0]!; t++) {
      const w = weights ? weights.data[weights.row(t)]! : 1;
      sum += w * x!.data[x!.row(t)]!;
      total += w;
    }
    y!.data[y!.row(0)] = total === 0 ? 0 : sum / total;
  },
  grad({ inputs: { x, weights }, gradients: { y: dy } }) {
    const [dx, dweights] = apply(meanGradOp, { x, weights, dy });
    return { x: dx, weights: weights && dweights };
  },
  cases: [
    { axes: {}, segments: [1] },
    { axes: {}, segments: [63] },
    { axes: {}, segments: [5], optional: { weights: true }, fill: { weights: 'positive' } },
  ],
};

/** dx[t] = dy · w[t] / Σ w and dw[t] = dy · (x[t] − y) / Σ w, with w = 1 without weights. */
export const meanGradOp: Op = {
  name: 'meanGrad',
  inputs: { x: 'T', 'weights?': 'T', dy: '1' },
  outputs: { dx: 'T', dweights: 'T' },
  reference({ x, weights, dy }, { dx, dweights }) {
    const rows = x!.shape[0]!;
    const weight = (t: number) => (weights ? weights.data[weights.row(t)]! : 1);
    let total = 0;
    let sum = 0;
    for (let t = 0; t < rows; t++) {
      total += weight(t);
      sum += weight(t) * x!.data[x!.row(t)]!;
    }
    const scale = total === 0 ? 0 : dy!.data[dy!.row(0)]! / total;
    for (let t = 0; t < rows; t++) {
      dx!.data[dx!.row(t)] = scale * weight(t);
      dweights!.data[dweights!.row(t)] = total === 0 ? 0 : scale * (x!.data[x!.row(t)]! - sum / total);
    }
  },
  cases: [
    { axes: {}, segments: [5] },
    { axes: {}, segments: [3], optional: { weights: true }, fill: { weights: 'positive' } },
  ],
};

/** Mean over the first axis of a vector [n], as [1]. */
export const mean = (x: Tensor, weights?: Tensor): Tensor => apply(meanOp, { x, weights })[0]!;

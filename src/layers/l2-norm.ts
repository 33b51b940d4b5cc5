import type { Tensor } from '../core/tensor.ts';
import { constant } from '../core/trace.ts';
import { rmsNorm } from '../ops/norm.ts';

/** x / √(Σ x² + ε) over the last axis, of K elements: the root-mean-square norm divided by √K. */
export function l2Norm(x: Tensor, epsilon: number): Tensor {
  const K = x.shape.at(-1) as number;
  return rmsNorm(x, constant(new Array<number>(K).fill(K ** -0.5)), epsilon / K);
}

import type { Initializer } from '../core/tensor.ts';

const inverseSoftplus = (y: number): number => y + Math.log(-Math.expm1(-y));

/**
 * What the bias of a step size softplus(x + bias) begins with: steps from 0.001 to 0.1, evenly on a logarithmic scale, so that a new
 * model's state lasts from a few tokens to a thousand. Gu & Dao 2023, §3.6.
 */
export const stepBias: Initializer = {
  kind: 'formula',
  value: (_, u) => inverseSoftplus(Math.exp(Math.log(1e-3) + u * Math.log(100))),
};

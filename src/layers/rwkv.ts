import type { Initializer, Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { expr } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';
import { layerNorm } from '../ops/norm.ts';
import { shift } from '../ops/shift.ts';
import { shiftMix } from '../ops/shift-mix.ts';
import { reshape } from '../ops/views.ts';

/** Layer norm with weight and bias `<name>.weight`, `<name>.bias`. */
export function normed(p: Scope, name: string, x: Tensor, epsilon = 1e-5): Tensor {
  const D = x.shape.at(-1) as number;
  return layerNorm(x, p(`${name}.weight`, [D], { kind: 'ones' }), p(`${name}.bias`, [D]), epsilon);
}

/** The token before each token (token shift), carried as the state `name`. */
export const previousToken = (p: Scope, name: string, x: Tensor, ends: Tensor): Tensor =>
  p.carry(name, [x.shape[1] as number], (state) => shift(x, state, ends));

/** Mixtures x + (x_{t−1} − x) ⊙ μ of each token with the one before it, which is carried as the state `name`: one for each of `weights`. */
export const mixtures = <const Weights extends readonly Tensor[]>(
  p: Scope,
  name: string,
  x: Tensor,
  ends: Tensor,
  weights: Weights,
) =>
  p.carry(name, [x.shape[1] as number], (state) => shiftMix(x, state, ends, weights)) as {
    [Index in keyof Weights]: Tensor;
  };

/** A vector of mixing weights, stored as [1, 1, D]. */
export function mixWeights(p: Scope, name: string, D: number, init?: Initializer): Tensor {
  return reshape(p(name, [1, 1, D], init ?? { kind: 'formula', value: ([, , i]) => 1 - i! / D }), [D]);
}

/** Norm of every head apart (group norm), with weight and bias for each channel of each: [T, H, N] → [T, H, N]. */
export function headNorm(p: Scope, name: string, y: Tensor, epsilon: number): Tensor {
  const [, H, N] = y.shape as [unknown, number, number];
  const weight = reshape(p(`${name}.weight`, [H * N], { kind: 'ones' }), [H, N]);
  return layerNorm(y, weight, reshape(p(`${name}.bias`, [H * N]), [H, N]), epsilon);
}

const matrix = (I: number): Initializer => ({ kind: 'uniform', low: -(I ** -0.5), high: I ** -0.5 });

/** A square or wide matrix without bias: `<name>.weight` [O, I] applied to x [T, I]. */
export const project = (p: Scope, name: string, x: Tensor, O: number): Tensor =>
  linear(x, p(`${name}.weight`, [O, x.shape[1] as number], matrix(x.shape[1] as number)));

/** RWKV-4 to 6's channel mixing: σ(W_r r) ⊙ W_v relu(W_k k)², with inner width F. */
export function gatedChannelMix(p: Scope, k: Tensor, r: Tensor, F: number): Tensor {
  const D = k.shape[1] as number;
  const hidden = expr`square(relu(${project(p, 'key', k, F)}))`;
  return expr`sigmoid(${project(p, 'receptance', r, D)}) * ${project(p, 'value', hidden, D)}`;
}

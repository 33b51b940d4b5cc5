import type { Matrix } from './matrix.ts';

/** One step x ↦ Ax + b of a linear recurrence. */
export interface Affine {
  /** [n, n] */
  readonly A: Matrix;
  /** [n, 1] */
  readonly b: Matrix;
}

/**
 * Two steps as one: (A₁, b₁) ⊗ (A₂, b₂) = (A₂A₁, A₂b₁ + b₂). Associative, so that x_t = A_t x_{t−1} + b_t is an associative
 * scan, for a time-invariant system (S5) and just as well for one whose A_t and b_t depend on the input (Mamba).
 */
export function composeAffine(first: Affine, second: Affine): Affine {
  return { A: second.A.times(first.A), b: second.A.times(first.b).plus(second.b) };
}

import { solve } from './factorisation.ts';
import { type DiscreteSystem, discreteSystem, type LinearSystemLike, linearSystem } from './linear-system.ts';
import { blocks, Matrix } from './matrix.ts';
import { matrixExponential } from './matrix-exponential.ts';

/**
 * Samples a continuous-time system whose input is held constant between samples (zero-order hold); exact for such inputs.
 *
 *     Ā = e^{ΔA}    B̄ = ∫₀^Δ e^{sA} ds B    C̄ = C    D̄ = D
 *
 * Both come from one exponential, exp(Δ[A B; 0 0]) = [Ā B̄; 0 I] (Van Loan 1978), so A may be singular.
 *
 * @param step Δ > 0, in the system's unit of time.
 */
export function zeroOrderHold(system: LinearSystemLike, step: number): DiscreteSystem {
  const { A, B, C, D } = linearSystem(system);
  const n = A.rows;
  const p = B.columns;
  const generator = blocks([
    [A, B],
    [new Matrix(p, n), new Matrix(p, p)],
  ]);
  const E = matrixExponential(generator.scaled(step));
  const states = [...Array(n).keys()];
  const inputs = Array.from({ length: p }, (_, j) => n + j);
  return discreteSystem({ A: E.select(states, states), B: E.select(states, inputs), C, D }, step);
}

/**
 * Tustin's bilinear transform, the trapezoidal rule: the discrete transfer function is the continuous one at
 * s = (2/Δ)(z − 1)/(z + 1). The left half-plane goes to the unit disc, so stability is kept at any step.
 *
 *     Ā = (I − ΔA/2)⁻¹(I + ΔA/2)    B̄ = (I − ΔA/2)⁻¹ΔB    C̄ = C(I − ΔA/2)⁻¹    D̄ = D + CB̄/2
 *
 * S4 (Gu, Goel & Ré 2022) takes the same Ā and B̄ but leaves C and D.
 *
 * @param step Δ > 0, in the system's unit of time.
 * @throws InputError if 2/Δ is an eigenvalue of A.
 */
export function bilinear(system: LinearSystemLike, step: number): DiscreteSystem {
  const { A, B, C, D } = linearSystem(system);
  const I = Matrix.identity(A.rows);
  const half = A.scaled(step / 2);
  const backward = I.minus(half);
  const discreteB = solve(backward, B.scaled(step));
  return discreteSystem(
    {
      A: solve(backward, I.plus(half)),
      B: discreteB,
      C: solve(backward.T, C.T).T,
      D: D.plus(C.times(discreteB).scaled(0.5)),
    },
    step,
  );
}

import { solve } from './factorisation.ts';
import type { DiscreteSystem, LinearSystem } from './linear-system.ts';
import { blocks, Matrix } from './matrix.ts';

/** A complex matrix [q, p] by its parts. */
export interface ComplexMatrix {
  readonly re: Matrix;
  readonly im: Matrix;
}

/**
 * The transfer function on the frequency axis, C(zI − A)⁻¹B + D, at s = iω for a continuous-time system and at z = e^{iωΔ}
 * for a discrete-time one (one with a `step`).
 *
 * @param omega angular frequency ω, radians per unit of time.
 * @throws InputError if the system has a pole there.
 */
export function frequencyResponse(system: LinearSystem | DiscreteSystem, omega: number): ComplexMatrix {
  const { A, B, C, D } = system;
  const angle = 'step' in system ? omega * system.step : undefined;
  const re = angle === undefined ? 0 : Math.cos(angle);
  const im = angle === undefined ? omega : Math.sin(angle);
  const n = A.rows;
  const I = Matrix.identity(n);
  // (zI − A)X = B over the complex numbers as one real system of twice the size.
  const diagonal = I.scaled(re).minus(A);
  const X = solve(
    blocks([
      [diagonal, I.scaled(-im)],
      [I.scaled(im), diagonal],
    ]),
    blocks([[B], [new Matrix(n, B.columns)]]),
  );
  const columns = [...Array(B.columns).keys()];
  const top = [...Array(n).keys()];
  const bottom = top.map((i) => n + i);
  return { re: C.times(X.select(top, columns)).plus(D), im: C.times(X.select(bottom, columns)) };
}

import { InputError, ShapeError } from '../core/errors.ts';
import { solve } from './factorisation.ts';
import { Matrix } from './matrix.ts';

/** Coefficients of the [13/13] Padé approximant to eˣ. */
const PADE = [
  64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600,
  670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1,
];

/** The largest 1-norm for which that approximant is exact to float64 rounding. */
const THETA = 5.371920351148152;

/**
 * e^A by scaling and squaring with the [13/13] Padé approximant.
 *
 * Source: Higham (2005), The scaling and squaring method for the matrix exponential revisited, algorithm 2.3.
 *
 * @throws ShapeError if A is not square, InputError if an entry is not finite.
 */
export function matrixExponential(A: Matrix): Matrix {
  if (A.rows !== A.columns) throw new ShapeError(`matrixExponential: the matrix is ${A.shape}, expected a square one`);
  const norm = oneNorm(A);
  if (!Number.isFinite(norm)) throw new InputError('matrixExponential: the matrix has entries that are not finite');
  const squarings = Math.max(0, Math.ceil(Math.log2(norm / THETA)));
  let result = pade13(A.scaled(2 ** -squarings));
  for (let i = 0; i < squarings; i++) result = result.times(result);
  return result;
}

/** (V − U)⁻¹(V + U), U the odd and V the even part of the numerator. */
function pade13(A: Matrix): Matrix {
  const I = Matrix.identity(A.rows);
  const A2 = A.times(A);
  const A4 = A2.times(A2);
  const A6 = A4.times(A2);
  const even = (first: number) =>
    A6.scaled(PADE[first + 6]!)
      .plus(A4.scaled(PADE[first + 4]!))
      .plus(A2.scaled(PADE[first + 2]!))
      .plus(I.scaled(PADE[first]!));
  const high = (first: number) =>
    A6.times(
      A6.scaled(PADE[first + 4]!)
        .plus(A4.scaled(PADE[first + 2]!))
        .plus(A2.scaled(PADE[first]!)),
    );
  const U = A.times(high(9).plus(even(1)));
  const V = high(8).plus(even(0));
  return solve(V.minus(U), V.plus(U));
}

/** The largest sum of absolute values down a column. */
function oneNorm(A: Matrix): number {
  let norm = 0;
  for (let j = 0; j < A.columns; j++) {
    let sum = 0;
    for (let i = 0; i < A.rows; i++) sum += Math.abs(A.at(i, j));
    norm = Math.max(norm, sum);
  }
  return norm;
}

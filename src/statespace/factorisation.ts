import { InputError, ShapeError } from '../core/errors.ts';
import { Matrix } from './matrix.ts';

/**
 * A⁻¹B by LU factorisation with partial pivoting (Golub & Van Loan, Matrix Computations, §3.4).
 *
 * @throws InputError if A is singular to working precision.
 */
export function solve(A: Matrix, B: Matrix): Matrix {
  expectSquare('solve', A);
  expectRows('solve', A, B);
  const n = A.rows;
  const width = B.columns;
  const lu = A.data.slice();
  const x = B.data.slice();
  const rowOf = [...Array(n).keys()];
  const tolerance = pivotTolerance(A);
  for (let k = 0; k < n; k++) {
    const pivot = largestInColumn(lu, n, k);
    if (!(Math.abs(lu[pivot * n + k]!) > tolerance(k, rowOf[pivot]!))) {
      throw new InputError(`solve: the ${A.shape} matrix is singular to working precision (column ${k})`);
    }
    swapRows(lu, n, k, pivot);
    swapRows(x, width, k, pivot);
    [rowOf[k], rowOf[pivot]] = [rowOf[pivot]!, rowOf[k]!];
    for (let i = k + 1; i < n; i++) {
      const factor = lu[i * n + k]! / lu[k * n + k]!;
      for (let j = k + 1; j < n; j++) lu[i * n + j]! -= factor * lu[k * n + j]!;
      for (let j = 0; j < width; j++) x[i * width + j]! -= factor * x[k * width + j]!;
    }
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let j = 0; j < width; j++) {
      let sum = x[i * width + j]!;
      for (let k = i + 1; k < n; k++) sum -= lu[i * n + k]! * x[k * width + j]!;
      x[i * width + j] = sum / lu[i * n + i]!;
    }
  }
  return new Matrix(n, width, x);
}

/** The factor L of a covariance S = LLᵀ, with what is wanted of it. */
export interface Cholesky {
  /** Lower triangular. */
  readonly L: Matrix;
  /** log |S| */
  readonly logDeterminant: number;
  /** S⁻¹B */
  solve(B: Matrix): Matrix;
}

/** Cholesky's factorisation S = LLᵀ. @throws InputError if S is not positive definite. */
export function cholesky(S: Matrix): Cholesky {
  const L = lowerFactor(S, (j, pivot) => {
    if (!(pivot > 0)) {
      throw new InputError(`cholesky: the ${S.shape} matrix is not positive definite (pivot ${j} is ${pivot})`);
    }
    return pivot;
  });
  let logDeterminant = 0;
  for (let i = 0; i < L.rows; i++) logDeterminant += 2 * Math.log(L.at(i, i));
  return { L, logDeterminant, solve: (B) => triangularSolves(L, B) };
}

/**
 * Cholesky's factorisation of a covariance that may be singular: a variable that is a linear combination of earlier ones
 * gets a zero column, and `solve` gives one solution of SX = B for a B in the range of S. `logDeterminant` is that of the
 * regular part.
 *
 * @throws InputError if S has a clearly negative pivot.
 */
export function semidefiniteCholesky(S: Matrix): Cholesky {
  const tolerance = 16 * S.rows * Number.EPSILON;
  let logDeterminant = 0;
  const L = lowerFactor(S, (j, pivot) => {
    const variance = S.at(j, j);
    if (!(pivot >= -1e-6 * Math.abs(variance))) {
      throw new InputError(`cholesky: the ${S.shape} matrix is not a covariance (pivot ${j} is ${pivot})`);
    }
    if (pivot <= tolerance * variance) return 0;
    logDeterminant += Math.log(pivot);
    return pivot;
  });
  return { L, logDeterminant, solve: (B) => triangularSolves(L, B) };
}

/** L of S = LLᵀ; `accept` turns the pivot of column j into L[j, j]², or throws. */
function lowerFactor(S: Matrix, accept: (j: number, pivot: number) => number): Matrix {
  expectSquare('cholesky', S);
  const n = S.rows;
  const L = new Matrix(n, n);
  for (let j = 0; j < n; j++) {
    const diagonal = Math.sqrt(accept(j, S.at(j, j) - rowProduct(L, j, j, j)));
    L.data[j * n + j] = diagonal;
    if (diagonal === 0) continue;
    for (let i = j + 1; i < n; i++) L.data[i * n + j] = (S.at(i, j) - rowProduct(L, i, j, j)) / diagonal;
  }
  return L;
}

/** L⁻ᵀL⁻¹B; variables with a zero pivot are left at zero. */
function triangularSolves(L: Matrix, B: Matrix): Matrix {
  expectRows('cholesky', L, B);
  const n = L.rows;
  const width = B.columns;
  const x = B.data.slice();
  for (let j = 0; j < width; j++) {
    for (let i = 0; i < n; i++) {
      let sum = x[i * width + j]!;
      for (let k = 0; k < i; k++) sum -= L.at(i, k) * x[k * width + j]!;
      x[i * width + j] = L.at(i, i) === 0 ? 0 : sum / L.at(i, i);
    }
    for (let i = n - 1; i >= 0; i--) {
      let sum = x[i * width + j]!;
      for (let k = i + 1; k < n; k++) sum -= L.at(k, i) * x[k * width + j]!;
      x[i * width + j] = L.at(i, i) === 0 ? 0 : sum / L.at(i, i);
    }
  }
  return new Matrix(n, width, x);
}

/** Σ_{k<count} L[i, k] L[j, k] */
function rowProduct(L: Matrix, i: number, j: number, count: number): number {
  let sum = 0;
  for (let k = 0; k < count; k++) sum += L.at(i, k) * L.at(j, k);
  return sum;
}

/** What rounding alone can leave in a pivot, by the size of its row and its column, so that mixed units do no harm. */
function pivotTolerance(A: Matrix): (column: number, row: number) => number {
  const n = A.rows;
  const rowSize = new Float64Array(n);
  const columnSize = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      const size = Math.abs(A.at(i, j));
      rowSize[i] = Math.max(rowSize[i]!, size);
      columnSize[j] = Math.max(columnSize[j]!, size);
    }
  }
  return (column, row) => n * Number.EPSILON * Math.min(rowSize[row]!, columnSize[column]!);
}

function largestInColumn(lu: Float64Array, n: number, k: number): number {
  let best = k;
  for (let i = k + 1; i < n; i++) if (Math.abs(lu[i * n + k]!) > Math.abs(lu[best * n + k]!)) best = i;
  return best;
}

function swapRows(data: Float64Array, width: number, i: number, j: number): void {
  if (i === j) return;
  const row = data.slice(i * width, (i + 1) * width);
  data.copyWithin(i * width, j * width, (j + 1) * width);
  data.set(row, j * width);
}

function expectSquare(operation: string, A: Matrix): void {
  if (A.rows !== A.columns) throw new ShapeError(`${operation}: the matrix is ${A.shape}, expected a square one`);
}

function expectRows(operation: string, A: Matrix, B: Matrix): void {
  if (A.rows !== B.rows) {
    throw new ShapeError(`${operation}: the right-hand side is ${B.shape}, expected ${A.rows} rows as in ${A.shape}`);
  }
}

import { InputError } from '../core/errors.ts';
import { expectShape, Matrix, type MatrixLike } from './matrix.ts';

/** A matrix that is the same at all times, or one per time t = 0, 1, …, for instance a row of regressors. */
export type Varying = MatrixLike | ((t: number) => MatrixLike);

/**
 * A linear Gaussian state-space model with n states, m observed variables and, if there is a B, p known inputs:
 *
 *     x_{t+1} = F_t x_t + B_t u_t + w_t    w_t ~ N(0, Q_t)
 *         y_t = H_t x_t + v_t              v_t ~ N(0, R_t)
 *         x_0 ~ N(x0, P0)                  the state at the first observation
 *
 * These are Kalman's letters as control keeps them. Durbin & Koopman write T, R Q Rᵀ, Z, H for F, Q, H, R and α for x.
 */
export interface KalmanModel {
  /** Transition from t to t + 1 [n, n]. */
  readonly F: Varying;
  /** Observation [m, n]. */
  readonly H: Varying;
  /** Covariance of the state's disturbance [n, n]; may be singular. */
  readonly Q: Varying;
  /** Covariance of the observation's noise [m, m]; may be singular where H P Hᵀ + R is not. */
  readonly R: Varying;
  /** Effect of the inputs [n, p]. */
  readonly B?: Varying;
  /** Mean of x_0 [n]; zero unless given. */
  readonly x0?: MatrixLike;
  /** Covariance of x_0 [n, n]. */
  readonly P0: MatrixLike;
}

/** What is known of a state: N(x, P). */
export interface Gaussian {
  /** Mean [n]. */
  readonly x: Float64Array;
  /** Covariance [n, n]. */
  readonly P: Matrix;
}

/**
 * Observations over time. One variable: a list of numbers. Several: a list of rows [m]. `null` or NaN is a missing value,
 * alone or in a row; `null` for a row is a time with no observation at all.
 */
export type Observations = ArrayLike<number | null> | readonly Observation[] | Matrix;

/** The observation of one time: a number, a row [m] or, where all is missing, null. */
export type Observation = number | null | ArrayLike<number | null>;

/** A model with its matrices as functions of time, each checked where it is used. */
export interface CheckedModel {
  readonly n: number;
  readonly m: number;
  /** Number of inputs; 0 without a B. */
  readonly p: number;
  readonly prior: Gaussian;
  F(t: number): Matrix;
  H(t: number): Matrix;
  Q(t: number): Matrix;
  R(t: number): Matrix;
  B(t: number): Matrix;
}

/** @throws ShapeError for matrices that do not fit together, InputError for a covariance that is not symmetric. */
export function checkModel(model: KalmanModel): CheckedModel {
  const { x0, B } = model;
  const P0 = Matrix.from(model.P0);
  const n = P0.rows;
  const m = first(model.R).rows;
  const p = B === undefined ? 0 : first(B).columns;
  return {
    n,
    m,
    p,
    prior: {
      x: x0 === undefined ? new Float64Array(n) : expectShape('x0', Matrix.from(x0), n, 1).data,
      P: expectCovariance('P0', P0, n),
    },
    F: overTime(model.F, (F, t) => expectShape(`F${t}`, F, n, n)),
    H: overTime(model.H, (H, t) => expectShape(`H${t}`, H, m, n)),
    Q: overTime(model.Q, (Q, t) => expectCovariance(`Q${t}`, Q, n)),
    R: overTime(model.R, (R, t) => expectCovariance(`R${t}`, R, m)),
    B: B === undefined ? () => new Matrix(n, 0) : overTime(B, (B, t) => expectShape(`B${t}`, B, n, p)),
  };
}

/** @throws InputError if a matrix changes with time. */
export function expectTimeInvariant(operation: string, model: KalmanModel): void {
  for (const name of ['F', 'H', 'Q', 'R'] as const) {
    if (typeof model[name] === 'function') {
      throw new InputError(
        `${operation}: ${name} is a function of time, expected a matrix that is the same at all times`,
      );
    }
  }
}

/** Each observation as [m] numbers, NaN where missing. @throws InputError for other lengths and for infinite values. */
export function observationRows(y: Observations, m: number): Float64Array[] {
  const rows: ArrayLike<Observation> = y instanceof Matrix ? Array.from({ length: y.rows }, (_, t) => y.row(t)) : y;
  return Array.from(rows, (row, t) => observationRow(row, m, `y[${t}]`));
}

export function observationRow(observation: Observation, m: number, name: string): Float64Array {
  if (observation === null) return new Float64Array(m).fill(Number.NaN);
  const row = typeof observation === 'number' ? [observation] : observation;
  if (row?.length !== m) {
    throw new InputError(`${name} has ${row?.length ?? 'no'} values, expected ${m}, one for each row of H`);
  }
  return Float64Array.from(row, (value) => {
    if (value === null) return Number.NaN;
    if (typeof value !== 'number' || Math.abs(value) === Number.POSITIVE_INFINITY) {
      throw new InputError(`${name} holds ${value}, expected finite numbers, or null or NaN where missing`);
    }
    return value;
  });
}

const NO_INPUT = new Float64Array(0);

/**
 * Inputs [T, p] to go with T observations.
 *
 * @throws InputError if there are inputs but no B, or a B but no inputs; ShapeError for another shape.
 */
export function inputRows(u: MatrixLike | undefined, model: CheckedModel, T: number): Float64Array[] {
  if (u === undefined && model.p === 0) return Array<Float64Array>(T).fill(NO_INPUT);
  if (u === undefined) throw new InputError(`the model has a B with ${model.p} inputs, but no inputs u were given`);
  if (model.p === 0) throw new InputError('inputs u were given, but the model has no B that says how they act');
  const inputs = expectShape('u', Matrix.from(u), T, model.p);
  return Array.from({ length: T }, (_, t) => inputs.row(t));
}

function first(value: Varying): Matrix {
  return Matrix.from(typeof value === 'function' ? value(0) : value);
}

/** A constant is checked once, a function at every time, with the time as part of its name. */
function overTime(value: Varying, check: (matrix: Matrix, suffix: string) => Matrix): (t: number) => Matrix {
  if (typeof value === 'function') return (t) => check(Matrix.from(value(t)), `(${t})`);
  const constant = check(Matrix.from(value), '');
  return () => constant;
}

function expectCovariance(name: string, matrix: Matrix, n: number): Matrix {
  expectShape(name, matrix, n, n);
  for (let i = 0; i < n; i++) {
    if (matrix.at(i, i) < 0)
      throw new InputError(`${name}: the variance [${i}, ${i}] is ${matrix.at(i, i)}, expected ≥ 0`);
    for (let j = 0; j < i; j++) {
      const [a, b] = [matrix.at(i, j), matrix.at(j, i)];
      if (Math.abs(a - b) > 1e-9 * Math.max(Math.abs(a), Math.abs(b))) {
        throw new InputError(`${name} is not symmetric: [${i}, ${j}] is ${a} but [${j}, ${i}] is ${b}`);
      }
    }
  }
  return matrix;
}

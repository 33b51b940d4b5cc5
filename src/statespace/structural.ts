import { InputError } from '../core/errors.ts';
import type { KalmanModel } from './kalman-model.ts';
import { Matrix } from './matrix.ts';

/*
 * Structural time series models (Harvey 1989; Durbin & Koopman 2012, ch. 3): a series as the sum of components that each
 * have a meaning, with one variance for how fast each may change.
 */

/** Variances of the local level model. */
export interface LocalLevelVariances {
  /** σ²_ε, of the observation. */
  readonly observation: number;
  /** σ²_η, of the level's change. */
  readonly level: number;
}

/** Variances of the local linear trend model. */
export interface LocalLinearTrendVariances extends LocalLevelVariances {
  /** σ²_ζ, of the slope's change. */
  readonly slope: number;
}

/** κ of a diffuse prior over the data's variance. */
export const DIFFUSE_RATIO = 1e7;

/** A prior N(x0, κI) so wide that the data alone decide. */
export interface DiffusePrior {
  readonly x0: Float64Array;
  /** κ, large against the data's variance. */
  readonly kappa: number;
}

/**
 * A prior for n states of a series that is all but flat: centred on the first value observed, with 10⁷ times the data's
 * variance. What is computed with it differs from the limit κ → ∞ by about one part in 10⁷.
 *
 * @throws InputError if the series has no two different values.
 */
export function diffusePrior(y: ArrayLike<number | null>, n: number): DiffusePrior {
  const observed = Array.from(y).filter((value): value is number => value !== null && !Number.isNaN(value));
  const mean = observed.reduce((sum, value) => sum + value, 0) / observed.length;
  const variance = observed.reduce((sum, value) => sum + (value - mean) ** 2, 0) / observed.length;
  if (!(variance > 0))
    throw new InputError('diffusePrior: the series has no two different values to learn a variance from');
  const x0 = new Float64Array(n);
  x0[0] = observed[0]!;
  return { x0, kappa: DIFFUSE_RATIO * variance };
}

/** Local level, a random walk seen through noise: y_t = μ_t + ε_t, μ_{t+1} = μ_t + η_t. The state is (μ). */
export function localLevel({ observation, level }: LocalLevelVariances, { x0, kappa }: DiffusePrior): KalmanModel {
  return { F: 1, H: 1, Q: level, R: observation, x0, P0: kappa };
}

/**
 * Local linear trend: y_t = μ_t + ε_t, μ_{t+1} = μ_t + ν_t + η_t, ν_{t+1} = ν_t + ζ_t. The state is (μ, ν).
 */
export function localLinearTrend(
  { observation, level, slope }: LocalLinearTrendVariances,
  { x0, kappa }: DiffusePrior,
): KalmanModel {
  return {
    F: [
      [1, 1],
      [0, 1],
    ],
    H: [[1, 0]],
    Q: Matrix.diagonal([level, slope]),
    R: observation,
    x0,
    P0: Matrix.diagonal([kappa, kappa]),
  };
}

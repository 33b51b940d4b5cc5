import { InputError } from '../core/errors.ts';
import { semidefiniteCholesky } from './factorisation.ts';
import {
  type CheckedModel,
  checkModel,
  type Gaussian,
  inputRows,
  type KalmanModel,
  type Observation,
  type Observations,
  observationRow,
  observationRows,
} from './kalman-model.ts';
import { correct, type Innovation, innovate, timeUpdate } from './kalman-update.ts';
import { Matrix, type MatrixLike } from './matrix.ts';

/** One time of the filter. */
export interface KalmanStep {
  /** x_{t|t−1}, P_{t|t−1}: the state given the observations before t. */
  readonly predicted: Gaussian;
  /** v_t, S_t, K_t and what goes with them. */
  readonly innovation: Innovation;
  /** x_{t|t}, P_{t|t}: the state given the observations up to t. */
  readonly filtered: Gaussian;
}

/** The Kalman filter (Kalman 1960) running online, one observation at a time, in constant memory. */
export class KalmanFilter {
  readonly #model: CheckedModel;
  /** The time of the observation that comes next. */
  t = 0;
  /** The state at t given the observations before it. */
  predicted: Gaussian;
  /** log p(y_0 … y_{t−1}), the sum over the innovations. */
  logLikelihood = 0;

  /** @throws ShapeError, InputError for a model whose matrices do not fit. */
  constructor(model: KalmanModel) {
    this.#model = checkModel(model);
    this.predicted = this.#model.prior;
  }

  /**
   * Takes y_t, then moves on to t + 1.
   *
   * @param y a number, a row [m], null or NaN where missing.
   * @param u the input u_t [p], which acts on the state at t + 1; for models with a B.
   */
  step(y: Observation, u?: ArrayLike<number>): KalmanStep {
    const { m, F, H, Q, R } = this.#model;
    const { t, predicted } = this;
    const [input] = inputRows(u === undefined ? undefined : Matrix.from(u).T, this.#model, 1);
    const innovation = innovate(predicted, observationRow(y, m, `y[${t}]`), H(t), R(t), t);
    const filtered = correct(predicted, innovation, H(t), R(t));
    this.predicted = timeUpdate(filtered, F(t), Q(t), inputEffect(this.#model, t, input!));
    this.logLikelihood += innovation.logLikelihood;
    this.t++;
    return { predicted, innovation, filtered };
  }
}

/** The filter over a whole series; all lists have one entry for each time. */
export interface Filtered {
  readonly predicted: readonly Gaussian[];
  readonly innovations: readonly Innovation[];
  readonly filtered: readonly Gaussian[];
  /** The state at the time after the last observation, x_{T|T−1}. */
  readonly next: Gaussian;
  /** log p(y), by the prediction error decomposition Σ_t log N(v_t; 0, S_t). */
  readonly logLikelihood: number;
}

/** Runs the Kalman filter over observations y and, for models with a B, inputs u [T, p]. */
export function filter(model: KalmanModel, y: Observations, u?: MatrixLike): Filtered {
  const checked = checkModel(model);
  const rows = observationRows(y, checked.m);
  const inputs = inputRows(u, checked, rows.length);
  const kalman = new KalmanFilter(model);
  const steps = rows.map((row, t) => kalman.step(row, checked.p === 0 ? undefined : inputs[t]));
  return {
    predicted: steps.map((step) => step.predicted),
    innovations: steps.map((step) => step.innovation),
    filtered: steps.map((step) => step.filtered),
    next: kalman.predicted,
    logLikelihood: kalman.logLikelihood,
  };
}

/** log p(y) under the model. */
export function logLikelihood(model: KalmanModel, y: Observations, u?: MatrixLike): number {
  return filter(model, y, u).logLikelihood;
}

/** A forecast of the state, N(x, P), and of the observation, N(y, S). */
export interface Prediction extends Gaussian {
  /** [m] */
  readonly y: Float64Array;
  /** [m, m] */
  readonly S: Matrix;
}

/**
 * Predicts the `horizon` times that follow the observations.
 *
 * @param result of `filter` (or `parallelFilter`) for the same model.
 * @param u inputs [horizon, p] at the times predicted, for models with a B; the last of them is not used.
 */
export function predict(model: KalmanModel, result: Filtered, horizon: number, u?: MatrixLike): Prediction[] {
  if (!Number.isInteger(horizon) || horizon < 1) {
    throw new InputError(`predict: horizon is ${horizon}, expected a whole number of at least 1`);
  }
  const checked = checkModel(model);
  const inputs = inputRows(u, checked, horizon);
  const T = result.filtered.length;
  const predictions: Prediction[] = [];
  let state = result.next;
  for (let h = 0; h < horizon; h++) {
    const t = T + h;
    const H = checked.H(t);
    predictions.push({
      ...state,
      y: H.times(Matrix.column(state.x)).data,
      S: H.times(state.P).times(H.T).plus(checked.R(t)).symmetrised(),
    });
    if (h + 1 < horizon) state = timeUpdate(state, checked.F(t), checked.Q(t), inputEffect(checked, t, inputs[h]!));
  }
  return predictions;
}

/**
 * The fixed-interval smoother of Rauch, Tung & Striebel (1965): each state given all observations, x_{t|T−1} and P_{t|T−1},
 * backwards from the end of the filter:
 *
 *     E_t = P_{t|t} Fᵀ (P_{t+1|t})⁻¹
 *     x̂_t = x_{t|t} + E_t(x̂_{t+1} − x_{t+1|t})    P̂_t = P_{t|t} + E_t(P̂_{t+1} − P_{t+1|t})E_tᵀ
 *
 * @param result of `filter` (or `parallelFilter`) for the same model.
 */
export function smooth(model: KalmanModel, result: Filtered): Gaussian[] {
  const { F } = checkModel(model);
  const { filtered, predicted } = result;
  const smoothed = [...filtered];
  for (let t = filtered.length - 2; t >= 0; t--) {
    const E = smootherGain(filtered[t]!, predicted[t + 1]!, F(t));
    const dx = Matrix.column(smoothed[t + 1]!.x).minus(Matrix.column(predicted[t + 1]!.x));
    const dP = smoothed[t + 1]!.P.minus(predicted[t + 1]!.P);
    smoothed[t] = {
      x: Matrix.column(filtered[t]!.x).plus(E.times(dx)).data,
      P: filtered[t]!.P.plus(E.times(dP).times(E.T)).symmetrised(),
    };
  }
  return smoothed;
}

/** E = P Fᵀ (P⁻)⁻¹; where P⁻ is singular (a constant that is known exactly) by one of its generalised inverses. */
export function smootherGain(filtered: Gaussian, predicted: Gaussian, F: Matrix): Matrix {
  return semidefiniteCholesky(predicted.P).solve(F.times(filtered.P)).T;
}

/** B_t u_t [n, 1] */
export function inputEffect(model: CheckedModel, t: number, u: Float64Array): Matrix {
  return model.B(t).times(Matrix.column(u));
}

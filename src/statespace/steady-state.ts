import { InputError } from '../core/errors.ts';
import { combineFiltering, filteringElement } from './associative-kalman.ts';
import { checkModel, expectTimeInvariant, type Gaussian, type KalmanModel } from './kalman-model.ts';
import { innovate } from './kalman-update.ts';
import { type DiscreteSystem, discreteSystem } from './linear-system.ts';
import { Matrix } from './matrix.ts';

/** What the filter of a time-invariant model settles to, whatever its prior. */
export interface SteadyState {
  /** Covariance P⁻ of the predicted state [n, n], the solution of P = F(P − PHᵀS⁻¹HP)Fᵀ + Q. */
  readonly predicted: Matrix;
  /** Covariance P of the filtered state [n, n]. */
  readonly filtered: Matrix;
  /** Covariance of the innovation [m, m], S = H P⁻ Hᵀ + R. */
  readonly S: Matrix;
  /** Kalman's gain [n, m], K = P⁻ Hᵀ S⁻¹. */
  readonly K: Matrix;
}

/** 2⁶⁴ steps: what has not settled by then never will. */
const MOST_DOUBLINGS = 64;

/**
 * Solves the discrete algebraic Riccati equation by doubling: the filter over 2ᵏ steps is one element of the associative
 * filter, and combined with itself it is the filter over 2ᵏ⁺¹ steps (Anderson 1978; Särkkä & García-Fernández 2021). It has
 * settled when the state at the end no longer depends on the one at the beginning.
 *
 * @throws InputError for a model that changes with time, and for one with no steady state: (F, H) has to be detectable and
 *   (F, Q) stabilisable.
 */
export function steadyState(model: KalmanModel): SteadyState {
  expectTimeInvariant('steadyState', model);
  const checked = checkModel(model);
  const { n, m, F, H, Q, R } = checked;
  let element = filteringElement(checked, 1, new Float64Array(m), new Matrix(n, 1));
  for (let k = 0; element.A.maxAbs() > Math.sqrt(Number.EPSILON); k++) {
    if (k === MOST_DOUBLINGS || !(element.A.maxAbs() < 1e100 && element.J.maxAbs() < 1e200)) {
      throw new InputError(
        'steadyState: the filter does not settle; every state that does not fade must be seen in y (detectable) and be disturbed by w (stabilisable)',
      );
    }
    element = combineFiltering(element, element);
  }
  const filtered = element.C;
  const predicted: Gaussian = {
    x: new Float64Array(n),
    P: F(0).times(filtered).times(F(0).T).plus(Q(0)).symmetrised(),
  };
  const { S, K } = innovate(predicted, new Float64Array(m), H(0), R(0), 0);
  return { predicted: predicted.P, filtered, S, K };
}

/**
 * The settled filter is itself a linear time-invariant system: from observations y_t to predictions of them, H x_{t|t−1},
 *
 *     x_{t+1|t} = F(I − KH) x_{t|t−1} + FK y_t
 *
 * It runs as a recurrence or as a convolution, like any other; an exponentially weighted mean is the smallest example.
 */
export function steadyStatePredictor(model: KalmanModel): DiscreteSystem {
  const { K } = steadyState(model);
  const { n, F, H } = checkModel(model);
  const IKH = Matrix.identity(n).minus(K.times(H(0)));
  return discreteSystem({ A: F(0).times(IKH), B: F(0).times(K), C: H(0) });
}

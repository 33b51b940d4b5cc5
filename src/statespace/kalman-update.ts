import { InputError } from '../core/errors.ts';
import { type Cholesky, cholesky } from './factorisation.ts';
import type { Gaussian } from './kalman-model.ts';
import { Matrix } from './matrix.ts';

/** What an observation says that the prediction did not. Variables that are missing have NaN in v and zeros in K. */
export interface Innovation {
  /** v = y − H x⁻ [m] */
  readonly v: Float64Array;
  /** S = H P⁻ Hᵀ + R [m, m], the covariance of v, of missing variables too. */
  readonly S: Matrix;
  /** Kalman's gain K = P⁻ Hᵀ S⁻¹ [n, m]. */
  readonly K: Matrix;
  /** Hᵀ S⁻¹ v [n, 1]: the gradient of the log-likelihood in the predicted mean. */
  readonly score: Matrix;
  /** Hᵀ S⁻¹ H [n, n]: what the observation tells of the state. */
  readonly information: Matrix;
  /** vᵀ S⁻¹ v, which is χ² with as many degrees of freedom as there are observed variables if the model is right. */
  readonly nis: number;
  /** log N(v; 0, S) = −½(vᵀS⁻¹v + log|S| + m log 2π) over the observed variables; 0 if there are none. */
  readonly logLikelihood: number;
}

/** x⁻ = F x + B u,  P⁻ = F P Fᵀ + Q */
export function timeUpdate({ x, P }: Gaussian, F: Matrix, Q: Matrix, input: Matrix): Gaussian {
  return {
    x: F.times(Matrix.column(x)).plus(input).data,
    P: F.times(P).times(F.T).plus(Q).symmetrised(),
  };
}

/**
 * Compares an observation y [m] (NaN where missing) with the prediction of it; t is only named in the error.
 *
 * @throws InputError if S is not positive definite: some variable is predicted without any error.
 */
export function innovate({ x, P }: Gaussian, y: Float64Array, H: Matrix, R: Matrix, t: number): Innovation {
  const v = Matrix.column(y).minus(H.times(Matrix.column(x)));
  const S = H.times(P).times(H.T).plus(R).symmetrised();

  // Only the observed variables take part; of the rest H and v have no rows.
  const observed = [...y.keys()].filter((i) => !Number.isNaN(y[i]!));
  const states = [...x.keys()];
  const Hₒ = H.select(observed, states);
  const vₒ = v.select(observed, [0]);
  const factor = positiveDefinite(S.select(observed, observed), t);
  const SinvH = factor.solve(Hₒ);
  const Sinvv = factor.solve(vₒ);

  const K = new Matrix(x.length, y.length);
  const gain = P.times(SinvH.T);
  observed.forEach((i, k) => {
    for (const row of states) K.data[row * y.length + i] = gain.at(row, k);
  });
  const nis = vₒ.T.times(Sinvv).at(0, 0);
  return {
    v: v.data,
    S,
    K,
    score: Hₒ.T.times(Sinvv),
    information: Hₒ.T.times(SinvH),
    nis,
    logLikelihood: -0.5 * (nis + factor.logDeterminant + observed.length * Math.log(2 * Math.PI)),
  };
}

/**
 * x = x⁻ + K v,  P = (I − KH) P⁻ (I − KH)ᵀ + K R Kᵀ: Joseph's form, which stays a covariance under rounding, and for a
 * prior much wider than the noise.
 */
export function correct({ x, P }: Gaussian, { K, score }: Innovation, H: Matrix, R: Matrix): Gaussian {
  const IKH = Matrix.identity(x.length).minus(K.times(H));
  return {
    // K v = P⁻ Hᵀ S⁻¹ v, which the missing variables do not enter.
    x: Matrix.column(x).plus(P.times(score)).data,
    P: IKH.times(P).times(IKH.T).plus(K.times(R).times(K.T)).symmetrised(),
  };
}

function positiveDefinite(S: Matrix, t: number): Cholesky {
  try {
    return cholesky(S);
  } catch (cause) {
    throw new InputError(
      `at t = ${t} the covariance S = H P Hᵀ + R of the innovation is not positive definite; give R a positive variance for each observed variable`,
      { cause },
    );
  }
}

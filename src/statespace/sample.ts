import { semidefiniteCholesky } from './factorisation.ts';
import { inputEffect } from './kalman.ts';
import { checkModel, inputRows, type KalmanModel } from './kalman-model.ts';
import { Matrix, type MatrixLike } from './matrix.ts';

/** A path of a model: what happened, and what was seen of it. */
export interface Path {
  /** States [T, n]. */
  readonly x: Matrix;
  /** Observations [T, m]. */
  readonly y: Matrix;
}

/**
 * Draws states and observations from a model.
 *
 * @param normal draws from N(0, 1), for instance `() => random.normal()`.
 * @param u inputs [T, p], for models with a B.
 */
export function sample(model: KalmanModel, T: number, normal: () => number, u?: MatrixLike): Path {
  const checked = checkModel(model);
  const { n, m, prior, F, H, Q, R } = checked;
  const inputs = inputRows(u, checked, T);
  const noise = (covariance: Matrix) => {
    const z = Float64Array.from({ length: covariance.rows }, normal);
    return semidefiniteCholesky(covariance).L.times(Matrix.column(z));
  };
  const path = { x: new Matrix(T, n), y: new Matrix(T, m) };
  let x = Matrix.column(prior.x).plus(noise(prior.P));
  for (let t = 0; t < T; t++) {
    path.x.row(t).set(x.data);
    path.y.row(t).set(
      H(t)
        .times(x)
        .plus(noise(R(t))).data,
    );
    x = F(t)
      .times(x)
      .plus(inputEffect(checked, t, inputs[t]!))
      .plus(noise(Q(t)));
  }
  return path;
}

import { describe, expect, it } from 'vitest';
import { Random } from '../core/random.ts';
import { cholesky } from './factorisation.ts';
import { filter, KalmanFilter, logLikelihood, predict, smooth } from './kalman.ts';
import type { Gaussian, KalmanModel } from './kalman-model.ts';
import { Matrix } from './matrix.ts';
import { sample } from './sample.ts';
import { diffusePrior, localLevel, localLinearTrend } from './structural.ts';

/** Position and velocity, pushed by a known force, seen by two instruments whose errors are correlated. */
const TRACKING: KalmanModel = {
  F: [
    [1, 0.5],
    [-0.2, 0.9],
  ],
  H: [
    [1, 0],
    [0.3, 1],
  ],
  Q: [
    [0.2, 0.05],
    [0.05, 0.1],
  ],
  R: [
    [0.5, 0.2],
    [0.2, 0.8],
  ],
  B: [0.1, 1],
  x0: [1, -1],
  P0: [
    [2, 0.3],
    [0.3, 1],
  ],
};
const FORCE = [0.5, -1, 2, 0, 1, -0.5, 0.3];
const SEEN = [[1.2, -0.4], [null, 0.1], [0.7, Number.NaN], null, [2.1, 1.4], [1.1, 0.2]];

describe('filter', () => {
  it('is Gaussian conditioning: states, innovations and likelihood, with all kinds of missing values', () => {
    const T = SEEN.length;
    const result = filter(TRACKING, SEEN, FORCE.slice(0, T));
    const joint = jointGaussian(TRACKING, T + 1, FORCE);
    for (let t = 0; t <= T; t++) {
      const before = joint.given(SEEN.slice(0, t));
      expectSame(t < T ? result.predicted[t]! : result.next, before.state(t));
      if (t < T) expectSame(result.filtered[t]!, joint.given(SEEN.slice(0, t + 1)).state(t));
    }
    expect(result.logLikelihood).toBeCloseTo(joint.logDensity(SEEN), 11);
    expect(logLikelihood(TRACKING, SEEN, FORCE.slice(0, T))).toBe(result.logLikelihood);
  });

  it('with nothing observed is the prediction', () => {
    const result = filter(TRACKING, [null, null, null], FORCE.slice(0, 3));
    expect(result.logLikelihood).toBe(0);
    expect(result.filtered.map(({ x }) => [...x])).toEqual(result.predicted.map(({ x }) => [...x]));
    expect(result.innovations[1]!.K.maxAbs()).toBe(0);
    expect([...result.innovations[1]!.v]).toEqual([Number.NaN, Number.NaN]);
    expect(filter(TRACKING, [], new Matrix(0, 1)).filtered).toEqual([]);
  });

  it('runs online with the same numbers', () => {
    const kalman = new KalmanFilter(TRACKING);
    const result = filter(TRACKING, SEEN, FORCE.slice(0, SEEN.length));
    SEEN.forEach((y, t) => {
      const step = kalman.step(y, [FORCE[t]!]);
      expect([...step.filtered.x]).toEqual([...result.filtered[t]!.x]);
    });
    expect(kalman.t).toBe(SEEN.length);
    expect(kalman.logLikelihood).toBe(result.logLikelihood);
  });

  it('takes matrices that change with time: regression with drifting coefficients', () => {
    const regressor = (t: number) => [[1, Math.sin(t)]];
    const model: KalmanModel = {
      F: (t) => Matrix.diagonal([1, 0.9 + 0.01 * t]),
      H: regressor,
      Q: (t) => Matrix.diagonal([0.1, 0.01 * (t + 1)]),
      R: (t) => 1 + 0.1 * t,
      P0: Matrix.identity(2),
    };
    const y = [1, 3, null, 2, 0.5];
    const result = filter(model, y);
    const joint = jointGaussian(model, 5);
    const smoothed = smooth(model, result);
    for (let t = 0; t < 5; t++) {
      expectSame(result.filtered[t]!, joint.given(y.slice(0, t + 1)).state(t));
      expectSame(smoothed[t]!, joint.given(y).state(t));
    }
    expect(result.logLikelihood).toBeCloseTo(joint.logDensity(y), 11);
  });

  it('has white innovations of the right size when the model is true', () => {
    const random = new Random(7);
    const model: KalmanModel = { ...TRACKING, B: undefined };
    const { y } = sample(model, 2000, () => random.normal());
    const { innovations } = filter(model, y);
    expect(Math.abs(mean(innovations.map(({ nis }) => nis)) - 2)).toBeLessThan(0.15);
    const lagged = innovations.slice(1).map((_, t) => innovations[t]!.v[0]! * innovations[t + 1]!.v[0]!);
    expect(Math.abs(mean(lagged)) / innovations[0]!.S.at(0, 0)).toBeLessThan(0.07);
  });

  it('names what does not fit', () => {
    const model: KalmanModel = { F: 1, H: 1, Q: 1, R: 1, P0: 1 };
    expect(() => filter(model, [[1, 2]])).toThrow('y[0] has 2 values, expected 1');
    expect(() => filter(model, [1, Number.POSITIVE_INFINITY])).toThrow('y[1] holds Infinity');
    expect(() => filter(model, [1], [1])).toThrow('no B');
    expect(() => filter(TRACKING, [[1, 2]])).toThrow('no inputs u were given');
    expect(() => filter(TRACKING, [[1, 2]], [1, 2])).toThrow('u is [2, 1], expected [1, 1]');
    expect(() => filter({ ...model, H: [[1, 0]] }, [1])).toThrow('H is [1, 2], expected [1, 1]');
    expect(() => filter({ ...model, F: () => [1, 2] }, [1])).toThrow('F(0) is [2, 1], expected [1, 1]');
    expect(() => filter({ ...model, Q: -1 }, [1])).toThrow('Q: the variance [0, 0] is -1');
    expect(() =>
      filter(
        {
          ...TRACKING,
          P0: [
            [1, 2],
            [0, 1],
          ],
        },
        [],
      ),
    ).toThrow('P0 is not symmetric');
    expect(() => filter({ ...model, R: 0, Q: 0 }, [1, 1])).toThrow('at t = 1 the covariance S');
  });
});

describe('smooth and predict', () => {
  it('smoothing is conditioning on all observations', () => {
    const T = SEEN.length;
    const smoothed = smooth(TRACKING, filter(TRACKING, SEEN, FORCE.slice(0, T)));
    const all = jointGaussian(TRACKING, T, FORCE).given(SEEN);
    for (let t = 0; t < T; t++) expectSame(smoothed[t]!, all.state(t));
  });

  it('smoothing takes a state that is known exactly', () => {
    const model: KalmanModel = {
      F: [
        [0.8, 1],
        [0, 1],
      ],
      H: [[1, 0]],
      Q: Matrix.diagonal([0.5, 0]),
      R: 0.3,
      x0: [0, 2],
      P0: Matrix.diagonal([1, 0]),
    };
    const y = [1, 4, null, 7];
    const smoothed = smooth(model, filter(model, y));
    const all = jointGaussian(model, 4).given(y);
    for (let t = 0; t < 4; t++) expectSame(smoothed[t]!, all.state(t));
    expect(smoothed[1]!.x[1]).toBe(2);
  });

  it('prediction is conditioning too, of observations that are yet to come', () => {
    const y = SEEN.slice(0, 4);
    const predictions = predict(TRACKING, filter(TRACKING, y, FORCE.slice(0, 4)), 3, FORCE.slice(4));
    const joint = jointGaussian(TRACKING, 7, FORCE).given(y);
    predictions.forEach((prediction, h) => {
      expectSame(prediction, joint.state(4 + h));
      expectSame({ x: prediction.y, P: prediction.S }, joint.observation(4 + h));
    });
    expect(() => predict(TRACKING, filter(TRACKING, [], new Matrix(0, 1)), 0)).toThrow('horizon is 0');
  });

  it('an autoregression forecasts φʰy with variance σ²(1 − φ²ʰ)/(1 − φ²)', () => {
    const [phi, variance] = [0.7, 2];
    const model: KalmanModel = { F: phi, H: 1, Q: variance, R: 0, P0: variance / (1 - phi ** 2) };
    const predictions = predict(model, filter(model, [0.3, -1, 3]), 6);
    predictions.forEach(({ y, S }, i) => {
      const h = i + 1;
      expect(y[0]).toBeCloseTo(3 * phi ** h, 12);
      expect(S.at(0, 0)).toBeCloseTo((variance * (1 - phi ** (2 * h))) / (1 - phi ** 2), 12);
    });
  });
});

describe('a diffuse prior', () => {
  it('gives what generalised least squares gives for an unknown start', () => {
    const y = [3, null, 4.5, 5, 7.5, 6, 9];
    const prior = diffusePrior(y, 2);
    const model = localLinearTrend({ observation: 1, level: 0.3, slope: 0.1 }, prior);
    const result = filter(model, y);
    const smoothed = smooth(model, result);

    // y = Xβ + noise, β the unknown (μ₀, ν₀) and the noise that of the same model with a start known to be zero.
    const observed = [...y.keys()].filter((t) => y[t] !== null);
    const known = jointGaussian({ ...model, x0: [0, 0], P0: new Matrix(2, 2) }, y.length);
    const V = cholesky(known.observationCovariance(observed));
    const X = Matrix.from(observed.map((t) => [1, t]));
    const Y = Matrix.from(observed.map((t) => y[t]!));
    const information = cholesky(X.T.times(V.solve(X)));
    const beta = information.solve(X.T.times(V.solve(Y)));
    expect(smoothed[0]!.x[0]).toBeCloseTo(beta.at(0, 0), 5);
    expect(smoothed[0]!.x[1]).toBeCloseTo(beta.at(1, 0), 5);
    const variance = information.solve(Matrix.identity(2));
    expect(smoothed[0]!.P.minus(variance).maxAbs()).toBeLessThan(1e-5);

    const residual = Y.minus(X.times(beta));
    const quadratic = residual.T.times(V.solve(residual)).at(0, 0);
    const constant = observed.length * Math.log(2 * Math.PI);
    const diffuse = -0.5 * (constant + V.logDeterminant + information.logDeterminant + quadratic);
    expect(result.logLikelihood + Math.log(prior.kappa)).toBeCloseTo(diffuse, 5);
  });

  it('makes the first level the first observation, wherever the series lies', () => {
    const y = [1e6 + 3, 1e6 + 5, 1e6];
    const { filtered } = filter(localLevel({ observation: 2, level: 1 }, diffusePrior(y, 1)), y);
    expect(filtered[0]!.x[0]).toBeCloseTo(1e6 + 3, 9);
    expect(filtered[0]!.P.at(0, 0)).toBeCloseTo(2, 6);
    expect(() => diffusePrior([4, null, 4], 1)).toThrow('no two different values');
  });
});

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function expectSame(got: Gaussian, expected: Gaussian): void {
  expect(Matrix.column(got.x).minus(Matrix.column(expected.x)).maxAbs()).toBeLessThan(1e-11);
  expect(got.P.minus(expected.P).maxAbs()).toBeLessThan(1e-11);
}

/**
 * All states and observations of T times as one Gaussian vector z = (x_0 … x_{T−1}, y_0 … y_{T−1}), to be conditioned on
 * what is observed with nothing but the textbook formula for a Gaussian vector.
 */
function jointGaussian(model: KalmanModel, T: number, u: readonly number[] = []) {
  const at = (value: KalmanModel['F'], t: number) => Matrix.from(typeof value === 'function' ? value(t) : value);
  const n = Matrix.from(model.P0).rows;
  const m = at(model.R, 0).rows;
  const size = T * (n + m);
  const means = new Matrix(size, 1);
  const covariance = new Matrix(size, size);
  const place = (matrix: Matrix, block: Matrix, top: number, left: number) => {
    for (let i = 0; i < block.rows; i++) {
      for (let j = 0; j < block.columns; j++) matrix.data[(top + i) * matrix.columns + left + j]! += block.at(i, j);
    }
  };

  // z = mean + Σ (effect of each independent source); the sources are x_0, w_t and v_t.
  const spread = (source: Matrix, t: number, intoState: boolean) => {
    const effect = new Matrix(size, source.rows);
    if (!intoState) place(effect, Matrix.identity(m), T * n + t * m, 0);
    let x = Matrix.identity(n);
    for (let s = t; s < T && intoState; s++) {
      place(effect, x, s * n, 0);
      place(effect, at(model.H, s).times(x), T * n + s * m, 0);
      x = at(model.F, s).times(x);
    }
    covariance.data.set(covariance.plus(effect.times(source).times(effect.T)).data);
  };
  let x = model.x0 === undefined ? new Matrix(n, 1) : Matrix.from(model.x0);
  spread(Matrix.from(model.P0), 0, true);
  for (let t = 0; t < T; t++) {
    place(means, x, t * n, 0);
    place(means, at(model.H, t).times(x), T * n + t * m, 0);
    x = at(model.F, t).times(x);
    if (model.B !== undefined) x = x.plus(at(model.B, t).scaled(u[t] ?? 0));
    if (t + 1 < T) spread(at(model.Q, t), t + 1, true);
    spread(at(model.R, t), t, false);
  }

  type Row = number | null | readonly (number | null)[];
  const observedIn = (y: readonly Row[]) => {
    const values = y.map((row) => (row === null ? Array<null>(m).fill(null) : typeof row === 'number' ? [row] : row));
    const flat = values.flat().map((value, i) => ({ index: T * n + i, value }));
    return flat.filter(
      (entry): entry is { index: number; value: number } => entry.value !== null && !Number.isNaN(entry.value),
    );
  };
  const conditionOn = (y: readonly Row[]) => {
    const observed = observedIn(y);
    const indices = observed.map(({ index }) => index);
    const deviation = Matrix.column(Float64Array.from(observed, ({ index, value }) => value - means.data[index]!));
    return { indices, deviation, factor: cholesky(covariance.select(indices, indices)) };
  };
  return {
    observationCovariance: (times: readonly number[]) => {
      const indices = times.map((t) => T * n + t * m);
      return covariance.select(indices, indices);
    },
    logDensity: (y: readonly Row[]): number => {
      const { deviation, factor } = conditionOn(y);
      const quadratic = deviation.T.times(factor.solve(deviation)).at(0, 0);
      return -0.5 * (quadratic + factor.logDeterminant + deviation.rows * Math.log(2 * Math.PI));
    },
    given: (y: readonly Row[]) => {
      const { indices, deviation, factor } = conditionOn(y);
      const block = (from: number, length: number): Gaussian => {
        const wanted = Array.from({ length }, (_, i) => from + i);
        const cross = covariance.select(wanted, indices);
        const x = means.select(wanted, [0]).plus(cross.times(factor.solve(deviation)));
        return { x: x.data, P: covariance.select(wanted, wanted).minus(cross.times(factor.solve(cross.T))) };
      };
      return { state: (t: number) => block(t * n, n), observation: (t: number) => block(T * n + t * m, m) };
    },
  };
}

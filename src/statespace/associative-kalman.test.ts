import { describe, expect, it } from 'vitest';
import { Random } from '../core/random.ts';
import { combineFiltering, filteringElement, parallelFilter, parallelSmooth } from './associative-kalman.ts';
import { filter, smooth } from './kalman.ts';
import { checkModel, type Gaussian, type KalmanModel } from './kalman-model.ts';
import { Matrix } from './matrix.ts';
import { sample } from './sample.ts';

/** Constant velocity in the plane: four states, of which two are seen, pushed by a known force. */
const VELOCITY: KalmanModel = {
  F: [
    [1, 0.1, 0, 0],
    [0, 1, 0, 0],
    [0, 0, 1, 0.1],
    [0, 0, 0, 0.98],
  ],
  H: [
    [1, 0, 0, 0],
    [0, 0, 1, 0],
  ],
  Q: Matrix.diagonal([0.01, 0.2, 0.02, 0.1]),
  R: [
    [0.5, 0.1],
    [0.1, 0.3],
  ],
  B: [0, 1, 0, -1],
  P0: Matrix.diagonal([1, 2, 3, 4]),
};

function observations(T: number): { y: (number[] | null)[]; u: Float64Array } {
  const random = new Random(T);
  const u = Float64Array.from({ length: T }, () => random.normal());
  const { y } = sample(VELOCITY, T, () => random.normal(), u);
  const rows = Array.from({ length: T }, (_, t) => {
    if (random.uniform() < 0.1) return null;
    return Array.from(y.row(t), (value) => (random.uniform() < 0.1 ? Number.NaN : value));
  });
  return { y: rows, u };
}

function expectAgree(got: readonly Gaussian[], expected: readonly Gaussian[]): void {
  expect(got.length).toBe(expected.length);
  got.forEach(({ x, P }, t) => {
    const scale = 1 + Matrix.column(expected[t]!.x).maxAbs();
    expect(Matrix.column(x).minus(Matrix.column(expected[t]!.x)).maxAbs()).toBeLessThan(1e-11 * scale);
    expect(P.minus(expected[t]!.P).maxAbs()).toBeLessThan(1e-11);
  });
}

describe('the Kalman filter as an associative scan', () => {
  it.each([1, 2, 3, 7, 64, 200])('agrees with the recursion over %i times, with missing values and inputs', (T) => {
    const { y, u } = observations(T);
    const [parallel, sequential] = [parallelFilter(VELOCITY, y, u), filter(VELOCITY, y, u)];
    expectAgree(parallel.filtered, sequential.filtered);
    expectAgree(parallel.predicted, sequential.predicted);
    expectAgree([parallel.next], [sequential.next]);
    expect(parallel.logLikelihood).toBeCloseTo(sequential.logLikelihood, 9);
    expect(parallel.depth).toBeLessThanOrEqual(2 * Math.ceil(Math.log2(T)));

    const { smoothed, depth } = parallelSmooth(VELOCITY, parallel);
    expectAgree(smoothed, smooth(VELOCITY, sequential));
    expect(depth).toBeLessThanOrEqual(2 * Math.ceil(Math.log2(T)));
  });

  it('agrees where the matrices change with time', () => {
    const model: KalmanModel = {
      F: (t) => [
        [1, 0.1 * t],
        [0, 0.9],
      ],
      H: (t) => [[1, Math.cos(t)]],
      Q: (t) => Matrix.diagonal([0.1 + 0.01 * t, 0.2]),
      R: (t) => 0.5 + 0.1 * t,
      P0: Matrix.identity(2),
    };
    const y = [1, 2, null, 0, 1, 4, 3, null, 2];
    const [parallel, sequential] = [parallelFilter(model, y), filter(model, y)];
    expectAgree(parallel.filtered, sequential.filtered);
    expectAgree(parallelSmooth(model, parallel).smoothed, smooth(model, sequential));
    expect(parallel.logLikelihood).toBeCloseTo(sequential.logLikelihood, 11);
  });

  it('combines stretches associatively', () => {
    const checked = checkModel(VELOCITY);
    const { y } = observations(3);
    const rows = y.map((row) => Float64Array.from(row ?? [1, Number.NaN]));
    const [a, b, c] = rows.map((row, t) => filteringElement(checked, t + 1, row, Matrix.from([0, t, 1, -t])));
    const left = combineFiltering(combineFiltering(a!, b!), c!);
    const right = combineFiltering(a!, combineFiltering(b!, c!));
    for (const part of ['A', 'b', 'C', 'eta', 'J'] as const) {
      expect(left[part].minus(right[part]).maxAbs()).toBeLessThan(1e-12);
    }
  });

  it('takes an empty series', () => {
    const { filtered, depth, next } = parallelFilter(VELOCITY, [], new Matrix(0, 1));
    expect(filtered).toEqual([]);
    expect(depth).toBe(0);
    expect([...next.x]).toEqual([0, 0, 0, 0]);
  });
});

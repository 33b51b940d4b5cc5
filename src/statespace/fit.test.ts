import { describe, expect, it } from 'vitest';
import { Random } from '../core/random.ts';
import { fitLocalLevel, fitLocalLinearTrend, maximumLikelihood } from './fit.ts';
import { logLikelihood } from './kalman.ts';
import type { KalmanModel } from './kalman-model.ts';
import { Matrix } from './matrix.ts';
import { nelderMead } from './nelder-mead.ts';
import { sample } from './sample.ts';

describe('nelderMead', () => {
  it('finds the minimum of Rosenbrock’s valley', () => {
    const valley = ([x, y]: ArrayLike<number> & Iterable<number>) => (1 - x!) ** 2 + 100 * (y! - x! ** 2) ** 2;
    const { x, value, converged } = nelderMead(valley, [-1.2, 1]);
    expect(converged).toBe(true);
    expect(x[0]).toBeCloseTo(1, 5);
    expect(x[1]).toBeCloseTo(1, 5);
    expect(value).toBeLessThan(1e-9);
  });

  it('keeps out of where f is not a number, and says when it ran out of evaluations', () => {
    const f = ([x]: Float64Array) => Math.sqrt(x!) - x!;
    expect(nelderMead((x) => -f(x), [3]).x[0]).toBeCloseTo(0.25, 5);
    const { converged, evaluations } = nelderMead(([x]) => x! ** 2, [100], { size: 0.1, maxEvaluations: 20 });
    expect(converged).toBe(false);
    expect(evaluations).toBeLessThan(25);
  });
});

describe('maximum likelihood', () => {
  it('finds the variances that made a series', () => {
    const random = new Random(11);
    const build = ([q, r]: ArrayLike<number> & Iterable<number>): KalmanModel => ({
      F: 0.9,
      H: 1,
      Q: q!,
      R: r!,
      P0: 1,
    });
    const { y } = sample(build([2, 0.5]), 500, () => random.normal());
    const fit = maximumLikelihood(build, y, [1, 1]);
    expect(fit.converged).toBe(true);
    expect(fit.variances[0]).toBeGreaterThan(1.6);
    expect(fit.variances[0]).toBeLessThan(2.4);
    expect(fit.variances[1]).toBeGreaterThan(0.25);
    expect(fit.variances[1]).toBeLessThan(0.75);
    // No neighbour is likelier.
    const [q, r] = fit.variances;
    for (const [a, b] of [
      [1.01, 1],
      [0.99, 1],
      [1, 1.01],
      [1, 0.99],
    ] as const) {
      expect(logLikelihood(build([q! * a, r! * b]), y)).toBeLessThan(fit.logLikelihood);
    }
  });

  it('finds that a variance is zero', () => {
    const random = new Random(5);
    const noise = Float64Array.from({ length: 60 }, () => 10 + random.normal());
    const { variances, converged } = fitLocalLevel(noise);
    expect(converged).toBe(true);
    expect(variances.level).toBeLessThan(1e-3 * variances.observation);
    const line = Float64Array.from({ length: 60 }, (_, t) => 10 + 0.5 * t + random.normal());
    const trend = fitLocalLinearTrend(line);
    expect(trend.variances.slope).toBeLessThan(1e-3);
    expect(trend.variances.observation).toBeGreaterThan(0.6);
    expect(trend.variances.observation).toBeLessThan(1.6);
  });

  it('finds the three variances of a local linear trend', () => {
    const random = new Random(2);
    const truth: KalmanModel = {
      F: [
        [1, 1],
        [0, 1],
      ],
      H: [[1, 0]],
      Q: Matrix.diagonal([1, 0.1]),
      R: 4,
      P0: new Matrix(2, 2),
    };
    const { y } = sample(truth, 300, () => random.normal());
    const { variances, converged } = fitLocalLinearTrend(y.data);
    expect(converged).toBe(true);
    expect(variances.observation).toBeGreaterThan(3);
    expect(variances.observation).toBeLessThan(5);
    expect(variances.level).toBeGreaterThan(0.2);
    expect(variances.level).toBeLessThan(2.5);
    expect(variances.slope).toBeGreaterThan(0.03);
    expect(variances.slope).toBeLessThan(0.3);
  });

  it('names variances it can not start from', () => {
    expect(() => maximumLikelihood(() => ({ F: 1, H: 1, Q: 1, R: 1, P0: 1 }), [1], [0])).toThrow('[0]');
  });
});

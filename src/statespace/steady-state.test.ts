import { describe, expect, it } from 'vitest';
import { Random } from '../core/random.ts';
import { convolve, impulseResponse } from './convolution.ts';
import { solve } from './factorisation.ts';
import { filter } from './kalman.ts';
import type { KalmanModel } from './kalman-model.ts';
import { simulate } from './linear-system.ts';
import { Matrix } from './matrix.ts';
import { sample } from './sample.ts';
import { steadyState, steadyStatePredictor } from './steady-state.ts';

const MODEL: KalmanModel = {
  F: [
    [1, 1],
    [0, 1],
  ],
  H: [[1, 0]],
  Q: [
    [0.3, 0.1],
    [0.1, 0.2],
  ],
  R: 2,
  P0: Matrix.identity(2),
};

describe('steadyState', () => {
  it.each([1e-8, 0.0973, 1, 1e6])('of a local level with signal-to-noise ratio %d is known in closed form', (q) => {
    const R = 15099;
    const { predicted, filtered, K, S } = steadyState({ F: 1, H: 1, Q: q * R, R, P0: 1 });
    // P² − PQ − QR = 0 for the predicted variance P.
    const P = (R * (q + Math.sqrt(q * q + 4 * q))) / 2;
    expect(predicted.at(0, 0) / P).toBeCloseTo(1, 12);
    expect(filtered.at(0, 0) / ((P * R) / (P + R))).toBeCloseTo(1, 11);
    expect(K.at(0, 0)).toBeCloseTo(P / (P + R), 12);
    expect(S.at(0, 0) / (P + R)).toBeCloseTo(1, 12);
  });

  it('of an autoregression in noise', () => {
    const [phi, Q, R] = [0.8, 1, 3];
    const { predicted } = steadyState({ F: phi, H: 1, Q, R, P0: 1 });
    const P = predicted.at(0, 0);
    expect((phi ** 2 * P * R) / (P + R) + Q).toBeCloseTo(P, 12);
  });

  it('solves the Riccati equation, and is where the filter goes', () => {
    const { predicted: P, filtered, K, S } = steadyState(MODEL);
    const [F, H, Q] = [Matrix.from(MODEL.F as number[][]), Matrix.from([[1, 0]]), Matrix.from(MODEL.Q as number[][])];
    const PH = P.times(H.T);
    const riccati = F.times(P.minus(PH.times(solve(S, PH.T))))
      .times(F.T)
      .plus(Q);
    expect(riccati.minus(P).maxAbs()).toBeLessThan(1e-12);
    const result = filter(MODEL, new Float64Array(200));
    expect(result.next.P.minus(P).maxAbs()).toBeLessThan(1e-12);
    expect(result.filtered.at(-1)!.P.minus(filtered).maxAbs()).toBeLessThan(1e-12);
    expect(result.innovations.at(-1)!.K.minus(K).maxAbs()).toBeLessThan(1e-12);
  });

  it('refuses models that have none', () => {
    const unseen = { ...MODEL, H: [[0, 1]] };
    expect(() => steadyState(unseen)).toThrow('does not settle');
    expect(() => steadyState({ F: 2, H: 0, Q: 1, R: 1, P0: 1 })).toThrow('does not settle');
    expect(() => steadyState({ F: 1, H: 1, Q: 0, R: 1, P0: 1 })).toThrow('does not settle');
    expect(() => steadyState({ ...MODEL, R: () => 2 })).toThrow('R is a function of time');
  });
});

describe('steadyStatePredictor', () => {
  it('is the filter once it has settled, as a recurrence and as a convolution', () => {
    const random = new Random(3);
    const { y } = sample(MODEL, 300, () => random.normal());
    const system = steadyStatePredictor(MODEL);
    const recurrence = simulate(system, y).y;
    const convolution = convolve(impulseResponse(system, 300), y, 'fft');
    expect(convolution.minus(recurrence).maxAbs()).toBeLessThan(1e-9);
    const { predicted } = filter(MODEL, y);
    for (let t = 150; t < 300; t++) expect(recurrence.at(t, 0)).toBeCloseTo(predicted[t]!.x[0]!, 8);
  });
});

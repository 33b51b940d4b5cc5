import { describe, expect, it } from 'vitest';
import { type Affine, composeAffine } from './affine.ts';
import { associativeScan } from './associative-scan.ts';
import { zeroOrderHold } from './discretise.ts';
import { filter } from './kalman.ts';
import type { KalmanModel } from './kalman-model.ts';
import { Matrix } from './matrix.ts';
import { s4dReal } from './s4d.ts';

describe('from Kalman to Mamba', () => {
  it('the filter is a gated linear recurrence, x = (I − KH)F x + K y, whose gate is shut where y is missing', () => {
    const model: KalmanModel = { F: 0.9, H: 1, Q: 1, R: 2, P0: 3 };
    const y = [1, null, -2, 4];
    const { filtered, innovations } = filter(model, y);
    let x = 0;
    innovations.forEach(({ K }, t) => {
      const gain = K.at(0, 0);
      x = (1 - gain) * (t === 0 ? 0 : 0.9 * x) + gain * (y[t] ?? 0);
      expect(filtered[t]!.x[0]).toBeCloseTo(x, 14);
    });
    expect(innovations[1]!.K.at(0, 0)).toBe(0);
  });

  it.each([-3, 0, 0.7, 5])('with Δ = softplus(%d), A = −1 and B = 1 the zero-order hold is a sigmoid gate', (z) => {
    const gate = 1 / (1 + Math.exp(-z));
    const { A, B } = zeroOrderHold({ A: -1, B: 1 }, Math.log1p(Math.exp(z)));
    expect(A.at(0, 0)).toBeCloseTo(1 - gate, 14);
    expect(B.at(0, 0)).toBeCloseTo(gate, 14);
  });

  it('Mamba’s selective recurrence is an associative scan', () => {
    const N = 4;
    const poles = s4dReal(N).re;
    const T = 21;
    const steps = Array.from({ length: T }, (_, t): Affine => {
      const u = Math.sin(t);
      const delta = Math.log1p(Math.exp(2 * u));
      const B = poles.map((_, n) => Math.cos(n * u));
      return {
        A: Matrix.diagonal(poles.map((pole) => Math.exp(delta * pole))),
        b: Matrix.column(B.map((b) => delta * b * u)),
      };
    });
    const { values, depth } = associativeScan(steps, composeAffine);
    const h = new Float64Array(N);
    steps.forEach(({ A, b }, t) => {
      for (let n = 0; n < N; n++) {
        h[n] = A.at(n, n) * h[n]! + b.data[n]!;
        expect(values[t]!.b.data[n]).toBeCloseTo(h[n]!, 13);
      }
    });
    expect(depth).toBeLessThanOrEqual(10);
  });

  it('the delta rule is a Kalman update with the same doubt about every direction', () => {
    const [p, R] = [0.7, 0.4];
    const k = [0.6, -0.2, 1.1];
    const x0 = [1, 2, 3];
    const y = 2.5;
    const model: KalmanModel = {
      F: Matrix.identity(3),
      H: [k],
      Q: new Matrix(3, 3),
      R,
      x0,
      P0: Matrix.diagonal([p, p, p]),
    };
    const beta = p / (p * k.reduce((sum, value) => sum + value * value, 0) + R);
    const error = y - k.reduce((sum, value, i) => sum + value * x0[i]!, 0);
    const { x } = filter(model, [y]).filtered[0]!;
    k.forEach((value, i) => {
      expect(x[i]).toBeCloseTo(x0[i]! + beta * value * error, 14);
    });
  });
});

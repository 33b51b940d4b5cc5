import { describe, expect, it } from 'vitest';
import { Random } from '../core/random.ts';
import { type Affine, composeAffine } from './affine.ts';
import { associativeScan } from './associative-scan.ts';
import { convolve, impulseResponse } from './convolution.ts';
import { bilinear, zeroOrderHold } from './discretise.ts';
import { fft, fftConvolve } from './fft.ts';
import { frequencyResponse } from './frequency-response.ts';
import { discreteSystem, inputBeforeOutput, linearSystem, Simulation, simulate } from './linear-system.ts';
import { Matrix } from './matrix.ts';

/** A damped oscillator with two inputs and two outputs: position and velocity, force and shift. */
const OSCILLATOR = linearSystem({
  A: [
    [0, 1],
    [-4, -0.4],
  ],
  B: [
    [0, 0.2],
    [1, 0],
  ],
  C: [
    [1, 0],
    [0.5, 1],
  ],
  D: [
    [0, 0.3],
    [0.1, 0],
  ],
});

function signal(T: number, p: number, seed = 1): Matrix {
  const random = new Random(seed);
  return new Matrix(
    T,
    p,
    Float64Array.from({ length: T * p }, () => random.normal()),
  );
}

describe('discretisation', () => {
  it('zero-order hold is the exact solution for a held input', () => {
    // Charging a capacitor: ẋ = −x/τ + u/τ, so x(kΔ) = 1 − e^{−kΔ/τ} for u = 1.
    const [tau, step] = [0.7, 0.05];
    const system = zeroOrderHold({ A: -1 / tau, B: 1 / tau }, step);
    const { y } = simulate(system, new Float64Array(50).fill(1));
    y.data.forEach((value, k) => {
      expect(value).toBeCloseTo(1 - Math.exp((-k * step) / tau), 14);
    });
  });

  it('zero-order hold takes a singular A: the double integrator', () => {
    const step = 0.3;
    const integrator = {
      A: [
        [0, 1],
        [0, 0],
      ],
      B: [0, 1],
      C: [[1, 0]],
    };
    const { A, B } = zeroOrderHold(integrator, step);
    expect(
      A.minus(
        Matrix.from([
          [1, step],
          [0, 1],
        ]),
      ).maxAbs(),
    ).toBeLessThan(1e-15);
    expect(B.minus(Matrix.from([step ** 2 / 2, step])).maxAbs()).toBeLessThan(1e-15);
  });

  it('bilinear is the continuous transfer function at the warped frequency', () => {
    const step = 0.4;
    const discrete = bilinear(OSCILLATOR, step);
    for (const omega of [0.1, 1, 2, 5]) {
      const warped = (2 / step) * Math.tan((omega * step) / 2);
      const [g, h] = [frequencyResponse(discrete, omega), frequencyResponse(OSCILLATOR, warped)];
      expect(g.re.minus(h.re).maxAbs()).toBeLessThan(1e-13);
      expect(g.im.minus(h.im).maxAbs()).toBeLessThan(1e-13);
    }
  });

  it('both tend to the continuous system as the step goes to zero, at the orders known for them', () => {
    const omega = 1.3;
    const exact = frequencyResponse(OSCILLATOR, omega);
    const error = (method: typeof bilinear, step: number) =>
      frequencyResponse(method(OSCILLATOR, step), omega).re.minus(exact.re).maxAbs();
    expect(error(bilinear, 0.02) / error(bilinear, 0.01)).toBeCloseTo(4, 1);
    expect(error(zeroOrderHold, 0.002) / error(zeroOrderHold, 0.001)).toBeCloseTo(2, 1);
  });

  it('names wrong shapes and steps', () => {
    expect(() => zeroOrderHold({ A: 1, B: 1 }, 0)).toThrow('step is 0');
    expect(() => linearSystem({ A: [[1, 2]], B: 1 })).toThrow('A is [1, 2], expected [1, 1]');
    const A = Matrix.identity(2);
    expect(() => linearSystem({ A, B: [0, 1], C: [1, 0] })).toThrow('C is [2, 1], expected [2, 2]');
    expect(() => linearSystem({ A, B: [[0, 1]] })).toThrow('B is [1, 2], expected [2, 2]');
    expect(() => simulate(discreteSystem({ A: 1, B: 1 }), [[1, 2]])).toThrow('u is [1, 2], expected [1, 1]');
  });
});

describe('recurrence and convolution', () => {
  const system = zeroOrderHold(OSCILLATOR, 0.1);

  it.each([1, 2, 3, 63, 300])('give the same %i outputs', (T) => {
    const u = signal(T, 2);
    const { y } = simulate(system, u);
    const h = impulseResponse(system, T);
    expect(convolve(h, u, 'direct').minus(y).maxAbs()).toBeLessThan(1e-13);
    expect(convolve(h, u, 'fft').minus(y).maxAbs()).toBeLessThan(1e-13);
    expect(convolve(h, u).minus(y).maxAbs()).toBeLessThan(1e-13);
  });

  it('a response that has faded may be cut', () => {
    const u = signal(200, 2);
    const h = impulseResponse(discreteSystem({ A: 0.1, B: [[1, 2]] }), 20);
    expect(
      convolve(h, u)
        .minus(simulate(discreteSystem({ A: 0.1, B: [[1, 2]] }), u).y)
        .maxAbs(),
    ).toBeLessThan(1e-14);
    expect(() => convolve([], u)).toThrow('empty');
  });

  it('a series may be cut anywhere when the state is carried', () => {
    const u = signal(50, 2);
    const whole = simulate(system, u);
    const head = simulate(system, u.select([...Array(17).keys()], [0, 1]));
    const rest = Array.from({ length: 33 }, (_, k) => 17 + k);
    const tail = simulate(system, u.select(rest, [0, 1]), head.x);
    expect([...tail.y.data]).toEqual([...whole.y.data.subarray(17 * 2)]);
    expect([...tail.x]).toEqual([...whole.x]);
  });

  it('starts from the state given', () => {
    const simulation = new Simulation(discreteSystem({ A: 0.5, B: 1 }), 8);
    expect([0, 0, 1, 0].map((u) => simulation.step(u)[0])).toEqual([8, 4, 2, 2]);
  });

  it('the input acts at once in the form of S4 and Mamba: x_k = A x_{k−1} + B u_k, y_k = C x_k', () => {
    const { A, B, C, D } = system;
    const u = signal(30, 2);
    let x = new Matrix(2, 1);
    const expected = Array.from({ length: 30 }, (_, k) => {
      const input = Matrix.column(u.row(k));
      x = A.times(x).plus(B.times(input));
      return C.times(x).plus(D.times(input)).data;
    });
    const { y } = simulate(inputBeforeOutput(system), u);
    expect(y.minus(Matrix.from(expected)).maxAbs()).toBeLessThan(1e-14);
    const [K0, K1] = impulseResponse(inputBeforeOutput({ ...system, D: new Matrix(2, 2) }), 2);
    expect(K0!.minus(C.times(B)).maxAbs()).toBeLessThan(1e-15);
    expect(K1!.minus(C.times(A).times(B)).maxAbs()).toBeLessThan(1e-15);
  });

  it('a linear recurrence with steps that change is an associative scan', () => {
    const steps = Array.from({ length: 37 }, (_, t): Affine => ({ A: signal(3, 3, t), b: signal(3, 1, 100 + t) }));
    let x = new Matrix(3, 1);
    const sequential = steps.map(({ A, b }) => (x = A.times(x).plus(b)));
    const { values } = associativeScan(steps, composeAffine);
    values.forEach(({ b }, t) => {
      expect(b.minus(sequential[t]!).maxAbs()).toBeLessThan(1e-10 * sequential[t]!.maxAbs());
    });
  });

  it('the frequency response is the transform of the impulse response', () => {
    const omega = 2.1;
    const { re, im } = frequencyResponse(system, omega);
    const sum = { re: new Matrix(2, 2), im: new Matrix(2, 2) };
    impulseResponse(system, 3000).forEach((h, k) => {
      sum.re = sum.re.plus(h.scaled(Math.cos(omega * 0.1 * k)));
      sum.im = sum.im.minus(h.scaled(Math.sin(omega * 0.1 * k)));
    });
    expect(sum.re.minus(re).maxAbs()).toBeLessThan(1e-12);
    expect(sum.im.minus(im).maxAbs()).toBeLessThan(1e-12);
  });
});

describe('fft', () => {
  it('is the sum that defines it', () => {
    const N = 32;
    const [re, im] = [signal(N, 1, 5).data, signal(N, 1, 6).data];
    const [fre, fim] = [re.slice(), im.slice()];
    fft(fre, fim);
    for (let k = 0; k < N; k++) {
      let [sumRe, sumIm] = [0, 0];
      for (let t = 0; t < N; t++) {
        const angle = (-2 * Math.PI * k * t) / N;
        sumRe += re[t]! * Math.cos(angle) - im[t]! * Math.sin(angle);
        sumIm += re[t]! * Math.sin(angle) + im[t]! * Math.cos(angle);
      }
      expect(fre[k]).toBeCloseTo(sumRe, 12);
      expect(fim[k]).toBeCloseTo(sumIm, 12);
    }
    expect(() => fft(new Float64Array(12), new Float64Array(12))).toThrow('power of two');
  });

  it('convolves signals of very different size without losing the small one', () => {
    const y = fftConvolve(new Float64Array([1e-8, 2e-8]), new Float64Array([1e8, 1e8, 0]), 3);
    [1, 3, 2].forEach((value, t) => {
      expect(y[t]).toBeCloseTo(value, 13);
    });
  });
});

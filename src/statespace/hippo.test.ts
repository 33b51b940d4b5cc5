import { describe, expect, it } from 'vitest';
import { convolve, impulseResponse } from './convolution.ts';
import { zeroOrderHold } from './discretise.ts';
import { hippoLegS, LegendreMemory, legendreBasis } from './hippo.ts';
import { inputBeforeOutput, simulate } from './linear-system.ts';
import { Matrix } from './matrix.ts';
import { matrixExponential } from './matrix-exponential.ts';
import { realForm, s4dInv, s4dKernel, s4dLin, s4dReal } from './s4d.ts';

describe('HiPPO-LegS', () => {
  it('has the matrices of the paper', () => {
    const { A, B } = hippoLegS(3);
    const [r3, r5] = [Math.sqrt(3), Math.sqrt(5)];
    const expected = Matrix.from([
      [-1, 0, 0],
      [-r3, -2, 0],
      [-r5, -r3 * r5, -3],
    ]);
    expect(A.minus(expected).maxAbs()).toBeLessThan(1e-15);
    expect([...B.data]).toEqual([1, r3, r5]);
    expect(() => hippoLegS(0)).toThrow('N is 0');
  });

  it('responds to an impulse by Legendre polynomials of a fading past: √(2n+1) e^{−s} P_n(2e^{−s} − 1)', () => {
    const N = 12;
    const { A, B } = hippoLegS(N);
    for (const s of [0, 0.1, 0.7, 2, 5]) {
      const response = matrixExponential(A.scaled(s)).times(B);
      const expected = legendreBasis(N, Math.exp(-s)).map((g) => g * Math.exp(-s));
      expect(response.minus(Matrix.column(expected)).maxAbs()).toBeLessThan(1e-10);
    }
  });

  it('holds exactly the Legendre coefficients of the whole history', () => {
    const N = 6;
    const history = [3, -1, 4, 1, -5, 9, 2, 6, -5, 3];
    const memory = new LegendreMemory(N);
    history.forEach((value, t) => {
      memory.write(value);
      const expected = new Float64Array(N);
      // ∫ g_n over each sample's share of [0, 1].
      for (let j = 0; j <= t; j++) integrate(N, j / (t + 1), (j + 1) / (t + 1), history[j]!, expected);
      memory.c.forEach((c, n) => {
        expect(c).toBeCloseTo(expected[n]!, 10);
      });
    });
    expect(memory.T).toBe(history.length);
  });

  it('gives the history back, the better the more coefficients', () => {
    const T = 400;
    const wave = (x: number) => Math.sin(9 * x) + 0.5 * Math.cos(17 * x + 1);
    const worst = [8, 16, 32].map((N) => {
      const memory = new LegendreMemory(N);
      for (let t = 0; t < T; t++) memory.write(wave((t + 0.5) / T));
      return Math.max(...[0.05, 0.2, 0.5, 0.8, 0.95].map((x) => Math.abs(memory.read(x) - wave(x))));
    });
    expect(worst[0]).toBeGreaterThan(0.05);
    expect(worst[1]).toBeLessThan(0.01);
    expect(worst[2]).toBeLessThan(0.01);
  });
});

describe('S4D', () => {
  it('starts from the poles of the paper', () => {
    expect([...s4dLin(6).im]).toEqual([0, Math.PI, 2 * Math.PI]);
    expect([...s4dLin(6).re]).toEqual([-0.5, -0.5, -0.5]);
    expect(s4dInv(4).im[0]).toBeCloseTo((4 / Math.PI) * 3, 14);
    expect(s4dInv(4).im[1]).toBeCloseTo((4 / Math.PI) * (4 / 3 - 1), 14);
    expect([...s4dReal(3).re]).toEqual([-1, -2, -3]);
    expect(() => s4dLin(5)).toThrow('even');
  });

  it('S4D-Real has the eigenvalues of HiPPO-LegS', () => {
    const { A } = hippoLegS(5);
    expect([0, 1, 2, 3, 4].map((n) => A.at(n, n))).toEqual([...s4dReal(5).re]);
  });

  it.each([
    ['Lin', s4dLin(16)],
    ['Inv', s4dInv(16)],
    ['Real', s4dReal(8)],
  ])('%s: the Vandermonde kernel, the recurrence and the convolution agree', (_, lambda) => {
    const count = lambda.re.length;
    const c = {
      re: Float64Array.from({ length: count }, (_, n) => Math.cos(n)),
      im: Float64Array.from({ length: count }, (_, n) => Math.sin(3 * n)),
    };
    const [step, T] = [0.05, 120];
    const K = s4dKernel({ lambda, c }, step, T);
    const system = inputBeforeOutput(zeroOrderHold(realForm({ lambda, c }), step));
    const kernel = impulseResponse(system, T);
    kernel.forEach((h, k) => {
      expect(h.at(0, 0)).toBeCloseTo(K[k]!, 11);
    });
    const u = Float64Array.from({ length: T }, (_, t) => Math.sin(0.3 * t * t));
    expect(
      simulate(system, u)
        .y.minus(convolve(kernel, u, 'fft'))
        .maxAbs(),
    ).toBeLessThan(1e-11);
  });

  it('a pole at zero integrates', () => {
    const zero = { re: new Float64Array(1), im: new Float64Array(1) };
    const c = { re: new Float64Array([0.5]), im: new Float64Array(1) };
    expect([...s4dKernel({ lambda: zero, c }, 0.1, 3)]).toEqual([0.1, 0.1, 0.1]);
    expect(() => s4dKernel({ lambda: zero, c: s4dLin(4) }, 0.1, 3)).toThrow('lengths 1, 1, 2, 2');
  });
});

/** Adds value · ∫_a^b g_n(x) dx to each sum, by Gauss and Legendre's rule of four nodes: exact up to degree seven. */
function integrate(N: number, a: number, b: number, value: number, sums: Float64Array): void {
  const inner = Math.sqrt(3 / 7 - (2 / 7) * Math.sqrt(6 / 5));
  const outer = Math.sqrt(3 / 7 + (2 / 7) * Math.sqrt(6 / 5));
  const [innerWeight, outerWeight] = [(18 + Math.sqrt(30)) / 36, (18 - Math.sqrt(30)) / 36];
  for (const [node, weight] of [
    [-outer, outerWeight],
    [-inner, innerWeight],
    [inner, innerWeight],
    [outer, outerWeight],
  ] as const) {
    const x = (a + b) / 2 + ((b - a) / 2) * node;
    legendreBasis(N, x).forEach((g, n) => {
      sums[n]! += value * g * weight * ((b - a) / 2);
    });
  }
}

import { InputError, ShapeError } from '../core/errors.ts';
import { type LinearSystem, linearSystem } from './linear-system.ts';
import { Matrix } from './matrix.ts';

/** Complex numbers by their parts, both of the same length. */
export interface ComplexVector {
  readonly re: Float64Array;
  readonly im: Float64Array;
}

/**
 * A diagonal system with one input and one output: ẋ_n = λ_n x_n + u, y = 2 Re Σ_n c_n x_n. Each mode stands for itself
 * and its complex conjugate; the input weights are all one, as c can carry them.
 */
export interface DiagonalSystem {
  /** λ, poles with negative real parts. */
  readonly lambda: ComplexVector;
  /** c, output weights. */
  readonly c: ComplexVector;
}

/*
 * The poles of S4D (Gu, Gupta, Goel & Ré 2022, On the parameterization and initialization of diagonal state space models).
 * The complex ones are given by the N/2 with positive frequency, for a real state of size N.
 */

/** S4D-Lin: λ_n = −1/2 + iπn, n < N/2: the modes of a Fourier series. */
export function s4dLin(N: number): ComplexVector {
  return modes(N / 2, (n) => [-0.5, Math.PI * n]);
}

/** S4D-Inv: λ_n = −1/2 + i(N/π)(N/(2n+1) − 1), n < N/2: close to the eigenvalues of HiPPO's normal part. */
export function s4dInv(N: number): ComplexVector {
  return modes(N / 2, (n) => [-0.5, (N / Math.PI) * (N / (2 * n + 1) - 1)]);
}

/** S4D-Real: λ_n = −(n + 1), n < N: the eigenvalues of HiPPO-LegS, and what Mamba starts from. */
export function s4dReal(N: number): ComplexVector {
  return modes(N, (n) => [-(n + 1), 0]);
}

function modes(count: number, pole: (n: number) => [re: number, im: number]): ComplexVector {
  if (!Number.isInteger(count) || count < 1) {
    throw new InputError('S4D: N must be a whole number of at least 1, and even for poles in conjugate pairs');
  }
  const poles = Array.from({ length: count }, (_, n) => pole(n));
  return { re: Float64Array.from(poles, ([re]) => re), im: Float64Array.from(poles, ([, im]) => im) };
}

/**
 * The diagonal system over the real numbers: each mode becomes the block [Re λ, −Im λ; Im λ, Re λ]. Everything that takes
 * a linear system takes this one.
 */
export function realForm(system: DiagonalSystem): LinearSystem {
  const count = checked(system);
  const { lambda, c } = system;
  const n = 2 * count;
  const A = new Matrix(n, n);
  const B = new Matrix(n, 1);
  const C = new Matrix(1, n);
  for (let i = 0; i < count; i++) {
    A.data.set([lambda.re[i]!, -lambda.im[i]!], 2 * i * n + 2 * i);
    A.data.set([lambda.im[i]!, lambda.re[i]!], (2 * i + 1) * n + 2 * i);
    B.data[2 * i] = 1;
    C.data.set([2 * c.re[i]!, -2 * c.im[i]!], 2 * i);
  }
  return linearSystem({ A, B, C });
}

/**
 * S4D's convolution kernel under a zero-order hold, K̄_k = 2 Re Σ_n c_n B̄_n e^{kΔλ_n} with B̄_n = (e^{Δλ_n} − 1)/λ_n: the
 * product of a row and a Vandermonde matrix, O(N·length) with no matrix of size N². The same numbers as
 * `impulseResponse(inputBeforeOutput(zeroOrderHold(realForm(system), step)), length)`.
 *
 * @param step Δ > 0
 */
export function s4dKernel(system: DiagonalSystem, step: number, length: number): Float64Array {
  const count = checked(system);
  const { lambda, c } = system;
  const K = new Float64Array(length);
  for (let n = 0; n < count; n++) {
    const [bRe, bIm] = heldInput(lambda.re[n]!, lambda.im[n]!, step);
    const weightRe = 2 * (c.re[n]! * bRe - c.im[n]! * bIm);
    const weightIm = 2 * (c.re[n]! * bIm + c.im[n]! * bRe);
    for (let k = 0; k < length; k++) {
      const angle = k * step * lambda.im[n]!;
      const size = Math.exp(k * step * lambda.re[n]!);
      K[k]! += size * (weightRe * Math.cos(angle) - weightIm * Math.sin(angle));
    }
  }
  return K;
}

/** (e^{Δλ} − 1)/λ, which is Δ at λ = 0. */
function heldInput(re: number, im: number, step: number): [re: number, im: number] {
  const size = re * re + im * im;
  if (size === 0) return [step, 0];
  // e^{a+ib} − 1 without cancellation: expm1(a) cos b − 2 sin²(b/2) + i e^a sin b.
  const numeratorRe = Math.expm1(step * re) * Math.cos(step * im) - 2 * Math.sin((step * im) / 2) ** 2;
  const numeratorIm = Math.exp(step * re) * Math.sin(step * im);
  return [(numeratorRe * re + numeratorIm * im) / size, (numeratorIm * re - numeratorRe * im) / size];
}

function checked({ lambda, c }: DiagonalSystem): number {
  const lengths = [lambda.re, lambda.im, c.re, c.im].map((part) => part.length);
  if (new Set(lengths).size !== 1) {
    throw new ShapeError(`S4D: λ and c have parts of lengths ${lengths.join(', ')}, expected all the same`);
  }
  return lengths[0]!;
}

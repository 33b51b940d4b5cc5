import { InputError } from '../core/errors.ts';

/**
 * The discrete Fourier transform in place, X_k = Σ_t x_t e^{−2πikt/N}, N a power of two (Cooley & Tukey 1965).
 *
 * @throws InputError if the length is not a power of two or the two parts differ in length.
 */
export function fft(re: Float64Array, im: Float64Array): void {
  const N = re.length;
  if (N === 0 || (N & (N - 1)) !== 0 || im.length !== N) {
    throw new InputError(`fft: lengths are ${N} and ${im.length}, expected the same power of two`);
  }
  bitReverse(re, im);
  for (let size = 2; size <= N; size *= 2) {
    const half = size / 2;
    for (let k = 0; k < half; k++) {
      const angle = (-2 * Math.PI * k) / size;
      const c = Math.cos(angle);
      const s = Math.sin(angle);
      for (let i = k; i < N; i += size) butterfly(re, im, i, i + half, c, s);
    }
  }
}

/** The first `length` terms of Σ_j a_j b_{t−j}, by the transform: O(N log N), N ≥ the sum of both lengths. */
export function fftConvolve(a: Float64Array, b: Float64Array, length: number): Float64Array {
  const N = 2 ** Math.ceil(Math.log2(a.length + b.length));
  const [aRe, aIm] = spectrum(a, N);
  const [bRe, bIm] = spectrum(b, N);
  // The inverse transform of X is conj(fft(conj X))/N, and only its real part is wanted.
  const re = aRe.map((_, k) => aRe[k]! * bRe[k]! - aIm[k]! * bIm[k]!);
  const im = aIm.map((_, k) => -aRe[k]! * bIm[k]! - aIm[k]! * bRe[k]!);
  fft(re, im);
  return re.subarray(0, length).map((value) => value / N);
}

function spectrum(signal: Float64Array, N: number): [re: Float64Array, im: Float64Array] {
  const re = new Float64Array(N);
  const im = new Float64Array(N);
  re.set(signal);
  fft(re, im);
  return [re, im];
}

function butterfly(re: Float64Array, im: Float64Array, i: number, j: number, c: number, s: number): void {
  const tr = c * re[j]! - s * im[j]!;
  const ti = c * im[j]! + s * re[j]!;
  re[j] = re[i]! - tr;
  im[j] = im[i]! - ti;
  re[i]! += tr;
  im[i]! += ti;
}

function bitReverse(re: Float64Array, im: Float64Array): void {
  const N = re.length;
  for (let i = 1, j = 0; i < N; i++) {
    let bit = N >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j]!, re[i]!];
      [im[i], im[j]] = [im[j]!, im[i]!];
    }
  }
}

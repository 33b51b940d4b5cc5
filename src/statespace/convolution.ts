import { ShapeError } from '../core/errors.ts';
import { fftConvolve } from './fft.ts';
import type { DiscreteSystem } from './linear-system.ts';
import { expectShape, Matrix, type MatrixLike } from './matrix.ts';

/**
 * The response to a unit impulse, the system's Markov parameters: h_0 = D, h_k = C A^{k−1} B, each [q, p]. What S4 calls
 * the convolution kernel K̄ is this for `inputBeforeOutput(system)`: K̄_k = C A^k B.
 */
export function impulseResponse(system: DiscreteSystem, length: number): Matrix[] {
  const { A, B, C, D } = system;
  const response = [D];
  for (let x = B; response.length < length; x = A.times(x)) response.push(C.times(x));
  return response.slice(0, length);
}

/** Above this many samples the transform is faster than the double sum. */
const DIRECT_LIMIT = 256;

/**
 * y_t = Σ_{j≤t} h_j u_{t−j}: the system's output from the zero state, all samples at once. The same numbers as `simulate`,
 * to rounding.
 *
 * @param response h [L][q, p]; terms past L count as zero.
 * @param u inputs [T, p]
 * @param method the sum itself, O(TL), or fast Fourier transforms, O((T + L) log(T + L)); by length unless given.
 * @returns outputs [T, q]
 */
export function convolve(response: readonly Matrix[], u: MatrixLike, method?: 'direct' | 'fft'): Matrix {
  const first = response[0];
  if (first === undefined) throw new ShapeError('convolve: the impulse response is empty, expected at least h_0');
  const inputs = Matrix.from(u);
  const T = inputs.rows;
  expectShape('u', inputs, T, first.columns);
  const convolution = (method ?? (T <= DIRECT_LIMIT ? 'direct' : 'fft')) === 'direct' ? directConvolve : fftConvolve;
  const kernels = response.slice(0, T);
  const y = new Matrix(T, first.rows);
  for (let i = 0; i < first.rows; i++) {
    for (let j = 0; j < first.columns; j++) {
      const kernel = Float64Array.from(kernels, (h) => h.at(i, j));
      const input = Float64Array.from({ length: T }, (_, t) => inputs.at(t, j));
      convolution(kernel, input, T).forEach((value, t) => {
        y.row(t)[i]! += value;
      });
    }
  }
  return y;
}

function directConvolve(kernel: Float64Array, input: Float64Array, length: number): Float64Array {
  const y = new Float64Array(length);
  for (let t = 0; t < length; t++) {
    const last = Math.min(t, kernel.length - 1);
    for (let j = 0; j <= last; j++) y[t]! += kernel[j]! * input[t - j]!;
  }
  return y;
}

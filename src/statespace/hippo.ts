import { InputError } from '../core/errors.ts';
import { zeroOrderHold } from './discretise.ts';
import { Matrix } from './matrix.ts';

/** The matrices of ẋ = Ax + Bu with A [N, N], B [N, 1]. */
export interface Hippo {
  readonly A: Matrix;
  readonly B: Matrix;
}

/**
 * HiPPO-LegS: the system whose state holds the history of its input as coefficients of Legendre polynomials.
 *
 *     A_nk = −√(2n+1)√(2k+1)  n > k
 *            −(n + 1)         n = k
 *            0                n < k        B_n = √(2n+1)
 *
 * Run with time scaled by 1/t (see `LegendreMemory`) it weighs all of the past alike. Run as it stands, as S4 does, its
 * impulse response is √(2n+1) e^{−s} P_n(2e^{−s} − 1): Legendre polynomials over an exponentially fading past.
 *
 * Source: Gu, Dao, Ermon, Rudra & Ré (2020), HiPPO: recurrent memory with optimal polynomial projections, theorem 2;
 * the sign of A is that of Gu, Goel & Ré (2022), Efficiently modeling long sequences with structured state spaces.
 *
 * @param N number of states, N ≥ 1.
 */
export function hippoLegS(N: number): Hippo {
  expectSize('hippoLegS', N);
  const root = Float64Array.from({ length: N }, (_, n) => Math.sqrt(2 * n + 1));
  const A = new Matrix(N, N);
  for (let n = 0; n < N; n++) {
    for (let k = 0; k < n; k++) A.data[n * N + k] = -root[n]! * root[k]!;
    A.data[n * N + n] = -(n + 1);
  }
  return { A, B: Matrix.column(root) };
}

/**
 * The memory of HiPPO-LegS, ċ = (A c + B u)/t: after T samples, `c` holds the first N Legendre coefficients of the whole
 * history, stretched to [0, 1], however long it is:
 *
 *     c_n = ∫₀¹ u(xT) g_n(x) dx,   g_n(x) = √(2n+1) P_n(2x − 1)
 *
 * With s = ln t the equation is time-invariant, so that a sample held from t to t + 1 is a zero-order hold of length
 * ln((t+1)/t): the coefficients are exact for the piecewise constant history, not an approximation that drifts.
 */
export class LegendreMemory {
  readonly #hippo: Hippo;
  /** Coefficients c [N]. */
  c: Float64Array;
  /** Samples taken so far. */
  T = 0;

  /** @param N number of coefficients, N ≥ 1. */
  constructor(N: number) {
    this.#hippo = hippoLegS(N);
    this.c = new Float64Array(N);
  }

  /** Takes the next sample of the history: O(N³). */
  write(u: number): void {
    if (this.T === 0) {
      // The projection of a constant is the constant itself: the rest point −A⁻¹Bu = (u, 0, …, 0).
      this.c[0] = u;
    } else {
      const { A, B } = zeroOrderHold(this.#hippo, Math.log((this.T + 1) / this.T));
      this.c = A.times(Matrix.column(this.c)).plus(B.scaled(u)).data;
    }
    this.T++;
  }

  /**
   * What the memory holds of the history at a place in it: Σ c_n g_n(x), the best polynomial of degree N − 1 in the mean
   * square.
   *
   * @param x 0 for the oldest moment, 1 for the newest.
   */
  read(x: number): number {
    return legendreBasis(this.c.length, x).reduce((sum, g, n) => sum + this.c[n]! * g, 0);
  }
}

/** g_0(x) … g_{N−1}(x): g_n(x) = √(2n+1) P_n(2x − 1), orthonormal on [0, 1]. */
export function legendreBasis(N: number, x: number): Float64Array {
  expectSize('legendreBasis', N);
  const z = 2 * x - 1;
  const P = new Float64Array(N);
  P[0] = 1;
  if (N > 1) P[1] = z;
  for (let n = 2; n < N; n++) P[n] = ((2 * n - 1) * z * P[n - 1]! - (n - 1) * P[n - 2]!) / n;
  return P.map((value, n) => Math.sqrt(2 * n + 1) * value);
}

function expectSize(name: string, N: number): void {
  if (!Number.isInteger(N) || N < 1) throw new InputError(`${name}: N is ${N}, expected a whole number of at least 1`);
}

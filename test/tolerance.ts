/** How far results may lie from the truth: the only file with tolerances. All are relative root-mean-square errors. */
export const tolerance = {
  /** Reference backend in float64 against float64 answers stored as f32. */
  f64: 1e-6,
  /** Exact up to the order of float64 additions. */
  exact: 1e-12,
  /** One op in f32. */
  op: 1e-6,
  /** Logits and states of a whole model in f32. */
  model: 1e-5,
  /** The same with keys and values in 16 bits, in which a difference in the last bit of 24 may become one in the last of 11. */
  rounded: 1e-3,
  /** Logits of the trained models, stored after float64 computation, in f32. */
  trained: 1e-4,
  /** Answers that a GPU computed with rounded weights: as far as they themselves are right. */
  gpuAnswers: 2e-2,
  /** Weights stored in 16 bits, and in 5, against answers of the weights in full. */
  halves: 5e-3,
  fiveBits: 5e-2,
  gradient: 1e-4,
  /** An analytic derivative against a central difference in float64. */
  difference: 1e-6,
  /** The same where parameters are held in f32, whose rounding the difference sees. */
  heldDifference: 2e-3,
} as const;

/** rms(a − b) / rms(b): the error of `a` against the truth `b`. NaN in either gives NaN, which fails any comparison. */
export function errorRatio(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`${a.length} numbers against ${b.length}`);
  let difference = 0;
  let scale = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    scale += b[i]! ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / scale);
}

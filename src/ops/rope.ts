import type { Op } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';
import { forEachSegment } from './conv.ts';

/**
 * Rotary position embedding (Su et al. 2021, arXiv 2104.09864): pairs of channels of every head are turned by the angle
 * position · frequency. The position of a segment's first token is given, so that a text may come in pieces. Pairs are
 * (i, i + n) for n frequencies (half-split), or (2i, 2i + 1) if `interleaved`; channels from 2n on are left alone. What is turned is
 * multiplied by `magnitude` as well: 1, but in YaRN (Peng et al. 2023, arXiv 2309.00071).
 */
export const ropeOp: Op = {
  name: 'rope',
  inputs: { x: 'T H K', positions: 'B', ends: 'B' },
  outputs: { y: 'T H K' },
  dtypes: { positions: 'i32', ends: 'i32' },
  reference({ x, positions, ends }, { y }, attributes) {
    const { frequencies, magnitude = 1, interleaved, inverse } = attributes as unknown as RopeAttributes;
    const [, H, K] = x!.shape as [number, number, number];
    const n = frequencies.length;
    forEachSegment(ends!, (b, first, last) => {
      for (let t = first; t < last; t++) {
        const position = positions!.data[positions!.row(b)]! + t - first;
        for (let h = 0; h < H; h++) {
          const [from, to] = [x!.row(t) + h * K, y!.row(t) + h * K];
          for (let i = 2 * n; i < K; i++) y!.data[to + i] = x!.data[from + i]!;
          for (let i = 0; i < n; i++) {
            const angle = position * frequencies[i]! * (inverse ? -1 : 1);
            const [c, s] = [magnitude * Math.cos(angle), magnitude * Math.sin(angle)];
            const [p, q] = interleaved ? [2 * i, 2 * i + 1] : [i, i + n];
            const [xp, xq] = [x!.data[from + p]!, x!.data[from + q]!];
            y!.data[to + p] = xp * c - xq * s;
            y!.data[to + q] = xq * c + xp * s;
          }
        }
      }
    });
  },
  /** A rotation's adjoint is the rotation back, of the same magnitude. */
  grad: ({ inputs: { positions, ends }, attributes, gradients: { y: dy } }) => ({
    x: apply(ropeOp, { x: dy, positions, ends }, { ...attributes, inverse: !attributes['inverse'] })[0],
  }),
  cases: [
    { axes: { H: 1, K: 2 }, segments: [1], attributes: { frequencies: [1], interleaved: false, inverse: false } },
    {
      axes: { H: 3, K: 10 },
      segments: [1, 5],
      attributes: { frequencies: [1, 0.3, 0.01], magnitude: 1.3, interleaved: false, inverse: false },
    },
    {
      axes: { H: 3, K: 8 },
      segments: [4],
      attributes: { frequencies: [1, 0.3, 0.1, 0.01], interleaved: true, inverse: false },
    },
    {
      axes: { H: 2, K: 64 },
      segments: [3, 2],
      attributes: { frequencies: ropeFrequencies(64, 10000), interleaved: false, inverse: true },
    },
  ],
};

interface RopeAttributes {
  readonly frequencies: readonly number[];
  readonly magnitude?: number;
  readonly interleaved: boolean;
  readonly inverse: boolean;
}

/** θ^(−2i/n) for the n/2 pairs of n rotated channels; an odd n has its last channel turned against the one after it. */
export function ropeFrequencies(channels: number, theta: number): number[] {
  return Array.from({ length: Math.ceil(channels / 2) }, (_, i) => theta ** ((-2 * i) / channels));
}

/** Turns `x` [tokens, H, K] by its tokens' positions. */
export const rope = (
  x: Tensor,
  frequencies: readonly number[],
  positions: Tensor,
  ends: Tensor,
  { interleaved = false, magnitude = 1 } = {},
): Tensor => apply(ropeOp, { x, positions, ends }, { frequencies, magnitude, interleaved, inverse: false })[0]!;

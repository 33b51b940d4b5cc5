import { UnsupportedError } from '../core/errors.ts';
import type { Case, Op, View } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';
import { clear, forEachSegment } from './conv.ts';

const sizes = { H: 4, G: 2, K: 5, V: 3 };
const cases: Case[] = [
  { axes: { H: 1, G: 1, K: 1, V: 1 }, segments: [1], attributes: { scale: 1, window: 0 } },
  { axes: sizes, segments: [1, 7, 2], attributes: { scale: 0.4, window: 0 } },
  { axes: sizes, segments: [9], attributes: { scale: 0.4, window: 3 } },
  { axes: { H: 2, G: 2, K: 64, V: 64 }, segments: [70, 3], attributes: { scale: 0.125, window: 0 } },
  { axes: { H: 4, G: 2, K: 6, V: 20 }, segments: [90, 2, 17], attributes: { scale: 0.4, window: 0 } },
  { axes: { H: 2, G: 1, K: 6, V: 20 }, segments: [150], attributes: { scale: 0.4, window: 70 } },
  // More queries of a token than a tile, and a page's last token.
  { axes: { H: 15, G: 1, K: 9, V: 33 }, segments: [64, 3, 1], attributes: { scale: 0.4, window: 5 } },
  { axes: { H: 3, G: 3, K: 7, V: 41 }, segments: [65, 11, 1], attributes: { scale: 0.4, window: 0 } },
  // The window of the first of 64 queries that go together begins with a page's last token.
  { axes: { H: 1, G: 1, K: 8, V: 8 }, segments: [150], attributes: { scale: 0.4, window: 66 } },
  { axes: { H: 4, G: 2, K: 4, V: 4 }, segments: [100], attributes: { scale: 0.4, window: 34 } },
].map((one) => ({ ...one, fill: { positions: 'zero' } }));

/** Keys and values in f16: odd widths, pages that end, windows, groups of one query, of a few and of many, sequences of one token and of blocks. */
const halves = (
  [
    { axes: { H: 1, G: 1, K: 1, V: 1 }, segments: [1, 3], attributes: { scale: 1, window: 0 } },
    { axes: { H: 4, G: 2, K: 5, V: 3 }, segments: [1, 7, 2], attributes: { scale: 0.4, window: 0 } },
    { axes: { H: 2, G: 2, K: 64, V: 64 }, segments: [1, 65, 3, 63], attributes: { scale: 0.125, window: 0 } },
    { axes: { H: 6, G: 2, K: 16, V: 40 }, segments: [1, 2, 3, 1], attributes: { scale: 0.4, window: 0 } },
    { axes: { H: 2, G: 1, K: 6, V: 20 }, segments: [150, 1], attributes: { scale: 0.4, window: 70 } },
    { axes: { H: 15, G: 1, K: 9, V: 33 }, segments: [65, 1], attributes: { scale: 0.4, window: 5 } },
    { axes: sizes, segments: [9, 2], attributes: { scale: 0.4, window: 3 }, fill: { v: 'large' } },
  ] satisfies Case[]
).map((one: Case): Case => ({ ...one, stateFormat: 'f16', fill: { ...one.fill, positions: 'zero' } }));

/**
 * Causal attention: y_t = Σ_s softmax_s(scale · q_t·k_s) v_s over the tokens s ≤ t of the sequence, or over its last `window`
 * ones. Vaswani et al. 2017; H query heads share G heads of keys and values (Ainslie et al. 2023). Keys and values of all
 * tokens before are the state, and this segment's are added to it. All are read as the state keeps them: in f16, this segment's too.
 */
export const attentionOp: Op = {
  name: 'attention',
  inputs: { q: 'T H K', k: 'T G K', v: 'T G V', keys: 'B G K', values: 'B G V', positions: 'B', ends: 'B' },
  outputs: { y: 'T H V', nextKeys: 'B G K', nextValues: 'B G V' },
  dtypes: { positions: 'i32', ends: 'i32' },
  state: { keys: 'nextKeys', values: 'nextValues' },
  growing: ['keys', 'values'],
  reference(inputs, outputs, { scale, window }) {
    const { q, k, v, positions, ends } = inputs as Record<string, View>;
    const { y, nextKeys, nextValues } = outputs as Record<string, View>;
    const [, H, K] = q!.shape as [number, number, number];
    const [, G, V] = v!.shape as [number, number, number];
    forEachSegment(ends!, (b, first, last) => {
      const start = positions!.data[positions!.row(b)]!;
      for (let t = first; t < last; t++) {
        const n = start + t - first;
        append(nextKeys!, nextKeys!.row(b) + n * G * K, k!, k!.row(t), G * K);
        append(nextValues!, nextValues!.row(b) + n * G * V, v!, v!.row(t), G * V);
      }
      for (let t = first; t < last; t++) {
        const n = start + t - first;
        const from = window ? Math.max(0, n + 1 - (window as number)) : 0;
        for (let h = 0; h < H; h++) {
          const g = Math.floor((h * G) / H);
          const weights = softmax(n + 1 - from, (s) => {
            let dot = 0;
            const key = nextKeys!.row(b) + ((from + s) * G + g) * K;
            for (let i = 0; i < K; i++) dot += q!.data[q!.row(t) + h * K + i]! * nextKeys!.data[key + i]!;
            return dot * (scale as number);
          });
          for (let i = 0; i < V; i++) {
            let sum = 0;
            for (const [s, weight] of weights.entries()) {
              sum += weight * nextValues!.data[nextValues!.row(b) + ((from + s) * G + g) * V + i]!;
            }
            y!.data[y!.row(t) + h * V + i] = sum;
          }
        }
      }
    });
  },
  grad({ inputs: { q, k, v, positions, ends }, attributes, gradients: { y: dy } }) {
    if (!dy) return {};
    const [dq, dk, dv] = apply(attentionGradOp, { q, k, v, positions, ends, dy }, attributes);
    return { q: dq, k: dk, v: dv };
  },
  cases: [...cases, ...halves],
};

/** Puts `count` numbers of `from` into a state, as the state keeps them. */
function append(state: View, to: number, from: View, start: number, count: number): void {
  const { data, rounded = (value: number) => value } = state;
  for (let i = 0; i < count; i++) data[to + i] = rounded(from.data[start + i]!);
}

/** exp(score(s) − max) / Σ for s < count. */
function softmax(count: number, score: (s: number) => number): Float64Array {
  const weights = Float64Array.from({ length: count }, (_, s) => score(s));
  let max = Number.NEGATIVE_INFINITY;
  for (const weight of weights) max = Math.max(max, weight);
  let sum = 0;
  for (let s = 0; s < count; s++) sum += weights[s] = Math.exp(weights[s]! - max);
  return weights.map((weight) => weight / sum);
}

/** The adjoint of `attention` for segments that begin their sequences: with p the weights, ds = p ⊙ (dp − Σ p dp). */
export const attentionGradOp: Op = {
  name: 'attentionGrad',
  inputs: { q: 'T H K', k: 'T G K', v: 'T G V', positions: 'B', ends: 'B', dy: 'T H V' },
  outputs: { dq: 'T H K', dk: 'T G K', dv: 'T G V' },
  dtypes: { positions: 'i32', ends: 'i32' },
  reference(inputs, outputs, { scale, window }) {
    const { q, k, v, positions, ends, dy } = inputs as Record<string, View>;
    const { dq, dk, dv } = outputs as Record<string, View>;
    const [, H, K] = q!.shape as [number, number, number];
    const [, G, V] = v!.shape as [number, number, number];
    clear(outputs);
    forEachSegment(ends!, (b, first, last) => {
      if (positions!.data[positions!.row(b)] !== 0) {
        throw new UnsupportedError(
          'attention has a derivative only for texts read from their beginning, not for continued ones',
        );
      }
      for (let t = first; t < last; t++) {
        const from = window ? Math.max(first, t + 1 - (window as number)) : first;
        for (let h = 0; h < H; h++) {
          const g = Math.floor((h * G) / H);
          const at = (view: View, s: number, width: number, head: number) => view.row(s) + head * width;
          const dot = (a: View, i: number, c: View, j: number, width: number) => {
            let sum = 0;
            for (let n = 0; n < width; n++) sum += a.data[i + n]! * c.data[j + n]!;
            return sum;
          };
          const [qt, dyt] = [at(q!, t, K, h), at(dy!, t, V, h)];
          const p = softmax(t + 1 - from, (s) => (scale as number) * dot(q!, qt, k!, at(k!, from + s, K, g), K));
          const dp = p.map((_, s) => dot(dy!, dyt, v!, at(v!, from + s, V, g), V));
          const mean = p.reduce((sum, weight, s) => sum + weight * dp[s]!, 0);
          for (const [s, weight] of p.entries()) {
            const ds = (scale as number) * weight * (dp[s]! - mean);
            const ks = at(k!, from + s, K, g);
            for (let i = 0; i < K; i++) {
              dq!.data[at(dq!, t, K, h) + i]! += ds * k!.data[ks + i]!;
              dk!.data[at(dk!, from + s, K, g) + i]! += ds * q!.data[qt + i]!;
            }
            for (let i = 0; i < V; i++) dv!.data[at(dv!, from + s, V, g) + i]! += weight * dy!.data[dyt + i]!;
          }
        }
      }
    });
  },
  cases,
};

/** Operands of `attention`. */
export interface AttentionInputs {
  /** Queries [tokens, H, K]. */
  readonly q: Tensor;
  /** Keys [tokens, G, K] and values [tokens, G, V]; G divides H. */
  readonly k: Tensor;
  readonly v: Tensor;
  /** What the scores are multiplied by; 1/√K where nothing else is said. */
  readonly scale: number;
  /** How many tokens back a token sees, itself included; 0 for all. */
  readonly window: number;
  /** States that grow, one row [G, K] and [G, V] per token. */
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly positions: Tensor;
  readonly ends: Tensor;
}

/** Returns y [tokens, H, V] and the two states with this segment's rows added. */
export function attention({ scale, window, ...inputs }: AttentionInputs): [Tensor, Tensor, Tensor] {
  const [y, keys, values] = apply(attentionOp, { ...inputs }, { scale, window });
  return [y!, keys!, values!];
}

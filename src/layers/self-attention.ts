import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { attention } from '../ops/attention.ts';
import { rope } from '../ops/rope.ts';
import { reshape } from '../ops/views.ts';

export interface SelfAttentionOptions {
  /** Angles per token of the rotary embedding; none without it. */
  readonly frequencies?: readonly number[];
  /** What it multiplies the channels by that it turns; 1 by default. */
  readonly magnitude?: number;
  /** How many tokens back a token sees; 0 for all. */
  readonly window?: number;
}

/**
 * Causal attention of q [T, H, K] over k, v [T, G, K] and all before, with rotary embedding; [T, H, K] → [T, H·K]. The keys
 * (after rotation) and values are the states `k` and `v`, which grow with the text.
 */
export function selfAttention(
  p: Scope,
  { q, k, v }: { readonly q: Tensor; readonly k: Tensor; readonly v: Tensor },
  { positions, ends }: StepInputs,
  { frequencies = [], magnitude = 1, window = 0 }: SelfAttentionOptions = {},
): Tensor {
  const [, H, K] = q.shape as [unknown, number, number];
  const [, G, V] = v.shape as [unknown, number, number];
  const rotate = (x: Tensor) => (frequencies.length > 0 ? rope(x, frequencies, positions, ends, { magnitude }) : x);
  const growing = { growing: true, window };
  const y = p.carry(
    'k',
    [G, K],
    (keys) =>
      p.carry(
        'v',
        [G, V],
        (values) => {
          const inputs = { q: rotate(q), k: rotate(k), v, keys, values, positions, ends };
          const [y, nextKeys, nextValues] = attention({ ...inputs, scale: K ** -0.5, window });
          return [[y, nextKeys] as const, nextValues] as const;
        },
        growing,
      ),
    growing,
  );
  return reshape(y, ['tokens', H * V]);
}

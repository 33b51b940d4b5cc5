import type { Case, Op } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';
import { forEachSegment } from './conv.ts';

/** Names of the mixtures, in order. */
const names = ['a', 'b', 'c', 'd', 'e', 'f'] as const;
const named = (prefix: string, pattern: string, suffix = '') =>
  Object.fromEntries(names.map((name) => [`${prefix}${name}${suffix}`, pattern]));

const mixed = (count: number, prefix = '') =>
  Object.fromEntries(names.slice(0, count).map((name) => [`${prefix}${name}`, true]));
const cases: readonly (Case & { readonly count: number })[] = [
  { count: 1, axes: { C: 1 }, segments: [1] },
  { count: 2, axes: { C: 63 }, segments: [1, 4, 2] },
  { count: 6, axes: { C: 70 }, segments: [3, 1, 9] },
  { count: 3, axes: { C: 256 }, segments: [5] },
  // More tokens than one block of those whose sums kernels make apart; a segment ends with one, and goes on in another.
  { count: 2, axes: { C: 9 }, segments: [5, 27, 40, 3] },
];

/**
 * Token shift with mixtures: y_i = x_t + (x_{t−1} − x_t) ⊙ μ_i for each of up to six vectors μ_a, μ_b, …; before the first token of a segment
 * is the segment's state, which becomes its last x. Peng et al. 2023, arXiv 2305.13048, §3.
 */
export const shiftMixOp: Op = {
  name: 'shiftMix',
  inputs: { x: 'T C', state: 'B C', ends: 'B', ...named('μ', 'C', '?') },
  outputs: { next: 'B C', ...named('y', 'T C') },
  dtypes: { ends: 'i32' },
  state: { state: 'next' },
  infer: ({ x, state, ends, ...weights }) => [state!.shape, ...Object.values(weights).map(() => x!.shape)],
  reference({ x, state, ends, ...weights }, { next, ...mixtures }) {
    const C = x!.shape[1]!;
    const pairs = names.flatMap((name) => (weights[`μ${name}`] ? [[weights[`μ${name}`]!, mixtures[`y${name}`]!]] : []));
    forEachSegment(ends!, (b, first, last) => {
      for (let i = 0; i < C; i++) {
        let before = state!.data[state!.row(b) + i]!;
        for (let t = first; t < last; t++) {
          const now = x!.data[x!.row(t) + i]!;
          for (const [μ, y] of pairs) y!.data[y!.row(t) + i] = now + (before - now) * μ!.data[μ!.row(i)]!;
          before = now;
        }
        next!.data[next!.row(b) + i] = before;
      }
    });
  },
  grad({ inputs, gradients }) {
    const arriving = Object.fromEntries(names.map((name) => [`d${name}`, gradients[`y${name}`]]));
    const [dx, dstate, ...found] = apply(shiftMixGradOp, { ...inputs, dnext: gradients['next'], ...arriving });
    return { x: dx, state: dstate, ...Object.fromEntries(found.map((one, i) => [`μ${names[i]}`, one])) };
  },
  cases: cases.map(({ count, ...one }) => ({ ...one, optional: mixed(count, 'μ') })),
};

/**
 * The adjoint of `shiftMix`: with d_i the gradient of y_i and m_t = Σ_i d_i,t ⊙ μ_i, dx_t = Σ_i d_i,t − m_t + m_{t+1}, where the last of a segment
 * gets dnext for m_{t+1} and dstate is the first m; dμ_i = Σ_t d_i,t ⊙ (x_{t−1} − x_t).
 */
export const shiftMixGradOp: Op = {
  name: 'shiftMixGrad',
  inputs: {
    x: 'T C',
    state: 'B C',
    ends: 'B',
    ...named('μ', 'C', '?'),
    'dnext?': 'B C',
    ...named('d', 'T C', '?'),
  },
  outputs: { dx: 'T C', dstate: 'B C', ...named('dμ', 'C') },
  dtypes: { ends: 'i32' },
  state: { state: null },
  infer: ({ x, state, ...inputs }) => [
    x!.shape,
    state!.shape,
    ...names.flatMap((name) => (inputs[`μ${name}`] ? [inputs[`μ${name}`]!.shape] : [])),
  ],
  reference({ x, state, ends, dnext, ...inputs }, { dx, dstate, ...found }) {
    const C = x!.shape[1]!;
    const present = names.filter((name) => inputs[`μ${name}`]);
    for (const name of present)
      found[`dμ${name}`]!.data.fill(0, found[`dμ${name}`]!.row(0), found[`dμ${name}`]!.row(0) + C);
    forEachSegment(ends!, (b, first, last) => {
      for (let i = 0; i < C; i++) {
        let after = dnext ? dnext.data[dnext.row(b) + i]! : 0;
        for (let t = last - 1; t >= first; t--) {
          const before = t === first ? state!.data[state!.row(b) + i]! : x!.data[x!.row(t - 1) + i]!;
          let [sum, shifted] = [0, 0];
          for (const name of present) {
            const [μ, d, dμ] = [inputs[`μ${name}`]!, inputs[`d${name}`], found[`dμ${name}`]!];
            const arriving = d ? d.data[d.row(t) + i]! : 0;
            sum += arriving;
            shifted += arriving * μ.data[μ.row(i)]!;
            dμ.data[dμ.row(i)]! += arriving * (before - x!.data[x!.row(t) + i]!);
          }
          dx!.data[dx!.row(t) + i] = sum - shifted + after;
          after = shifted;
        }
        dstate!.data[dstate!.row(b) + i] = after;
      }
    });
  },
  cases: [
    ...cases.map(({ count, ...one }) => ({
      ...one,
      optional: { ...mixed(count, 'μ'), ...mixed(count, 'd'), dnext: true },
    })),
    // The loss depends on the second mixture alone, and not on the state.
    { axes: { C: 5 }, segments: [2, 3], optional: { μa: true, μb: true, db: true } },
  ],
};

/** Mixtures of each token of `x` [tokens, C] with the one before it, by `weights` [C] each, continued from `state` [segments, C]; and the next state. */
export function shiftMix(x: Tensor, state: Tensor, ends: Tensor, weights: readonly Tensor[]): [Tensor[], Tensor] {
  const inputs = Object.fromEntries(weights.map((μ, i) => [`μ${names[i]}`, μ]));
  const [next, ...mixtures] = apply(shiftMixOp, { x, state, ends, ...inputs });
  return [mixtures, next!];
}

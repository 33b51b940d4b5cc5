import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { gatedChannelMix, headNorm, mixWeights, normed, previousToken, project } from '../layers/rwkv.ts';
import { embed } from '../ops/embed.ts';
import { add, expr } from '../ops/expr.ts';
import { linear, linearTransposed } from '../ops/linear.ts';
import { recurrence } from '../ops/recurrence.ts';
import { reshape, slice, split } from '../ops/views.ts';
import type { Architecture, StoredParameter } from './architecture.ts';
import { hasTensors } from './fla-config.ts';
import { authorsName } from './rwkv-names.ts';
import { type RwkvSizes, rwkvSizes, shapeOf } from './rwkv-shapes.ts';

/**
 * RWKV-6 "Finch": RWKV-5 whose mixing and decay depend on the input through low-rank maps. Peng et al. 2024,
 * arXiv 2404.05892, §4.2.
 *
 * T tokens · D width · H heads of N channels · F inner width of the channel mixing · R rank of the mixing's map, Rd of the
 * decay's · V vocabulary
 */
export interface Rwkv6Config extends RwkvSizes {
  readonly H: number;
  readonly N: number;
  readonly R: number;
  readonly Rd: number;
  /** rwkv.cpp's files hold the low-rank matrices transposed. */
  readonly transposed: boolean;
}

function body(p: Scope, c: Rwkv6Config, { tokens, ends }: StepInputs): Tensor {
  let x = embed(tokens, p('emb.weight', [c.V, c.D], { kind: 'uniform', low: -1e-4, high: 1e-4 })); // [T, D]
  for (let layer = 0; layer < c.layers; layer++) {
    x = p.in(`blocks.${layer}`, (p) => {
      const h = layer === 0 ? normed(p, 'ln0', x) : x;
      const y = normed(p, 'ln1', h);
      const mixed = add(
        h,
        p.in('att', (p) => timeMix(p, c, y, ends)),
      );
      const z = normed(p, 'ln2', mixed);
      return add(
        mixed,
        p.in('ffn', (p) => channelMix(p, c, z, ends)),
      );
    });
  }
  return normed(p, 'ln_out', x);
}

function timeMix(p: Scope, { D, H, N, R, Rd }: Rwkv6Config, x: Tensor, ends: Tensor): Tensor {
  const before = previousToken(p, 'att_shift', x, ends);
  const small = { kind: 'uniform', low: -0.01, high: 0.01 } as const;
  const base = expr`${x} + (${before} - ${x}) * ${mixWeights(p, 'time_maa_x', D)}`;
  const low = split(expr`tanh(${linearTransposed(base, p('time_maa_w1', [D, 5 * R]))})`, [R, R, R, R, R]);
  const up = p('time_maa_w2', [5, R, D], small);
  // Each of w, k, v, r, g mixes the two tokens by weights of its own, in this order.
  const [xw, xk, xv, xr, xg] = ['w', 'k', 'v', 'r', 'g'].map((letter, i) => {
    const m = linearTransposed(low[i]!, reshape(slice(up, 0, i, 1), [R, D]));
    return expr`${x} + (${before} - ${x}) * (${mixWeights(p, `time_maa_${letter}`, D)} + ${m})`;
  }) as [Tensor, Tensor, Tensor, Tensor, Tensor];
  const heads = (y: Tensor) => reshape(y, ['tokens', H, N]);
  const [r, k, v] = [project(p, 'receptance', xr, D), project(p, 'key', xk, D), project(p, 'value', xv, D)].map(
    heads,
  ) as [Tensor, Tensor, Tensor];
  const gate = project(p, 'gate', xg, D);
  const decay = reshape(
    p('time_decay', [1, 1, D], { kind: 'formula', value: ([, , i]) => -6 + 5 * (i! / Math.max(1, D - 1)) ** 1.3 }),
    [D],
  );
  const lowDecay = expr`tanh(${linearTransposed(xw, p('time_decay_w1', [D, Rd]))})`;
  const w = expr`${decay} + ${linearTransposed(lowDecay, p('time_decay_w2', [Rd, D], small))}`;
  const u = p('time_faaaa', [H, N], {
    kind: 'formula',
    value: ([h, n]) => 0.5 * (1 - (h! * N + n!) / Math.max(1, D - 1)),
  });

  // y_t = (S_{t−1} + v_t (u ⊙ k_t)ᵀ) r_t, then S_t = S_{t−1} diag(w_t) + v_t k_tᵀ, with log w_t = −e^w.
  const y = p.carry('wkv', [H, N, N], (state) => recurrence({ r, k, v, g: heads(expr`-exp(${w})`), u, state, ends }));
  return project(p, 'output', expr`${headNorm(p, 'ln_x', y, 64e-5)} * silu(${gate})`, D);
}

function channelMix(p: Scope, { D, F }: Rwkv6Config, x: Tensor, ends: Tensor): Tensor {
  const before = previousToken(p, 'ffn_shift', x, ends);
  const mix = (letter: string) => expr`${x} + (${before} - ${x}) * ${mixWeights(p, `time_maa_${letter}`, D)}`;
  return gatedChannelMix(p, mix('k'), mix('r'), F);
}

export const rwkv6: Architecture<Rwkv6Config> = {
  type: 'rwkv6',
  title: 'RWKV-6 (Peng et al. 2024)',
  detect: (tensors) => hasTensors(tensors, ['att.time_maa_w1']) || hasTensors(tensors, ['attention.time_maa_w1']),
  config(json, tensors) {
    const faaaa = shapeOf(tensors, /0\.att(?:ention)?\.time_faaaa$/);
    const sizes = rwkvSizes(tensors);
    const H = faaaa[0]!;
    const transposed = json['format'] === 'rwkv.cpp';
    const rank = transposed ? 0 : 1;
    return {
      ...sizes,
      H,
      N: sizes.D / H,
      R: shapeOf(tensors, /0\.att(?:ention)?\.time_maa_w1$/)[rank]! / 5,
      Rd: shapeOf(tensors, /0\.att(?:ention)?\.time_decay_w1$/)[rank]!,
      transposed,
    };
  },
  vocabulary: ({ V }) => V,
  body,
  head: (p, c, hidden) => linear(hidden, p('head.weight', [c.V, c.D], { kind: 'normal', std: 0.02 })),
  rename(stored, { transposed }): string | StoredParameter {
    const name = authorsName(stored);
    if (!transposed) return name;
    if (/_w[12]$/.test(name)) return { name, convert: transposeLast };
    return /time_(maa|decay|faaaa)/.test(name) ? { name, convert: (x) => x } : name;
  },
};

/** Swaps the last two axes. */
function transposeLast(values: Float32Array, shape: readonly number[]): Float32Array {
  const [rows, columns] = shape.slice(-2) as [number, number];
  const size = rows * columns;
  return Float32Array.from(
    values,
    (_, n) => values[Math.floor(n / size) * size + ((n % size) % rows) * columns + Math.floor((n % size) / rows)]!,
  );
}

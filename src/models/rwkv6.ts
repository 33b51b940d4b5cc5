import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { gatedChannelMix, headNorm, mixtures, mixWeights, normed, previousToken, project } from '../layers/rwkv.ts';
import { embed } from '../ops/embed.ts';
import { add, expr } from '../ops/expr.ts';
import { linear, linearTransposed } from '../ops/linear.ts';
import { recurrence } from '../ops/recurrence.ts';
import { reshape, slice, split } from '../ops/views.ts';
import type { Architecture } from './architecture.ts';
import { ConfigReader } from './config.ts';
import { hasTensors } from './fla-config.ts';
import { type RwkvSizes, rwkvSizes, shapeOf } from './rwkv-shapes.ts';
import { type Rwkv6Dialect, rwkv6Names } from './rwkv6-names.ts';

/**
 * RWKV-6 "Finch": RWKV-5 whose mixing and decay depend on the input through low-rank maps. Peng et al. 2024,
 * arXiv 2404.05892, §4.2.
 *
 * T tokens · D width · H heads of K key and N value channels, which are one number in all but fla's models · F inner width of
 * the channel mixing · R rank of the mixing's map, Rd of the decay's · V vocabulary
 */
export interface Rwkv6Config extends RwkvSizes {
  readonly H: number;
  readonly K: number;
  readonly N: number;
  readonly R: number;
  readonly Rd: number;
  readonly epsilon: number;
  /** ε of the norm of each head's output. */
  readonly headEpsilon: number;
  readonly tied: boolean;
  readonly dialect: Rwkv6Dialect;
}

function body(p: Scope, c: Rwkv6Config, { tokens, ends }: StepInputs): Tensor {
  let x = embed(tokens, p('emb.weight', [c.V, c.D], { kind: 'uniform', low: -1e-4, high: 1e-4 })); // [T, D]
  for (let layer = 0; layer < c.layers; layer++) {
    x = p.in(`blocks.${layer}`, (p) => {
      const h = layer === 0 ? normed(p, 'ln0', x, c.epsilon) : x;
      const y = normed(p, 'ln1', h, c.epsilon);
      const mixed = add(
        h,
        p.in('att', (p) => timeMix(p, c, y, ends)),
      );
      const z = normed(p, 'ln2', mixed, c.epsilon);
      return add(
        mixed,
        p.in('ffn', (p) => channelMix(p, c, z, ends)),
      );
    });
  }
  return normed(p, 'ln_out', x, c.epsilon);
}

function timeMix(p: Scope, { D, H, K, N, R, Rd, ...c }: Rwkv6Config, x: Tensor, ends: Tensor): Tensor {
  const before = previousToken(p, 'att_shift', x, ends);
  const small = { kind: 'uniform', low: -0.01, high: 0.01 } as const;
  const base = expr`${x} + (${before} - ${x}) * ${mixWeights(p, 'time_maa_x', D)}`;
  const low = split(expr`tanh(${linearTransposed(base, p('time_maa_w1', [D, 5 * R]))})`, [R, R, R, R, R]);
  const up = p('time_maa_w2', [5, R, D], small);
  const stacked = c.dialect === 'fla' ? p('time_maa', [5, D]) : undefined;
  // Each of w, k, v, r, g mixes the two tokens by weights of its own, in this order.
  const [xw, xk, xv, xr, xg] = ['w', 'k', 'v', 'r', 'g'].map((letter, i) => {
    const m = linearTransposed(low[i]!, reshape(slice(up, 0, i, 1), [R, D]));
    const μ = stacked ? reshape(slice(stacked, 0, i, 1), [D]) : mixWeights(p, `time_maa_${letter}`, D);
    return expr`${x} + (${before} - ${x}) * (${μ} + ${m})`;
  }) as [Tensor, Tensor, Tensor, Tensor, Tensor];
  const A = H * K;
  const heads = (y: Tensor) => reshape(y, ['tokens', H, K]);
  const [r, k] = [heads(project(p, 'receptance', xr, A)), heads(project(p, 'key', xk, A))];
  const v = reshape(project(p, 'value', xv, H * N), ['tokens', H, N]);
  const gate = project(p, 'gate', xg, H * N);
  const decay = reshape(
    p('time_decay', [1, 1, A], { kind: 'formula', value: ([, , i]) => -6 + 5 * (i! / Math.max(1, A - 1)) ** 1.3 }),
    [A],
  );
  const lowDecay = expr`tanh(${linearTransposed(xw, p('time_decay_w1', [D, Rd]))})`;
  const w = expr`${decay} + ${linearTransposed(lowDecay, p('time_decay_w2', [Rd, A], small))}`;
  const u = p('time_faaaa', [H, K], {
    kind: 'formula',
    value: ([h, n]) => 0.5 * (1 - (h! * K + n!) / Math.max(1, A - 1)),
  });

  // y_t = (S_{t−1} + v_t (u ⊙ k_t)ᵀ) r_t, then S_t = S_{t−1} diag(w_t) + v_t k_tᵀ, with log w_t = −e^w.
  const y = p.carry('wkv', [H, N, K], (state) => recurrence({ r, k, v, g: heads(expr`-exp(${w})`), u, state, ends }));
  return project(
    p,
    'output',
    expr`${reshape(headNorm(p, 'ln_x', y, c.headEpsilon), ['tokens', H * N])} * silu(${gate})`,
    D,
  );
}

function channelMix(p: Scope, { D, F }: Rwkv6Config, x: Tensor, ends: Tensor): Tensor {
  const weights = [mixWeights(p, 'time_maa_k', D), mixWeights(p, 'time_maa_r', D)] as const;
  const [k, r] = mixtures(p, 'ffn_shift', x, ends, weights);
  return gatedChannelMix(p, k, r, F);
}

export const rwkv6: Architecture<Rwkv6Config> = {
  type: 'rwkv6',
  title: 'RWKV-6 (Peng et al. 2024)',
  detect: (tensors) =>
    hasTensors(tensors, ['att.time_maa_w1']) ||
    hasTensors(tensors, ['attention.time_maa_w1']) ||
    hasTensors(tensors, ['.attn.x_proj.2.weight']),
  config(json, tensors) {
    const c = new ConfigReader(json, tensors);
    const isFla = hasTensors(tensors, ['.attn.x_proj.2.weight']);
    const dialect = json['format'] === 'rwkv.cpp' ? 'rwkv.cpp' : isFla ? 'fla' : 'blinkdl';
    const [H, K] = shapeOf(tensors, /0\.(att(?:ention)?\.time_faaaa|attn\.bonus)$/) as [number, number];
    const sizes = rwkvSizes(tensors);
    if (isFla) {
      c.only('attn', [null], 'layers of full attention in between are not built');
      c.only('norm_first', [true], 'the embeddings are normalised');
      c.only('norm_bias', [true], 'norms have biases');
      c.only('hidden_act', ['sqrelu'], 'the channel mixing squares a ReLU');
    }
    const rank = (dialect === 'blinkdl' ? 1 : 0) as number;
    const epsilon = isFla ? c.positive('norm_eps', 1e-5) : 1e-5;
    return {
      ...sizes,
      H,
      // Files of rwkv.cpp hold the bonus with an axis more.
      K: isFla ? K : sizes.D / H,
      N: (isFla ? shapeOf(tensors, /0\.attn\.v_proj\.(linear\.)?weight$/)[0]! : sizes.D) / H,
      R: shapeOf(tensors, /0\.(att(?:ention)?\.time_maa_w1|attn\.x_proj\.0\.(linear\.)?weight)$/)[rank]! / 5,
      Rd: shapeOf(tensors, /0\.(att(?:ention)?\.time_decay_w1|attn\.w_proj\.(linear\.)?lora\.0\.weight)$/)[rank]!,
      epsilon,
      headEpsilon: isFla ? epsilon : 64e-5,
      tied: isFla && c.tied('tie_word_embeddings', false),
      dialect,
    };
  },
  vocabulary: ({ V }) => V,
  body,
  head: (p, c, hidden) =>
    linear(hidden, p(c.tied ? 'emb.weight' : 'head.weight', [c.V, c.D], { kind: 'normal', std: 0.02 })),
  rename: (name, { dialect }) => rwkv6Names(name, dialect),
};

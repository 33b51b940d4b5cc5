import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { type FlaConfig, flaBody, flaHead } from '../layers/fla.ts';
import { l2Norm } from '../layers/l2-norm.ts';
import { shortConv } from '../layers/short-conv.ts';
import { stepBias } from '../layers/step-bias.ts';
import { expr } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';
import { rmsNorm } from '../ops/norm.ts';
import { recurrence } from '../ops/recurrence.ts';
import { repeat, reshape } from '../ops/views.ts';
import type { Architecture } from './architecture.ts';
import { hasTensors, readFlaConfig } from './fla-config.ts';

/**
 * Gated DeltaNet: the delta rule, which replaces what a key held instead of adding to it, on a state that fades. Yang, Kautz &
 * Hatamizadeh 2024, arXiv 2412.06464, equation 10.
 *
 * T tokens · D width · H value heads, G key heads · K, V key and value channels of a head · β strength of the replacement
 */
export interface GatedDeltaNetConfig extends FlaConfig {
  readonly H: number;
  readonly G: number;
  readonly K: number;
  readonly Vh: number;
  readonly taps: number;
  /** Largest β: 2 lets the state's eigenvalues be negative (Grazzi et al. 2024). */
  readonly strength: number;
  /** Whether the output is gated. */
  readonly gated: boolean;
}

const normal = { kind: 'normal', std: 0.02 } as const;

function mixer(
  p: Scope,
  { D, H, G, K, Vh, taps, strength, gated, epsilon }: GatedDeltaNetConfig,
  x: Tensor,
  { ends }: StepInputs,
): Tensor {
  const project = (name: string, heads: number, size: number) => {
    const projected = linear(x, p(`${name}_proj.weight`, [heads * size, D], normal));
    return reshape(shortConv(p, name, projected, taps, ends), ['tokens', heads, size]);
  };
  const q = repeat(l2Norm(project('q', G, K), 1e-6), H / G);
  const k = repeat(l2Norm(project('k', G, K), 1e-6), H / G);
  const v = project('v', H, Vh);
  const perHead = (y: Tensor) => reshape(y, ['tokens', H, 1]);
  const β = perHead(expr`${strength} * sigmoid(${linear(x, p('b_proj.weight', [H, D], normal))})`);
  const A = p('A_log', [H], { kind: 'formula', value: (_, u) => Math.log(Math.max(1e-3, 16 * u)) });
  const step = linear(x, p('a_proj.weight', [H, D], normal));
  const g = perHead(expr`-exp(${A}) * softplus(${step} + ${p('dt_bias', [H], stepBias)})`);

  // S_t = e^g (S_{t−1} − β (S_{t−1} k) kᵀ) + β v kᵀ: remove what k held, then write v there.
  const o = p.carry('S', [H, Vh, K], (state) =>
    recurrence({
      r: expr`${q} * ${K ** -0.5}`,
      k: expr`${β} * ${k}`,
      v,
      g,
      a: k,
      b: expr`-${β} * exp(${g}) * ${k}`,
      state,
      ends,
    }),
  );
  const normed = rmsNorm(o, p('o_norm.weight', [Vh], { kind: 'ones' }), epsilon);
  const gate = () => reshape(linear(x, p('g_proj.weight', [H * Vh, D], normal)), ['tokens', H, Vh]);
  const y = gated ? expr`${normed} * silu(${gate()})` : normed;
  return linear(reshape(y, ['tokens', H * Vh]), p('o_proj.weight', [D, H * Vh], normal));
}

export const gatedDeltaNet: Architecture<GatedDeltaNetConfig> = {
  type: 'gated_deltanet',
  title: 'Gated DeltaNet (Yang, Kautz & Hatamizadeh 2024)',
  detect: (tensors) => hasTensors(tensors, ['.attn.b_proj.weight', '.attn.a_proj.weight']),
  config(json, tensors) {
    const { reader: c, common } = readFlaConfig(json, tensors);
    c.only('use_short_conv', [true], 'q, k and v are convolved');
    const [keys, width] = [c.axis('attn.k_proj.weight', 0), c.axis('attn.o_norm.weight', 0)];
    const channels = c.has('head_dim')
      ? c.integer('head_dim')
      : c.has('expand_v') && width
        ? width / c.number('expand_v')
        : 0;
    // Of the number of key heads and their width, the tensors tell the product alone.
    const G = c.integer('num_heads', keys === undefined ? 6 : channels > 0 ? keys / channels : undefined);
    const K = c.integer('head_dim', keys === undefined ? 256 : keys / G);
    return {
      ...common,
      H: c.integer('num_v_heads', c.axis('attn.A_log', 0) ?? G),
      G,
      K,
      Vh: c.has('expand_v') || width === undefined ? Math.floor(K * c.number('expand_v', 2)) : width,
      taps: c.integer('conv_size', c.axis('q_conv1d.weight', 2) ?? 4),
      strength: c.boolean('allow_neg_eigval', false) ? 2 : 1,
      gated: c.boolean('use_gate', true),
    };
  },
  vocabulary: ({ V }) => V,
  body: flaBody(mixer),
  head: flaHead,
};

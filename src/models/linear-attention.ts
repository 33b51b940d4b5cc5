import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { type FlaConfig, flaBody, flaHead } from '../layers/fla.ts';
import { expr } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';
import { rmsNorm } from '../ops/norm.ts';
import { recurrence } from '../ops/recurrence.ts';
import { reshape } from '../ops/views.ts';
import type { Architecture } from './architecture.ts';
import { flaHeads, hasTensors, readFlaConfig } from './fla-config.ts';

/**
 * Linear attention: the softmax of attention replaced by a feature map φ, so that it becomes a recurrence. Katharopoulos et
 * al. 2020, arXiv 2006.16236; with the learned map φ(x) = (W₁x + b₁) ⊙ (W₂x + b₂) and a norm in place of the normaliser,
 * as in flash-linear-attention.
 *
 * T tokens · D width · H heads · K, V key and value channels of a head
 */
export interface LinearAttentionConfig extends FlaConfig {
  readonly H: number;
  readonly K: number;
  readonly Vh: number;
}

const normal = { kind: 'normal', std: 0.02 } as const;

function mixer(p: Scope, { D, H, K, Vh, epsilon }: LinearAttentionConfig, x: Tensor, { ends }: StepInputs): Tensor {
  const heads = (y: Tensor, size: number) => reshape(y, ['tokens', H, size]);
  const φ = (y: Tensor, name: string) => {
    const layer = (n: number) =>
      linear(y, p(`${name}.layer${n}.weight`, [K, K], normal), p(`${name}.layer${n}.bias`, [K]));
    return expr`${layer(1)} * ${layer(2)}`;
  };
  const q = φ(heads(linear(x, p('q_proj.weight', [H * K, D], normal)), K), 'feature_map_q');
  const k = φ(heads(linear(x, p('k_proj.weight', [H * K, D], normal)), K), 'feature_map_k');
  const v = heads(linear(x, p('v_proj.weight', [H * Vh, D], normal)), Vh);

  // S_t = S_{t−1} + v_t φ(k_t)ᵀ, o_t = S_t φ(q_t) / √K: nothing fades.
  const o = p.carry('S', [H, Vh, K], (state) => recurrence({ r: expr`${q} * ${K ** -0.5}`, k, v, state, ends }));
  const scaled = rmsNorm(o, p('norm.weight', [Vh], { kind: 'ones' }), epsilon);
  return linear(reshape(scaled, ['tokens', H * Vh]), p('o_proj.weight', [D, H * Vh], normal));
}

export const linearAttention: Architecture<LinearAttentionConfig> = {
  type: 'linear_attn',
  title: 'Linear attention (Katharopoulos et al. 2020)',
  detect: (tensors) => hasTensors(tensors, ['.attn.feature_map_q.layer1.weight']),
  config(json, tensors) {
    const { reader: c, common } = readFlaConfig(json, tensors);
    c.only('feature_map', ['elementwise_product'], 'the feature map is the learned product');
    c.only('tie_feature_map_qk', [false], 'queries and keys have maps of their own');
    for (const option of ['norm_q', 'norm_k', 'norm_feature_map'])
      c.only(option, [false], 'features are not normalised');
    const heads = flaHeads(c, common.D, 'norm.weight', { H: 4, k: 1, v: 1 });
    c.only('num_kv_heads', [null, heads.H], 'every head has keys of its own');
    return { ...common, ...heads };
  },
  vocabulary: ({ V }) => V,
  body: flaBody(mixer),
  head: flaHead,
};

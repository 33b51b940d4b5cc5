import { ConfigError } from '../core/errors.ts';
import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import { constant, type Scope } from '../core/trace.ts';
import { type FlaConfig, flaBody, flaHead } from '../layers/fla.ts';
import { expr } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';
import { rmsNorm } from '../ops/norm.ts';
import { recurrence } from '../ops/recurrence.ts';
import { rope, ropeFrequencies } from '../ops/rope.ts';
import { reshape } from '../ops/views.ts';
import type { Architecture } from './architecture.ts';
import { flaHeads, gatedNorm, hasTensors, readFlaConfig } from './fla-config.ts';

/**
 * RetNet: linear attention on rotated queries and keys, each head fading at its own fixed rate γ. Sun et al. 2023,
 * arXiv 2307.08621, §2.
 *
 * T tokens · D width · H heads · K, V key and value channels of a head
 */
export interface RetNetConfig extends FlaConfig {
  readonly H: number;
  readonly K: number;
  readonly Vh: number;
  /** Name of the output norm's weight, which says how the checkpoint's library fused it. */
  readonly norm: string;
}

const normal = { kind: 'normal', std: 0.02 } as const;

function mixer(
  p: Scope,
  { D, H, K, Vh, epsilon, norm }: RetNetConfig,
  x: Tensor,
  { positions, ends }: StepInputs,
): Tensor {
  const heads = (y: Tensor, size: number) => reshape(y, ['tokens', H, size]);
  const rotate = (y: Tensor) => rope(y, ropeFrequencies(K, 10000), positions, ends);
  const q = rotate(heads(linear(x, p('q_proj.weight', [H * K, D], normal)), K));
  const k = rotate(heads(linear(x, p('k_proj.weight', [H * K, D], normal)), K));
  const v = heads(linear(x, p('v_proj.weight', [H * Vh, D], normal)), Vh);
  const g = constant(
    Array.from({ length: H }, (_, h) => Math.log(1 - 2 ** (-5 - h))),
    [H, 1],
  );

  // S_t = γ S_{t−1} + v_t k_tᵀ, γ_h = 1 − 2^(−5−h), o_t = S_t q_t / √K.
  const o = p.carry('S', [H, Vh, K], (state) => recurrence({ r: expr`${q} * ${K ** -0.5}`, k, v, g, state, ends }));
  const z = heads(linear(x, p('g_proj.weight', [H * Vh, D], normal)), Vh);
  const gated = expr`${rmsNorm(o, p(norm, [Vh], { kind: 'ones' }), epsilon)} * silu(${z})`;
  return linear(reshape(gated, ['tokens', H * Vh]), p('o_proj.weight', [D, H * Vh], normal));
}

export const retnet: Architecture<RetNetConfig> = {
  type: 'retnet',
  title: 'RetNet (Sun et al. 2023)',
  // Its tensors are named as those of others of its family: what they have besides tells them apart.
  detect: (tensors) =>
    hasTensors(
      tensors,
      ['.attn.g_proj.weight', '.attn.q_proj.weight'],
      ['.b_proj.weight', '.gk_proj.0.weight', '.feature_map_q.layer1.weight'],
    ),
  config(json, tensors) {
    const { reader: c, common } = readFlaConfig(json, tensors, 2);
    c.only('use_short_conv', [false], 'short convolutions are not built');
    c.only('use_output_gate', [true], 'the output is gated');
    c.only('feature_map', [null], 'queries and keys are used as they are');
    const norm = gatedNorm(tensors);
    const heads = flaHeads(c, common.D, norm, { H: 8, k: 1, v: 2 });
    if (heads.K % 2 === 1) throw new ConfigError(`config: heads of ${heads.K} channels can not be turned in pairs`);
    c.only('num_kv_heads', [null, heads.H], 'every head has keys of its own');
    return {
      ...common,
      ...heads,
      norm,
    };
  },
  vocabulary: ({ V }) => V,
  body: flaBody(mixer),
  head: flaHead,
};

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
import { flaHeads, gatedNorm, hasTensors, readFlaConfig } from './fla-config.ts';

/**
 * Gated linear attention: linear attention in which every key channel fades at a rate that the input sets. Yang et al. 2023,
 * arXiv 2312.06635, §4.
 *
 * T tokens · D width · H heads · K, V key and value channels of a head · R rank of the gate
 */
export interface GlaConfig extends FlaConfig {
  readonly H: number;
  readonly K: number;
  readonly Vh: number;
  readonly R: number;
  /** Name of the output norm's weight, which says how the checkpoint's library fused it. */
  readonly norm: string;
}

const normal = { kind: 'normal', std: 0.02 } as const;

function mixer(p: Scope, { D, H, K, Vh, R, epsilon, norm }: GlaConfig, x: Tensor, { ends }: StepInputs): Tensor {
  const heads = (y: Tensor, size: number) => reshape(y, ['tokens', H, size]);
  const q = heads(linear(x, p('q_proj.weight', [H * K, D], normal)), K);
  const k = heads(linear(x, p('k_proj.weight', [H * K, D], normal)), K);
  const v = heads(linear(x, p('v_proj.weight', [H * Vh, D], normal)), Vh);
  const low = linear(x, p('gk_proj.0.weight', [R, D], normal));
  const gate = linear(low, p('gk_proj.1.weight', [H * K, R], normal), p('gk_proj.1.bias', [H * K]));

  // S_t = S_{t−1} diag(α_t) + v_t k_tᵀ, log α = log σ(gate) / 16, o_t = S_t q_t / √K.
  const o = p.carry('S', [H, Vh, K], (state) =>
    recurrence({ r: expr`${q} * ${K ** -0.5}`, k, v, g: heads(expr`logsigmoid(${gate}) / 16`, K), state, ends }),
  );
  const z = heads(linear(x, p('g_proj.weight', [H * Vh, D], normal)), Vh);
  const gated = expr`${rmsNorm(o, p(norm, [Vh], { kind: 'ones' }), epsilon)} * silu(${z})`;
  return linear(reshape(gated, ['tokens', H * Vh]), p('o_proj.weight', [D, H * Vh], normal));
}

export const gla: Architecture<GlaConfig> = {
  type: 'gla',
  title: 'Gated linear attention (Yang et al. 2023)',
  detect: (tensors) => hasTensors(tensors, ['.attn.gk_proj.0.weight']),
  config(json, tensors) {
    const { reader: c, common } = readFlaConfig(json, tensors);
    c.only('use_short_conv', [false], 'short convolutions are not built');
    c.only('use_gk', [true], 'the gate is on keys');
    c.only('use_gv', [false], 'the gate is on keys');
    c.only('use_output_gate', [true], 'the output is gated');
    c.only('clamp_min', [null], 'gates are not clamped');
    c.only('feature_map', [null], 'queries and keys are used as they are');
    const norm = gatedNorm(tensors);
    const heads = flaHeads(c, common.D, norm, { H: 4, k: 0.5, v: 1 });
    c.only('num_kv_heads', [null, heads.H], 'every head has keys of its own');
    return {
      ...common,
      ...heads,
      R: [...tensors].find(([name]) => name.endsWith('.gk_proj.0.weight'))?.[1].shape[0] ?? 16,
      norm,
    };
  },
  vocabulary: ({ V }) => V,
  body: flaBody(mixer),
  head: flaHead,
};

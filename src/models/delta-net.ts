import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { type FlaConfig, flaBody, flaHead } from '../layers/fla.ts';
import { l2Norm } from '../layers/l2-norm.ts';
import { shortConv } from '../layers/short-conv.ts';
import { expr } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';
import { rmsNorm } from '../ops/norm.ts';
import { recurrence } from '../ops/recurrence.ts';
import { reshape } from '../ops/views.ts';
import type { Architecture } from './architecture.ts';
import { flaHeads, hasTensors, readFlaConfig } from './fla-config.ts';

/**
 * DeltaNet: linear attention that corrects what it holds instead of adding to it (the delta rule of Widrow & Hoff). Schlag,
 * Irie & Schmidhuber 2021, arXiv 2102.11174; Yang et al. 2024, arXiv 2406.06484.
 *
 * T tokens · D width · H heads · K, V key and value channels of a head · β strength of the correction
 */
export interface DeltaNetConfig extends FlaConfig {
  readonly H: number;
  readonly K: number;
  readonly Vh: number;
  readonly taps: number;
  /** Whether the output is gated by silu(W_g x). */
  readonly gated: boolean;
  /** Largest β: 2 lets the state's eigenvalues be negative (Grazzi et al. 2024). */
  readonly strength: number;
}

const normal = { kind: 'normal', std: 0.02 } as const;

function mixer(
  p: Scope,
  { D, H, K, Vh, taps, gated, strength, epsilon }: DeltaNetConfig,
  x: Tensor,
  { ends }: StepInputs,
): Tensor {
  const project = (name: string, size: number) => {
    const projected = linear(x, p(`${name}_proj.weight`, [H * size, D], normal));
    return reshape(shortConv(p, name, projected, taps, ends), ['tokens', H, size]);
  };
  const [q, k, v] = [l2Norm(project('q', K), 1e-6), l2Norm(project('k', K), 1e-6), project('v', Vh)];
  const β = reshape(expr`${strength} * sigmoid(${linear(x, p('b_proj.weight', [H, D], normal))})`, ['tokens', H, 1]);

  // S_t = S_{t−1} + β (v − S_{t−1} k) kᵀ, o_t = S_t q / √K.
  const o = p.carry('S', [H, Vh, K], (state) =>
    recurrence({ r: expr`${q} * ${K ** -0.5}`, k: expr`${β} * ${k}`, v, a: k, b: expr`-${β} * ${k}`, state, ends }),
  );
  const scaled = rmsNorm(o, p('o_norm.weight', [Vh], { kind: 'ones' }), epsilon);
  const flat = reshape(scaled, ['tokens', H * Vh]);
  const out = gated ? expr`${flat} * silu(${linear(x, p('g_proj.weight', [H * Vh, D], normal))})` : flat;
  return linear(out, p('o_proj.weight', [D, H * Vh], normal));
}

export const deltaNet: Architecture<DeltaNetConfig> = {
  type: 'delta_net',
  title: 'DeltaNet (Schlag et al. 2021, Yang et al. 2024)',
  detect: (tensors) => hasTensors(tensors, ['.attn.b_proj.weight'], ['.attn.a_proj.weight']),
  config(json, tensors) {
    const { reader: c, common } = readFlaConfig(json, tensors);
    c.only('use_short_conv', [true], 'q, k and v are convolved');
    c.only('use_beta', [true], 'β is learned');
    c.only('use_output_norm', [true], 'the output is normalised');
    c.only('qk_norm', ['l2'], 'queries and keys have length 1');
    c.only('qk_activation', ['silu'], 'queries and keys pass a SiLU');
    return {
      ...common,
      ...flaHeads(c, common.D, 'o_norm.weight', { H: 16, k: 1, v: 1 }),
      taps: c.integer('conv_size', c.axis('q_conv1d.weight', 2) ?? 4),
      gated: c.boolean('use_gate', false),
      strength: c.boolean('allow_neg_eigval', false) ? 2 : 1,
    };
  },
  vocabulary: ({ V }) => V,
  body: flaBody(mixer),
  head: flaHead,
};

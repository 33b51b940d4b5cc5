import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { stepBias } from '../layers/step-bias.ts';
import { conv } from '../ops/conv.ts';
import { embed } from '../ops/embed.ts';
import { add, expr } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';
import { rmsNorm } from '../ops/norm.ts';
import { recurrence } from '../ops/recurrence.ts';
import { reshape, split } from '../ops/views.ts';
import type { Architecture } from './architecture.ts';
import { hasTensors } from './fla-config.ts';
import { mambaNames } from './mamba.ts';
import { mamba2Sizes, readMambaConfig } from './mamba-config.ts';

/**
 * Mamba-2: the selective state space with one decay per head ("state space duality"). Dao & Gu 2024, arXiv 2405.21060,
 * §7 and Figure 6.
 *
 * T tokens · D width · H heads of P channels, E = H·P · N state size · G groups that share B and C · K taps of the
 * convolution · V vocabulary
 */
export interface Mamba2Config {
  readonly layers: number;
  readonly D: number;
  readonly H: number;
  readonly P: number;
  readonly N: number;
  readonly G: number;
  readonly K: number;
  readonly V: number;
  readonly epsilon: number;
  readonly bias: boolean;
  readonly convBias: boolean;
  readonly tied: boolean;
  /** Δ is kept between these, in every path: reading a text at once or token by token gives the same. */
  readonly limit: readonly [number, number];
}

function body(p: Scope, c: Mamba2Config, step: StepInputs): Tensor {
  let h = embed(step.tokens, p('backbone.embeddings.weight', [c.V, c.D], { kind: 'normal', std: 0.02 })); // [T, D]
  for (let layer = 0; layer < c.layers; layer++) {
    h = p.in(`backbone.layers.${layer}`, (p) => {
      const x = rmsNorm(h, p('norm.weight', [c.D], { kind: 'ones' }), c.epsilon);
      return add(
        h,
        p.in('mixer', (p) => mamba2Mixer(p, c, x, step)),
      );
    });
  }
  return rmsNorm(h, p('backbone.norm_f.weight', [c.D], { kind: 'ones' }), c.epsilon);
}

/** The mixer, also of hybrids: hidden states [T, D] → [T, D]. */
export function mamba2Mixer(
  p: Scope,
  { D, H, P, N, G, K, ...c }: Mamba2Config,
  u: Tensor,
  { ends }: StepInputs,
): Tensor {
  const E = H * P;
  const C = E + 2 * G * N;
  const uniform = (bound: number) => ({ kind: 'uniform', low: -bound, high: bound }) as const;
  const bias = (name: string, size: number) => (c.bias ? p(name, [size]) : undefined);
  const projected = linear(u, p('in_proj.weight', [E + C + H, D], uniform(D ** -0.5)), bias('in_proj.bias', E + C + H));
  const [z, xBC, δ] = split(projected, [E, C, H]);

  const w = reshape(p('conv1d.weight', [C, 1, K], uniform(K ** -0.5)), [C, K]);
  const b = c.convBias ? p('conv1d.bias', [C]) : undefined;
  const convolved = expr`silu(${p.carry('conv', [C, K - 1], (state) => conv(xBC!, w, b, state, ends))})`;
  const [flat, B, Cs] = split(convolved, [E, G * N, G * N]);
  const x = reshape(flat!, ['tokens', H, P]);

  const dtBias = p('dt_bias', [H], stepBias);
  const [low, high] = c.limit;
  const Δ =
    high === Infinity
      ? expr`max(softplus(${δ!} + ${dtBias}), ${low})`
      : expr`min(max(softplus(${δ!} + ${dtBias}), ${low}), ${high})`;
  const A = expr`-exp(${p('A_log', [H], { kind: 'formula', value: (_, v) => Math.log(1 + 15 * v) })})`;

  // S_t = exp(Δ_t A) S_{t−1} + Δ_t x_t B_tᵀ, y_t = S_t C_t, with a matrix S [P, N] per head.
  const y = p.carry('ssm', [H, P, N], (state) =>
    recurrence({
      r: reshape(Cs!, ['tokens', G, N]),
      k: reshape(B!, ['tokens', G, N]),
      v: expr`${reshape(Δ, ['tokens', H, 1])} * ${x}`,
      g: reshape(A, [H, 1]),
      dt: Δ,
      state,
      ends,
    }),
  );
  const skip = reshape(p('D', [H], { kind: 'ones' }), [H, 1]);
  const gated = expr`(${y} + ${skip} * ${x}) * silu(${reshape(z!, ['tokens', H, P])})`;
  // The norm is made per group, so that groups stay apart; one group is the whole.
  const weight = p('norm.weight', [E], { kind: 'ones' });
  const normal = rmsNorm(reshape(gated, ['tokens', G, E / G]), G === 1 ? weight : undefined, c.epsilon);
  const flatNormal = reshape(normal, ['tokens', E]);
  const scaled = G === 1 ? flatNormal : expr`${flatNormal} * ${weight}`;
  return linear(scaled, p('out_proj.weight', [D, E], uniform((E * c.layers) ** -0.5)), bias('out_proj.bias', D));
}

export const mamba2: Architecture<Mamba2Config> = {
  type: 'mamba2',
  title: 'Mamba-2 (Dao & Gu 2024)',
  detect: (tensors) => hasTensors(tensors, ['.mixer.dt_bias', '.mixer.norm.weight'], ['.mixer.x_proj.weight']),
  config(json, tensors) {
    const { c, ssm, common } = readMambaConfig(json, tensors);
    c.only('d_intermediate', [0], 'layers with an MLP are not built');
    ssm.only('D_has_hdim', [false], 'D is one number per head');
    ssm.only('norm_before_gate', [false], 'the gate comes before the norm');
    const [low = 0, high = Infinity] = c.numbers('time_step_limit', [0, Infinity]);
    const fields = { heads: 'num_heads', width: 'head_dim', state: 'state_size', groups: 'n_groups' };
    return {
      ...common,
      ...mamba2Sizes(c, 'mixer', fields, { E: c.integer('expand', 2) * common.D, P: 64, N: 128 }),
      tied: c.tied(['tie_word_embeddings', 'tie_embeddings'], !c.has('model_type')),
      limit: [low, high],
    };
  },
  vocabulary: ({ V }) => V,
  body,
  head: (p, c, hidden) =>
    linear(
      hidden,
      p(c.tied ? 'backbone.embeddings.weight' : 'lm_head.weight', [c.V, c.D], { kind: 'normal', std: 0.02 }),
    ),
  rename: mambaNames,
};

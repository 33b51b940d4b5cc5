import type { StepInputs } from '../core/step.ts';
import type { Initializer, Tensor } from '../core/tensor.ts';
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
import { readMambaConfig } from './mamba-config.ts';

/**
 * Mamba: a state space model whose parameters depend on the input ("selection"). Gu & Dao 2023, arXiv 2312.00752,
 * Algorithm 2 and Figure 3.
 *
 * T tokens · D width · E inner width · N state size · R rank of Δ · K taps of the convolution · V vocabulary
 */
export interface MambaConfig {
  readonly layers: number;
  readonly D: number;
  readonly E: number;
  readonly N: number;
  readonly R: number;
  readonly K: number;
  readonly V: number;
  readonly epsilon: number;
  readonly bias: boolean;
  readonly convBias: boolean;
  readonly tied: boolean;
  /** Falcon-Mamba: Δ, B and C are divided by their root mean square, with this epsilon. */
  readonly mixerEpsilon?: number;
}

/** x ← x + mixer(norm(x)), for each layer. */
function body(p: Scope, c: MambaConfig, step: StepInputs): Tensor {
  let h = embed(step.tokens, p('backbone.embeddings.weight', [c.V, c.D], { kind: 'normal', std: 0.02 })); // [T, D]
  for (let layer = 0; layer < c.layers; layer++) {
    h = p.in(`backbone.layers.${layer}`, (p) => {
      const x = rmsNorm(h, p('norm.weight', [c.D], { kind: 'ones' }), c.epsilon);
      return add(
        h,
        p.in('mixer', (p) => mixer(p, c, x, step)),
      );
    });
  }
  return rmsNorm(h, p('backbone.norm_f.weight', [c.D], { kind: 'ones' }), c.epsilon);
}

function mixer(p: Scope, { D, E, N, R, K, ...c }: MambaConfig, u: Tensor, { ends }: StepInputs): Tensor {
  const init = initial(R, c.layers, E, D);
  const bias = (name: string, size: number) => (c.bias ? p(name, [size]) : undefined);
  const [x, z] = split(linear(u, p('in_proj.weight', [2 * E, D], init.in), bias('in_proj.bias', 2 * E)), [E, E]);

  const w = reshape(p('conv1d.weight', [E, 1, K], init.conv), [E, K]);
  const b = c.convBias ? p('conv1d.bias', [E]) : undefined;
  const v = expr`silu(${p.carry('conv', [E, K - 1], (state) => conv(x!, w, b, state, ends))})`; // [T, E]

  const [δ, B, C] = split(linear(v, p('x_proj.weight', [R + 2 * N, E], init.x)), [R, N, N]).map((part) =>
    c.mixerEpsilon === undefined ? part : rmsNorm(part, undefined, c.mixerEpsilon),
  );
  const Δ = expr`softplus(${linear(δ!, p('dt_proj.weight', [E, R], init.dt), p('dt_proj.bias', [E], init.dtBias))})`;
  const A = expr`-exp(${p('A_log', [E, N], init.A)})`;

  // h_t = exp(Δ_t A) h_{t−1} + Δ_t x_t B_tᵀ, y_t = h_t C_t: every channel is a head of its own, B and C are shared.
  const y = p.carry('ssm', [E, 1, N], (state) =>
    recurrence({
      r: reshape(C!, ['tokens', 1, N]),
      k: reshape(B!, ['tokens', 1, N]),
      v: reshape(expr`${Δ} * ${v}`, ['tokens', E, 1]),
      g: A,
      dt: Δ,
      state,
      ends,
    }),
  );
  const gated = expr`(${reshape(y, ['tokens', E])} + ${p('D', [E], { kind: 'ones' })} * ${v}) * silu(${z!})`;
  return linear(gated, p('out_proj.weight', [D, E], init.out), bias('out_proj.bias', D));
}

/** Initial values as in the reference implementation: Δ log-uniform in [0.001, 0.1], A = −(1 … N), D = 1. */
function initial(R: number, layers: number, E: number, D: number): Record<string, Initializer> {
  const uniform = (bound: number): Initializer => ({ kind: 'uniform', low: -bound, high: bound });
  return {
    in: uniform(D ** -0.5),
    conv: uniform(0.5),
    x: uniform(E ** -0.5),
    dt: uniform(R ** -0.5),
    dtBias: stepBias,
    A: { kind: 'formula', value: ([, n]) => Math.log(n! + 1) },
    out: uniform((E * layers) ** -0.5),
  };
}

/** The original's and Codestral's names of the embeddings and of all that is below them. */
export const mambaNames = (name: string): string =>
  name.replace(/^model\.(backbone|lm_head)\./, '$1.').replace('backbone.embedding.', 'backbone.embeddings.');

export const mamba: Architecture<MambaConfig> = {
  type: 'mamba',
  title: 'Mamba (Gu & Dao 2023)',
  detect: (tensors) => [...tensors.keys()].some((name) => name.endsWith('.mixer.x_proj.weight')),
  config(json, tensors) {
    const { c, common } = readMambaConfig(json, tensors);
    const { D } = common;
    const E = c.has('expand') ? c.integer('expand') * D : (c.axis('mixer.out_proj.weight', 1) ?? 2 * D);
    return {
      ...common,
      E: c.integer('intermediate_size', E),
      N: c.integer('state_size', c.axis('A_log', 1) ?? 16),
      R: c.integer('time_step_rank', c.axis('dt_proj.weight', 1) ?? Math.ceil(D / 16)),
      tied: c.tied(['tie_word_embeddings', 'tie_embeddings'], true),
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

import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { gatedChannelMix, headNorm, mixtures, mixWeights, normed, project } from '../layers/rwkv.ts';
import { embed } from '../ops/embed.ts';
import { add, expr } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';
import { recurrence } from '../ops/recurrence.ts';
import { reshape } from '../ops/views.ts';
import type { Architecture } from './architecture.ts';
import { hasTensors } from './fla-config.ts';
import { authorsName } from './rwkv-names.ts';
import { type RwkvSizes, rwkvSizes, shapeOf } from './rwkv-shapes.ts';

/**
 * RWKV-5.2 "Eagle": RWKV with a matrix as each head's state. Peng et al. 2024, arXiv 2404.05892, §4.1.
 *
 * T tokens · D width · H heads of N channels · F inner width of the channel mixing · V vocabulary
 */
export interface Rwkv5Config extends RwkvSizes {
  readonly H: number;
  readonly N: number;
  /** ε of the norm of each head's output: 64·10⁻⁵, but 10⁻⁵ in rwkv.cpp's files. */
  readonly headEpsilon: number;
  /** rwkv.cpp's files hold the decay as e^(−e^w). */
  readonly bakedDecay: boolean;
}

function body(p: Scope, c: Rwkv5Config, { tokens, ends }: StepInputs): Tensor {
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

/** x μ + x_{t−1} (1 − μ): the weight of the token before. */
const before = (p: Scope, letter: string, D: number): Tensor => expr`1 - ${mixWeights(p, `time_mix_${letter}`, D)}`;

function timeMix(p: Scope, { D, H, N, headEpsilon }: Rwkv5Config, x: Tensor, ends: Tensor): Tensor {
  const weights = [before(p, 'r', D), before(p, 'k', D), before(p, 'v', D), before(p, 'g', D)] as const;
  const [xr, xk, xv, xg] = mixtures(p, 'att_shift', x, ends, weights);
  const heads = (name: string, x: Tensor) => reshape(project(p, name, x, D), ['tokens', H, N]);
  const [r, k, v] = [heads('receptance', xr), heads('key', xk), heads('value', xv)];
  const g = project(p, 'gate', xg, D);
  const channel = ([h, n]: readonly number[]) => (h! * N + n!) / Math.max(1, D - 1);
  const decay = p('time_decay', [H, N], { kind: 'formula', value: (index) => -6 + 5 * channel(index) ** 1.3 });
  const u = p('time_faaaa', [H, N], { kind: 'formula', value: (index) => 0.5 * (1 - channel(index)) });

  // y_t = (S_{t−1} + v_t (u ⊙ k_t)ᵀ) r_t, then S_t = S_{t−1} diag(w) + v_t k_tᵀ, with w = e^(−e^decay).
  const y = p.carry('wkv', [H, N, N], (state) => recurrence({ r, k, v, g: expr`-exp(${decay})`, u, state, ends }));
  return project(p, 'output', expr`${reshape(headNorm(p, 'ln_x', y, headEpsilon), ['tokens', D])} * silu(${g})`, D);
}

function channelMix(p: Scope, { D, F }: Rwkv5Config, x: Tensor, ends: Tensor): Tensor {
  const weights = [before(p, 'k', D), before(p, 'r', D)] as const;
  return gatedChannelMix(p, ...mixtures(p, 'ffn_shift', x, ends, weights), F);
}

export const rwkv5: Architecture<Rwkv5Config> = {
  type: 'rwkv5',
  title: 'RWKV-5.2 (Peng et al. 2024)',
  detect: (tensors) =>
    hasTensors(tensors, ['att.time_faaaa', 'att.time_mix_g', 'att.gate.weight']) ||
    hasTensors(tensors, ['attention.time_faaaa', 'attention.time_mix_gate', 'attention.gate.weight']),
  config(json, tensors) {
    const [H, N] = shapeOf(tensors, /0\.att(?:ention)?\.time_faaaa$/) as [number, number];
    const bakedDecay = json['format'] === 'rwkv.cpp';
    return { ...rwkvSizes(tensors), H, N, headEpsilon: bakedDecay ? 1e-5 : 64e-5, bakedDecay };
  },
  vocabulary: ({ V }) => V,
  body,
  head: (p, c, hidden) => linear(hidden, p('head.weight', [c.V, c.D], { kind: 'normal', std: 0.02 })),
  rename(stored, c) {
    const name = authorsName(stored);
    if (c.bakedDecay && name.endsWith('time_decay'))
      return { name, convert: (w) => w.map((x) => Math.log(-Math.log(x))) };
    return c.bakedDecay && /time_(mix|faaaa)/.test(name) ? { name, convert: (x) => x } : name;
  },
};

import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { l2Norm } from '../layers/l2-norm.ts';
import { headNorm, mixtures, mixWeights, normed, project } from '../layers/rwkv.ts';
import { embed } from '../ops/embed.ts';
import { add, expr, sumTo } from '../ops/expr.ts';
import { linear, linearTransposed } from '../ops/linear.ts';
import { recurrence } from '../ops/recurrence.ts';
import { reshape } from '../ops/views.ts';
import type { Architecture } from './architecture.ts';
import { hasTensors } from './fla-config.ts';
import { type Rwkv7Config, rwkv7Config } from './rwkv7-config.ts';
import { rwkv7Names } from './rwkv7-names.ts';

/*
 * RWKV-7 "Goose": a state that is decayed, corrected by a generalised delta rule, and written to. Peng et al. 2025,
 * arXiv 2503.14456, §4.
 *
 * T tokens · D width · H heads of N channels · F inner width of the channel mixing · V vocabulary
 */
function body(p: Scope, c: Rwkv7Config, { tokens, ends }: StepInputs): Tensor {
  let x = embed(tokens, p('emb.weight', [c.V, c.D], { kind: 'uniform', low: -1e-4, high: 1e-4 })); // [T, D]
  let first: Tensor | undefined;
  for (let layer = 0; layer < c.layers; layer++) {
    x = p.in(`blocks.${layer}`, (p) => {
      const h = layer === 0 ? normed(p, 'ln0', x, c.epsilon) : x;
      const y = normed(p, 'ln1', h, c.epsilon);
      const [mixed, v] = p.in('att', (p) => timeMix(p, c, layer, y, first, ends));
      first = v;
      const added = add(h, mixed);
      const z = normed(p, 'ln2', added, c.epsilon);
      return add(
        added,
        p.in('ffn', (p) => channelMix(p, c, layer, z, ends)),
      );
    });
  }
  return normed(p, 'ln_out', x, c.epsilon);
}

function timeMix(
  p: Scope,
  c: Rwkv7Config,
  layer: number,
  x: Tensor,
  first: Tensor | undefined,
  ends: Tensor,
): [Tensor, Tensor] {
  const { D, H, N } = c;
  // μ begins near 1 − (i/D)^power: later channels look more at the token before, deeper layers less.
  const deep = 1 - layer / c.layers;
  const μ = (name: string, power: number) =>
    mixWeights(p, `x_${name}`, D, { kind: 'formula', value: ([, , i]) => 1 - (i! / D) ** (power * deep) });
  const weights = [μ('r', 0.2), μ('k', 0.7), μ('v', 0.7), μ('w', 0.9), μ('a', 0.9), μ('g', 0.2)] as const;
  const [xr, xk, xv, xw, xa, xg] = mixtures(p, 'att_shift', x, ends, weights);
  const lowRank = (name: string, x: Tensor, f: (y: Tensor) => Tensor) => {
    const R = c.ranks[name]!;
    const up = { kind: 'orthogonal', gain: 0.1 * Math.max(1, Math.sqrt(R / D)) } as const;
    return linearTransposed(f(linearTransposed(x, p(`${name}1`, [D, R]))), p(`${name}2`, [R, D], up));
  };
  const vector = (name: string, value: (i: number) => number) =>
    reshape(p(name, [1, 1, D], { kind: 'formula', value: ([, , i]) => value(i!) }), [D]);
  const ramp = (i: number) => i / Math.max(1, D - 1) - 0.5;
  const zigzag = (i: number) => {
    const z = ((i % N) - (N - 1) / 2) / ((N - 1) / 2);
    return z * Math.abs(z);
  };
  const same = (y: Tensor) => y;
  const heads = (y: Tensor) => reshape(y, ['tokens', H, N]);

  const r = project(p, 'receptance', xr, D);
  const k = project(p, 'key', xk, D);
  let v = project(p, 'value', xv, D);
  const w0 = vector(
    'w0',
    (i) =>
      -6 + 6 * (i / Math.max(1, D - 1)) ** (1 + (layer / Math.max(1, c.layers - 1)) ** 0.3) + 0.5 + 2.5 * zigzag(i),
  );
  const w = lowRank('w', xw, (y) => expr`tanh(${y})`);
  const α = expr`sigmoid(${vector('a0', (i) => -0.19 + 0.3 * zigzag(i) + 0.4 * ramp(i))} + ${lowRank('a', xa, same)})`;
  const g = lowRank('g', xg, (y) => expr`sigmoid(${y})`);
  if (first) {
    const ν = expr`sigmoid(${vector('v0', (i) => 0.73 - 0.4 * ramp(i))} + ${lowRank('v', xv, same)})`;
    v = expr`${v} + (${first} - ${v}) * ${ν}`;
  }

  const κ = l2Norm(heads(expr`${k} * ${vector('k_k', (i) => 0.71 - 0.1 * ramp(i))}`), c.keyEpsilon);
  const key = heads(expr`${k} * (1 + (${α} - 1) * ${vector('k_a', () => 1.02)})`);
  // S_t = S_{t−1} diag(w) − (S_{t−1} κ)(κ ⊙ α)ᵀ + v kᵀ, y_t = S_t r_t, with log w = −e^(−1/2) σ(…).
  const y = p.carry('wkv', [H, N, N], (state) =>
    recurrence({
      r: heads(r),
      k: key,
      v: heads(v),
      g: heads(expr`${-Math.exp(-0.5)} * sigmoid(${w0} + ${w})`),
      a: κ,
      b: expr`-${κ} * ${heads(α)}`,
      state,
      ends,
    }),
  );
  // The current token once more, past the state.
  const rk = p('r_k', [H, N], { kind: 'constant', value: -0.04 });
  const bonus = sumTo(expr`${heads(r)} * ${key} * ${rk}`, ['tokens', H, 1]);
  const read = expr`${headNorm(p, 'ln_x', y, c.headEpsilon)} + ${bonus} * ${heads(v)}`;
  return [project(p, 'output', expr`${reshape(read, ['tokens', D])} * ${g}`, D), first ?? v];
}

function channelMix(p: Scope, c: Rwkv7Config, layer: number, x: Tensor, ends: Tensor): Tensor {
  const μ = mixWeights(p, 'x_k', c.D, {
    kind: 'formula',
    value: ([, , i]) => 1 - (i! / c.D) ** ((1 - layer / c.layers) ** 4),
  });
  const [mixed] = mixtures(p, 'ffn_shift', x, ends, [μ]);
  const k = project(p, 'key', mixed, c.F);
  return project(p, 'value', expr`square(relu(${k}))`, c.D);
}

export const rwkv7: Architecture<Rwkv7Config> = {
  type: 'rwkv7',
  title: 'RWKV-7 (Peng et al. 2025)',
  detect: (tensors) => hasTensors(tensors, ['0.att.r_k']) || hasTensors(tensors, ['0.attn.r_k']),
  config: rwkv7Config,
  vocabulary: ({ V }) => V,
  body,
  head: (p, c, hidden) =>
    linear(hidden, p(c.tied ? 'emb.weight' : 'head.weight', [c.V, c.D], { kind: 'normal', std: 0.02 })),
  rename: rwkv7Names,
};

import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { gatedChannelMix, mixtures, mixWeights, normed, project } from '../layers/rwkv.ts';
import { embed } from '../ops/embed.ts';
import { add, expr } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';
import { wkv4 } from '../ops/wkv4.ts';
import type { Architecture } from './architecture.ts';
import { ConfigReader } from './config.ts';
import { hasTensors } from './fla-config.ts';
import { type RwkvSizes, rwkvSizes, shapeOf } from './rwkv-shapes.ts';

/**
 * RWKV-4: an attention-free Transformer that runs as an RNN. Peng et al. 2023, arXiv 2305.13048, §3.
 *
 * T tokens · D width · A width of the time mixing · F inner width of the channel mixing · V vocabulary
 */
export interface Rwkv4Config extends RwkvSizes {
  /** Width of the time mixing: D, but for some of Hugging Face's configurations. */
  readonly A: number;
  readonly epsilon: number;
  readonly tied: boolean;
  /** rwkv.cpp's files hold the decay as −e^w, already in the form that the recurrence takes. */
  readonly bakedDecay: boolean;
}

function body(p: Scope, c: Rwkv4Config, { tokens, ends }: StepInputs): Tensor {
  const { D, F } = c;
  let x = embed(tokens, p('rwkv.embeddings.weight', [c.V, D], { kind: 'uniform', low: -1e-4, high: 1e-4 })); // [T, D]
  for (let layer = 0; layer < c.layers; layer++) {
    x = p.in(`rwkv.blocks.${layer}`, (p) => {
      const h = layer === 0 ? normed(p, 'pre_ln', x, c.epsilon) : x;
      const y = normed(p, 'ln1', h, c.epsilon);
      const mixed = add(
        h,
        p.in('attention', (p) => timeMix(p, y, c.A, ends)),
      );
      const z = normed(p, 'ln2', mixed, c.epsilon);
      return add(
        mixed,
        p.in('feed_forward', (p) => channelMix(p, z, F, ends)),
      );
    });
  }
  // The last norm keeps the default epsilon whatever the configuration says, as in Hugging Face's model.
  return normed(p, 'rwkv.ln_out', x);
}

/** x μ + x_{t−1} (1 − μ): the weight of the token before. */
const before = (p: Scope, name: string, D: number): Tensor => expr`1 - ${mixWeights(p, `time_mix_${name}`, D)}`;

/**
 * A learned state is one token before the first: its value num, its weight e^max, of which no gradient could come at the maximum's own beginning. With
 * den = 1 every such weight is above 0, as it is of any text.
 */
const tuning = {
  num: { begin: 0, learned: true },
  den: { begin: 1, learned: false },
  max: { begin: 0, learned: true },
} as const;

function timeMix(p: Scope, x: Tensor, A: number, ends: Tensor): Tensor {
  const D = x.shape[1] as number;
  const weights = [before(p, 'key', D), before(p, 'value', D), before(p, 'receptance', D)] as const;
  const [xk, xv, xr] = mixtures(p, 'att_shift', x, ends, weights);
  const k = project(p, 'key', xk, A);
  const v = project(p, 'value', xv, A);
  const r = project(p, 'receptance', xr, A);
  const w = expr`-exp(${p('time_decay', [A], { kind: 'formula', value: ([i]) => -5 + 8 * (i! / Math.max(1, A - 1)) })})`;
  const u = p('time_first', [A], { kind: 'formula', value: ([i]) => Math.log(0.3) + 0.5 * (((i! + 1) % 3) - 1) });
  const wkv = p.carry(
    'num',
    [A],
    (num) =>
      p.carry(
        'den',
        [A],
        (den) =>
          p.carry(
            'max',
            [A],
            (max) => {
              const [y, nextNum, nextDen, nextMax] = wkv4({ k, v, w, u, num, den, max, ends });
              return [[[y, nextNum] as const, nextDen] as const, nextMax] as const;
            },
            { fill: -1e38, tuning: tuning.max },
          ),
        { tuning: tuning.den },
      ),
    { tuning: tuning.num },
  );
  return project(p, 'output', expr`sigmoid(${r}) * ${wkv}`, D);
}

function channelMix(p: Scope, x: Tensor, F: number, ends: Tensor): Tensor {
  const D = x.shape[1] as number;
  const weights = [before(p, 'key', D), before(p, 'receptance', D)] as const;
  return gatedChannelMix(p, ...mixtures(p, 'ffn_shift', x, ends, weights), F);
}

const full: Readonly<Record<string, string>> = { k: 'key', v: 'value', r: 'receptance' };

export const rwkv4: Architecture<Rwkv4Config> = {
  type: 'rwkv',
  title: 'RWKV-4 (Peng et al. 2023)',
  detect: (tensors) =>
    hasTensors(tensors, ['.time_first'], ['.time_faaaa', '.gate.weight', 'att.ln_x.weight', 'attention.ln_x.weight']),
  config(json, tensors) {
    const c = new ConfigReader(json, tensors);
    return {
      ...rwkvSizes(tensors),
      A: shapeOf(tensors, /(^|\.)0\.(att|attention)\.key\.weight$/)[0]!,
      epsilon: c.positive('layer_norm_epsilon', 1e-5),
      tied: c.tied('tie_word_embeddings', false),
      bakedDecay: json['format'] === 'rwkv.cpp',
    };
  },
  vocabulary: ({ V }) => V,
  body,
  head: (p, c, hidden) =>
    linear(hidden, p(c.tied ? 'rwkv.embeddings.weight' : 'head.weight', [c.V, c.D], { kind: 'normal', std: 0.02 })),
  rename(name, c) {
    // BlinkDL's names to Hugging Face's. The rescaling of deep layers that Hugging Face does for f16 is not needed in f32.
    const canonical = name
      .replace(/^emb\./, 'rwkv.embeddings.')
      .replace(/^(blocks|ln_out)\./, 'rwkv.$1.')
      .replace('.ln0.', '.pre_ln.')
      .replace('.att.', '.attention.')
      .replace('.ffn.', '.feed_forward.')
      .replace(/time_mix_([kvr])$/, (_, letter: string) => `time_mix_${full[letter]}`);
    if (c.bakedDecay && name.endsWith('time_decay'))
      return { name: canonical, convert: (w) => w.map((x) => Math.log(-x)) };
    return c.bakedDecay && /time_mix|time_first/.test(name) ? { name: canonical, convert: (x) => x } : canonical;
  },
};

import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { gatedMlp } from '../layers/gated-mlp.ts';
import { embed } from '../ops/embed.ts';
import { add } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';
import { rmsNorm } from '../ops/norm.ts';
import type { Architecture, TensorShapes } from './architecture.ts';
import { ConfigReader } from './config.ts';
import { hasTensors } from './fla-config.ts';
import { type LlamaConfig, llamaAttention, llamaConfig } from './llama.ts';
import { mamba2Sizes } from './mamba-config.ts';
import { type Mamba2Config, mamba2Mixer } from './mamba2.ts';
import { readRope } from './rope-config.ts';

/**
 * Bamba: Mamba-2 layers with a few of attention among them, each followed by an MLP. IBM, Princeton, CMU & UIUC 2024; as in
 * Waleffe et al. 2024, arXiv 2406.07887.
 *
 * T tokens · D width · V vocabulary; the letters of its layers are theirs
 */
export interface BambaConfig {
  readonly attention: LlamaConfig;
  readonly mamba: Mamba2Config;
  /** Which layers are attention. */
  readonly attentionLayers: ReadonlySet<number>;
}

const normal = { kind: 'normal', std: 0.02 } as const;
const ones = { kind: 'ones' } as const;

function body(p: Scope, { attention: c, mamba, attentionLayers }: BambaConfig, step: StepInputs): Tensor {
  let h = embed(step.tokens, p('model.embed_tokens.weight', [c.V, c.D], normal)); // [T, D]
  for (let layer = 0; layer < c.layers; layer++) {
    h = p.in(`model.layers.${layer}`, (p) => {
      const x = rmsNorm(h, p('input_layernorm.weight', [c.D], ones), c.epsilon);
      const mixed = attentionLayers.has(layer)
        ? p.in('self_attn', (p) => llamaAttention(p, c, x, step))
        : p.in('mamba', (p) => mamba2Mixer(p, mamba, x, step));
      const added = add(h, mixed);
      const y = rmsNorm(added, p('pre_ff_layernorm.weight', [c.D], ones), c.epsilon);
      return add(
        added,
        p.in('feed_forward', (p) => gatedMlp(p, y, c.D, c.I, c.bias.mlp)),
      );
    });
  }
  return rmsNorm(h, p('model.final_layernorm.weight', [c.D], ones), c.epsilon);
}

/** Numbers of the layers that have a tensor whose name ends so. */
const layersOf = (tensors: TensorShapes, ending: string): number[] =>
  [...tensors.keys()].filter((name) => name.endsWith(ending)).map((name) => Number(/\.(\d+)\./.exec(name)?.[1]));

export const bamba: Architecture<BambaConfig> = {
  type: 'bamba',
  aliases: [],
  title: 'Bamba (2024), Mamba-2 with attention among its layers',
  detect: (tensors) =>
    hasTensors(tensors, ['.mamba.dt_bias', '.feed_forward.gate_proj.weight', '.pre_ff_layernorm.weight']),
  config(json, tensors) {
    // Heads as wide as the inner width makes them may be written "auto".
    const { mamba_d_head: width, ...rest } = json;
    const c = new ConfigReader(width === 'auto' ? rest : json, tensors);
    const attention = llamaConfig(c);
    const { layers, D, V, epsilon, tied } = attention;
    const fields = { heads: 'mamba_n_heads', width: 'mamba_d_head', state: 'mamba_d_state', groups: 'mamba_n_groups' };
    const [low = 0, high = Infinity] = c.numbers('time_step_limit', [0, Infinity]);
    return {
      attention: { ...attention, ...readRope(c, attention.K, 0.5) },
      mamba: {
        layers,
        D,
        ...mamba2Sizes(c, 'mamba', fields, { E: c.integer('mamba_expand', 2) * D, H: 128, N: 256 }),
        K: c.integer('mamba_d_conv', c.axis('mamba.conv1d.weight', 2) ?? 4),
        V,
        epsilon,
        bias: c.boolean('mamba_proj_bias', false),
        convBias: c.boolean('mamba_conv_bias', true),
        tied,
        limit: [low, high],
      },
      attentionLayers: new Set(c.numbers('attn_layer_indices', layersOf(tensors, '.self_attn.q_proj.weight'))),
    };
  },
  vocabulary: ({ attention }) => attention.V,
  body,
  head: (p, { attention: c }, hidden) =>
    linear(hidden, p(c.tied ? 'model.embed_tokens.weight' : 'lm_head.weight', [c.V, c.D], normal)),
};

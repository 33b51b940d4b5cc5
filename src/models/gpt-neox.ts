import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { normed } from '../layers/rwkv.ts';
import { selfAttention } from '../layers/self-attention.ts';
import { embed } from '../ops/embed.ts';
import { add } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';
import { reshape, split } from '../ops/views.ts';
import { type Activation, activate, readActivation } from './activation.ts';
import type { Architecture } from './architecture.ts';
import { ConfigReader } from './config.ts';
import { hasTensors } from './fla-config.ts';
import { type Rope, readRope } from './rope-config.ts';

/**
 * GPT-NeoX, the Transformer of the Pythia models: rotary embedding on part of each head, attention and MLP side by side. Black et
 * al. 2022, arXiv 2204.06745.
 *
 * T tokens · D width · H heads of K channels · I inner width of the MLP · V vocabulary
 */
export interface GptNeoxConfig extends Rope {
  readonly layers: number;
  readonly D: number;
  readonly H: number;
  readonly K: number;
  readonly I: number;
  readonly V: number;
  readonly epsilon: number;
  /** Whether attention and MLP read the same hidden state, or the MLP what attention added to. */
  readonly parallel: boolean;
  readonly activation: Activation;
  readonly bias: boolean;
  readonly tied: boolean;
}

const normal = { kind: 'normal', std: 0.02 } as const;

function body(p: Scope, c: GptNeoxConfig, step: StepInputs): Tensor {
  let h = embed(step.tokens, p('gpt_neox.embed_in.weight', [c.V, c.D], normal)); // [T, D]
  for (let layer = 0; layer < c.layers; layer++) {
    h = p.in(`gpt_neox.layers.${layer}`, (p) => {
      const mixed = add(
        h,
        p.in('attention', (p2) => attend(p2, c, normed(p, 'input_layernorm', h, c.epsilon), step)),
      );
      const y = normed(p, 'post_attention_layernorm', c.parallel ? h : mixed, c.epsilon);
      return add(
        mixed,
        p.in('mlp', (p) => mlp(p, c, y)),
      );
    });
  }
  return normed(p, 'gpt_neox.final_layer_norm', h, c.epsilon);
}

function attend(p: Scope, c: GptNeoxConfig, x: Tensor, step: StepInputs): Tensor {
  const { D, H, K } = c;
  const bias = (name: string, size: number) => (c.bias ? p(name, [size]) : undefined);
  const fused = linear(x, p('query_key_value.weight', [3 * D, D], normal), bias('query_key_value.bias', 3 * D));
  // Every head's rows of q, k and v lie together.
  const [q, k, v] = split(reshape(fused, ['tokens', H, 3 * K]), [K, K, K]) as [Tensor, Tensor, Tensor];
  return linear(selfAttention(p, { q, k, v }, step, c), p('dense.weight', [D, D], normal), bias('dense.bias', D));
}

function mlp(p: Scope, { D, I, activation }: GptNeoxConfig, x: Tensor): Tensor {
  const hidden = linear(x, p('dense_h_to_4h.weight', [I, D], normal), p('dense_h_to_4h.bias', [I]));
  return linear(activate(activation, hidden), p('dense_4h_to_h.weight', [D, I], normal), p('dense_4h_to_h.bias', [D]));
}

export const gptNeox: Architecture<GptNeoxConfig> = {
  type: 'gpt_neox',
  title: 'GPT-NeoX (Black et al. 2022)',
  aliases: [],
  detect: (tensors) => hasTensors(tensors, ['.attention.query_key_value.weight', '.mlp.dense_h_to_4h.weight']),
  config(json, tensors) {
    const c = new ConfigReader(json, tensors);
    const D = c.integer('hidden_size', c.axis('embed_in.weight', 1));
    const H = c.integer('num_attention_heads');
    const K = c.integer('head_dim', D / H);
    return {
      layers: c.layers('num_hidden_layers'),
      D,
      H,
      K,
      I: c.integer('intermediate_size', c.axis('mlp.dense_h_to_4h.weight', 0)),
      V: c.integer('vocab_size', c.axis('embed_in.weight', 0)),
      epsilon: c.positive('layer_norm_eps', 1e-5),
      ...readRope(c, K, 0.25),
      activation: readActivation(c, 'hidden_act', 'gelu'),
      parallel: c.boolean('use_parallel_residual', true),
      bias: c.boolean('attention_bias', true),
      tied: c.tied('tie_word_embeddings', false),
    };
  },
  vocabulary: ({ V }) => V,
  body,
  head: (p, c, hidden) => linear(hidden, p(c.tied ? 'gpt_neox.embed_in.weight' : 'lm_head.weight', [c.V, c.D], normal)),
  rename(name) {
    // Masks and frequencies that older files hold as if they were parameters.
    if (/\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$/.test(name)) return null;
    return name === 'embed_out.weight' ? 'lm_head.weight' : name;
  },
};

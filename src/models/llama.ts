import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { gatedMlp } from '../layers/gated-mlp.ts';
import { selfAttention } from '../layers/self-attention.ts';
import { embed } from '../ops/embed.ts';
import { add } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';
import { rmsNorm } from '../ops/norm.ts';
import { reshape } from '../ops/views.ts';
import type { Architecture } from './architecture.ts';
import { ConfigReader } from './config.ts';
import { hasTensors } from './fla-config.ts';
import { type Rope, readRope } from './rope-config.ts';

/**
 * Llama: the Transformer with rotary embedding, RMS norm, SwiGLU and grouped queries. Touvron et al. 2023, arXiv 2302.13971.
 *
 * T tokens · D width · H query heads, G key heads of K channels · I inner width of the MLP · V vocabulary
 */
export interface LlamaConfig extends Rope {
  readonly layers: number;
  readonly D: number;
  readonly H: number;
  readonly G: number;
  readonly K: number;
  readonly I: number;
  readonly V: number;
  readonly epsilon: number;
  /** Biases of q, k and v, of the output, and of the MLP. */
  readonly bias: { readonly qkv: boolean; readonly out: boolean; readonly mlp: boolean };
  /** Tokens that attention looks back, 0 for all. */
  readonly window: number;
  /** Layers that see everything all the same. */
  readonly fullLayers: readonly number[];
  readonly tied: boolean;
}

const normal = { kind: 'normal', std: 0.02 } as const;
const ones = { kind: 'ones' } as const;

function body(p: Scope, c: LlamaConfig, step: StepInputs): Tensor {
  let h = embed(step.tokens, p('model.embed_tokens.weight', [c.V, c.D], normal)); // [T, D]
  for (let layer = 0; layer < c.layers; layer++) {
    h = p.in(`model.layers.${layer}`, (p) => {
      const x = rmsNorm(h, p('input_layernorm.weight', [c.D], ones), c.epsilon);
      const mixed = add(
        h,
        p.in('self_attn', (p) =>
          llamaAttention(p, { ...c, window: c.fullLayers.includes(layer) ? 0 : c.window }, x, step),
        ),
      );
      const y = rmsNorm(mixed, p('post_attention_layernorm.weight', [c.D], ones), c.epsilon);
      return add(
        mixed,
        p.in('mlp', (p) => gatedMlp(p, y, c.D, c.I, c.bias.mlp)),
      );
    });
  }
  return rmsNorm(h, p('model.norm.weight', [c.D], ones), c.epsilon);
}

/** The attention, also of hybrids: hidden states [T, D] → [T, D]. */
export function llamaAttention(p: Scope, c: LlamaConfig, x: Tensor, step: StepInputs): Tensor {
  const { D, H, G, K, bias } = c;
  const project = (name: string, heads: number) => {
    const b = bias.qkv ? p(`${name}_proj.bias`, [heads * K]) : undefined;
    return reshape(linear(x, p(`${name}_proj.weight`, [heads * K, D], normal), b), ['tokens', heads, K]);
  };
  const y = selfAttention(p, { q: project('q', H), k: project('k', G), v: project('v', G) }, step, c);
  return linear(y, p('o_proj.weight', [D, H * K], normal), bias.out ? p('o_proj.bias', [D]) : undefined);
}

/** Fields of the configuration that Llama's relatives share. */
export function llamaConfig(c: ConfigReader): LlamaConfig {
  c.only('hidden_act', ['silu'], 'the MLP is SwiGLU');
  const D = c.integer('hidden_size', c.axis('embed_tokens.weight', 1));
  const rows = c.axis('q_proj.weight', 0);
  // How many heads share the rows of a matrix no shape tells, but where their width is given.
  const H = c.integer('num_attention_heads', rows && c.has('head_dim') ? rows / c.integer('head_dim') : undefined);
  const K = c.integer('head_dim', (rows ?? D) / H);
  const keys = c.axis('k_proj.weight', 0);
  const bias = c.boolean('attention_bias', false);
  return {
    layers: c.layers('num_hidden_layers'),
    D,
    H,
    G: c.integer('num_key_value_heads', keys ? keys / K : H),
    K,
    I: c.integer('intermediate_size', c.axis(['mlp.gate_proj.weight', 'feed_forward.gate_proj.weight'], 0)),
    V: c.integer('vocab_size', c.axis('embed_tokens.weight', 0)),
    epsilon: c.positive('rms_norm_eps', 1e-6),
    ...readRope(c, K),
    bias: { qkv: bias, out: bias, mlp: c.boolean('mlp_bias', false) },
    window: 0,
    fullLayers: [],
    tied: c.tied('tie_word_embeddings', false),
  };
}

export const llama: Architecture<LlamaConfig> = {
  type: 'llama',
  title: 'Llama (Touvron et al. 2023)',
  aliases: ['mistral'],
  detect: (tensors) =>
    hasTensors(tensors, ['.self_attn.q_proj.weight', '.mlp.gate_proj.weight']) &&
    hasTensors(tensors, ['.self_attn.q_proj.bias']) === hasTensors(tensors, ['.self_attn.o_proj.bias']),
  config(json, tensors) {
    const c = new ConfigReader(json, tensors);
    return { ...llamaConfig(c), window: c.integer('sliding_window', 0) };
  },
  vocabulary: ({ V }) => V,
  body,
  head: (p, c, hidden) =>
    linear(hidden, p(c.tied ? 'model.embed_tokens.weight' : 'lm_head.weight', [c.V, c.D], normal)),
  // Hugging Face's models that answer with spans call the body `transformer`.
  rename: (name) => (name.endsWith('.rotary_emb.inv_freq') ? null : name.replace(/^transformer\./, 'model.')),
};

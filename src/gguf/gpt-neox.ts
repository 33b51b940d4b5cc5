import { UnsupportedError } from '../core/errors.ts';
import type { GgufValue } from '../formats/gguf-header.ts';
import { ConfigReader } from '../models/config.ts';
import type { GptNeoxConfig } from '../models/gpt-neox.ts';
import { ropeBase } from '../models/rope-config.ts';
import { bool, type Dialect, f32, type Holding, string, u32, withBias } from './dialect.ts';
import { linearScaling, scalingOf, slowdowns, yarnScaling } from './rope.ts';

const layer = 'gpt_neox.layers.#.';

/** Queries, keys and values: together per head in checkpoints, [H, 3, K], and one after the other in files, [3, H, K]. */
const fused = (parameter: string, H: number): Holding => ({
  parameters: [parameter],
  order(row, rows) {
    const K = rows / 3 / H;
    const [head, part, channel] = [Math.floor(row / (3 * K)), Math.floor(row / K) % 3, row % K];
    return (part * H + head) * K + channel;
  },
});

/** llama.cpp has one GELU, in the tanh form; which form a model was trained with is noted beside. */
const ACTIVATION = 'feed_forward_activation';

function activation({ activation: name }: GptNeoxConfig): Record<string, GgufValue> {
  if (!name.startsWith('gelu'))
    throw new UnsupportedError(`llama.cpp's gptneox computes GELU: a model with ${name} has no place in GGUF`);
  return name === 'gelu' ? {} : { [ACTIVATION]: string(name) };
}

export const gptNeox: Dialect<GptNeoxConfig> = {
  architecture: 'gptneox',
  types: ['gpt_neox'],
  config(m, tensors) {
    const heads = m.integer('attention.head_count');
    const width = m.integer('embedding_length');
    return {
      model_type: 'gpt_neox',
      num_hidden_layers: m.integer('block_count'),
      hidden_size: width,
      num_attention_heads: heads,
      intermediate_size: m.integer('feed_forward_length'),
      vocab_size: tensors.get('token_embd.weight')?.shape[0] ?? m.integer('vocab_size'),
      max_position_embeddings: m.integer('context_length', 2048),
      layer_norm_eps: m.number('attention.layer_norm_epsilon'),
      rotary_pct: m.integer('rope.dimension_count') / (width / heads),
      rotary_emb_base: m.number('rope.freq_base', 10000),
      ...scalingOf(m),
      use_parallel_residual: m.boolean('use_parallel_residual', true),
      hidden_act: m.text(ACTIVATION, 'gelu'),
      attention_bias: tensors.has('blk.0.attn_qkv.bias'),
      tie_word_embeddings: !tensors.has('output.weight'),
    };
  },
  metadata: (c, json) => ({
    context_length: u32(new ConfigReader(json).integer('max_position_embeddings', 2048)),
    embedding_length: u32(c.D),
    block_count: u32(c.layers),
    feed_forward_length: u32(c.I),
    'attention.head_count': u32(c.H),
    'attention.layer_norm_epsilon': f32(c.epsilon),
    'rope.dimension_count': u32(2 * c.frequencies.length),
    'rope.freq_base': f32(ropeBase(new ConfigReader(json))),
    use_parallel_residual: bool(c.parallel),
    ...activation(c),
    ...(c.yarn
      ? yarnScaling(c.yarn)
      : linearScaling(slowdowns(c.frequencies, ropeBase(new ConfigReader(json))), 'gptneox')),
  }),
  heads: ({ H }) => ({ H, G: H }),
  tensors: ({ H }) => ({
    'token_embd.weight': 'gpt_neox.embed_in.weight',
    ...withBias('output_norm', 'gpt_neox.final_layer_norm'),
    'output.weight': 'lm_head.weight',
    ...withBias('blk.#.attn_norm', `${layer}input_layernorm`),
    'blk.#.attn_qkv.weight': fused(`${layer}attention.query_key_value.weight`, H),
    'blk.#.attn_qkv.bias': fused(`${layer}attention.query_key_value.bias`, H),
    ...withBias('blk.#.attn_output', `${layer}attention.dense`),
    ...withBias('blk.#.ffn_norm', `${layer}post_attention_layernorm`),
    ...withBias('blk.#.ffn_up', `${layer}mlp.dense_h_to_4h`),
    ...withBias('blk.#.ffn_down', `${layer}mlp.dense_4h_to_h`),
    'rope_freqs.weight': null,
  }),
  embedding: 'gpt_neox.embed_in.weight',
  precise: /rope_freqs/,
};

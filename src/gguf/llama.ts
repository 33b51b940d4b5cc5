import { UnsupportedError } from '../core/errors.ts';
import { ConfigReader, type Json } from '../models/config.ts';
import type { LlamaConfig } from '../models/llama.ts';
import { ropeBase } from '../models/rope-config.ts';
import { type Dialect, f32, type Heads, type Holding, u32 } from './dialect.ts';
import type { Metadata } from './metadata.ts';
import { linearScaling, ropeFactors, scalingOf, slowdowns, yarnScaling } from './rope.ts';

const names: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
  'blk.#.attn_norm.weight': 'model.layers.#.input_layernorm.weight',
  'blk.#.attn_q.weight': 'model.layers.#.self_attn.q_proj.weight',
  'blk.#.attn_q.bias': 'model.layers.#.self_attn.q_proj.bias',
  'blk.#.attn_k.weight': 'model.layers.#.self_attn.k_proj.weight',
  'blk.#.attn_k.bias': 'model.layers.#.self_attn.k_proj.bias',
  'blk.#.attn_v.weight': 'model.layers.#.self_attn.v_proj.weight',
  'blk.#.attn_v.bias': 'model.layers.#.self_attn.v_proj.bias',
  'blk.#.attn_output.weight': 'model.layers.#.self_attn.o_proj.weight',
  'blk.#.attn_output.bias': 'model.layers.#.self_attn.o_proj.bias',
  'blk.#.ffn_norm.weight': 'model.layers.#.post_attention_layernorm.weight',
  'blk.#.ffn_gate.weight': 'model.layers.#.mlp.gate_proj.weight',
  'blk.#.ffn_up.weight': 'model.layers.#.mlp.up_proj.weight',
  'blk.#.ffn_down.weight': 'model.layers.#.mlp.down_proj.weight',
};

/**
 * Queries and keys: checkpoints rotate the two halves of a head against each other, files the channels 2i and 2i + 1, so
 * that row (j, i) of a head [2, K/2] is row (i, j) of the file's [K/2, 2].
 */
const interleaved = (parameter: string, heads: number): Holding => ({
  parameters: [parameter],
  order(row, rows) {
    const K = rows / heads;
    const inHead = row % K;
    return row - inHead + 2 * (inHead % (K / 2)) + Math.floor(inHead / (K / 2));
  },
});

function config(m: Metadata, tensors: { has(name: string): boolean; get(name: string): unknown }): Json {
  const heads = m.integer('attention.head_count');
  const width = m.integer('embedding_length');
  const embedding = tensors.get('token_embd.weight') as { shape: readonly number[] } | undefined;
  return {
    num_hidden_layers: m.integer('block_count'),
    hidden_size: width,
    num_attention_heads: heads,
    num_key_value_heads: m.integer('attention.head_count_kv', heads),
    head_dim: m.integer('attention.key_length', width / heads),
    intermediate_size: m.integer('feed_forward_length'),
    vocab_size: embedding?.shape[0] ?? m.integer('vocab_size'),
    max_position_embeddings: m.integer('context_length', 2048),
    rms_norm_eps: m.number('attention.layer_norm_rms_epsilon'),
    rope_theta: m.number('rope.freq_base', 10000),
    ...scalingOf(m),
    tie_word_embeddings: !tensors.has('output.weight'),
  };
}

function metadata(c: LlamaConfig, json: Json): ReturnType<Dialect['metadata']> {
  const reader = new ConfigReader(json);
  if (2 * c.frequencies.length !== c.K)
    throw new UnsupportedError(
      `llama.cpp's llama turns whole heads: a model that turns ${2 * c.frequencies.length} of ${c.K} channels has no place in GGUF`,
    );
  return {
    context_length: u32(reader.integer('max_position_embeddings', 2048)),
    embedding_length: u32(c.D),
    block_count: u32(c.layers),
    feed_forward_length: u32(c.I),
    'attention.head_count': u32(c.H),
    'attention.head_count_kv': u32(c.G),
    'attention.key_length': u32(c.K),
    'attention.value_length': u32(c.K),
    'attention.layer_norm_rms_epsilon': f32(c.epsilon),
    ...(c.window > 0 && { 'attention.sliding_window': u32(c.window) }),
    'rope.dimension_count': u32(c.K),
    'rope.freq_base': f32(ropeBase(reader)),
    ...(c.yarn && yarnScaling(c.yarn)),
  };
}

/** How many times slower than usual each pair turns, where metadata do not tell it. */
const factorsOf = (c: LlamaConfig, json: Json): number[] =>
  c.yarn ? [] : slowdowns(c.frequencies, ropeBase(new ConfigReader(json)));

const heads = ({ H, G }: LlamaConfig): Heads => ({ H, G });

/** Llama and those that are Llama in all but name (Mistral, SmolLM, TinyLlama …). */
export const llama: Dialect<LlamaConfig> = {
  architecture: 'llama',
  types: ['llama'],
  config: (m, tensors) => ({
    model_type: 'llama',
    ...config(m, tensors),
    attention_bias: tensors.has('blk.0.attn_q.bias'),
    mlp_bias: tensors.has('blk.0.ffn_gate.bias'),
    ...(m.has('attention.sliding_window') && { sliding_window: m.integer('attention.sliding_window') }),
  }),
  metadata,
  heads,
  extras: (c, json) => ropeFactors(factorsOf(c, json)),
  tensors: ({ H, G }) => ({
    ...names,
    ...Object.fromEntries(
      ['gate', 'up', 'down'].map((part) => [`blk.#.ffn_${part}.bias`, `model.layers.#.mlp.${part}_proj.bias`]),
    ),
    ...Object.fromEntries(
      ['weight', 'bias'].flatMap((kind) => [
        [`blk.#.attn_q.${kind}`, interleaved(`model.layers.#.self_attn.q_proj.${kind}`, H)],
        [`blk.#.attn_k.${kind}`, interleaved(`model.layers.#.self_attn.k_proj.${kind}`, G)],
      ]),
    ),
    'rope_freqs.weight': null,
  }),
  precise: /rope_freqs/,
};

/** UnsupportedError for a model with a window, which llama.cpp's qwen2 does not compute. */
function everything({ window, layers, fullLayers }: LlamaConfig): object {
  if (window === 0 || fullLayers.length === layers) return {};
  throw new UnsupportedError(
    `llama.cpp's qwen2 sees the whole text in every layer: a model with a window of ${window} tokens has no place in GGUF`,
  );
}

/** Qwen2: biases on queries, keys and values, and rows as in checkpoints. */
export const qwen2: Dialect<LlamaConfig> = {
  architecture: 'qwen2',
  types: ['qwen2'],
  config(m, tensors) {
    m.only('attention.sliding_window', [0], 'a window is of no effect in llama.cpp’s qwen2: leave the key out');
    return { model_type: 'qwen2', ...config(m, tensors) };
  },
  metadata: (c, json) => ({ ...everything(c), ...metadata(c, json), ...linearScaling(factorsOf(c, json), 'qwen2') }),
  heads,
  tensors: () => ({ ...names, 'rope_freqs.weight': null }),
  precise: /rope_freqs/,
};

import type { Rwkv7Config } from '../models/rwkv7-config.ts';
import { type Dialect, f32, type Holding, shaped, size, transposed, u32, vector, withBias } from './dialect.ts';

const att = 'blocks.#.att.';

/** The numbers of the low-rank maps w, a, v and g: a vector and two matrices. */
const lowRank = (letter: string): Record<string, Holding> => ({
  ...(letter !== 'g' && { [`blk.#.time_mix_${letter}0.weight`]: vector(`${att}${letter}0`) }),
  [`blk.#.time_mix_${letter}1.weight`]: transposed(`${att}${letter}1`),
  [`blk.#.time_mix_${letter}2.weight`]: transposed(`${att}${letter}2`),
});

/** llama.cpp has a fixed ε under the root of the keys' norm; fla's models were trained with another. */
const keyEpsilon = 'attention.key_norm_epsilon';

export const rwkv7: Dialect<Rwkv7Config> = {
  architecture: 'rwkv7',
  types: ['rwkv7'],
  config: (m, tensors) => ({
    model_type: 'rwkv7',
    head_size: m.integer('wkv.head_size'),
    norm_eps: m.number('attention.layer_norm_epsilon', 1e-5),
    group_norm_eps: m.number('attention.group_norm_epsilon', 64e-5),
    key_norm_eps: m.number(keyEpsilon, 1e-24),
    tie_word_embeddings: !tensors.has('output.weight'),
  }),
  metadata: (c) => ({
    context_length: u32(2 ** 20),
    embedding_length: u32(c.D),
    block_count: u32(c.layers),
    feed_forward_length: u32(c.F),
    'attention.head_count': u32(0),
    'attention.layer_norm_epsilon': f32(c.epsilon),
    'attention.group_norm_epsilon': f32(c.headEpsilon),
    [keyEpsilon]: f32(c.keyEpsilon),
    'wkv.head_size': u32(c.N),
    'attention.decay_lora_rank': u32(c.ranks['w']!),
    'attention.iclr_lora_rank': u32(c.ranks['a']!),
    'attention.value_residual_mix_lora_rank': u32(c.ranks['v']!),
    'attention.gate_lora_rank': u32(c.ranks['g']!),
  }),
  tensors: () => ({
    'token_embd.weight': 'emb.weight',
    ...withBias('token_embd_norm', 'blocks.0.ln0'),
    ...withBias('output_norm', 'ln_out'),
    'output.weight': 'head.weight',
    ...withBias('blk.#.attn_norm', 'blocks.#.ln1'),
    ...withBias('blk.#.attn_norm_2', 'blocks.#.ln2'),
    'blk.#.time_mix_lerp_fused.weight': {
      parameters: ['r', 'w', 'k', 'v', 'a', 'g'].map((letter) => `${att}x_${letter}`),
    },
    ...lowRank('w'),
    ...lowRank('a'),
    ...lowRank('v'),
    ...lowRank('g'),
    'blk.#.time_mix_k_k.weight': vector(`${att}k_k`),
    'blk.#.time_mix_k_a.weight': vector(`${att}k_a`),
    'blk.#.time_mix_r_k.weight': shaped(
      `${att}r_k`,
      (shape) => shape,
      (shape) => [size(shape)],
    ),
    'blk.#.time_mix_key.weight': `${att}key.weight`,
    'blk.#.time_mix_value.weight': `${att}value.weight`,
    'blk.#.time_mix_receptance.weight': `${att}receptance.weight`,
    ...withBias('blk.#.time_mix_ln', `${att}ln_x`),
    'blk.#.time_mix_output.weight': `${att}output.weight`,
    'blk.#.channel_mix_lerp_k.weight': vector('blocks.#.ffn.x_k'),
    'blk.0.time_mix_v0.weight': null,
    'blk.0.time_mix_v1.weight': null,
    'blk.0.time_mix_v2.weight': null,
    'blk.#.channel_mix_key.weight': 'blocks.#.ffn.key.weight',
    'blk.#.channel_mix_value.weight': 'blocks.#.ffn.value.weight',
  }),
  /** The first layer's values are mixed with none before; llama.cpp wants matrices for it all the same. */
  extras: ({ D, ranks }) =>
    [[D], [ranks['a']!, D], [D, ranks['a']!]].map((shape, i) => ({
      name: `blk.0.time_mix_v${i}.weight`,
      shape,
      values: new Float32Array(size(shape)),
    })),
  precise: /time_mix_([wavg][012]|lerp|k_k|k_a|r_k)|channel_mix_lerp/,
};

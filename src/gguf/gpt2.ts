import { UnsupportedError } from '../core/errors.ts';
import type { Gpt2Config } from '../models/gpt2.ts';
import { type Dialect, f32, transposed, u32, withBias } from './dialect.ts';

const layer = 'transformer.h.#.';

/** GPT-2, whose matrices are [inputs, outputs] in checkpoints and [outputs, inputs] in files. */
export const gpt2: Dialect<Gpt2Config> = {
  architecture: 'gpt2',
  types: ['gpt2'],
  config: (m, tensors) => ({
    model_type: 'gpt2',
    n_layer: m.integer('block_count'),
    n_embd: m.integer('embedding_length'),
    n_head: m.integer('attention.head_count'),
    n_inner: m.integer('feed_forward_length'),
    n_positions: m.integer('context_length'),
    vocab_size: tensors.get('token_embd.weight')?.shape[0] ?? m.integer('vocab_size'),
    layer_norm_epsilon: m.number('attention.layer_norm_epsilon'),
  }),
  metadata: (c) => ({
    ...tanhOnly(c),
    context_length: u32(c.P),
    embedding_length: u32(c.D),
    block_count: u32(c.layers),
    feed_forward_length: u32(c.I),
    'attention.head_count': u32(c.H),
    'attention.layer_norm_epsilon': f32(c.epsilon),
  }),
  tensors: () => ({
    'token_embd.weight': 'transformer.wte.weight',
    'position_embd.weight': 'transformer.wpe.weight',
    ...withBias('output_norm', 'transformer.ln_f'),
    // Where the head is the embedding, files may have it twice.
    'output.weight': 'lm_head.weight',
    ...withBias('blk.#.attn_norm', `${layer}ln_1`),
    ...withBias('blk.#.ffn_norm', `${layer}ln_2`),
    ...matrix('blk.#.attn_qkv', `${layer}attn.c_attn`),
    ...matrix('blk.#.attn_output', `${layer}attn.c_proj`),
    ...matrix('blk.#.ffn_up', `${layer}mlp.c_fc`),
    ...matrix('blk.#.ffn_down', `${layer}mlp.c_proj`),
  }),
  precise: /position_embd/,
};

/** UnsupportedError for a model whose activation is not the one that llama.cpp computes. */
function tanhOnly({ activation }: Gpt2Config): object {
  if (/^gelu_(new|fast|pytorch_tanh)$/.test(activation)) return {};
  throw new UnsupportedError(
    `llama.cpp's gpt2 computes GELU in the tanh form: a model with ${activation} has no place in GGUF`,
  );
}

const matrix = (tensor: string, parameter: string) => ({
  ...withBias(tensor, parameter),
  [`${tensor}.weight`]: transposed(`${parameter}.weight`),
});

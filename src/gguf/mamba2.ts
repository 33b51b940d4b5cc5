import type { Mamba2Config } from '../models/mamba2.ts';
import { type Dialect, f32, mambaTensors, negativeExponential, shaped, size, u32 } from './dialect.ts';

/** One number per head: [H] in checkpoints, [H, 1] in files. */
const perHead = {
  shape: ([H]: readonly number[]) => [H!],
  stored: ([H]: readonly number[]) => [H!, 1],
};

/** llama.cpp has no bounds of Δ; where a model has some, they are noted beside. */
const limits = ['ssm.time_step_limit_low', 'ssm.time_step_limit_high'] as const;

/** Mamba-2, whose `ssm.time_step_rank` is the number of heads. */
export const mamba2: Dialect<Mamba2Config> = {
  architecture: 'mamba2',
  types: ['mamba2'],
  config(m, tensors) {
    const inner = m.integer('ssm.inner_size');
    const heads = m.integer('ssm.time_step_rank');
    const width = m.integer('embedding_length');
    return {
      model_type: 'mamba2',
      num_hidden_layers: m.integer('block_count'),
      hidden_size: width,
      expand: inner / width,
      num_heads: heads,
      head_dim: inner / heads,
      state_size: m.integer('ssm.state_size'),
      n_groups: m.integer('ssm.group_count', 1),
      conv_kernel: m.integer('ssm.conv_kernel'),
      vocab_size: tensors.get('token_embd.weight')?.shape[0] ?? m.integer('vocab_size'),
      layer_norm_epsilon: m.number('attention.layer_norm_rms_epsilon', 1e-5),
      tie_word_embeddings: !tensors.has('output.weight'),
      use_bias: false,
      use_conv_bias: tensors.has('blk.0.ssm_conv1d.bias'),
      ...(limits.some((key) => m.has(key)) && {
        time_step_limit: [m.number(limits[0], 0), m.number(limits[1], Infinity)],
      }),
    };
  },
  metadata: (c) => ({
    context_length: u32(2 ** 20),
    embedding_length: u32(c.D),
    block_count: u32(c.layers),
    feed_forward_length: u32(0),
    'attention.head_count': u32(0),
    'attention.layer_norm_rms_epsilon': f32(c.epsilon),
    'ssm.conv_kernel': u32(c.K),
    'ssm.inner_size': u32(c.H * c.P),
    'ssm.state_size': u32(c.N),
    'ssm.time_step_rank': u32(c.H),
    'ssm.group_count': u32(c.G),
    ...(c.limit[0] > 0 && { [limits[0]]: f32(c.limit[0]) }),
    ...(c.limit[1] < Infinity && { [limits[1]]: f32(c.limit[1]) }),
  }),
  tensors: ({ G }) => ({
    ...mambaTensors,
    'blk.#.ssm_dt.bias': 'backbone.layers.#.mixer.dt_bias',
    'blk.#.ssm_a': negativeExponential('backbone.layers.#.mixer.A_log', perHead),
    'blk.#.ssm_d': { parameters: ['backbone.layers.#.mixer.D'], ...perHead },
    'blk.#.ssm_norm.weight': shaped(
      'backbone.layers.#.mixer.norm.weight',
      (shape) => [size(shape)],
      ([E]) => [G, E! / G],
    ),
  }),
  heads: ({ H, G }) => ({ H, G }),
  precise: /ssm_(conv1d|a|d|norm)/,
};

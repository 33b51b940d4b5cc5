import type { MambaConfig } from '../models/mamba.ts';
import { bool, type Dialect, f32, mambaTensors, negativeExponential, u32, withBias } from './dialect.ts';

/** llama.cpp takes the layers' ε for Δ, B and C too; models were trained with another, so it is noted beside. */
const mixerEpsilon = 'ssm.dt_b_c_rms_epsilon';

/** Mamba, and Falcon-Mamba, which is a flag. */
export const mamba: Dialect<MambaConfig> = {
  architecture: 'mamba',
  types: ['mamba', 'falcon_mamba'],
  config(m, tensors) {
    const normed = m.boolean('ssm.dt_b_c_rms', false);
    const epsilon = m.number('attention.layer_norm_rms_epsilon', 1e-5);
    return {
      model_type: normed ? 'falcon_mamba' : 'mamba',
      num_hidden_layers: m.integer('block_count'),
      hidden_size: m.integer('embedding_length'),
      intermediate_size: m.integer('ssm.inner_size'),
      state_size: m.integer('ssm.state_size'),
      time_step_rank: m.integer('ssm.time_step_rank'),
      conv_kernel: m.integer('ssm.conv_kernel'),
      vocab_size: tensors.get('token_embd.weight')?.shape[0] ?? m.integer('vocab_size'),
      layer_norm_epsilon: epsilon,
      ...(normed && { mixer_rms_eps: m.number(mixerEpsilon, epsilon) }),
      tie_word_embeddings: !tensors.has('output.weight'),
      use_bias: false,
      use_conv_bias: tensors.has('blk.0.ssm_conv1d.bias'),
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
    'ssm.inner_size': u32(c.E),
    'ssm.state_size': u32(c.N),
    'ssm.time_step_rank': u32(c.R),
    'ssm.dt_b_c_rms': bool(c.mixerEpsilon !== undefined),
    ...(c.mixerEpsilon !== undefined && { [mixerEpsilon]: f32(c.mixerEpsilon) }),
  }),
  tensors: () => ({
    ...mambaTensors,
    'blk.#.ssm_x.weight': 'backbone.layers.#.mixer.x_proj.weight',
    ...withBias('blk.#.ssm_dt', 'backbone.layers.#.mixer.dt_proj'),
    'blk.#.ssm_a': negativeExponential('backbone.layers.#.mixer.A_log'),
    'blk.#.ssm_d': 'backbone.layers.#.mixer.D',
  }),
  precise: /ssm_(conv1d|a|d)/,
};

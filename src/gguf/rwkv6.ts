import type { Rwkv6Config } from '../models/rwkv6.ts';
import { type Dialect, f32, type Holding, transposed, u32, vector, withBias } from './dialect.ts';
import type { Metadata } from './metadata.ts';

const att = 'blocks.#.att.';
const ffn = 'blocks.#.ffn.';

/** RWKV-6. Files may have the residual halved every few layers, with matrices that are made up for it. */
export const rwkv6: Dialect<Rwkv6Config> = {
  architecture: 'rwkv6',
  types: ['rwkv6'],
  config(m) {
    m.only('attention.layer_norm_epsilon', [Math.fround(1e-5)], 'the norms have ε = 1e-5');
    return { model_type: 'rwkv6', head_size: m.integer('wkv.head_size') };
  },
  metadata: (c) => ({
    context_length: u32(2 ** 20),
    embedding_length: u32(c.D),
    block_count: u32(c.layers),
    feed_forward_length: u32(c.F),
    'attention.head_count': u32(0),
    'attention.layer_norm_epsilon': f32(1e-5),
    rescale_every_n_layers: u32(0),
    'wkv.head_size': u32(c.N),
    time_mix_extra_dim: u32(c.R),
    time_decay_extra_dim: u32(c.Rd),
  }),
  tensors: () => ({
    'token_embd.weight': 'emb.weight',
    ...withBias('token_embd_norm', 'blocks.0.ln0'),
    ...withBias('output_norm', 'ln_out'),
    'output.weight': 'head.weight',
    ...withBias('blk.#.attn_norm', 'blocks.#.ln1'),
    ...withBias('blk.#.attn_norm_2', 'blocks.#.ln2'),
    'blk.#.time_mix_lerp_x.weight': vector(`${att}time_maa_x`),
    'blk.#.time_mix_lerp_fused.weight': {
      parameters: ['w', 'k', 'v', 'r', 'g'].map((letter) => `${att}time_maa_${letter}`),
    },
    'blk.#.time_mix_w1.weight': transposed(`${att}time_maa_w1`),
    'blk.#.time_mix_w2.weight': transposed(`${att}time_maa_w2`),
    'blk.#.time_mix_first.weight': `${att}time_faaaa`,
    'blk.#.time_mix_decay.weight': vector(`${att}time_decay`),
    'blk.#.time_mix_decay_w1.weight': transposed(`${att}time_decay_w1`),
    'blk.#.time_mix_decay_w2.weight': transposed(`${att}time_decay_w2`),
    'blk.#.time_mix_key.weight': `${att}key.weight`,
    'blk.#.time_mix_value.weight': `${att}value.weight`,
    'blk.#.time_mix_receptance.weight': `${att}receptance.weight`,
    'blk.#.time_mix_gate.weight': `${att}gate.weight`,
    ...withBias('blk.#.time_mix_ln', `${att}ln_x`),
    'blk.#.time_mix_output.weight': `${att}output.weight`,
    'blk.#.channel_mix_lerp_k.weight': vector(`${ffn}time_maa_k`),
    'blk.#.channel_mix_lerp_r.weight': vector(`${ffn}time_maa_r`),
    'blk.#.channel_mix_key.weight': `${ffn}key.weight`,
    'blk.#.channel_mix_receptance.weight': `${ffn}receptance.weight`,
    'blk.#.channel_mix_value.weight': `${ffn}value.weight`,
  }),
  precise: /time_mix_(first|decay|w1|w2|lerp)|channel_mix_lerp/,
};

/**
 * What a file holds that is halved after every `rescale_every_n_layers` layers: the matrices that write to the residual are
 * divided by as much, and here multiplied again, which is exact.
 */
export function unscaled(table: ReturnType<Dialect['tensors']>, metadata: Metadata): ReturnType<Dialect['tensors']> {
  const every = metadata.integer('rescale_every_n_layers', 0);
  if (every === 0) return table;
  const rescaled = (name: string): Holding => ({
    parameters: [table[name] as string],
    read: (values, _, layer) => values.map((value) => value * 2 ** Math.floor(layer / every)),
  });
  const names = ['blk.#.time_mix_output.weight', 'blk.#.channel_mix_value.weight'];
  return { ...table, ...Object.fromEntries(names.map((name) => [name, rescaled(name)])) };
}

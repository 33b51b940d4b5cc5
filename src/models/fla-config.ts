import type { FlaConfig } from '../layers/fla.ts';
import type { TensorShapes } from './architecture.ts';
import { ConfigReader, type Json } from './config.ts';

/** The fields that fla's models share; refuses what none of them here computes. */
export function readFlaConfig(
  json: Json,
  tensors: TensorShapes,
  usualRatio = 4,
): { reader: ConfigReader; common: FlaConfig } {
  const c = new ConfigReader(json, tensors);
  c.only('hidden_act', ['swish', 'silu'], 'the MLP is SwiGLU');
  c.only('attn', [null], 'layers of full attention in between are not built');
  const D = c.integer('hidden_size', c.axis('embeddings.weight', 1));
  // fla rounds ⅔ · ratio · D up to a multiple of 256 where no width is given.
  const ratio = c.number('hidden_ratio', usualRatio);
  const width = 256 * Math.ceil(Math.trunc((D * ratio * 2) / 3) / 256);
  const common = {
    layers: c.layers('num_hidden_layers'),
    D,
    V: c.integer('vocab_size', c.axis('embeddings.weight', 0)),
    I: c.integer('intermediate_size', c.axis('mlp.down_proj.weight', 1) ?? width),
    epsilon: c.positive('norm_eps', 1e-6),
    tied: c.tied('tie_word_embeddings', false),
  };
  return { reader: c, common };
}

/**
 * Heads H of K key and Vh value channels: by the factors `expand_k` and `expand_v` of the width, or by the tensors' shapes. The
 * norm named `norm` is over the values of one head.
 */
export function flaHeads(c: ConfigReader, D: number, norm: string, defaults: { H: number; k: number; v: number }) {
  const rows = (name: string) => c.axis(`attn.${name}_proj.weight`, 0);
  const [value, width] = [rows('v'), c.axis(`attn.${norm}`, 0)];
  const H = c.integer('num_heads', value && width ? value / width : defaults.H);
  const channels = (field: string, stored: number | undefined, usual: number) =>
    stored === undefined || c.has(field) ? Math.floor((D * c.number(field, usual)) / H) : Math.floor(stored / H);
  return { H, K: channels('expand_k', rows('k'), defaults.k), Vh: channels('expand_v', value, defaults.v) };
}

/** Name of the output norm's weight of those whose output is gated: it says how the checkpoint's library fused the two. */
export const gatedNorm = (tensors: TensorShapes): string =>
  tensors.size > 0 && !hasTensors(tensors, ['g_norm_swish_gate.weight']) ? 'g_norm.weight' : 'g_norm_swish_gate.weight';

/** Whether a checkpoint has tensors that end in all of `suffixes` and in none of `others`. */
export function hasTensors(
  tensors: TensorShapes,
  suffixes: readonly string[],
  others: readonly string[] = [],
): boolean {
  const names = [...tensors.keys()];
  const has = (suffix: string) => names.some((name) => name.endsWith(suffix));
  return suffixes.every(has) && !others.some(has);
}

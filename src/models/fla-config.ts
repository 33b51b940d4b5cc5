import type { FlaConfig } from '../layers/fla.ts';
import type { TensorShapes } from './architecture.ts';
import { ConfigReader, type Json } from './config.ts';

/** The fields that fla's models share; refuses what none of them here computes. */
export function readFlaConfig(json: Json): { reader: ConfigReader; common: FlaConfig } {
  const c = new ConfigReader(json);
  c.only('hidden_act', ['swish', 'silu'], 'the MLP is SwiGLU');
  c.only('attn', [null], 'layers of full attention in between are not built');
  const D = c.integer('hidden_size');
  // fla rounds ⅔ · ratio · D up to a multiple of 256 where no width is given.
  const ratio = c.number('hidden_ratio', 4);
  const width = 256 * Math.ceil(Math.trunc((D * ratio * 2) / 3) / 256);
  const common = {
    layers: c.integer('num_hidden_layers'),
    D,
    V: c.integer('vocab_size'),
    I: c.integer('intermediate_size', width),
    epsilon: c.positive('norm_eps', 1e-6),
    tied: c.boolean('tie_word_embeddings', false),
  };
  return { reader: c, common };
}

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

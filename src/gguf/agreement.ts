import { UnsupportedError } from '../core/errors.ts';
import type { Checkpoint } from '../formats/checkpoint.ts';
import type { Json } from '../models/config.ts';
import { architectureOf } from '../models/index.ts';
import type { Dialect } from './dialect.ts';
import type { Metadata } from './metadata.ts';

/** Keys by which a file may ask for a computation that is not built, with the values that ask for none. */
const neutral: Readonly<Record<string, readonly unknown[]>> = {
  'attention.causal': [true],
  'attention.max_alibi_bias': [0],
  'attention.clamp_kqv': [0],
  attn_logit_softcapping: [0],
  final_logit_softcapping: [0],
  logit_scale: [0, 1],
  embedding_scale: [0, 1],
  residual_scale: [0, 1],
  'attention.scale': [0],
  'attention.sliding_window_pattern': [0, 1, true],
  expert_count: [0],
  'rope.scaling.alpha': [0, 1],
  'rope.scaling.yarn_ext_factor': [-1, 1],
  'rope.scaling.yarn_attn_factor': [-1, 1],
  'rope.scaling.yarn_log_multiplier': [0],
  token_shift_count: [2],
};

/** Of the keys that a model is written with, those that say nothing of what it computes. */
const idle = new Set(['context_length']);

/**
 * Refuses a file whose metadata ask for what is not built, or say another number than the model that was read from them and from the
 * tensors has: reading on would compute something else without a word.
 */
export function refuseContradictions(
  metadata: Metadata,
  dialect: Dialect,
  config: Json,
  tensors: Checkpoint['tensors'],
): void {
  for (const [key, values] of Object.entries(neutral))
    metadata.only(key, values, 'a model that computes so is not built');
  const architecture = architectureOf(config, tensors);
  const parsed = architecture.config(config, tensors) as { readonly V: number };
  metadata.agree('vocab_size', parsed.V, 'by its tensors it is');
  for (const [key, { value }] of Object.entries(written(dialect, parsed, config)))
    if (!idle.has(key) && value !== 0) metadata.agree(key, value, 'by its tensors and its other metadata it is');
}

/** What the model would be written with; of one that has no place in GGUF nothing can be compared. */
function written(dialect: Dialect, parsed: unknown, config: Json): ReturnType<Dialect['metadata']> {
  try {
    return dialect.metadata(parsed, config);
  } catch (error) {
    if (error instanceof UnsupportedError) return {};
    throw error;
  }
}

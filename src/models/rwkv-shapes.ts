import { ConfigError } from '../core/errors.ts';
import type { TensorShapes } from './architecture.ts';

/** Sizes that an RWKV checkpoint's tensors tell: its author's files come without a configuration. */
export interface RwkvSizes {
  readonly layers: number;
  readonly D: number;
  readonly V: number;
  /** Inner width of the channel mixing. */
  readonly F: number;
}

/** Reads the sizes from tensors named as in BlinkDL's, Hugging Face's or fla's checkpoints. */
export function rwkvSizes(tensors: TensorShapes): RwkvSizes {
  const [V, D] = shapeOf(tensors, /(^|\.)(emb|embeddings)\.weight$/);
  const [F] = shapeOf(tensors, /(^|\.)0\.(ffn|feed_forward)\.key\.(linear\.)?weight$/);
  let layers = 0;
  for (const name of tensors.keys())
    layers = Math.max(layers, 1 + Number(/(?:blocks|layers)\.(\d+)\./.exec(name)?.[1] ?? -1));
  return { layers, D: D!, V: V!, F: F! };
}

/** Shape of the first tensor whose name matches. */
export function shapeOf(tensors: TensorShapes, pattern: RegExp): readonly number[] {
  for (const [name, { shape }] of tensors) if (pattern.test(name)) return shape;
  throw new ConfigError(`the checkpoint has no tensor named like ${pattern.source}`);
}

import type { Checkpoint } from '../formats/checkpoint.ts';
import { readF32 } from '../formats/read-f32.ts';
import { headNames, type Json } from '../models/config.ts';

/** Elements compared at a time. */
const PIECE = 1 << 17;

const embeddingNames = /(^|\.)(embeddings?|embed_tokens|embed_in|emb|wte)\.weight$/;

/**
 * A checkpoint without the head that it stores though the head is its embedding: files of tied models may have that matrix
 * twice. A head with other numbers stays, and counts, as one stays where the configuration says that the two are apart.
 */
export async function withoutRepeatedHead(config: Json, checkpoint: Checkpoint): Promise<Checkpoint> {
  if (config['tie_word_embeddings'] === false || config['tie_embeddings'] === false) return checkpoint;
  const stored = [...checkpoint.tensors.values()];
  const head = stored.find(({ name }) => headNames.test(name));
  const embedding = stored.find(({ name }) => embeddingNames.test(name));
  if (!head || !embedding || head.shape.join() !== embedding.shape.join()) return checkpoint;
  const [rows = 1, width = 1] = head.shape;
  const step = Math.max(1, Math.floor(PIECE / Math.max(1, width)));
  for (let row = 0; row < rows; row += step) {
    const count = Math.min(step, rows - row) * width;
    const [a, b] = await Promise.all([head, embedding].map((one) => readF32(checkpoint, one, row * width, count)));
    if (a!.some((value, i) => value !== b![i])) return checkpoint;
  }
  return { ...checkpoint, tensors: new Map([...checkpoint.tensors].filter(([name]) => name !== head.name)) };
}

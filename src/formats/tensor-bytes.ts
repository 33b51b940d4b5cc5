import type { StoredType } from './checkpoint.ts';
import { type BlockType, blockFormats, isBlockType } from './gguf-blocks.ts';

/** Bytes of one number of the types that are not in blocks. */
export const elementBytes: Readonly<Record<Exclude<StoredType, BlockType>, number>> = {
  f64: 8,
  f32: 4,
  f16: 2,
  bf16: 2,
  i64: 8,
  i32: 4,
  i16: 2,
  i8: 1,
  u8: 1,
  bool: 1,
};

/**
 * How many bytes a dense tensor of `type` takes; `shape` is outermost axis first. Answers a sentence that says what is
 * wrong for a shape that no tensor can have: an overflow, or rows that are not whole blocks.
 */
export function tensorBytes(type: StoredType, shape: readonly number[]): number | { problem: string } {
  let elements = 1;
  for (const dim of shape) {
    if (!Number.isSafeInteger(dim) || dim < 0) return { problem: `axis of length ${dim}` };
    elements *= dim;
    if (elements > Number.MAX_SAFE_INTEGER / 8) return { problem: 'more elements than any file can hold' };
  }
  if (!isBlockType(type)) return elements * elementBytes[type];
  const block = blockFormats[type];
  const row = shape.at(-1) ?? 1;
  if (row % block.elements)
    return { problem: `rows of ${row} numbers, which are not whole blocks of ${block.elements}` };
  return (elements / block.elements) * block.bytes;
}

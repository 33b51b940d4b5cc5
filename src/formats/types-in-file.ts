import type { Checkpoint, StoredType } from './checkpoint.ts';
import { scalesSuffix } from './quantised.ts';

/** What integers are called that have their scales in another tensor. */
const blocks: Readonly<Partial<Record<StoredType, StoredType>>> = { i8: 'q8_0', u8: 'q4_0' };

/**
 * How a file has the tensors of its checkpoint, by their names there: what is read in another order, or has groups that are not whole,
 * appears as f32 whatever it is.
 *
 * @param held what the tensors of the file are called in the checkpoint, where they are called differently
 */
export function typesInFile(
  { tensors }: Checkpoint,
  held?: ReadonlyMap<string, readonly string[]>,
): Map<string, StoredType> {
  const types = new Map<string, StoredType>();
  for (const { name, type } of tensors.values()) {
    const own = (tensors.has(name + scalesSuffix) ? blocks[type] : undefined) ?? type;
    for (const appearance of held?.get(name) ?? [name]) types.set(appearance, own);
  }
  return types;
}

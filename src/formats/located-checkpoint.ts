import { InputError } from '../core/errors.ts';
import type { ByteSource } from './byte-source.ts';
import type { Checkpoint, StoredTensor } from './checkpoint.ts';

/** A tensor whose data is one run of bytes of the source, from byte `at` on. */
export interface LocatedTensor extends StoredTensor {
  readonly at: number;
}

/** The tensor called `name`, if `length` bytes from `offset` on are in it; throws InputError otherwise. */
export function tensorSpan<Tensor extends StoredTensor>(
  checkpoint: { readonly name: string; readonly tensors: ReadonlyMap<string, Tensor> },
  name: string,
  offset: number,
  length: number,
): Tensor {
  const tensor = checkpoint.tensors.get(name);
  if (!tensor) throw new InputError(`${checkpoint.name} has no tensor "${name}"`);
  if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > tensor.byteLength)
    throw new InputError(
      `${checkpoint.name}: tensor "${name}" has ${tensor.byteLength} bytes; can't read ${length} from byte ${offset} on`,
    );
  return tensor;
}

/** A checkpoint over a source in which every tensor is one run of bytes. */
export function locatedCheckpoint(
  source: ByteSource,
  format: Checkpoint['format'],
  tensors: ReadonlyMap<string, LocatedTensor>,
  metadata: Readonly<Record<string, unknown>>,
): Checkpoint {
  const { name } = source;
  return {
    name,
    format,
    tensors,
    metadata,
    async read(tensor, into, offset = 0) {
      const { at } = tensorSpan({ name, tensors }, tensor, offset, into.length);
      await source.read(at + offset, into);
    },
    close: () => source.close(),
  };
}

import { UnsupportedError } from '../core/errors.ts';
import { float16Table } from '../core/float16.ts';
import type { Checkpoint, StoredTensor, StoredType } from './checkpoint.ts';
import { blockFormats, decodeBlocks, isBlockType } from './gguf-blocks.ts';
import { elementBytes } from './tensor-bytes.ts';

/** Decodes little-endian numbers of a stored type to f32. `bytes` may begin at any address. */
export function decodeToF32(type: StoredType, bytes: Uint8Array, into: Float32Array): void {
  if (isBlockType(type)) {
    decodeBlocks(type, bytes, into);
    return;
  }
  const size = elementBytes[type];
  // Typed arrays need aligned bytes; a copy is made only when they are not.
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  const { buffer, byteOffset } = aligned;
  const length = into.length;
  if (type === 'f32') into.set(new Float32Array(buffer, byteOffset, length));
  else if (type === 'bf16') {
    const halfWords = new Uint16Array(buffer, byteOffset, length);
    const words = new Uint32Array(into.buffer, into.byteOffset, length);
    for (let i = 0; i < length; i++) words[i] = halfWords[i]! << 16;
  } else if (type === 'f16') {
    const table = float16Table();
    const halfWords = new Uint16Array(buffer, byteOffset, length);
    for (let i = 0; i < length; i++) into[i] = table[halfWords[i]!]!;
  } else if (type === 'f64') into.set(new Float64Array(buffer, byteOffset, length));
  else if (type === 'i64') {
    const numbers = new BigInt64Array(buffer, byteOffset, length);
    for (let i = 0; i < length; i++) into[i] = Number(numbers[i]);
  } else if (type === 'i32') into.set(new Int32Array(buffer, byteOffset, length));
  else if (type === 'i16') into.set(new Int16Array(buffer, byteOffset, length));
  else if (type === 'i8') into.set(new Int8Array(buffer, byteOffset, length));
  else if (type === 'u8' || type === 'bool') into.set(new Uint8Array(buffer, byteOffset, length));
  else throw new UnsupportedError(`numbers stored as ${type satisfies never} can't be decoded`);
}

/**
 * Reads `count` numbers of a tensor from element `start` on (by default all) as f32, into `into` where it is given. In block
 * formats both must be whole blocks, which whole rows are.
 */
export async function readF32(
  checkpoint: Checkpoint,
  stored: StoredTensor,
  start = 0,
  count?: number,
  into?: Float32Array,
): Promise<Float32Array> {
  const { name, type, shape } = stored;
  const length = count ?? shape.reduce((a, b) => a * b, 1) - start;
  const values = into ? into.subarray(0, length) : new Float32Array(length);
  const bytesOf = (elements: number) =>
    isBlockType(type)
      ? (elements / blockFormats[type].elements) * blockFormats[type].bytes
      : elements * elementBytes[type];
  // Plain f32 goes straight from the file into the result.
  const bytes =
    type === 'f32'
      ? new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
      : new Uint8Array(bytesOf(values.length));
  await checkpoint.read(name, bytes, bytesOf(start));
  if (type !== 'f32') decodeToF32(type, bytes, values);
  return values;
}

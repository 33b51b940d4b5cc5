import type { StoredRows } from '../core/backend.ts';
import { dequantise } from './quantised.ts';
import { decodeToF32 } from './read-f32.ts';

/** The numbers of stored rows. */
export function decodeRows({ type, count, bytes, scales }: StoredRows): Float32Array {
  if (type === 'f32') return new Float32Array(bytes.buffer, bytes.byteOffset, count);
  const values = new Float32Array(count);
  if (type !== 'q8' && type !== 'q4') {
    decodeToF32(type, bytes, values);
    return values;
  }
  const integers = type === 'q8' ? new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length) : bytes;
  const halves = new Uint16Array(scales!.buffer, scales!.byteOffset, scales!.length / 2);
  // Rows are whole groups: where they end does not matter.
  dequantise({ format: type, integers, scales: halves }, count, values);
  // The zeros of four bits have no sign, as in ggml's blocks, whatever sign their scale has.
  return type === 'q4' ? values.map((x) => x + 0) : values;
}

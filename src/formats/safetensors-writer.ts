import { FormatError } from '../core/errors.ts';
import type { StoredType } from './checkpoint.ts';
import { safetensorsTypes } from './safetensors.ts';
import { tensorBytes } from './tensor-bytes.ts';

/** A tensor to write: its encoded bytes, or where they come from piece by piece. */
export interface WrittenTensor {
  readonly name: string;
  readonly type: StoredType;
  readonly shape: readonly number[];
  readonly data: Uint8Array | (() => Iterable<Uint8Array> | AsyncIterable<Uint8Array>);
}

const typeNames = new Map(Object.entries(safetensorsTypes).map(([name, type]) => [type, name]));

/**
 * The bytes of a safetensors file, in pieces. Tensors are ordered by element size, largest first, then by name, and the
 * header is padded to a multiple of 8, so that every tensor is aligned, as the reference implementation has it.
 */
export async function* encodeSafetensors(
  tensors: Iterable<WrittenTensor>,
  metadata: Readonly<Record<string, string>> = {},
): AsyncGenerator<Uint8Array> {
  const placed = [...tensors].map((tensor) => ({ ...tensor, byteLength: byteLengthOf(tensor) }));
  const elementSize = ({ type }: WrittenTensor) => tensorBytes(type, [1]) as number;
  placed.sort((a, b) => elementSize(b) - elementSize(a) || (a.name < b.name ? -1 : 1));
  const header: [string, unknown][] = Object.keys(metadata).length > 0 ? [['__metadata__', metadata]] : [];
  let offset = 0;
  for (const [i, { name, type, shape, byteLength }] of placed.entries()) {
    if (placed[i - 1]?.name === name) throw new FormatError(`tensor ${JSON.stringify(name)} would be written twice`);
    header.push([name, { dtype: typeNames.get(type), shape, data_offsets: [offset, offset + byteLength] }]);
    offset += byteLength;
  }
  const text = `{${header.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`;
  const bytes = new TextEncoder().encode(text);
  const padded = Math.ceil(bytes.length / 8) * 8;
  const prefix = new Uint8Array(8 + padded).fill(0x20);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(padded), true);
  prefix.set(bytes, 8);
  yield prefix;
  for (const { name, data, byteLength } of placed) {
    let written = 0;
    for await (const piece of data instanceof Uint8Array ? [data] : data()) {
      written += piece.length;
      yield piece;
    }
    if (written !== byteLength)
      throw new FormatError(`tensor ${JSON.stringify(name)} gave ${written} bytes; its shape takes ${byteLength}`);
  }
}

function byteLengthOf({ name, type, shape }: WrittenTensor): number {
  const bytes = tensorBytes(type, shape);
  if (!typeNames.has(type))
    throw new FormatError(`tensor ${JSON.stringify(name)} is ${type}, which safetensors can't hold`);
  if (typeof bytes !== 'number') throw new FormatError(`tensor ${JSON.stringify(name)} has ${bytes.problem}`);
  return bytes;
}

/** A whole safetensors file in memory. */
export async function safetensorsBytes(
  tensors: Iterable<WrittenTensor>,
  metadata?: Readonly<Record<string, string>>,
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of encodeSafetensors(tensors, metadata)) pieces.push(piece);
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

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
  const { header, placed } = place(tensors, metadata);
  yield header;
  for (const { name, data, byteLength } of placed) {
    let written = 0;
    for await (const piece of data instanceof Uint8Array ? [data] : data()) {
      written += piece.length;
      yield piece;
    }
    checkLength(name, written, byteLength);
  }
}

/** A whole safetensors file in memory. */
export async function safetensorsBytes(
  tensors: Iterable<WrittenTensor>,
  metadata?: Readonly<Record<string, string>>,
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of encodeSafetensors(tensors, metadata)) pieces.push(piece);
  return joined(pieces);
}

/** A whole safetensors file, at once, of tensors whose bytes are there. */
export function safetensorsOf(
  tensors: Iterable<WrittenTensor & { readonly data: Uint8Array }>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const { header, placed } = place(tensors, metadata);
  for (const { name, data, byteLength } of placed) checkLength(name, data.length, byteLength);
  return joined([header, ...placed.map(({ data }) => data)]);
}

type Placed<T> = T & { readonly byteLength: number };

/** Puts tensors in order and makes the header. */
function place<T extends WrittenTensor>(
  tensors: Iterable<T>,
  metadata: Readonly<Record<string, string>>,
): { header: Uint8Array; placed: Placed<T>[] } {
  const placed = [...tensors].map((tensor) => ({ ...tensor, byteLength: byteLengthOf(tensor) }));
  const elementSize = ({ type }: WrittenTensor) => tensorBytes(type, [1]) as number;
  placed.sort((a, b) => elementSize(b) - elementSize(a) || (a.name < b.name ? -1 : 1));
  const entries: [string, unknown][] = Object.keys(metadata).length > 0 ? [['__metadata__', metadata]] : [];
  let offset = 0;
  for (const [i, { name, type, shape, byteLength }] of placed.entries()) {
    if (placed[i - 1]?.name === name) throw new FormatError(`tensor ${JSON.stringify(name)} would be written twice`);
    entries.push([name, { dtype: typeNames.get(type), shape, data_offsets: [offset, offset + byteLength] }]);
    offset += byteLength;
  }
  const text = `{${entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`;
  const bytes = new TextEncoder().encode(text);
  const padded = Math.ceil(bytes.length / 8) * 8;
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(bytes, 8);
  return { header, placed };
}

function checkLength(name: string, written: number, byteLength: number): void {
  if (written === byteLength) return;
  throw new FormatError(`tensor ${JSON.stringify(name)} gave ${written} bytes; its shape takes ${byteLength}`);
}

function byteLengthOf({ name, type, shape }: WrittenTensor): number {
  const bytes = tensorBytes(type, shape);
  if (!typeNames.has(type))
    throw new FormatError(`tensor ${JSON.stringify(name)} is ${type}, which safetensors can't hold`);
  if (typeof bytes !== 'number') throw new FormatError(`tensor ${JSON.stringify(name)} has ${bytes.problem}`);
  return bytes;
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

import { FormatError } from '../core/errors.ts';
import type { ByteSource } from './byte-source.ts';
import type { Checkpoint, StoredType } from './checkpoint.ts';
import { duplicateKey } from './duplicate-keys.ts';
import { type LocatedTensor, locatedCheckpoint } from './located-checkpoint.ts';
import { tensorBytes } from './tensor-bytes.ts';

/** The format's names of the element types that are read. */
export const safetensorsTypes: Readonly<Record<string, StoredType>> = {
  F64: 'f64',
  F32: 'f32',
  F16: 'f16',
  BF16: 'bf16',
  I64: 'i64',
  I32: 'i32',
  I16: 'i16',
  I8: 'i8',
  U8: 'u8',
  BOOL: 'bool',
};

/** Longest header that is read: the reference implementation's limit. */
const MAXIMUM_HEADER = 100_000_000;

/**
 * Opens a safetensors file: 8 bytes of header length, a JSON header, data. Only the header is read, and all of it is
 * checked: every tensor within the data, of the length its type and shape say, none overlapping another, no gaps.
 */
export async function openSafetensors(source: ByteSource): Promise<Checkpoint> {
  const { json, dataStart } = await readHeader(source);
  const fail = (problem: string): never => {
    throw new FormatError(`${source.name}: ${problem}`);
  };
  const metadata: Record<string, string> = {};
  const tensors = new Map<string, LocatedTensor>();
  for (const [name, entry] of Object.entries(json)) {
    if (name === '__metadata__') {
      if (!isRecord(entry)) fail('__metadata__ is not an object of texts');
      for (const [key, value] of Object.entries(entry as object)) {
        if (typeof value !== 'string') fail(`__metadata__.${key} is not a text`);
        Object.defineProperty(metadata, key, { value, enumerable: true });
      }
    } else tensors.set(name, readEntry(name, entry, dataStart, source.size, fail));
  }
  checkLayout([...tensors.values()], dataStart, source.size, fail);
  return locatedCheckpoint(source, 'safetensors', tensors, metadata);
}

async function readHeader(source: ByteSource): Promise<{ json: Record<string, unknown>; dataStart: number }> {
  const fail = (problem: string, cause?: unknown): never => {
    throw new FormatError(`${source.name}: ${problem}`, { cause });
  };
  if (source.size < 8)
    fail(`${source.size} bytes are too few for a safetensors file: it is truncated or something else`);
  const prefix = new Uint8Array(8);
  await source.read(0, prefix);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  if (length > BigInt(Math.min(MAXIMUM_HEADER, source.size - 8))) {
    fail(`its header would be ${length} bytes, of a file of ${source.size}: it is truncated, or no safetensors file`);
  }
  const bytes = new Uint8Array(Number(length));
  await source.read(8, bytes);
  if (bytes[0] !== 0x7b) fail('its header does not begin with "{": it is no safetensors file');
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    const json: unknown = JSON.parse(text);
    if (!isRecord(json)) fail('its header is not an object');
    const duplicate = duplicateKey(text);
    if (duplicate !== undefined) fail(`its header names ${JSON.stringify(duplicate)} twice`);
    return { json: json as Record<string, unknown>, dataStart: 8 + bytes.length };
  } catch (error) {
    if (error instanceof FormatError) throw error;
    return fail(`its header is not valid JSON in UTF-8 (${(error as Error).message})`, error);
  }
}

function readEntry(
  name: string,
  entry: unknown,
  dataStart: number,
  fileSize: number,
  fail: (problem: string) => never,
): LocatedTensor {
  const tensor = `tensor ${JSON.stringify(name)}`;
  if (!isRecord(entry)) return fail(`${tensor} is not described by an object`);
  const { dtype, shape, data_offsets: offsets, ...others } = entry;
  const [other] = Object.keys(others);
  if (other !== undefined) fail(`${tensor} has an unknown field ${JSON.stringify(other)}`);
  const type =
    typeof dtype === 'string' && Object.hasOwn(safetensorsTypes, dtype) ? safetensorsTypes[dtype] : undefined;
  if (!type)
    return fail(`${tensor} has the type ${JSON.stringify(dtype)}; known: ${Object.keys(safetensorsTypes).join(', ')}`);
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!Array.isArray(shape) || !shape.every(isCount)) return fail(`${tensor} has the shape ${JSON.stringify(shape)}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return fail(`${tensor} has the data_offsets ${JSON.stringify(offsets)}: two byte positions are expected`);
  }
  const [begin, end] = offsets as [number, number];
  const byteLength = tensorBytes(type, shape);
  if (typeof byteLength !== 'number') return fail(`${tensor} has ${byteLength.problem}`);
  if (begin > end || end > fileSize - dataStart) {
    fail(
      `${tensor} lies at bytes ${begin} to ${end} of ${fileSize - dataStart} bytes of data: the file is truncated or damaged`,
    );
  }
  if (end - begin !== byteLength) {
    fail(`${tensor} takes ${end - begin} bytes, but ${dtype} [${shape.join(', ')}] is ${byteLength} bytes`);
  }
  return { name, type, shape, byteLength, at: dataStart + begin };
}

/** The data must be covered exactly: no byte twice, none unaccounted for. */
function checkLayout(
  tensors: LocatedTensor[],
  dataStart: number,
  fileSize: number,
  fail: (problem: string) => never,
): void {
  tensors.sort((a, b) => a.at - b.at || a.byteLength - b.byteLength);
  let end = dataStart;
  let before = 'the header';
  for (const { name, at, byteLength } of tensors) {
    if (at < end) fail(`tensors ${before} and ${JSON.stringify(name)} overlap`);
    if (at > end) fail(`${at - end} bytes between ${before} and tensor ${JSON.stringify(name)} belong to no tensor`);
    end = at + byteLength;
    before = JSON.stringify(name);
  }
  if (end !== fileSize) fail(`${fileSize - end} bytes after ${before} belong to no tensor`);
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

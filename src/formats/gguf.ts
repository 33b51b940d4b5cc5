import { FormatError, UnsupportedError } from '../core/errors.ts';
import { formatShape } from '../core/shape.ts';
import type { ByteSource } from './byte-source.ts';
import type { Checkpoint, StoredType } from './checkpoint.ts';
import { readGgufMetadata, readText } from './gguf-metadata.ts';
import { alignUp, defaultAlignment, ggufMagic, ggufTensorTypes, otherTensorTypes } from './gguf-types.ts';
import { type LocatedTensor, locatedCheckpoint } from './located-checkpoint.ts';
import { AllocationBudget, SequentialReader } from './sequential-reader.ts';
import { tensorBytes } from './tensor-bytes.ts';

/** A tensor of the header; `offset` is from the start of the tensor data. */
interface TensorInfo {
  readonly name: string;
  readonly type: StoredType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly offset: number;
}

/** The least that a tensor of the header takes: the length of its name, number of axes, type, offset. */
const leastTensorInfo = 8 + 4 + 4 + 8;

/**
 * Opens a GGUF file of version 2 or 3, little-endian (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
 * Metadata are plain values: 64-bit integers are numbers where they are safe and bigints elsewhere, arrays of numbers
 * are typed arrays, and text that is not UTF-8 is its bytes. Throws FormatError for a file that is broken or something
 * else, and UnsupportedError for one with features that are not supported.
 */
export async function openGguf(source: ByteSource): Promise<Checkpoint> {
  const budget = new AllocationBudget(source);
  const reader = new SequentialReader(source, budget);
  await reader.need(4, 'the magic number');
  if (reader.u32() !== ggufMagic)
    throw new FormatError(`${source.name} is no GGUF file: it does not begin with "GGUF"`);
  await reader.need(20, 'the header');
  checkVersion(source.name, reader.u32());
  const tensorCount = reader.count();
  const metadata = await readGgufMetadata(reader, budget, source.name, reader.count());
  checkSplit(source.name, metadata);
  const alignment = alignmentOf(source.name, metadata);
  const infos = await readTensorInfos(reader, budget, source.name, tensorCount);
  const tensors = locate(source, infos, alignUp(reader.position, alignment), alignment);
  return locatedCheckpoint(source, 'gguf', tensors, metadata);
}

function checkVersion(name: string, version: number): void {
  if (version === 2 || version === 3) return;
  if (version !== 0 && (version & 0xffff) === 0)
    throw new UnsupportedError(`${name} is a big-endian GGUF file; convert it to little-endian`);
  throw new UnsupportedError(`${name} is of GGUF version ${version}; versions 2 and 3 can be read: convert it anew`);
}

function checkSplit(name: string, metadata: Readonly<Record<string, unknown>>): void {
  const parts = metadata['split.count'];
  if (typeof parts === 'number' && parts > 1)
    throw new UnsupportedError(`${name} is one of ${parts} parts; merge them with llama-gguf-split --merge`);
}

function alignmentOf(name: string, metadata: Readonly<Record<string, unknown>>): number {
  const alignment = metadata['general.alignment'] ?? defaultAlignment;
  if (typeof alignment === 'number' && Number.isInteger(Math.log2(alignment)) && alignment >= 1) return alignment;
  throw new FormatError(`${name}: general.alignment is ${alignment}, expected a power of two`);
}

async function readTensorInfos(
  reader: SequentialReader,
  budget: AllocationBudget,
  file: string,
  count: number,
): Promise<TensorInfo[]> {
  reader.check(count * leastTensorInfo, `a list of ${count} tensors`);
  const infos: TensorInfo[] = [];
  for (let i = 0; i < count; i++) {
    budget.spend(256);
    infos.push(await readTensorInfo(reader, budget, file));
  }
  return infos;
}

async function readTensorInfo(reader: SequentialReader, budget: AllocationBudget, file: string): Promise<TensorInfo> {
  const name = await readText(reader, budget, 'a tensor name');
  if (typeof name !== 'string') throw new FormatError(`${file}: a tensor's name is not UTF-8 text`);
  const what = `tensor "${name}"`;
  await reader.need(4, what);
  const axes = reader.u32();
  if (axes > 4) throw new FormatError(`${file}: ${what} has ${axes} axes, expected at most 4`);
  await reader.need(axes * 8 + 12, what);
  const shape = Array.from({ length: axes }, () => reader.count()).reverse();
  const type = storedType(file, what, reader.u32());
  const byteLength = tensorBytes(type, shape);
  if (typeof byteLength !== 'number')
    throw new FormatError(`${file}: ${what} of type ${type} and shape ${formatShape(shape)} has ${byteLength.problem}`);
  return { name, type, shape, byteLength, offset: reader.count() };
}

function storedType(file: string, what: string, code: number): StoredType {
  const type = ggufTensorTypes.get(code);
  if (type) return type;
  const known = otherTensorTypes.get(code);
  if (!known) throw new FormatError(`${file}: ${what} is of type ${code}, which is not defined`);
  const supported = [...ggufTensorTypes.values()].join(', ');
  throw new UnsupportedError(`${file}: ${what} is of type ${known}; these can be read: ${supported}`);
}

/** Finds the place of each tensor in the file; throws FormatError if two share a name or bytes, or one sticks out. */
function locate(
  source: ByteSource,
  infos: readonly TensorInfo[],
  start: number,
  alignment: number,
): Map<string, LocatedTensor> {
  const tensors = new Map<string, LocatedTensor>();
  for (const { name, type, shape, byteLength, offset } of infos) {
    if (tensors.has(name)) throw new FormatError(`${source.name} has two tensors called "${name}"`);
    if (offset % alignment)
      throw new FormatError(`${source.name}: tensor "${name}" is at ${offset}, not a multiple of ${alignment}`);
    const at = start + offset;
    if (at + byteLength > source.size)
      throw new FormatError(
        `${source.name}: tensor "${name}" should end at byte ${at + byteLength}, but the file has ${source.size}; it is truncated or corrupt`,
      );
    tensors.set(name, { name, type, shape, byteLength, at });
  }
  checkOverlap(source.name, [...tensors.values()]);
  return tensors;
}

function checkOverlap(file: string, tensors: LocatedTensor[]): void {
  const placed = tensors.filter(({ byteLength }) => byteLength > 0).sort((a, b) => a.at - b.at);
  for (let i = 1; i < placed.length; i++) {
    const before = placed[i - 1]!;
    if (before.at + before.byteLength > placed[i]!.at)
      throw new FormatError(`${file}: tensors "${before.name}" and "${placed[i]!.name}" overlap`);
  }
}

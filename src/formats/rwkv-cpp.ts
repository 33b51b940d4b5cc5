import { FormatError, UnsupportedError } from '../core/errors.ts';
import { formatShape } from '../core/shape.ts';
import type { ByteSource } from './byte-source.ts';
import type { Checkpoint, StoredType } from './checkpoint.ts';
import { isBlockType } from './gguf-blocks.ts';
import { type LocatedTensor, locatedCheckpoint } from './located-checkpoint.ts';
import { AllocationBudget, SequentialReader } from './sequential-reader.ts';
import { tensorBytes } from './tensor-bytes.ts';

/** What an rwkv.cpp file begins with: "ggmf", as a little-endian number. */
export const rwkvCppMagic = 0x67676d66;

const types: ReadonlyMap<number, StoredType> = new Map([
  [0, 'f32'],
  [1, 'f16'],
  [2, 'q4_0'],
  [3, 'q4_1'],
  [7, 'q5_0'],
  [8, 'q5_1'],
  [9, 'q8_0'],
]);

/**
 * Opens a `.bin` file of rwkv.cpp, version 100 or 101 (its FILE_FORMAT.md). Some parameters differ from those of a
 * `.pth`: the converter exponentiates decays and transposes LoRA matrices. Metadata: `version`, `n_vocab`, `n_embed`,
 * `n_layer`. Throws FormatError for a file that is broken or something else, UnsupportedError for version 100 with
 * quantised tensors, whose blocks were other than today's.
 */
export async function openRwkvCpp(source: ByteSource): Promise<Checkpoint> {
  // A small window: between the headers of two tensors lie the data of one, which are not to be read here.
  const budget = new AllocationBudget(source);
  const reader = new SequentialReader(source, budget, 512);
  const metadata = await readHeader(source.name, reader);
  const tensors = new Map<string, LocatedTensor>();
  while (reader.remaining > 0) {
    budget.spend(256);
    const tensor = await readTensor(source.name, reader, metadata.version);
    if (tensors.has(tensor.name)) throw new FormatError(`${source.name} has two tensors called "${tensor.name}"`);
    tensors.set(tensor.name, tensor);
  }
  return locatedCheckpoint(source, 'rwkv.cpp', tensors, metadata);
}

type Header = { version: number; n_vocab: number; n_embed: number; n_layer: number };

async function readHeader(file: string, reader: SequentialReader): Promise<Header> {
  await reader.need(24, 'the header');
  if (reader.u32() !== rwkvCppMagic)
    throw new FormatError(`${file} is no file of rwkv.cpp: it does not begin with "fmgg"`);
  const version = reader.i32();
  if (version !== 100 && version !== 101)
    throw new UnsupportedError(`${file} is of rwkv.cpp's version ${version}; versions 100 and 101 can be read`);
  const header = { version, n_vocab: reader.i32(), n_embed: reader.i32(), n_layer: reader.i32() };
  if (header.n_vocab < 1 || header.n_embed < 1 || header.n_layer < 1)
    throw new FormatError(`${file}: its sizes are ${JSON.stringify(header)}, expected positive numbers`);
  storedType(file, 'most of its tensors', reader.u32(), version);
  return header;
}

async function readTensor(file: string, reader: SequentialReader, version: number): Promise<LocatedTensor> {
  await reader.need(12, 'a tensor');
  const axes = reader.u32();
  const nameLength = reader.u32();
  const code = reader.u32();
  if (axes < 1 || axes > 4 || nameLength > 512)
    throw new FormatError(
      `${file}: the tensor before byte ${reader.position} has ${axes} axes and a name of ${nameLength} bytes, expected 1 to 4 axes and at most 512 bytes`,
    );
  await reader.need(4 * axes + nameLength, 'a tensor');
  const shape = Array.from({ length: axes }, () => reader.i32()).reverse();
  const name = readName(file, reader, nameLength);
  const type = storedType(file, `tensor "${name}"`, code, version);
  const byteLength = tensorBytes(type, shape);
  if (typeof byteLength !== 'number')
    throw new FormatError(
      `${file}: tensor "${name}" of type ${type} and shape ${formatShape(shape)} has ${byteLength.problem}`,
    );
  const at = reader.position;
  reader.skip(byteLength, `tensor "${name}"`);
  return { name, type, shape, byteLength, at };
}

function readName(file: string, reader: SequentialReader, length: number): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(reader.take(length));
  } catch {
    throw new FormatError(`${file}: the name of the tensor before byte ${reader.position} is not UTF-8`);
  }
}

function storedType(file: string, what: string, code: number, version: number): StoredType {
  const type = types.get(code);
  if (!type)
    throw new FormatError(`${file}: ${what} has type ${code}, expected one of ${[...types.keys()].join(', ')}`);
  if (version === 100 && isBlockType(type))
    throw new UnsupportedError(
      `${file}: ${what} is quantised (${type}) as before May 2023, in blocks of another layout; quantise the model anew with a later rwkv.cpp`,
    );
  return type;
}

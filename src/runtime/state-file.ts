import { Digest } from '../core/digest.ts';
import { FormatError, UnsupportedError } from '../core/errors.ts';
import { numberToFloat16 } from '../core/float16.ts';
import type { StateFormat } from '../core/state-format.ts';
import { bytesSource } from '../formats/byte-source.ts';
import type { Checkpoint } from '../formats/checkpoint.ts';
import { readF32 } from '../formats/read-f32.ts';
import { openSafetensors } from '../formats/safetensors.ts';
import { safetensorsOf } from '../formats/safetensors-writer.ts';
import type { Fingerprint } from './fingerprint.ts';
import { HalfTensor, heldNumbers, type StateTensor } from './state-tensor.ts';

/** What the metadata of a state's file calls the format, and the newest version of it that is read. */
const FORMAT = 'riverrun.state';
const VERSION = 1;

/** The tensor of the next token's logits, beside those named after the carried states. */
const LOGITS = 'logits';

/** The field by which damage is found. Who changes a state in another program may leave it out: then nothing is compared. */
const DIGEST = 'digest';

/** Notes of the caller are told from the format's own fields by this. */
const NOTE = 'note.';

/** What a state's file holds. */
export interface StateContents {
  readonly model: Fingerprint;
  /** Tokens that made it. */
  readonly position: number;
  /** Logits [V] of the next token; none before the first. */
  readonly logits: Float32Array | undefined;
  /** The carried states by name; growing ones have a row for every token, or for those of their window. */
  readonly tensors: ReadonlyMap<string, StateTensor>;
  /** Texts that the caller keeps with it. */
  readonly notes: Readonly<Record<string, string>>;
}

/** How numbers of a state are stored. `f16` halves the file; continuing from it is then close, not exact. */
export type StatePrecision = StateFormat;

/** A state as a safetensors file. */
export function encodeState(contents: StateContents, precision: StatePrecision): Uint8Array {
  const { model, position, logits, tensors, notes } = contents;
  const all = new Map(tensors);
  if (logits) all.set(LOGITS, { shape: [logits.length], values: logits });
  const stored = new Map([...all].map(([name, tensor]) => [name, inPrecision(tensor, precision)]));
  const metadata: Record<string, string> = {
    format: FORMAT,
    version: String(VERSION),
    'model.type': model.type,
    'model.configuration': model.configuration,
    'model.parameters': model.parameters,
    'model.weights': model.weights,
    ...(model.kvCache !== 'f32' && { 'model.kvCache': model.kvCache }),
    position: String(position),
    precision,
    ...Object.fromEntries(Object.entries(notes).map(([name, text]) => [`${NOTE}${name}`, text])),
  };
  metadata[DIGEST] = digestOf(metadata, stored);
  const encoded = [...stored].map(([name, tensor]) => {
    const { buffer, byteOffset, byteLength } = heldNumbers(tensor);
    const type: StateFormat = tensor.halves ? 'f16' : 'f32';
    return { name, shape: tensor.shape, type, data: new Uint8Array(buffer, byteOffset, byteLength) };
  });
  return safetensorsOf(encoded, metadata);
}

/** Digest of all that a state's file tells, in whatever order it does. */
function digestOf(metadata: Readonly<Record<string, string>>, tensors: ReadonlyMap<string, StateTensor>): string {
  const digest = new Digest();
  const byName = <T>([a]: readonly [string, T], [b]: readonly [string, T]) => (a < b ? -1 : 1);
  for (const [key, text] of Object.entries(metadata).sort(byName)) if (key !== DIGEST) digest.text(key).text(text);
  for (const [name, { shape, values }] of [...tensors].sort(byName))
    digest
      .text(name)
      .words(Int32Array.of(shape.length, ...shape))
      .words(new Int32Array(values.buffer, values.byteOffset, values.length));
  return digest.hex();
}

/** Numbers too large for f16 stay f32, tensor by tensor: infinity would ruin all that follows. */
function inPrecision(tensor: StateTensor, precision: StatePrecision): StateTensor {
  if (tensor.halves || precision === 'f32' || tensor.values.some((value) => !(Math.abs(value) < 65520))) return tensor;
  return new HalfTensor(tensor.shape, Uint16Array.from(tensor.values, numberToFloat16));
}

/** Reads a state's file: FormatError when it is damaged or none, UnsupportedError when it is of a newer version. */
export async function decodeState(bytes: Uint8Array, name: string): Promise<StateContents> {
  const file = await openSafetensors(bytesSource(bytes, name));
  const metadata = file.metadata as Readonly<Record<string, string>>;
  if (metadata['format'] !== FORMAT)
    throw new FormatError(`${name} is a safetensors file, but no state: its metadata names no format "${FORMAT}"`);
  const version = wholeNumber(metadata, 'version', name);
  if (version > VERSION)
    throw new UnsupportedError(
      `${name} is a state of format version ${version}; this riverrun reads up to ${VERSION}: update it`,
    );
  const position = wholeNumber(metadata, 'position', name);
  const kvCache = (metadata['model.kvCache'] ?? 'f32') as Fingerprint['kvCache'];
  const stored = await readTensors(file, kvCache === 'f16');
  if (metadata[DIGEST] !== undefined && metadata[DIGEST] !== digestOf(metadata, stored))
    throw new FormatError(`${name} is damaged: what it holds has another digest than the one that was saved with it`);
  const { [LOGITS]: logits, ...tensors } = Object.fromEntries(stored);
  if (!logits === position > 0)
    throw new FormatError(
      `${name}: a state of ${position} tokens ${position > 0 ? 'has no logits' : 'has logits of a next token'}`,
    );
  return {
    model: {
      type: field(metadata, 'model.type', name),
      configuration: field(metadata, 'model.configuration', name),
      parameters: field(metadata, 'model.parameters', name),
      weights: field(metadata, 'model.weights', name) as Fingerprint['weights'],
      kvCache,
    },
    position,
    logits: logits?.values,
    tensors: new Map(Object.entries(tensors)),
    notes: Object.fromEntries(
      Object.entries(metadata)
        .filter(([key]) => key.startsWith(NOTE))
        .map(([key, text]) => [key.slice(NOTE.length), text]),
    ),
  };
}

/** @param isHalf whether tensors that are stored in f16 are such by themselves */
async function readTensors(file: Checkpoint, isHalf: boolean): Promise<Map<string, StateTensor>> {
  const tensors = new Map<string, StateTensor>();
  for (const stored of file.tensors.values()) {
    const { name, type, shape } = stored;
    if (type !== 'f32' && type !== 'f16')
      throw new FormatError(`${file.name}: ${name} is stored as ${type}; a state has f32 and f16`);
    const values = await readF32(file, stored);
    const wrong = values.findIndex((value) => !Number.isFinite(value));
    if (wrong >= 0)
      throw new FormatError(`${file.name}: ${name} holds ${values[wrong]} at element ${wrong}: the file is damaged`);
    tensors.set(
      name,
      isHalf && type === 'f16' ? new HalfTensor(shape, Uint16Array.from(values, numberToFloat16)) : { shape, values },
    );
  }
  return tensors;
}

function field(metadata: Readonly<Record<string, string>>, key: string, name: string): string {
  const text = metadata[key];
  if (text === undefined) throw new FormatError(`${name}: its metadata has no ${key}`);
  return text;
}

function wholeNumber(metadata: Readonly<Record<string, string>>, key: string, name: string): number {
  const text = field(metadata, key, name);
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value))
    throw new FormatError(`${name}: its ${key} is ${JSON.stringify(text)}, which is no whole number`);
  return value;
}

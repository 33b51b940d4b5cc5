import { InputError } from '../core/errors.ts';
import { numberToFloat16 } from '../core/float16.ts';
import { formatShape } from '../core/shape.ts';
import { blockFormats, encodeBlocks } from './gguf-blocks.ts';
import { GgufHeader, type GgufValue } from './gguf-header.ts';
import { alignUp, defaultAlignment } from './gguf-types.ts';
import { tensorBytes } from './tensor-bytes.ts';

export type { GgufValue } from './gguf-header.ts';

/** A tensor to be written. */
export interface GgufTensor {
  readonly name: string;
  readonly type: 'f32' | 'f16' | 'q8_0' | 'q4_0';
  /** Outermost axis first; the file has the axes the other way round. */
  readonly shape: readonly number[];
  /**
   * Opens its data, when its turn comes: pieces of any length that are float32 numbers to be encoded, or bytes that are
   * encoded already (whole blocks of them).
   */
  readonly data: () => Iterable<Float32Array | Uint8Array> | AsyncIterable<Float32Array | Uint8Array>;
}

/**
 * The bytes of a GGUF file of version 3, in pieces; a piece may change once the next is asked for. Metadata must be what
 * the specification requires of the architecture; `general.quantization_version` is added where blocks need it. Throws
 * InputError for names, shapes or data that don't fit, and WeightError for numbers that can't be quantised.
 */
export async function* encodeGguf(
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
): AsyncGenerator<Uint8Array> {
  checkNames(tensors);
  const lengths = tensors.map(encodedLength);
  yield encodeHeader(metadata, tensors, lengths);
  for (const [i, tensor] of tensors.entries()) {
    yield* encodeTensor(tensor, lengths[i]!);
    yield new Uint8Array(alignUp(lengths[i]!, defaultAlignment) - lengths[i]!);
  }
}

function checkNames(tensors: readonly GgufTensor[]): void {
  const seen = new Set<string>();
  for (const { name } of tensors) {
    if (seen.has(name)) throw new InputError(`can't write two tensors called "${name}"`);
    if (new TextEncoder().encode(name).length > 63)
      throw new InputError(`can't write tensor "${name}": names in GGUF have at most 63 bytes`);
    seen.add(name);
  }
}

function encodedLength({ name, type, shape }: GgufTensor): number {
  const bytes = tensorBytes(type, shape);
  const problem = shape.length > 4 ? 'more than 4 axes' : typeof bytes === 'number' ? undefined : bytes.problem;
  if (problem)
    throw new InputError(`can't write tensor "${name}" of type ${type} and shape ${formatShape(shape)}: ${problem}`);
  return bytes as number;
}

function encodeHeader(
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
  lengths: readonly number[],
): Uint8Array {
  if (metadata['general.alignment'] && metadata['general.alignment'].value !== defaultAlignment)
    throw new InputError(`can't write general.alignment: tensors are aligned to ${defaultAlignment} bytes`);
  const blocks = tensors.some(({ type }) => type === 'q8_0' || type === 'q4_0');
  const quantisation: Record<string, GgufValue> = blocks
    ? { 'general.quantization_version': { type: 'u32', value: 2 } }
    : {};
  const entries = Object.entries({ ...quantisation, ...metadata });
  const header = new GgufHeader(tensors.length, entries.length);
  for (const [key, value] of entries) header.entry(key, value);
  let offset = 0;
  for (const [i, { name, type, shape }] of tensors.entries()) {
    header.tensor(name, type, shape, offset);
    offset += alignUp(lengths[i]!, defaultAlignment);
  }
  return header.finish(defaultAlignment);
}

async function* encodeTensor(tensor: GgufTensor, length: number): AsyncGenerator<Uint8Array> {
  const { name, type } = tensor;
  const block = type === 'q8_0' || type === 'q4_0' ? blockFormats[type].elements : 1;
  let rest = new Float32Array(0);
  let written = 0;
  for await (const piece of tensor.data()) {
    let bytes: Uint8Array;
    if (piece instanceof Float32Array) {
      const values = join(rest, piece);
      const whole = values.length - (values.length % block);
      rest = values.slice(whole);
      bytes = encode(type, values.subarray(0, whole));
    } else {
      if (rest.length) throw new InputError(`tensor "${name}": encoded data begin in the middle of a block`);
      bytes = piece;
    }
    written += bytes.length;
    if (written > length) break;
    yield bytes;
  }
  if (written !== length || rest.length)
    throw new InputError(
      `tensor "${name}" of shape ${formatShape(tensor.shape)} got ${written < length ? 'less' : 'more'} data than the ${length} bytes that it encodes to`,
    );
}

function join(rest: Float32Array, piece: Float32Array): Float32Array {
  if (rest.length === 0) return piece;
  const joined = new Float32Array(rest.length + piece.length);
  joined.set(rest);
  joined.set(piece, rest.length);
  return joined;
}

function encode(type: GgufTensor['type'], values: Float32Array): Uint8Array {
  if (type === 'f32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  if (type === 'f16') return new Uint8Array(Uint16Array.from(values, numberToFloat16).buffer);
  const { elements, bytes } = blockFormats[type];
  const encoded = new Uint8Array((values.length / elements) * bytes);
  encodeBlocks(type, values, encoded);
  return encoded;
}

import { FormatError } from '../core/errors.ts';
import { float16Table } from '../core/float16.ts';
import { QUANTISATION_GROUP as GROUP, type QuantisedMatrix, quantiseMatrix, readGroup } from '../core/quantise.ts';
import type { Checkpoint, SplitBlocks, StoredTensor } from './checkpoint.ts';
import { blockFormats } from './gguf-blocks.ts';
import type { WrittenTensor } from './safetensors-writer.ts';

/**
 * Our own checkpoints in 8 and 4 bits are safetensors in which a matrix [O, I] is two tensors: its integers, i8 [O, I] or two to
 * a byte, u8 [O, I / 2] (the low half first, all plus 8), and `<name>.scales`, f16 [O, ⌈I / 32⌉]. Element = integer · scale.
 */
export const scalesSuffix = '.scales';

/** Formats that a matrix can have in such files. */
export type QuantisedFormat = 'q8' | 'q4';

/** Whether a matrix [O, I] can be written in a format: two numbers fill a byte. */
export const canQuantise = (format: QuantisedFormat, I: number): boolean => format === 'q8' || I % 2 === 0;

/** The two tensors of a matrix. */
export async function quantisedTensors(
  name: string,
  [O, I]: readonly [number, number],
  pieces: AsyncIterable<Float32Array>,
  format: QuantisedFormat,
): Promise<WrittenTensor[]> {
  const width = format === 'q8' ? I : I / 2;
  const groups = Math.ceil(I / GROUP);
  const integers = new Uint8Array(O * width);
  const scales = new Uint16Array(O * groups);
  let row = 0;
  for await (const values of pieces) {
    const part = quantiseMatrix(values, I, format);
    integers.set(new Uint8Array(part.integers.buffer), row * width);
    scales.set(part.scales, row * groups);
    row += values.length / I;
  }
  return tensorsOf(name, format, [O, width], integers, [O, groups], scales);
}

/** The two tensors of a matrix that is there in blocks: no number changes. */
export async function tensorsOfBlocks(
  name: string,
  [O, I]: readonly [number, number],
  pieces: AsyncIterable<Uint8Array>,
  format: QuantisedFormat,
): Promise<WrittenTensor[]> {
  const width = format === 'q8' ? I : I / 2;
  const groups = I / GROUP;
  const integers = new Uint8Array(O * width);
  const scales = new Uint16Array(O * groups);
  const { bytes: size } = blockFormats[format === 'q8' ? 'q8_0' : 'q4_0'];
  let n = 0;
  for await (const bytes of pieces)
    for (let at = 0; at < bytes.length; at += size, n++) {
      scales[n] = bytes[at]! | (bytes[at + 1]! << 8);
      if (format === 'q8') integers.set(bytes.subarray(at + 2, at + size), n * GROUP);
      else
        for (let j = 0; j < 8; j++) {
          const [first, second] = [bytes[at + 2 + 2 * j]!, bytes[at + 3 + 2 * j]!];
          integers[(n * GROUP) / 2 + j] = (first & 15) | ((second & 15) << 4);
          integers[(n * GROUP) / 2 + j + 8] = (first >> 4) | (second & 0xf0);
        }
    }
  return tensorsOf(name, format, [O, width], integers, [O, groups], scales);
}

function tensorsOf(
  name: string,
  format: QuantisedFormat,
  shape: readonly number[],
  integers: Uint8Array,
  groups: readonly number[],
  scales: Uint16Array,
): WrittenTensor[] {
  return [
    { name, type: format === 'q8' ? 'i8' : 'u8', shape, data: integers },
    { name: name + scalesSuffix, type: 'f16', shape: groups, data: new Uint8Array(scales.buffer) },
  ];
}

/** A quantised matrix in a file. */
interface Quantised {
  readonly integers: StoredTensor;
  readonly scales: StoredTensor;
  readonly format: QuantisedFormat;
  /** How it appears. */
  readonly type: 'f32' | 'q8_0' | 'q4_0';
  readonly I: number;
}

/**
 * A checkpoint in which tensors that come with scales appear as the matrices that they stand for: in ggml's blocks where rows are
 * whole blocks, otherwise in f32.
 */
export function dequantised(checkpoint: Checkpoint): Checkpoint {
  const tensors = new Map<string, StoredTensor>();
  const matrices = new Map<string, Quantised>();
  for (const stored of checkpoint.tensors.values()) {
    const { name } = stored;
    if (name.endsWith(scalesSuffix) && checkpoint.tensors.has(name.slice(0, -scalesSuffix.length))) continue;
    const scales = checkpoint.tensors.get(name + scalesSuffix);
    if (!scales) {
      tensors.set(name, stored);
      continue;
    }
    const matrix = quantisedMatrix(stored, scales, checkpoint.name);
    matrices.set(name, matrix);
    const { I, type } = matrix;
    const shape = [stored.shape[0]!, I];
    tensors.set(name, { name, type, shape, byteLength: shape[0]! * rowBytes(type, I) });
  }
  const whole = [...matrices].filter(([, { type }]) => type !== 'f32');
  return {
    ...checkpoint,
    tensors,
    splitBlocks: new Map(whole.map(([name, matrix]) => [name, splitBlocks(checkpoint, matrix)])),
    async read(name, into, offset = 0) {
      const matrix = matrices.get(name);
      if (matrix) await readQuantised(checkpoint, matrix, into, offset);
      else await checkpoint.read(name, into, offset);
    },
  };
}

const rowBytes = (type: Quantised['type'], I: number): number =>
  type === 'f32' ? 4 * I : (I / GROUP) * blockFormats[type].bytes;

function quantisedMatrix(integers: StoredTensor, scales: StoredTensor, file: string): Quantised {
  const [O, width] = integers.shape as [number, number];
  const format = integers.type === 'i8' ? 'q8' : 'q4';
  const I = format === 'q8' ? width : 2 * width;
  const fits =
    (integers.type === 'i8' || integers.type === 'u8') &&
    scales.type === 'f16' &&
    integers.shape.length === 2 &&
    scales.shape.length === 2 &&
    scales.shape[0] === O &&
    scales.shape[1] === Math.ceil(I / GROUP);
  if (!fits) {
    throw new FormatError(
      `${file}: ${integers.name} is ${integers.type} [${integers.shape.join(', ')}] with ${scales.type} scales [${scales.shape.join(', ')}]: i8 [O, I] or u8 [O, I / 2], and f16 [O, ⌈I / ${GROUP}⌉] are expected`,
    );
  }
  const type = I % GROUP !== 0 ? 'f32' : format === 'q8' ? 'q8_0' : 'q4_0';
  return { integers, scales, format, type, I };
}

/** The integers of rows, then their scales. */
function splitBlocks(checkpoint: Checkpoint, { integers, scales, format }: Quantised): SplitBlocks {
  const bytesOf = (numbers: number) => (format === 'q8' ? numbers : numbers / 2);
  return {
    async read(start, count, room) {
      const length = bytesOf(count);
      const bytes = room.subarray(0, length);
      const halves = room.subarray(length, length + (2 * count) / GROUP);
      await checkpoint.read(integers.name, bytes, bytesOf(start));
      await checkpoint.read(scales.name, halves, (2 * start) / GROUP);
      return { type: format, count, bytes, scales: halves };
    },
  };
}

/** Fills `into` from byte `offset` of the matrix on, as it appears: whole rows. */
async function readQuantised(
  checkpoint: Checkpoint,
  { integers, scales, format, type, I }: Quantised,
  into: Uint8Array,
  offset: number,
): Promise<void> {
  const groups = scales.shape[1]!;
  const width = integers.shape[1]!;
  const size = rowBytes(type, I);
  const [first, rows] = [offset / size, into.length / size];
  if (!Number.isInteger(first) || !Number.isInteger(rows))
    throw new FormatError(`${checkpoint.name}: ${integers.name} is read by whole rows only`);
  const bytes = new Uint8Array(rows * width);
  const halves = new Uint16Array(rows * groups);
  await checkpoint.read(integers.name, bytes, first * width);
  await checkpoint.read(scales.name, new Uint8Array(halves.buffer), 2 * first * groups);
  const matrix = { format, integers: format === 'q8' ? new Int8Array(bytes.buffer) : bytes, scales: halves };
  if (type === 'f32') dequantise(matrix, I, new Float32Array(into.buffer, into.byteOffset, rows * I));
  else if (type === 'q8_0') writeQ8Blocks(bytes, halves, into);
  else writeQ4Blocks(bytes, halves, into);
}

/** Fills `into` with the numbers of a matrix whose rows are `I` long. */
export function dequantise(matrix: QuantisedMatrix, I: number, into: Float32Array): void {
  const integers = new Int8Array(GROUP);
  const groups = Math.ceil(I / GROUP);
  const numbers = float16Table();
  for (const [n, half] of matrix.scales.entries()) {
    const [row, group] = [Math.floor(n / groups), n % groups];
    const count = readGroup(matrix, I, row, group, integers);
    for (let k = 0; k < count; k++) into[row * I + group * GROUP + k] = integers[k]! * numbers[half]!;
  }
}

function writeQ8Blocks(integers: Uint8Array, scales: Uint16Array, into: Uint8Array): void {
  const { bytes: size } = blockFormats.q8_0;
  for (let n = 0; n < scales.length; n++) {
    const at = n * size;
    into[at] = scales[n]! & 255;
    into[at + 1] = scales[n]! >> 8;
    into.set(integers.subarray(n * GROUP, (n + 1) * GROUP), at + 2);
  }
}

/** Files have numbers 2j and 2j + 1 in a byte, blocks j and j + 16. */
function writeQ4Blocks(integers: Uint8Array, scales: Uint16Array, into: Uint8Array): void {
  const { bytes: size } = blockFormats.q4_0;
  for (let n = 0; n < scales.length; n++) {
    const at = n * size;
    into[at] = scales[n]! & 255;
    into[at + 1] = scales[n]! >> 8;
    const from = (n * GROUP) / 2;
    for (let j = 0; j < 8; j++) {
      const [low, high] = [integers[from + j]!, integers[from + j + 8]!];
      into[at + 2 + 2 * j] = (low & 15) | ((high & 15) << 4);
      into[at + 3 + 2 * j] = (low >> 4) | (high & 0xf0);
    }
  }
}

import { FormatError } from '../core/errors.ts';
import { float16Table } from '../core/float16.ts';
import { QUANTISATION_GROUP as GROUP, quantiseMatrix } from '../core/quantise.ts';
import type { Checkpoint, StoredTensor } from './checkpoint.ts';
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
  return [
    { name, type: format === 'q8' ? 'i8' : 'u8', shape: [O, width], data: integers },
    { name: name + scalesSuffix, type: 'f16', shape: [O, groups], data: new Uint8Array(scales.buffer) },
  ];
}

/** A quantised matrix in a file. */
interface Quantised {
  readonly integers: StoredTensor;
  readonly scales: StoredTensor;
  readonly format: QuantisedFormat;
  readonly I: number;
}

/** A checkpoint in which tensors that come with scales appear as the f32 matrices that they stand for. */
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
    const shape = [stored.shape[0]!, matrix.I];
    tensors.set(name, { name, type: 'f32', shape, byteLength: 4 * shape[0]! * shape[1]! });
  }
  return {
    ...checkpoint,
    tensors,
    async read(name, into, offset = 0) {
      const matrix = matrices.get(name);
      if (matrix) await readQuantised(checkpoint, matrix, into, offset);
      else await checkpoint.read(name, into, offset);
    },
  };
}

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
  return { integers, scales, format, I };
}

/** Fills `into` with f32 bytes from byte `offset` of the matrix on: whole rows. */
async function readQuantised(
  checkpoint: Checkpoint,
  { integers, scales, format, I }: Quantised,
  into: Uint8Array,
  offset: number,
): Promise<void> {
  const groups = scales.shape[1]!;
  const width = integers.shape[1]!;
  const first = offset / 4 / I;
  const rows = into.length / 4 / I;
  if (!Number.isInteger(first) || !Number.isInteger(rows))
    throw new FormatError(`${checkpoint.name}: ${integers.name} is read by whole rows only`);
  const bytes = new Uint8Array(rows * width);
  const halves = new Uint16Array(rows * groups);
  await checkpoint.read(integers.name, bytes, first * width);
  await checkpoint.read(scales.name, new Uint8Array(halves.buffer), 2 * first * groups);
  const signed = new Int8Array(bytes.buffer);
  const values = new Float32Array(into.buffer, into.byteOffset, rows * I);
  const numbers = float16Table();
  for (let row = 0, group = 0; row < rows; row++) {
    for (let start = 0; start < I; start += GROUP, group++) {
      const scale = numbers[halves[group]!]!;
      const [from, to] = [row * I + start, row * I + Math.min(I, start + GROUP)];
      if (format === 'q8') for (let n = from; n < to; n++) values[n] = signed[n]! * scale;
      else {
        // I is even, so that no byte belongs to two rows.
        for (let n = from; n < to; n += 2) {
          const byte = bytes[n >> 1]!;
          values[n] = ((byte & 15) - 8) * scale;
          values[n + 1] = ((byte >> 4) - 8) * scale;
        }
      }
    }
  }
}

import { FormatError } from '../core/errors.ts';
import { float16ToNumber, numberToFloat16 } from '../core/float16.ts';
import type { Checkpoint, StoredTensor } from './checkpoint.ts';

/** What `<name>` is followed by in the name of the tensor that holds its scales. */
export const scalesSuffix = '.scales';

/**
 * Our 8-bit checkpoints: a matrix [O, I] is stored as i8 [O, I] and f16 scales [O, ⌈I / group⌉], element = integer · scale.
 * Group by group along a row the largest magnitude becomes 127.
 */
export function quantiseQ8(
  values: Float32Array,
  [O, I]: readonly [number, number],
  group: number,
): { integers: Int8Array; scales: Uint16Array } {
  const groups = Math.ceil(I / group);
  const integers = new Int8Array(O * I);
  const scales = new Uint16Array(O * groups);
  for (let o = 0; o < O; o++) {
    for (let g = 0; g < groups; g++) {
      const [start, end] = [o * I + g * group, o * I + Math.min(I, (g + 1) * group)];
      let largest = 0;
      for (let n = start; n < end; n++) largest = Math.max(largest, Math.abs(values[n]!));
      // The rounded scale is what will be multiplied by, so it is what the integers are made for.
      const half = numberToFloat16(largest / 127);
      const scale = float16ToNumber(half);
      scales[o * groups + g] = half;
      for (let n = start; scale > 0 && n < end; n++)
        integers[n] = Math.max(-127, Math.min(127, Math.round(values[n]! / scale)));
    }
  }
  return { integers, scales };
}

/** A checkpoint in which tensors that come with scales appear as the f32 matrices that they stand for. */
export function dequantised(checkpoint: Checkpoint): Checkpoint {
  const tensors = new Map<string, StoredTensor>();
  for (const stored of checkpoint.tensors.values()) {
    if (stored.name.endsWith(scalesSuffix) && checkpoint.tensors.has(stored.name.slice(0, -scalesSuffix.length)))
      continue;
    const scales = checkpoint.tensors.get(stored.name + scalesSuffix);
    tensors.set(stored.name, scales ? asF32(stored, scales, checkpoint.name) : stored);
  }
  return {
    ...checkpoint,
    tensors,
    async read(name, into, offset = 0) {
      const stored = checkpoint.tensors.get(name);
      const scales = checkpoint.tensors.get(name + scalesSuffix);
      if (!stored || !scales) return checkpoint.read(name, into, offset);
      await readQ8(checkpoint, stored, scales, into, offset);
    },
  };
}

function asF32(stored: StoredTensor, scales: StoredTensor, file: string): StoredTensor {
  const [O, I] = stored.shape as [number, number];
  const fits = stored.type === 'i8' && scales.type === 'f16' && stored.shape.length === 2 && scales.shape[0] === O;
  const groups = scales.shape[1] ?? 0;
  if (!fits || groups < 1 || groups > I) {
    throw new FormatError(
      `${file}: ${stored.name} is ${stored.type} [${stored.shape.join(', ')}] with ${scales.type} scales [${scales.shape.join(', ')}]: i8 [O, I] and f16 [O, groups] are expected`,
    );
  }
  return { name: stored.name, type: 'f32', shape: stored.shape, byteLength: 4 * O * I };
}

/** Fills `into` with f32 bytes from byte `offset` of the matrix on: whole rows. */
async function readQ8(
  checkpoint: Checkpoint,
  stored: StoredTensor,
  scales: StoredTensor,
  into: Uint8Array,
  offset: number,
): Promise<void> {
  const I = stored.shape[1]!;
  const groups = scales.shape[1]!;
  const group = Math.ceil(I / groups);
  const first = offset / 4 / I;
  const rows = into.length / 4 / I;
  if (!Number.isInteger(first) || !Number.isInteger(rows))
    throw new FormatError(`${checkpoint.name}: ${stored.name} is read by whole rows only`);
  const integers = new Int8Array(rows * I);
  const halves = new Uint16Array(rows * groups);
  await checkpoint.read(stored.name, new Uint8Array(integers.buffer), first * I);
  await checkpoint.read(scales.name, new Uint8Array(halves.buffer), 2 * first * groups);
  const values = new Float32Array(into.buffer, into.byteOffset, rows * I);
  for (let row = 0; row < rows; row++) {
    for (let g = 0; g < groups; g++) {
      const scale = float16ToNumber(halves[row * groups + g]!);
      const end = Math.min(I, (g + 1) * group);
      for (let i = g * group; i < end; i++) values[row * I + i] = integers[row * I + i]! * scale;
    }
  }
}

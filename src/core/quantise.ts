import { WeightError } from './errors.ts';
import { float16ToNumber, numberToFloat16 } from './float16.ts';

/**
 * Matrices in 8 and 4 bits. Along a row, every 32 numbers share an f16 scale: number = integer · scale, integers of q8 in
 * −127…127, of q4 in −8…7. These are the numbers of ggml's Q8_0 and Q4_0, and quantising what those stand for gives
 * them back.
 */

/** Numbers that share a scale. */
export const QUANTISATION_GROUP = 32;

/** Tried for q4 besides −8: what the number of largest magnitude becomes before the scale is fitted. */
const EXTREMES = [-8, -7, -7.25, -7.5, -7.75, -8.25, -8.5, -8.75, -9];

const f = Math.fround;
/** The nearest integer, ties to even, of a number below 2²². */
const nearest = (x: number): number => f(f(x + 12582912) - 12582912);

/*
 * All in single precision and in the order of the kernel that packs weights (packWeights of the wasm backend), so that a matrix
 * becomes the same numbers whether it is quantised into a file or at load.
 */

/** Quantises `count` ≤ 32 numbers of `values` to 8-bit `integers`, zeros beyond; returns the bits of the f16 scale. */
export function quantiseQ8(values: Float32Array, count: number, integers: Int8Array): number {
  let largest = 0;
  for (let k = 0; k < count; k++) largest = Math.max(largest, Math.abs(values[k]!));
  const half = scaleBits(f(largest / 127));
  // The rounded scale is what will be multiplied by, so it is what the integers are made for.
  const inverse = reciprocal(half);
  integers.fill(0);
  for (let k = 0; k < count; k++) integers[k] = Math.max(-127, Math.min(127, nearest(f(values[k]! * inverse))));
  return half;
}

/**
 * Quantises `count` ≤ 32 numbers of `values` to 4-bit `integers`, zeros beyond; returns the bits of the f16 scale. The
 * number of largest magnitude takes the longer, negative side. Of some scales near that, the one whose integers fit best
 * is taken, and then fitted to them by least squares.
 */
export function quantiseQ4(values: Float32Array, count: number, integers: Int8Array): number {
  let extreme = 0;
  for (let k = 0; k < count; k++) if (Math.abs(values[k]!) > Math.abs(extreme)) extreme = values[k]!;
  integers.fill(0);
  if (extreme === 0) return 0;
  let best = 0;
  let scale = 0;
  const products = new Float32Array(4);
  const squares = new Float32Array(4);
  for (const target of EXTREMES) {
    const inverse = f(target / extreme);
    products.fill(0);
    squares.fill(0);
    for (let k = 0; k < count; k++) {
      const q = nearestQ4(f(values[k]! * inverse));
      products[k & 3]! += f(q * values[k]!);
      squares[k & 3]! += q * q;
    }
    const product = sumLanes(products);
    const square = sumLanes(squares);
    const squared = f(product * product);
    // The error of the best scale for these integers is |values|² − product² / square.
    if (squared > f(best * square)) {
      best = f(squared / square);
      scale = f(product / square);
    }
  }
  const half = scaleBits(scale);
  const inverse = reciprocal(half);
  for (let k = 0; k < count; k++) integers[k] = nearestQ4(f(values[k]! * inverse));
  return half;
}

const sumLanes = ([a, b, c, d]: Float32Array): number => f(f(a! + c!) + f(b! + d!));

/** The nearest of the integers −8…7. */
const nearestQ4 = (x: number): number => nearest(Math.min(7, Math.max(-8, x)));

function scaleBits(scale: number): number {
  const half = numberToFloat16(scale);
  if ((half & 0x7fff) >= 0x7c00) throw new WeightError(`can't quantise: a scale of ${scale} does not fit float16`);
  return half;
}

function reciprocal(half: number): number {
  return half & 0x7fff ? f(1 / float16ToNumber(half)) : 0;
}

/** A matrix [O, I] in the form that files keep. */
export interface QuantisedMatrix {
  readonly format: 'q8' | 'q4';
  /** q8: i8 [O, I]. q4: [O, ⌈I / 2⌉] bytes, low halves the numbers at even places, high halves the odd, all plus 8. */
  readonly integers: Int8Array | Uint8Array;
  /** f16 [O, ⌈I / 32⌉]. */
  readonly scales: Uint16Array;
}

/** Quantises a row-major matrix whose rows are `I` long. */
export function quantiseMatrix(values: Float32Array, I: number, format: 'q8' | 'q4'): QuantisedMatrix {
  const O = values.length / I;
  const groups = Math.ceil(I / QUANTISATION_GROUP);
  const rowBytes = format === 'q8' ? I : Math.ceil(I / 2);
  const bytes = new Uint8Array(O * rowBytes);
  const scales = new Uint16Array(O * groups);
  const integers = new Int8Array(QUANTISATION_GROUP);
  for (let n = 0; n < O * groups; n++) {
    const start = (n % groups) * QUANTISATION_GROUP;
    const row = Math.floor(n / groups);
    const count = Math.min(QUANTISATION_GROUP, I - start);
    const group = values.subarray(row * I + start, row * I + start + count);
    if (format === 'q8') {
      scales[n] = quantiseQ8(group, count, integers);
      bytes.set(new Uint8Array(integers.buffer, 0, count), row * rowBytes + start);
    } else {
      scales[n] = quantiseQ4(group, count, integers);
      const at = row * rowBytes + start / 2;
      for (let k = 0; k < count; k += 2) bytes[at + k / 2] = (integers[k]! + 8) | ((integers[k + 1]! + 8) << 4);
    }
  }
  return { format, integers: format === 'q8' ? new Int8Array(bytes.buffer) : bytes, scales };
}

/** The integers of group `group` of row `row` of a matrix whose rows are `I` long, zeros beyond; returns how many are there. */
export function readGroup(matrix: QuantisedMatrix, I: number, row: number, group: number, into: Int8Array): number {
  const start = group * QUANTISATION_GROUP;
  const count = Math.min(QUANTISATION_GROUP, I - start);
  into.fill(0);
  if (matrix.format === 'q8') {
    for (let k = 0; k < count; k++) into[k] = matrix.integers[row * I + start + k]!;
  } else {
    const at = row * Math.ceil(I / 2) + start / 2;
    for (let k = 0; k < count; k++) into[k] = ((matrix.integers[at + (k >> 1)]! >> (4 * (k & 1))) & 15) - 8;
  }
  return count;
}

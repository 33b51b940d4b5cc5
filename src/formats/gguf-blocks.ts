import { InputError, WeightError } from '../core/errors.ts';
import { float16ToNumber, numberToFloat16 } from '../core/float16.ts';
import type { StoredType } from './checkpoint.ts';

/**
 * The block formats of ggml: weights in groups that share a scale. The layouts are those of `ggml-common.h`. Decoding
 * gives the same float32 numbers as ggml's `dequantize_row_*`: every product is exact and one rounding is left, that of
 * the sum. Encoding does what `quantize_row_*_ref` does.
 */
export type BlockType = Extract<StoredType, `${string}_${string}`>;

/** The block formats that can be written, too. */
export type EncodableBlockType = 'q8_0' | 'q4_0';

type DecodeBlock = (bytes: Uint8Array, at: number, into: Float32Array, to: number) => void;

const formats: Readonly<Record<BlockType, { elements: number; bytes: number; decode: DecodeBlock }>> = {
  q4_0: { elements: 32, bytes: 18, decode: decodeQ4 },
  q4_1: { elements: 32, bytes: 20, decode: (bytes, at, into, to) => decode32(bytes, at, into, to, false, true) },
  q5_0: { elements: 32, bytes: 22, decode: (bytes, at, into, to) => decode32(bytes, at, into, to, true, false) },
  q5_1: { elements: 32, bytes: 24, decode: (bytes, at, into, to) => decode32(bytes, at, into, to, true, true) },
  q8_0: { elements: 32, bytes: 34, decode: decodeQ8 },
  iq4_nl: { elements: 32, bytes: 18, decode: decodeIQ4 },
  q2_k: { elements: 256, bytes: 84, decode: decodeQ2K },
  q3_k: { elements: 256, bytes: 110, decode: decodeQ3K },
  q4_k: { elements: 256, bytes: 144, decode: (bytes, at, into, to) => decodeK(bytes, at, into, to, false) },
  q5_k: { elements: 256, bytes: 176, decode: (bytes, at, into, to) => decodeK(bytes, at, into, to, true) },
  q6_k: { elements: 256, bytes: 210, decode: decodeQ6K },
  iq4_xs: { elements: 256, bytes: 136, decode: decodeIQ4XS },
};

/** How many numbers a block of each format holds, and in how many bytes. */
export const blockFormats: Readonly<Record<BlockType, { readonly elements: number; readonly bytes: number }>> = formats;

export const isBlockType = (type: StoredType): type is BlockType => Object.hasOwn(formats, type);

/** Decodes whole blocks. `into` must hold exactly as many numbers as `bytes` encodes; otherwise throws InputError. */
export function decodeBlocks(type: BlockType, bytes: Uint8Array, into: Float32Array): void {
  const { elements, bytes: size, decode } = formats[type];
  checkLengths(type, bytes.length, into.length);
  for (let at = 0, to = 0; at < bytes.length; at += size, to += elements) decode(bytes, at, into, to);
}

/**
 * Encodes whole blocks. `into` must be exactly as long as the encoding of `values`; otherwise throws InputError. Throws
 * WeightError for numbers that are not finite or too large for a half-precision scale.
 */
export function encodeBlocks(type: EncodableBlockType, values: Float32Array, into: Uint8Array): void {
  const { elements, bytes: size } = formats[type];
  checkLengths(type, into.length, values.length);
  const encode = type === 'q8_0' ? encodeQ8 : encodeQ4;
  for (let at = 0, to = 0; at < values.length; at += elements, to += size) encode(values, at, into, to);
}

function checkLengths(type: BlockType, bytes: number, numbers: number): void {
  const { elements, bytes: size } = formats[type];
  if (bytes % size || (bytes / size) * elements !== numbers)
    throw new InputError(
      `${bytes} bytes don't hold ${numbers} ${type} numbers: a block is ${size} bytes for ${elements} numbers`,
    );
}

const halfAt = (bytes: Uint8Array, at: number): number => float16ToNumber(bytes[at]! | (bytes[at + 1]! << 8));

/**
 * Q4_1, Q5_0 and Q5_1: a scale, perhaps a minimum, perhaps the fifth bits, then 16 bytes whose low halves are
 * numbers 0–15 and whose high halves are numbers 16–31. Without a minimum the middle of the range stands for zero.
 */
function decode32(
  bytes: Uint8Array,
  at: number,
  into: Float32Array,
  to: number,
  fiveBits: boolean,
  minimum: boolean,
): void {
  const scale = halfAt(bytes, at);
  const shift = minimum ? halfAt(bytes, at + 2) : scale * (fiveBits ? -16 : -8);
  let next = at + (minimum ? 4 : 2);
  let high = 0;
  if (fiveBits) {
    high = bytes[next]! | (bytes[next + 1]! << 8) | (bytes[next + 2]! << 16) | (bytes[next + 3]! << 24);
    next += 4;
  }
  for (let j = 0; j < 16; j++) {
    const pair = bytes[next + j]!;
    into[to + j] = ((pair & 15) | (((high >>> j) & 1) << 4)) * scale + shift;
    into[to + j + 16] = ((pair >> 4) | (((high >>> (j + 16)) & 1) << 4)) * scale + shift;
  }
}

/** Q4_0, the most used of them, without what it does not have. */
function decodeQ4(bytes: Uint8Array, at: number, into: Float32Array, to: number): void {
  const scale = halfAt(bytes, at);
  const shift = -8 * scale;
  for (let j = 0; j < 16; j++) {
    const pair = bytes[at + 2 + j]!;
    into[to + j] = (pair & 15) * scale + shift;
    into[to + j + 16] = (pair >> 4) * scale + shift;
  }
}

/** Blocks of Q4_0 as blocks of Q8_0: the same integers and scales, so that no number changes. */
export function widenBlocks(bytes: Uint8Array): Uint8Array {
  const [from, to] = [formats.q4_0.bytes, formats.q8_0.bytes];
  const result = new Uint8Array((bytes.length / from) * to);
  for (let block = 0; block < bytes.length / from; block++) {
    const [source, target] = [block * from, block * to];
    result[target] = bytes[source]!;
    result[target + 1] = bytes[source + 1]!;
    for (let j = 0; j < 16; j++) {
      const pair = bytes[source + 2 + j]!;
      result[target + 2 + j] = (pair & 15) - 8;
      result[target + 18 + j] = (pair >> 4) - 8;
    }
  }
  return result;
}

/** Q8_0: a scale and 32 signed bytes. */
function decodeQ8(bytes: Uint8Array, at: number, into: Float32Array, to: number): void {
  const scale = halfAt(bytes, at);
  for (let j = 0; j < 32; j++) into[to + j] = ((bytes[at + 2 + j]! << 24) >> 24) * scale;
}

/**
 * Q2_K: 16 bytes of scales (low halves) and minima (high halves) of 16 numbers each, 64 bytes of bit pairs, a scale of scales, a scale of
 * minima. Each half of the block is 32 bytes, whose pairs are four groups of 32 numbers, lowest first.
 */
function decodeQ2K(bytes: Uint8Array, at: number, into: Float32Array, to: number): void {
  const scale = halfAt(bytes, at + 80);
  const minimum = halfAt(bytes, at + 82);
  for (let i = 0; i < 256; i++) {
    const both = bytes[at + (i >> 4)]!;
    const quantum = (bytes[at + 16 + (i >> 7) * 32 + (i & 31)]! >> (((i >> 5) & 3) * 2)) & 3;
    into[to + i] = scale * (both & 15) * quantum - minimum * (both >> 4);
  }
}

/**
 * Q3_K: 32 bytes of third bits, 64 bytes of bit pairs as in Q2_K, 16 6-bit scales of 16 numbers each in 12 bytes, a scale of scales. Byte j of
 * the third bits has number j of each group of 32, and a bit that is not set stands for −4.
 */
function decodeQ3K(bytes: Uint8Array, at: number, into: Float32Array, to: number): void {
  const scale = halfAt(bytes, at + 108);
  for (let group = 0; group < 16; group++) {
    const low = (bytes[at + 96 + (group & 7)]! >> ((group >> 3) * 4)) & 15;
    const high = (bytes[at + 104 + (group & 3)]! >> ((group >> 2) * 2)) & 3;
    const groupScale = scale * ((low | (high << 4)) - 32);
    for (let i = group * 16; i < group * 16 + 16; i++) {
      const pair = (bytes[at + 32 + (i >> 7) * 32 + (i & 31)]! >> (((i >> 5) & 3) * 2)) & 3;
      const third = (bytes[at + (i & 31)]! >> (i >> 5)) & 1;
      into[to + i] = groupScale * (pair - (third ? 0 : 4));
    }
  }
}

/** What the 16 numbers of IQ4_NL and IQ4_XS stand for: `kvalues_iq4nl`. */
const unevenSteps = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

/** 32 numbers in 16 bytes, low halves first, times a scale. */
function decodeUneven(bytes: Uint8Array, at: number, scale: number, into: Float32Array, to: number): void {
  for (let j = 0; j < 16; j++) {
    const pair = bytes[at + j]!;
    into[to + j] = scale * unevenSteps[pair & 15]!;
    into[to + j + 16] = scale * unevenSteps[pair >> 4]!;
  }
}

/** IQ4_NL: a scale and 32 numbers of uneven steps, which K-quantisers take for rows that are not whole blocks of 256. */
function decodeIQ4(bytes: Uint8Array, at: number, into: Float32Array, to: number): void {
  decodeUneven(bytes, at + 2, halfAt(bytes, at), into, to);
}

/** IQ4_XS: a scale of scales, the high bit pairs of eight 6-bit scales in 2 bytes, their low halves in 4, and 32 numbers of each. */
function decodeIQ4XS(bytes: Uint8Array, at: number, into: Float32Array, to: number): void {
  const scale = halfAt(bytes, at);
  const high = bytes[at + 2]! | (bytes[at + 3]! << 8);
  for (let group = 0; group < 8; group++) {
    const low = (bytes[at + 4 + (group >> 1)]! >> ((group & 1) * 4)) & 15;
    const groupScale = scale * ((low | (((high >> (2 * group)) & 3) << 4)) - 32);
    decodeUneven(bytes, at + 8 + 16 * group, groupScale, into, to + 32 * group);
  }
}

/**
 * Q4_K and Q5_K: a scale of scales, a scale of minima, eight 6-bit scales and minima in 12 bytes, for Q5_K the fifth
 * bits, then four runs of 32 bytes whose low and high halves are two groups of 32 numbers.
 */
function decodeK(bytes: Uint8Array, at: number, into: Float32Array, to: number, fiveBits: boolean): void {
  const scale = halfAt(bytes, at);
  const minimum = halfAt(bytes, at + 2);
  const high = at + 16;
  const low = high + (fiveBits ? 32 : 0);
  for (let group = 0; group < 8; group++) {
    const groupScale = scale * sixBitScale(bytes, at + 4, group);
    const groupMinimum = minimum * sixBitMinimum(bytes, at + 4, group);
    const run = low + (group >> 1) * 32;
    const half = (group & 1) * 4;
    const out = to + group * 32;
    for (let j = 0; j < 32; j++) {
      const fifth = fiveBits ? ((bytes[high + j]! >> group) & 1) << 4 : 0;
      into[out + j] = (((bytes[run + j]! >> half) & 15) | fifth) * groupScale - groupMinimum;
    }
  }
}

/** The first four of eight 6-bit numbers have a byte each; the others four bits in one byte, two on top of another. */
const sixBitScale = (bytes: Uint8Array, at: number, group: number): number =>
  group < 4 ? bytes[at + group]! & 63 : (bytes[at + group + 4]! & 15) | ((bytes[at + group - 4]! >> 6) << 4);

const sixBitMinimum = (bytes: Uint8Array, at: number, group: number): number =>
  group < 4 ? bytes[at + group + 4]! & 63 : (bytes[at + group + 4]! >> 4) | ((bytes[at + group]! >> 6) << 4);

/**
 * Q6_K: 128 bytes of low halves, 64 bytes of upper bit pairs, 16 signed scales of 16 numbers each, a scale of scales.
 * Each half of the block is four groups of 32: groups 0 and 1 are low halves of the bytes, 2 and 3 their high halves.
 */
function decodeQ6K(bytes: Uint8Array, at: number, into: Float32Array, to: number): void {
  const scale = halfAt(bytes, at + 208);
  for (let group = 0; group < 8; group++) {
    const low = at + (group >> 2) * 64 + (group & 1) * 32;
    const high = at + 128 + (group >> 2) * 32;
    const half = (group & 2) * 2;
    const pair = (group & 3) * 2;
    for (let j = 0; j < 32; j++) {
      const quantum = ((bytes[low + j]! >> half) & 15) | (((bytes[high + j]! >> pair) & 3) << 4);
      const groupScale = (bytes[at + 192 + group * 2 + (j >> 4)]! << 24) >> 24;
      into[to + group * 32 + j] = scale * groupScale * (quantum - 32);
    }
  }
}

/** The number of greatest magnitude among 32, with its sign. */
function extreme(values: Float32Array, at: number): number {
  let result = 0;
  for (let j = 0; j < 32; j++) {
    const value = values[at + j]!;
    if (!Number.isFinite(value)) throw new WeightError(`can't quantise ${value} (element ${at + j})`);
    if (Math.abs(value) > Math.abs(result)) result = value;
  }
  return result;
}

/** Writes the scale of a block at `to` and returns the float32 reciprocal that numbers are multiplied by. */
function writeScale(scale: number, into: Uint8Array, to: number): number {
  const half = numberToFloat16(scale);
  if ((half & 0x7fff) === 0x7c00) throw new WeightError(`can't quantise: scale ${scale} is too large for float16`);
  into[to] = half & 255;
  into[to + 1] = half >> 8;
  return scale === 0 ? 0 : Math.fround(1 / scale);
}

function encodeQ8(values: Float32Array, at: number, into: Uint8Array, to: number): void {
  const inverse = writeScale(Math.fround(Math.abs(extreme(values, at)) / 127), into, to);
  for (let j = 0; j < 32; j++) {
    const quotient = Math.fround(values[at + j]! * inverse);
    // C's roundf: halves away from zero, where Math.round takes them up.
    into[to + 2 + j] = quotient < 0 ? -Math.round(-quotient) : Math.round(quotient);
  }
}

function encodeQ4(values: Float32Array, at: number, into: Uint8Array, to: number): void {
  const inverse = writeScale(Math.fround(extreme(values, at) / -8), into, to);
  const quantum = (value: number) => Math.min(15, Math.trunc(Math.fround(Math.fround(value * inverse) + 8.5)));
  for (let j = 0; j < 16; j++) into[to + 2 + j] = quantum(values[at + j]!) | (quantum(values[at + j + 16]!) << 4);
}

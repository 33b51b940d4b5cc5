import { inputRow, partial } from './product';
import { groupsOf, heightOf, rowBytesQ4, rowBytesQ8, TILE } from './quantised';
import { share } from './rows';

/** Larger of the magnitudes in `largest` and those of x, lane by lane; NaN is above all, as it is among integers. */
function magnitudes(x: v128, largest: v128): v128 {
  return i32x4.max_s(v128.and(x, i32x4.splat(0x7fffffff)), largest);
}

/** Largest of the four lanes. */
function largestLane(x: v128): f32 {
  const pairs = i32x4.max_s(x, v128.shuffle<i32>(x, x, 2, 3, 0, 1));
  return f32x4.extract_lane(i32x4.max_s(pairs, v128.shuffle<i32>(pairs, pairs, 1, 0, 3, 2)), 0);
}

/** Largest magnitude of `count` floats; NaN if one is. */
function largestMagnitude(x: usize, count: i32): f32 {
  let largest = i32x4.splat(0);
  for (let i = 0; i < count; i += 4) largest = magnitudes(partial(x + ((<usize>i) << 2), count - i), largest);
  return largestLane(largest);
}

/** What `x` is multiplied by so that its largest magnitude becomes `limit`; 0 for what is next to nothing, or infinite. */
function inverseScale(largest: f32, limit: f32): v128 {
  return f32x4.splat(largest > 1e-30 ? limit / largest : 0);
}

/** 1.5 · 2²³: where one is added, a small number's fraction is rounded away, to even, and its integer ends the bits of the sum. */
const ROUND: f32 = 12582912;

/** Nearest integers to x · inverse, of magnitudes below 2²². */
function integers(x: v128, inverse: v128): v128 {
  const sum = f32x4.add(f32x4.mul(x, inverse), f32x4.splat(ROUND));
  return i32x4.sub(sum, i32x4.splat(reinterpret<i32>(ROUND)));
}

/**
 * Rows of x as 16-bit integers for `linearQ8`, each with one scale: its largest magnitude becomes 32767.
 * args: [rowsAt, rows of x in a row of its tensor, x (2 words), address of I, to]
 */
export function quantiseRowsQ8(args: usize, thread: i32, threads: i32): void {
  const I = load<i32>(<usize>load<u32>(args, 16));
  const rows = load<i32>(<usize>load<u32>(args)) * load<i32>(args, 4);
  const blocks = (rows + TILE - 1) / TILE;
  const last = share(blocks, thread + 1, threads);
  for (let block = share(blocks, thread, threads); block < last; block++) {
    const first = block * TILE;
    const height = heightOf(first, rows);
    const to = <usize>load<u32>(args, 20) + <usize>(first * rowBytesQ8(I));
    if (first + TILE <= rows && (I & 31) == 0) {
      fourRowsQ8(
        inputRow(args, first, I),
        inputRow(args, first + 1, I),
        inputRow(args, first + 2, I),
        inputRow(args, first + 3, I),
        I,
        to,
      );
      continue;
    }
    for (let j = 0; j < height; j++) {
      const x = first + j < rows ? inputRow(args, first + j, I) : 0;
      quantiseRowQ8(x, I, to + ((<usize>j) << 2), (<usize>height) << 2);
    }
  }
}

/** A whole tile of rows of whole groups. */
function fourRowsQ8(x0: usize, x1: usize, x2: usize, x3: usize, I: i32, to: usize): void {
  const scale0 = largestMagnitude(x0, I);
  const scale1 = largestMagnitude(x1, I);
  const scale2 = largestMagnitude(x2, I);
  const scale3 = largestMagnitude(x3, I);
  store<f32>(to, scale0 / 32767);
  store<f32>(to, scale1 / 32767, 4);
  store<f32>(to, scale2 / 32767, 8);
  store<f32>(to, scale3 / 32767, 12);
  const inverse0 = inverseScale(scale0, 32767);
  const inverse1 = inverseScale(scale1, 32767);
  const inverse2 = inverseScale(scale2, 32767);
  const inverse3 = inverseScale(scale3, 32767);
  to += 16;
  for (const end = ((<usize>I) << 2) + x0; x0 < end; x0 += 16) {
    const a = i16x8.narrow_i32x4_s(integers(v128.load(x0), inverse0), integers(v128.load(x1), inverse1));
    const b = i16x8.narrow_i32x4_s(integers(v128.load(x2), inverse2), integers(v128.load(x3), inverse3));
    v128.store(to, v128.shuffle<i32>(a, b, 0, 2, 4, 6));
    v128.store(to, v128.shuffle<i32>(a, b, 1, 3, 5, 7), 16);
    x1 += 16;
    x2 += 16;
    x3 += 16;
    to += 32;
  }
}

/** One row's scale and integers, each pair `step` bytes after the one before; zeros where x is 0. */
export function quantiseRowQ8(x: usize, I: i32, to: usize, step: usize): void {
  const largest = x ? largestMagnitude(x, I) : 0;
  store<f32>(to, largest / 32767);
  const inverse = inverseScale(largest, 32767);
  to += step;
  const padded = groupsOf(I) << 5;
  for (let i = 0; i < padded; i += 4) {
    const count = x ? I - i : 0;
    const q = integers(partial(x + ((<usize>i) << 2), count), inverse);
    const pairs = i16x8.narrow_i32x4_s(q, q);
    v128.store32_lane(to, pairs, 0);
    v128.store32_lane(to + step, pairs, 1);
    to += 2 * step;
  }
}

/**
 * Rows of x as 8-bit integers for `linearQ4`, each group of 32 with its scale (its largest magnitude becomes 127) and
 * −8 times the sums of its integers at 0, 1 and at 2, 3 (mod 4), which take out the 8 that W's numbers have on top.
 * args: [rowsAt, rows of x in a row of its tensor, x (2 words), address of I, to]
 */
export function quantiseRowsQ4(args: usize, thread: i32, threads: i32): void {
  const I = load<i32>(<usize>load<u32>(args, 16));
  const rows = load<i32>(<usize>load<u32>(args)) * load<i32>(args, 4);
  const groups = groupsOf(I);
  const units = ((rows + TILE - 1) / TILE) * groups;
  const last = share(units, thread + 1, threads);
  for (let unit = share(units, thread, threads); unit < last; unit++) {
    const first = (unit / groups) * TILE;
    const group = unit % groups;
    const height = heightOf(first, rows);
    const to = <usize>load<u32>(args, 20) + <usize>(first * rowBytesQ4(I) + group * 40 * height);
    if (first + TILE <= rows && (group + 1) << 5 <= I) {
      const at = (<usize>group) << 7;
      fourGroupsQ4(
        inputRow(args, first, I) + at,
        inputRow(args, first + 1, I) + at,
        inputRow(args, first + 2, I) + at,
        inputRow(args, first + 3, I) + at,
        to,
      );
      continue;
    }
    for (let j = 0; j < height; j++) {
      const exists = first + j < rows;
      const x = exists ? inputRow(args, first + j, I) + ((<usize>group) << 7) : 0;
      groupQ4(x, exists ? min(32, I - (group << 5)) : 0, to + ((<usize>j) << 2), (<usize>height) << 2);
    }
  }
}

/** The groups of a row alone. */
export function quantiseRowQ4(x: usize, I: i32, to: usize): void {
  for (let i = 0; i < I; i += 32, x += 128, to += 40) groupQ4(x, min(32, I - i), to, 4);
}

/** Largest magnitude of a whole group. */
function largestOfGroup(x: usize): f32 {
  let largest = i32x4.splat(0);
  for (const end = x + 128; x < end; x += 32) largest = magnitudes(v128.load(x), magnitudes(v128.load(x, 16), largest));
  return largestLane(largest);
}

/** A group of a whole tile of rows. */
function fourGroupsQ4(x0: usize, x1: usize, x2: usize, x3: usize, to: usize): void {
  const scale0 = largestOfGroup(x0);
  const scale1 = largestOfGroup(x1);
  const scale2 = largestOfGroup(x2);
  const scale3 = largestOfGroup(x3);
  store<f32>(to, scale0 / 127);
  store<f32>(to, scale1 / 127, 4);
  store<f32>(to, scale2 / 127, 8);
  store<f32>(to, scale3 / 127, 12);
  const inverse0 = inverseScale(scale0, 127);
  const inverse1 = inverseScale(scale1, 127);
  const inverse2 = inverseScale(scale2, 127);
  const inverse3 = inverseScale(scale3, 127);
  let sums = i16x8.splat(0);
  let at = to + 32;
  for (const end = x0 + 128; x0 < end; x0 += 16) {
    const a = i16x8.narrow_i32x4_s(integers(v128.load(x0), inverse0), integers(v128.load(x1), inverse1));
    const b = i16x8.narrow_i32x4_s(integers(v128.load(x2), inverse2), integers(v128.load(x3), inverse3));
    const bytes = i8x16.narrow_i16x8_s(a, b);
    sums = i16x8.add(sums, i16x8.extadd_pairwise_i8x16_s(bytes));
    v128.store(at, bytes);
    x1 += 16;
    x2 += 16;
    x3 += 16;
    at += 16;
  }
  v128.store(to, i16x8.neg(i16x8.shl(sums, 3)), 16);
}

/** One group of a row: scale, corrections and integers, each four bytes `step` bytes after those before. */
function groupQ4(x: usize, count: i32, to: usize, step: usize): void {
  const largest = largestMagnitude(x, count);
  store<f32>(to, largest / 127);
  const inverse = inverseScale(largest, 127);
  let sums = i32x4.splat(0);
  let at = to + 2 * step;
  for (let i = 0; i < 32; i += 4) {
    const q = integers(partial(x + ((<usize>i) << 2), count - i), inverse);
    sums = i32x4.add(sums, q);
    const words = i16x8.narrow_i32x4_s(q, q);
    v128.store32_lane(at, i8x16.narrow_i16x8_s(words, words), 0);
    at += step;
  }
  const low = -8 * (i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1));
  const high = -8 * (i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3));
  store<i32>(to + step, (low & 0xffff) | (high << 16));
}

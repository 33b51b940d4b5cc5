import { inputRow, partial } from './product';
import { groupsOf, heightOf, rowBytesQ4, rowBytesQ8, TILE } from './quantised';
import { share } from './rows';

/** Largest of the four lanes; NaN if one is. */
function largestLane(x: v128): f32 {
  const pairs = f32x4.max(x, v128.shuffle<f32>(x, x, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.max(pairs, v128.shuffle<f32>(pairs, pairs, 1, 0, 3, 2)), 0);
}

/** Largest magnitude of `count` floats. */
function largestMagnitude(x: usize, count: i32): f32 {
  let largest = f32x4.splat(0);
  for (let i = 0; i < count; i += 4) largest = f32x4.max(largest, f32x4.abs(partial(x + ((<usize>i) << 2), count - i)));
  return largestLane(largest);
}

/** What `x` is multiplied by so that its largest magnitude becomes `limit`; 0 for what is next to nothing, or infinite. */
function inverseScale(largest: f32, limit: f32): v128 {
  return f32x4.splat(largest > 1e-30 ? limit / largest : 0);
}

/** Nearest integers to x · inverse. */
function integers(x: v128, inverse: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(x, inverse)));
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
    for (let j = 0; j < height; j++) rowQ8(args, first + j, rows, I, to + ((<usize>j) << 2), (<usize>height) << 2);
  }
}

/** One row's scale and integers, each pair `step` bytes after the one before. */
function rowQ8(args: usize, r: i32, rows: i32, I: i32, to: usize, step: usize): void {
  const exists = r < rows;
  const x = exists ? inputRow(args, r, I) : 0;
  const largest = exists ? largestMagnitude(x, I) : 0;
  store<f32>(to, largest / 32767);
  const inverse = inverseScale(largest, 32767);
  to += step;
  const padded = groupsOf(I) << 5;
  for (let i = 0; i < padded; i += 4) {
    const count = exists ? I - i : 0;
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
    for (let j = 0; j < height; j++) {
      const exists = first + j < rows;
      const x = exists ? inputRow(args, first + j, I) + ((<usize>group) << 7) : 0;
      groupQ4(x, exists ? min(32, I - (group << 5)) : 0, to + ((<usize>j) << 2), (<usize>height) << 2);
    }
  }
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

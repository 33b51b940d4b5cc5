import { fromHalf } from './half';
import { tileOf } from './product';
import { GROUP_Q4, GROUP_Q8, groupsOf } from './quantised';
import { share, sumLanes } from './rows';

/**
 * Packs a part of a matrix, f32 at `source`, into panels of 8 outputs (linear.ts, quantised.ts). Element (o, i) of the part is at
 * source + 4·(o·oStride + i·iStride). args: [source, oStride, iStride, first output, outputs, first input, inputs, I, W, format]
 * Formats: 0 f32 · 1 bf16 · 2 f16 · 3 q8 · 4 q4; in the last two the first input begins a group and the last one ends one or
 * the matrix. Places beyond the matrix are left as they are: zero.
 */
export function packWeights(args: usize, thread: i32, threads: i32): void {
  const oStride = (<usize>load<i32>(args, 4)) << 2;
  const iStride = (<usize>load<i32>(args, 8)) << 2;
  const first = load<i32>(args, 12);
  const outputs = load<i32>(args, 16);
  const i = load<i32>(args, 20);
  const inputs = load<i32>(args, 24);
  const I = load<i32>(args, 28);
  const W = <usize>load<u32>(args, 32);
  const format = load<i32>(args, 36);
  const to = share(outputs, thread + 1, threads);
  for (let n = share(outputs, thread, threads); n < to; n++) {
    const o = first + n;
    const from = <usize>load<u32>(args) + <usize>n * oStride;
    if (format < 3) plain(from, iStride, inputs, W, (o >> 3) * I * 8 + i * 8 + (o & 7), format);
    else quantised(from, iStride, inputs, W, (o >> 3) * groupsOf(I) + (i >> 5), o & 7, format, tileOf(thread));
  }
}

/** One output's numbers, eight places apart from place `at` on. */
function plain(from: usize, step: usize, count: i32, W: usize, at: i32, format: i32): void {
  if (format == 0) {
    let to = W + ((<usize>at) << 2);
    for (let k = 0; k < count; k++, from += step, to += 32) store<f32>(to, load<f32>(from));
    return;
  }
  let to = W + ((<usize>at) << 1);
  for (let k = 0; k < count; k++, from += step, to += 16)
    store<u16>(to, <u16>(format == 1 ? toBf16(load<u32>(from)) : toHalf(load<f32>(from))));
}

/** One output's groups, from the panel's group `group` on. */
function quantised(
  from: usize,
  step: usize,
  count: i32,
  W: usize,
  group: i32,
  lane: i32,
  format: i32,
  buffer: usize,
): void {
  const bytes = format == 3 ? GROUP_Q8 : GROUP_Q4;
  let to = W + <usize>group * bytes;
  for (let k = 0; k < count; k += 32) {
    let x = from;
    if (step != 4 || k + 32 > count) {
      x = buffer;
      for (let j = 0; j < 32; j++)
        store<f32>(x + ((<usize>j) << 2), k + j < count ? load<f32>(from + <usize>j * step) : 0);
    }
    if (format == 3) packGroupQ8(x, to, <usize>lane);
    else packGroupQ4(x, to, <usize>lane);
    from += 32 * step;
    to += bytes;
  }
}

/** Largest magnitude of 32 numbers. */
function largestMagnitude(x: usize): f32 {
  let largest = f32x4.splat(0);
  for (const end = x + 128; x < end; x += 16) largest = f32x4.pmax(largest, f32x4.abs(v128.load(x)));
  const pairs = f32x4.pmax(largest, v128.shuffle<f32>(largest, largest, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.pmax(pairs, v128.shuffle<f32>(pairs, pairs, 1, 0, 3, 2)), 0);
}

export function packGroupQ8(x: usize, to: usize, lane: usize): void {
  const half = toHalf(largestMagnitude(x) / 127);
  store<u16>(to + (lane << 1), <u16>half);
  const inverse = f32x4.splat(reciprocal(half));
  to += 16 + (lane << 1);
  for (const end = x + 128; x < end; x += 16, to += 32) {
    const bytes = toBytes(f32x4.nearest(f32x4.mul(v128.load(x), inverse)), 127);
    v128.store16_lane(to, bytes, 0);
    v128.store16_lane(to + 16, bytes, 1);
  }
}

/** Four whole numbers, kept within ± `limit`, as the first four bytes. */
function toBytes(numbers: v128, limit: f32): v128 {
  const kept = f32x4.pmin(f32x4.pmax(numbers, f32x4.splat(-limit)), f32x4.splat(limit));
  const words = i32x4.trunc_sat_f32x4_s(kept);
  const halves = i16x8.narrow_i32x4_s(words, words);
  return i8x16.narrow_i16x8_s(halves, halves);
}

/**
 * The number of largest magnitude takes the longer, negative side. Of some scales near that, the one whose integers fit best is
 * taken, and then fitted to them by least squares.
 */
export function packGroupQ4(x: usize, to: usize, lane: usize): void {
  const extreme = firstOf(x, largestMagnitude(x));
  const half = extreme == 0 ? 0 : toHalf(bestScale(x, extreme));
  store<u16>(to + (lane << 1), <u16>half);
  const inverse = f32x4.splat(reciprocal(half));
  to += 16 + (lane << 2);
  for (const end = x + 128; x < end; x += 32, to += 32) {
    const low = quartersQ4(v128.load(x), inverse);
    const high = quartersQ4(v128.load(x, 16), inverse);
    const words = v128.or(low, i32x4.shl(high, 4));
    const halves = i16x8.narrow_i32x4_s(words, words);
    v128.store32_lane(to, i8x16.narrow_i16x8_u(halves, halves), 0);
  }
}

/** The first of 32 numbers with this magnitude. */
function firstOf(x: usize, magnitude: f32): f32 {
  const wanted = f32x4.splat(magnitude);
  for (const end = x + 128; x < end; x += 16) {
    const found = i32x4.bitmask(f32x4.eq(f32x4.abs(v128.load(x)), wanted));
    if (found != 0) return load<f32>(x + ((<usize>ctz(found)) << 2));
  }
  return 0;
}

/** Four numbers times `inverse` as integers of four bits, with 8 on top. */
function quartersQ4(x: v128, inverse: v128): v128 {
  const scaled = f32x4.pmin(f32x4.pmax(f32x4.mul(x, inverse), f32x4.splat(-8)), f32x4.splat(7));
  return i32x4.add(i32x4.trunc_sat_f32x4_s(f32x4.nearest(scaled)), i32x4.splat(8));
}

/** What the number of largest magnitude may become before the scale is fitted. */
const EXTREMES = memory.data<f32>([-8, -7, -7.25, -7.5, -7.75, -8.25, -8.5, -8.75, -9]);

function bestScale(x: usize, extreme: f32): f32 {
  let best: f32 = 0;
  let scale: f32 = 0;
  for (let n: usize = 0; n < 9; n++) {
    const inverse = f32x4.splat(load<f32>(EXTREMES + (n << 2)) / extreme);
    let products = f32x4.splat(0);
    let squares = f32x4.splat(0);
    for (let k: usize = 0; k < 128; k += 16) {
      const value = v128.load(x + k);
      const scaled = f32x4.pmin(f32x4.pmax(f32x4.mul(value, inverse), f32x4.splat(-8)), f32x4.splat(7));
      const q = f32x4.nearest(scaled);
      products = f32x4.add(products, f32x4.mul(q, value));
      squares = f32x4.add(squares, f32x4.mul(q, q));
    }
    const product = sumLanes(products);
    const square = sumLanes(squares);
    // The error of the best scale for these integers is |values|² − product² / square.
    if (product * product > best * square) {
      best = (product * product) / square;
      scale = product / square;
    }
  }
  return scale;
}

function reciprocal(half: i32): f32 {
  if ((half & 0x7fff) == 0) return 0;
  return <f32>1 / f32x4.extract_lane(fromHalf(i32x4.splat(<i32>(<i16>half))), 0);
}

/** The nearest bf16, ties to even. */
export function toBf16(bits: u32): u32 {
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

/** The nearest f16, ties to even; infinite from 65520 on. */
export function toHalf(value: f32): i32 {
  const bits = reinterpret<i32>(value);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = abs(value);
  if (magnitude >= 65520) return sign | 0x7c00;
  if (magnitude < <f32>6.103515625e-5) return sign | <i32>nearest(magnitude * 16777216);
  const unsigned = bits & 0x7fffffff;
  return sign | ((unsigned + 0xfff + ((unsigned >>> 13) & 1) - 0x38000000) >>> 13);
}

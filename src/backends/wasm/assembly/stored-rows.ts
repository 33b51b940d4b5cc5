import { fromHalf } from './half';

/**
 * Rows as a file holds them, in the arguments of storeRows (store-rows.ts): [unit, state, type, integers, step, scales, scale step, count …].
 * Types: 0 f32 · 1 bf16 · 2 f16, at `integers` one after another; 3 q8 · 4 q4 as ggml has it (number j and j + 16 in a byte) · 5 q4 as our
 * files have it (2j and 2j + 1): groups of 32 are `step` bytes apart, their f16 scales `scale step`.
 */

/** Address of `count` ≤ 32 numbers from number `at` on, in f32: where they lie, or in `tile`, with zeros up to 32. */
export function numbersAt(args: usize, at: i32, count: i32, tile: usize): usize {
  const type = load<i32>(args, 8);
  const from = <usize>load<u32>(args, 12);
  if (type == 0) return plainAt(from + ((<usize>at) << 2), count, tile);
  if (type < 3) {
    widenRow(from + ((<usize>at) << 1), count, tile, type);
    return tile;
  }
  const group = <usize>(at >> 5);
  const integers = from + group * <usize>load<i32>(args, 16);
  const scale = scaleOf(load<i16>(<usize>load<u32>(args, 20) + group * <usize>load<i32>(args, 24)));
  if (type == 3) expandQ8(integers, scale, tile);
  else expandQ4(integers, scale, tile, type == 5);
  return tile;
}

function plainAt(from: usize, count: i32, tile: usize): usize {
  if (count == 32) return from;
  memory.fill(tile, 0, 128);
  memory.copy(tile, from, (<usize>count) << 2);
  return tile;
}

/** `count` ≤ 32 numbers of type 1 (bf16) or 2 (f16) to f32, with zeros up to 32. */
export function widenRow(from: usize, count: i32, tile: usize, type: i32): void {
  let source = from;
  if (count < 32) {
    source = tile;
    memory.fill(tile, 0, 64);
    memory.copy(tile, from, (<usize>count) << 1);
  }
  // From the end on: the first numbers may lie in the tile themselves.
  for (let k = 28; k >= 0; k -= 4) {
    const bits = v128.load16x4_s(source + ((<usize>k) << 1));
    v128.store(tile + ((<usize>k) << 2), type == 1 ? i32x4.shl(bits, 16) : fromAnyHalf(bits));
  }
}

/** Four f16 numbers in sign-extended lanes to f32, infinities and NaN among them. */
function fromAnyHalf(bits: v128): v128 {
  const top = i32x4.splat(0x7c00);
  const isEndless = i32x4.eq(v128.and(bits, top), top);
  return v128.or(fromHalf(bits), v128.and(isEndless, i32x4.splat(0x7f800000)));
}

/** A scale in all lanes. */
export function scaleOf(half: i16): v128 {
  return fromAnyHalf(i32x4.splat(<i32>half));
}

/** 32 bytes times a scale. */
export function expandQ8(from: usize, scale: v128, to: usize): void {
  for (const end = to + 128; to < end; to += 32, from += 8) {
    const words = v128.load8x8_s(from);
    v128.store(to, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(words)), scale));
    v128.store(to, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(words)), scale), 16);
  }
}

function expandQ4(from: usize, scale: v128, to: usize, isPaired: bool): void {
  const bytes = v128.load(from);
  const low = v128.and(bytes, i8x16.splat(15));
  const high = v128.and(i16x8.shr_u(bytes, 4), i8x16.splat(15));
  const lows = v128.shuffle<i8>(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const highs = v128.shuffle<i8>(low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  expandBytes(isPaired ? lows : low, scale, to);
  expandBytes(isPaired ? highs : high, scale, to + 64);
}

/** Sixteen integers with 8 on top. Scale · integer − 8 · scale is exact, and no zero has a sign. */
export function expandBytes(bytes: v128, scale: v128, to: usize): void {
  const shift = f32x4.mul(scale, f32x4.splat(-8));
  const low = i16x8.extend_low_i8x16_u(bytes);
  const high = i16x8.extend_high_i8x16_u(bytes);
  v128.store(to, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(low)), scale), shift));
  v128.store(to, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(low)), scale), shift), 16);
  v128.store(to, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(high)), scale), shift), 32);
  v128.store(to, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(high)), scale), shift), 48);
}

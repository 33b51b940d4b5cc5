import { numbersAt } from './stored-rows';

/**
 * What rows of a file hold, looked at once: `state` is [4 lanes, words so far] of a digest (core/digest.ts), which goes on over their
 * numbers as f32, then [the bits of the largest magnitude, all words or-ed, whether all are f16 numbers].
 */
export function surveyRows(args: usize, tile: usize): void {
  const state = <usize>load<u32>(args, 4);
  const count = load<i32>(args, 28);
  const seen = load<i32>(state, 16);
  const wantsHalf = load<i32>(args, 36) == 2;
  // The lane that takes the first word comes first.
  let lanes = turned(v128.load(state), seen & 3, tile);
  let largest = i32x4.splat(0);
  let ored = i32x4.splat(0);
  let halves = i32x4.splat(-1);
  const whole = count & ~3;
  for (let at = 0; at < whole; at += 32) {
    const length = min(32, whole - at);
    let x = numbersAt(args, at, length, tile);
    for (const end = x + ((<usize>length) << 2); x < end; x += 16) {
      const words = v128.load(x);
      largest = i32x4.max_s(largest, v128.and(words, i32x4.splat(0x7fffffff)));
      ored = v128.or(ored, words);
      if (wantsHalf) halves = v128.and(halves, areHalves(words));
      lanes = mixed(lanes, words);
    }
  }
  if (whole < count) {
    // The lanes that take no word keep what they have.
    const words = v128.load(numbersAt(args, whole, count - whole, tile));
    const taken = i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(count - whole));
    largest = i32x4.max_s(largest, v128.and(words, i32x4.splat(0x7fffffff)));
    ored = v128.or(ored, words);
    if (wantsHalf) halves = v128.and(halves, areHalves(words));
    lanes = v128.bitselect(mixed(lanes, words), lanes, taken);
  }
  v128.store(state, turned(lanes, (4 - (seen & 3)) & 3, tile));
  store<i32>(state, seen + count, 16);
  largest = i32x4.max_s(largest, v128.shuffle<i32>(largest, largest, 2, 3, 0, 1));
  ored = v128.or(ored, v128.shuffle<i32>(ored, ored, 2, 3, 0, 1));
  store<i32>(state, max(i32x4.extract_lane(largest, 0), i32x4.extract_lane(largest, 1)), 20);
  store<i32>(state, i32x4.extract_lane(ored, 0) | i32x4.extract_lane(ored, 1), 24);
  store<i32>(state, i32(i32x4.all_true(halves)), 28);
}

/** Puts the lanes in a ring and begins `by` places later: lane `by` becomes the first. */
function turned(lanes: v128, by: i32, tile: usize): v128 {
  v128.store(tile, lanes, 128);
  v128.store(tile, lanes, 144);
  return v128.load(tile + ((<usize>by) << 2), 128);
}

/** One step of MurmurHash3 in every lane; h · 5 as a shift and an addition, so that steps follow each other soon. */
function mixed(hash: v128, words: v128): v128 {
  const a = i32x4.mul(words, i32x4.splat(0xcc9e2d51));
  const k = i32x4.mul(v128.or(i32x4.shl(a, 15), i32x4.shr_u(a, 17)), i32x4.splat(0x1b873593));
  const b = v128.xor(hash, k);
  const h = v128.or(i32x4.shl(b, 13), i32x4.shr_u(b, 19));
  return i32x4.add(i32x4.add(h, i32x4.splat(0xe6546b64)), i32x4.shl(h, 2));
}

/** Which of four numbers f16 holds exactly: below 2⁻¹⁴ multiples of 2⁻²⁴, above it 11 significant bits, to 65504. */
function areHalves(words: v128): v128 {
  const magnitude = v128.and(words, i32x4.splat(0x7fffffff));
  const steps = f32x4.mul(magnitude, f32x4.splat(16777216));
  const few = i32x4.eq(v128.and(words, i32x4.splat(0x1fff)), i32x4.splat(0));
  return v128.bitselect(
    f32x4.eq(f32x4.nearest(steps), steps),
    v128.and(few, i32x4.le_s(magnitude, i32x4.splat(0x477fe000))),
    i32x4.lt_s(magnitude, i32x4.splat(0x38800000)),
  );
}

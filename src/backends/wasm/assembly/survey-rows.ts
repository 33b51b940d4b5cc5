import { mixed, turned } from './digest';
import { numbersAt } from './stored-rows';

/**
 * What rows of a file hold, looked at once: `state` is [4 lanes, words so far] of a digest (core/digest.ts), which goes on over their
 * numbers as f32 where it is wanted, then [the bits of the largest magnitude, all words or-ed, whether all are f16 numbers].
 * Integers without a digest are finite where their scales are.
 */
export function surveyRows(args: usize, tile: usize): void {
  const state = <usize>load<u32>(args, 4);
  const count = load<i32>(args, 28);
  const wantsDigest = load<i32>(args, 60) != 0;
  if (!wantsDigest && load<i32>(args, 8) >= 3) {
    store<i32>(state, surveyScales(args, count >> 5), 20);
    return;
  }
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
      if (wantsDigest) lanes = mixed(lanes, words);
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

/** The bits of Infinity where one of the groups' scales is not finite, and otherwise 0. */
function surveyScales(args: usize, groups: i32): i32 {
  const step = <usize>load<i32>(args, 24);
  let scale = <usize>load<u32>(args, 20);
  let found = 0;
  for (const end = scale + <usize>groups * step; scale < end; scale += step)
    found |= i32((load<u16>(scale) & 0x7c00) == 0x7c00);
  return found == 0 ? 0 : 0x7f800000;
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

import { loadLanes } from './rows';

/** The digest of core/digest.ts, four words at a time: its state is [4 lanes, words so far]. */

/** Puts the lanes in a ring and begins `by` places later: lane `by` becomes the first. */
export function turned(lanes: v128, by: i32, tile: usize): v128 {
  v128.store(tile, lanes, 128);
  v128.store(tile, lanes, 144);
  return v128.load(tile + ((<usize>by) << 2), 128);
}

/** One step of MurmurHash3 in every lane; h · 5 as a shift and an addition, so that steps follow each other soon. */
export function mixed(hash: v128, words: v128): v128 {
  const a = i32x4.mul(words, i32x4.splat(0xcc9e2d51));
  const k = i32x4.mul(v128.or(i32x4.shl(a, 15), i32x4.shr_u(a, 17)), i32x4.splat(0x1b873593));
  const b = v128.xor(hash, k);
  const h = v128.or(i32x4.shl(b, 13), i32x4.shr_u(b, 19));
  return i32x4.add(i32x4.add(h, i32x4.splat(0xe6546b64)), i32x4.shl(h, 2));
}

/** Goes on with the digest at `state` over `count` words at x; its lanes are turned in `tile` where words before did not fill them. */
export function digestWords(state: usize, x: usize, count: i32, tile: usize): void {
  const seen = load<i32>(state, 16);
  let lanes = v128.load(state);
  if ((seen & 3) != 0) lanes = turned(lanes, seen & 3, tile);
  let at = 0;
  for (; at + 4 <= count; at += 4) lanes = mixed(lanes, v128.load(x + ((<usize>at) << 2)));
  if (at < count) {
    // The lanes that take no word keep what they have.
    const words = loadLanes(x + ((<usize>at) << 2), count - at);
    lanes = v128.bitselect(mixed(lanes, words), lanes, i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(count - at)));
  }
  if ((seen & 3) != 0) lanes = turned(lanes, 4 - (seen & 3), tile);
  v128.store(state, lanes);
  store<i32>(state, seen + count, 16);
}

import { HALF_END, toHalf } from './half';
import { PAGE, padded, pageOf } from './pages';
import { loadLanes, rowAt, share, stateAt } from './rows';

/**
 * Adds a segment's rows to a state that grows. args: [segmentsAt, ends, positions, x (2 words), state (2 words), G, width, format (0: f32,
 * 2: f16), beyond]. In f16, where a number is larger than those of f16, or NaN, its magnitude is left at `beyond`.
 */
export function appendRows(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const positions = <usize>load<u32>(args, 8);
  const G = load<i32>(args, 28);
  const width = load<i32>(args, 32);
  const halves = load<i32>(args, 36) == 2;
  const row = (<usize>padded(width)) << (halves ? 1 : 2);
  let most = i32x4.splat(0);
  let first = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    const start = load<i32>(positions + ((<usize>b) << 2));
    const state = stateAt(args + 20, b);
    const to = first + share(last - first, thread + 1, threads);
    for (let t = first + share(last - first, thread, threads); t < to; t++) {
      const n = start + t - first;
      let x = rowAt(args + 12, t);
      let y = pageOf(state, n / PAGE) + <usize>(n % PAGE) * row;
      for (let g = 0; g < G; g++) {
        if (halves) most = i32x4.max_s(most, storeHalves(y, x, width));
        else copyRow(y, x, (<usize>width) << 2, row);
        x += (<usize>width) << 2;
        y += <usize>PAGE * row;
      }
    }
    first = last;
  }
  if (halves) tellBeyond(most, <usize>load<u32>(args, 40));
}

/** `width` bytes, and zeros up to a whole row. */
function copyRow(to: usize, from: usize, width: usize, row: usize): void {
  let i: usize = 0;
  for (; i + 16 <= width; i += 16) v128.store(to + i, v128.load(from + i));
  for (; i < width; i += 4) store<f32>(to + i, load<f32>(from + i));
  for (; i < row; i += 4) store<f32>(to + i, 0);
}

/** `width` numbers in f16, and zeros up to a whole row. Returns largest magnitudes, as bits, which are in the order of the numbers. */
function storeHalves(to: usize, from: usize, width: i32): v128 {
  const magnitude = i32x4.splat(0x7fffffff);
  let most = i32x4.splat(0);
  for (; width > 0; width -= 8, from += 32, to += 16) {
    const x = loadLanes(from, width);
    const y = loadLanes(from + 16, width - 4);
    v128.store(to, i16x8.narrow_i32x4_u(toHalf(x), toHalf(y)));
    most = i32x4.max_s(most, i32x4.max_s(v128.and(x, magnitude), v128.and(y, magnitude)));
  }
  return most;
}

/** Any thread's, where several have one. */
function tellBeyond(most: v128, beyond: usize): void {
  most = i32x4.max_s(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
  const bits = max(i32x4.extract_lane(most, 0), i32x4.extract_lane(most, 1));
  if (bits >= HALF_END) store<i32>(beyond, bits);
}

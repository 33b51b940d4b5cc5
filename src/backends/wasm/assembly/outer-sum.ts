import { madd } from './math';
import { tileOf } from './product';
import { rowAt, share, storeLanes } from './rows';
import { beginUnits, runEnd, takeUnits, unitsEnd } from './schedule';

/** Rows of the result in a tile: with eight columns, twelve sums. */
const TILE: i32 = 6;
/** Rows that all groups take before the next ones. */
const PASSING: i32 = 32;
/** Multiply-adds that a thread takes at a time, at least. */
const WORK: i32 = 1 << 18;

/**
 * Groups columns [T, C] by `group`: [⌈C / group⌉][T][group], zeros where there are no more columns, so that what a tile reads of
 * one row lies together. args: [rowsAt, x (2 words), C, group, y]. Threads share the groups.
 */
export function groupColumns(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(<usize>load<u32>(args));
  const C = load<i32>(args, 12);
  const group = load<i32>(args, 16);
  const groups = (C + group - 1) / group;
  const last = share(groups, thread + 1, threads);
  // Groups share cache lines of x, which stay in the cache for a few rows.
  for (let t = 0; t < rows; t += PASSING) {
    const count = min(PASSING, rows - t);
    for (let n = share(groups, thread, threads); n < last; n++) {
      const x = rowAt(args + 4, t) + ((<usize>(n * group)) << 2);
      const y = <usize>load<u32>(args, 20) + ((<usize>((n * rows + t) * group)) << 2);
      copyGroup(
        x,
        (<usize>load<i32>(args, 8)) << 2,
        y,
        (<usize>group) << 2,
        count,
        (<usize>min(group, C - n * group)) << 2,
      );
    }
  }
}

/** `width` bytes of each of `count` rows, `step` bytes apart, to rows of `bytes`, zeros behind them. */
function copyGroup(x: usize, step: usize, y: usize, bytes: usize, count: i32, width: usize): void {
  if (width == 32) {
    for (; count > 0; count--, x += step, y += 32) {
      v128.store(y, v128.load(x));
      v128.store(y, v128.load(x, 16), 16);
    }
  } else if (width == 24 && bytes == 24) {
    for (; count > 0; count--, x += step, y += 24) {
      v128.store(y, v128.load(x));
      store<u64>(y, load<u64>(x, 16), 16);
    }
  } else {
    for (; count > 0; count--, x += step, y += bytes) {
      memory.fill(y, 0, bytes);
      memory.copy(y, x, width);
    }
  }
}

/**
 * y = Σ_t a_t ⊗ b_t, with the columns of a in groups of six and those of b in groups of eight.
 * args: [rowsAt, a, b, y (2 words), O, I]. Threads share the tiles.
 */
export function outerSum(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(<usize>load<u32>(args));
  const O = load<i32>(args, 20);
  const I = load<i32>(args, 24);
  const panels = (I + 7) >> 3;
  const units = ((O + TILE - 1) / TILE) * panels;
  const area = tileOf(thread);
  // Two tiles are a cache line of y: one thread's.
  const run = 2 * max(1, WORK / max(1, rows * 16 * TILE));
  beginUnits(units, thread, threads);
  for (let unit = takeUnits(run); unit < unitsEnd(); unit = takeUnits(run)) {
    for (const stop = runEnd(unit, run); unit < stop; unit++) {
      const o = (unit / panels) * TILE;
      const i = (unit % panels) << 3;
      const a = <usize>load<u32>(args, 4) + ((<usize>(o * rows)) << 2);
      const b = <usize>load<u32>(args, 8) + ((<usize>(i * rows)) << 2);
      tile(args, a, b, rows, o, i, min(TILE, O - o), I - i, area);
    }
  }
}

/** `area` is where the sums are left at first: see `tileOf`. */
function tile(args: usize, a: usize, b: usize, rows: i32, o: i32, i: i32, height: i32, width: i32, area: usize): void {
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  let c0 = f32x4.splat(0);
  let c1 = f32x4.splat(0);
  let d0 = f32x4.splat(0);
  let d1 = f32x4.splat(0);
  let e0 = f32x4.splat(0);
  let e1 = f32x4.splat(0);
  let f0 = f32x4.splat(0);
  let f1 = f32x4.splat(0);
  const stop = b + ((<usize>rows) << 5);
  for (; b < stop; b += 32) {
    const w0 = v128.load(b);
    const w1 = v128.load(b, 16);
    let x = v128.load32_splat(a);
    a0 = madd(x, w0, a0);
    a1 = madd(x, w1, a1);
    x = v128.load32_splat(a, 4);
    b0 = madd(x, w0, b0);
    b1 = madd(x, w1, b1);
    x = v128.load32_splat(a, 8);
    c0 = madd(x, w0, c0);
    c1 = madd(x, w1, c1);
    x = v128.load32_splat(a, 12);
    d0 = madd(x, w0, d0);
    d1 = madd(x, w1, d1);
    x = v128.load32_splat(a, 16);
    e0 = madd(x, w0, e0);
    e1 = madd(x, w1, e1);
    x = v128.load32_splat(a, 20);
    f0 = madd(x, w0, f0);
    f1 = madd(x, w1, f1);
    a += 24;
  }
  v128.store(area, a0);
  v128.store(area, a1, 16);
  v128.store(area, b0, 32);
  v128.store(area, b1, 48);
  v128.store(area, c0, 64);
  v128.store(area, c1, 80);
  v128.store(area, d0, 96);
  v128.store(area, d1, 112);
  v128.store(area, e0, 128);
  v128.store(area, e1, 144);
  v128.store(area, f0, 160);
  v128.store(area, f1, 176);
  for (let row = 0; row < height; row++) {
    const y = rowAt(args + 12, o + row) + ((<usize>i) << 2);
    storeLanes(y, width, v128.load(area));
    if (width > 4) storeLanes(y + 16, width - 4, v128.load(area, 16));
    area += 32;
  }
}

import { fromBf16, fromHalf } from './half';
import { madd } from './math';
import { inputRow, putTile } from './product';

/*
 * Every output is the sum of two: over the first half of I, and over the second. All tiles add in this order, whatever their height, so
 * that a row's product is the same, bit for bit, alone and among others. Rows that must be fast alone take both halves at once.
 */

/** Rows in the tallest tile. */
export const TILE: i32 = 6;

/** Rows `r` to `end` of a product with an f32 panel of eight outputs from `o` on. */
export function panelTimesRows(args: usize, r: i32, end: i32, panel: usize, I: i32, o: i32, tile: usize): void {
  while (r < end) {
    const left = end - r;
    const height = left > 3 ? TILE : left > 1 ? 3 : 1;
    if (height == TILE) {
      tile6(args, r, end, panel, 0, I >> 1, I, tile);
      tile6(args, r, end, panel + ((<usize>(I >> 1)) << 5), I >> 1, I, I, tile);
    } else if (height == 3) tile3(args, r, end, panel, I, tile);
    else tile1(args, r, panel, I, tile);
    putTile(args, tile, r, min(r + height, end), o);
    r += height;
  }
}

/**
 * One half, from column `start` to `stop`, of up to six rows × eight outputs: 12 sums, 2 loads and 1 splat are all the 15 vector
 * registers that V8 gives. Rows from `end` on are computed as copies of the last one. The second half is added to the first.
 */
function tile6(args: usize, r: i32, end: i32, panel: usize, start: i32, stop: i32, I: i32, tile: usize): void {
  const last = end - 1;
  const from = (<usize>start) << 2;
  let x0 = inputRow(args, r, I) + from;
  let x1 = inputRow(args, r + 1, I) + from;
  let x2 = inputRow(args, r + 2, I) + from;
  let x3 = inputRow(args, r + 3, I) + from;
  let x4 = inputRow(args, min(r + 4, last), I) + from;
  let x5 = inputRow(args, min(r + 5, last), I) + from;
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
  const finish = panel + ((<usize>(stop - start)) << 5);
  for (; panel < finish; panel += 32) {
    const w0 = v128.load(panel);
    const w1 = v128.load(panel, 16);
    let x = v128.load32_splat(x0);
    a0 = madd(x, w0, a0);
    a1 = madd(x, w1, a1);
    x = v128.load32_splat(x1);
    b0 = madd(x, w0, b0);
    b1 = madd(x, w1, b1);
    x = v128.load32_splat(x2);
    c0 = madd(x, w0, c0);
    c1 = madd(x, w1, c1);
    x = v128.load32_splat(x3);
    d0 = madd(x, w0, d0);
    d1 = madd(x, w1, d1);
    x = v128.load32_splat(x4);
    e0 = madd(x, w0, e0);
    e1 = madd(x, w1, e1);
    x = v128.load32_splat(x5);
    f0 = madd(x, w0, f0);
    f1 = madd(x, w1, f1);
    x0 += 4;
    x1 += 4;
    x2 += 4;
    x3 += 4;
    x4 += 4;
    x5 += 4;
  }
  if (start == 0) {
    v128.store(tile, a0);
    v128.store(tile, a1, 16);
    v128.store(tile, b0, 32);
    v128.store(tile, b1, 48);
    v128.store(tile, c0, 64);
    v128.store(tile, c1, 80);
    v128.store(tile, d0, 96);
    v128.store(tile, d1, 112);
    v128.store(tile, e0, 128);
    v128.store(tile, e1, 144);
    v128.store(tile, f0, 160);
    v128.store(tile, f1, 176);
    return;
  }
  v128.store(tile, f32x4.add(v128.load(tile), a0));
  v128.store(tile, f32x4.add(v128.load(tile, 16), a1), 16);
  v128.store(tile, f32x4.add(v128.load(tile, 32), b0), 32);
  v128.store(tile, f32x4.add(v128.load(tile, 48), b1), 48);
  v128.store(tile, f32x4.add(v128.load(tile, 64), c0), 64);
  v128.store(tile, f32x4.add(v128.load(tile, 80), c1), 80);
  v128.store(tile, f32x4.add(v128.load(tile, 96), d0), 96);
  v128.store(tile, f32x4.add(v128.load(tile, 112), d1), 112);
  v128.store(tile, f32x4.add(v128.load(tile, 128), e0), 128);
  v128.store(tile, f32x4.add(v128.load(tile, 144), e1), 144);
  v128.store(tile, f32x4.add(v128.load(tile, 160), f0), 160);
  v128.store(tile, f32x4.add(v128.load(tile, 176), f1), 176);
}

/** Two or three rows. */
function tile3(args: usize, r: i32, end: i32, panel: usize, I: i32, tile: usize): void {
  let x0 = inputRow(args, r, I);
  let x1 = inputRow(args, r + 1, I);
  let x2 = inputRow(args, min(r + 2, end - 1), I);
  const zero = f32x4.splat(0);
  let a0 = zero,
    a1 = zero,
    b0 = zero,
    b1 = zero,
    c0 = zero,
    c1 = zero;
  let d0 = zero,
    d1 = zero,
    e0 = zero,
    e1 = zero,
    f0 = zero,
    f1 = zero;
  const half = I >> 1;
  const skip = (<usize>half) << 2;
  const second = panel + ((<usize>half) << 5);
  let q = second;
  for (; panel < second; panel += 32) {
    let w0 = v128.load(panel);
    let w1 = v128.load(panel, 16);
    let x = v128.load32_splat(x0);
    a0 = madd(x, w0, a0);
    a1 = madd(x, w1, a1);
    x = v128.load32_splat(x1);
    b0 = madd(x, w0, b0);
    b1 = madd(x, w1, b1);
    x = v128.load32_splat(x2);
    c0 = madd(x, w0, c0);
    c1 = madd(x, w1, c1);
    w0 = v128.load(q);
    w1 = v128.load(q, 16);
    x = v128.load32_splat(x0 + skip);
    d0 = madd(x, w0, d0);
    d1 = madd(x, w1, d1);
    x = v128.load32_splat(x1 + skip);
    e0 = madd(x, w0, e0);
    e1 = madd(x, w1, e1);
    x = v128.load32_splat(x2 + skip);
    f0 = madd(x, w0, f0);
    f1 = madd(x, w1, f1);
    q += 32;
    x0 += 4;
    x1 += 4;
    x2 += 4;
  }
  if (I & 1) {
    const w0 = v128.load(q);
    const w1 = v128.load(q, 16);
    let x = v128.load32_splat(x0 + skip);
    d0 = madd(x, w0, d0);
    d1 = madd(x, w1, d1);
    x = v128.load32_splat(x1 + skip);
    e0 = madd(x, w0, e0);
    e1 = madd(x, w1, e1);
    x = v128.load32_splat(x2 + skip);
    f0 = madd(x, w0, f0);
    f1 = madd(x, w1, f1);
  }
  v128.store(tile, f32x4.add(a0, d0));
  v128.store(tile, f32x4.add(a1, d1), 16);
  v128.store(tile, f32x4.add(b0, e0), 32);
  v128.store(tile, f32x4.add(b1, e1), 48);
  v128.store(tile, f32x4.add(c0, f0), 64);
  v128.store(tile, f32x4.add(c1, f1), 80);
}

/** One row: as fast as memory delivers the panel. */
function tile1(args: usize, r: i32, panel: usize, I: i32, tile: usize): void {
  let x = inputRow(args, r, I);
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  const half = I >> 1;
  const skip = (<usize>half) << 2;
  const second = panel + ((<usize>half) << 5);
  let q = second;
  for (; panel < second; panel += 32) {
    const s = v128.load32_splat(x);
    a0 = madd(s, v128.load(panel), a0);
    a1 = madd(s, v128.load(panel, 16), a1);
    const t = v128.load32_splat(x + skip);
    b0 = madd(t, v128.load(q), b0);
    b1 = madd(t, v128.load(q, 16), b1);
    q += 32;
    x += 4;
  }
  if (I & 1) {
    const t = v128.load32_splat(x + skip);
    b0 = madd(t, v128.load(q), b0);
    b1 = madd(t, v128.load(q, 16), b1);
  }
  v128.store(tile, f32x4.add(a0, b0));
  v128.store(tile, f32x4.add(a1, b1), 16);
}

/** One row of a bf16 panel, converted as it streams. */
export function panelTimesRowBf16(args: usize, r: i32, panel: usize, I: i32, tile: usize): void {
  let x = inputRow(args, r, I);
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  const half = I >> 1;
  const skip = (<usize>half) << 2;
  const second = panel + ((<usize>half) << 4);
  let q = second;
  for (; panel < second; panel += 16) {
    const s = v128.load32_splat(x);
    a0 = madd(s, fromBf16(v128.load16x4_s(panel)), a0);
    a1 = madd(s, fromBf16(v128.load16x4_s(panel, 8)), a1);
    const t = v128.load32_splat(x + skip);
    b0 = madd(t, fromBf16(v128.load16x4_s(q)), b0);
    b1 = madd(t, fromBf16(v128.load16x4_s(q, 8)), b1);
    q += 16;
    x += 4;
  }
  if (I & 1) {
    const t = v128.load32_splat(x + skip);
    b0 = madd(t, fromBf16(v128.load16x4_s(q)), b0);
    b1 = madd(t, fromBf16(v128.load16x4_s(q, 8)), b1);
  }
  v128.store(tile, f32x4.add(a0, b0));
  v128.store(tile, f32x4.add(a1, b1), 16);
}

/** One row of an f16 panel, converted as it streams. */
export function panelTimesRowHalf(args: usize, r: i32, panel: usize, I: i32, tile: usize): void {
  let x = inputRow(args, r, I);
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  const half = I >> 1;
  const skip = (<usize>half) << 2;
  const second = panel + ((<usize>half) << 4);
  let q = second;
  for (; panel < second; panel += 16) {
    const s = v128.load32_splat(x);
    a0 = madd(s, fromHalf(v128.load16x4_s(panel)), a0);
    a1 = madd(s, fromHalf(v128.load16x4_s(panel, 8)), a1);
    const t = v128.load32_splat(x + skip);
    b0 = madd(t, fromHalf(v128.load16x4_s(q)), b0);
    b1 = madd(t, fromHalf(v128.load16x4_s(q, 8)), b1);
    q += 16;
    x += 4;
  }
  if (I & 1) {
    const t = v128.load32_splat(x + skip);
    b0 = madd(t, fromHalf(v128.load16x4_s(q)), b0);
    b1 = madd(t, fromHalf(v128.load16x4_s(q, 8)), b1);
  }
  v128.store(tile, f32x4.add(a0, b0));
  v128.store(tile, f32x4.add(a1, b1), 16);
}

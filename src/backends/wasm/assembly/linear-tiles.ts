import { fromBf16, fromHalf } from './half';
import { madd } from './math';
import { inputRow, putTile } from './product';

/** Rows in the tallest tile. */
export const TILE: i32 = 6;

/** Rows `r` to `end` of a product with an f32 panel of eight outputs from `o` on. */
export function panelTimesRows(args: usize, r: i32, end: i32, panel: usize, I: i32, o: i32, tile: usize): void {
  while (r < end) {
    const left = end - r;
    const height = left > 3 ? TILE : left > 1 ? 3 : 1;
    if (height == TILE) tile6(args, r, end, panel, I, tile);
    else if (height == 3) tile3(args, r, end, panel, I, tile);
    else tile1(args, r, panel, I, tile);
    putTile(args, tile, r, min(r + height, end), o);
    r += height;
  }
}

/**
 * Up to six rows × eight outputs: 12 sums, 2 loads and 1 splat are all the 15 vector registers that V8 gives. Rows from `end` on are
 * computed as copies of the last one.
 */
function tile6(args: usize, r: i32, end: i32, panel: usize, I: i32, tile: usize): void {
  const last = end - 1;
  let x0 = inputRow(args, r, I);
  let x1 = inputRow(args, r + 1, I);
  let x2 = inputRow(args, r + 2, I);
  let x3 = inputRow(args, r + 3, I);
  let x4 = inputRow(args, min(r + 4, last), I);
  let x5 = inputRow(args, min(r + 5, last), I);
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
  const stop = panel + ((<usize>I) << 5);
  for (; panel < stop; panel += 32) {
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
}

/** Two or three rows, two steps of I at a time in separate sums. */
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
  const even = panel + ((<usize>(I & ~1)) << 5);
  for (; panel < even; panel += 64) {
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
    w0 = v128.load(panel, 32);
    w1 = v128.load(panel, 48);
    x = v128.load32_splat(x0, 4);
    d0 = madd(x, w0, d0);
    d1 = madd(x, w1, d1);
    x = v128.load32_splat(x1, 4);
    e0 = madd(x, w0, e0);
    e1 = madd(x, w1, e1);
    x = v128.load32_splat(x2, 4);
    f0 = madd(x, w0, f0);
    f1 = madd(x, w1, f1);
    x0 += 8;
    x1 += 8;
    x2 += 8;
  }
  if (I & 1) {
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
  }
  v128.store(tile, f32x4.add(a0, d0));
  v128.store(tile, f32x4.add(a1, d1), 16);
  v128.store(tile, f32x4.add(b0, e0), 32);
  v128.store(tile, f32x4.add(b1, e1), 48);
  v128.store(tile, f32x4.add(c0, f0), 64);
  v128.store(tile, f32x4.add(c1, f1), 80);
}

/** One row, four steps of I at a time in separate sums: as fast as memory delivers the panel. */
function tile1(args: usize, r: i32, panel: usize, I: i32, tile: usize): void {
  let x = inputRow(args, r, I);
  const zero = f32x4.splat(0);
  let a0 = zero,
    a1 = zero,
    b0 = zero,
    b1 = zero,
    c0 = zero,
    c1 = zero,
    d0 = zero,
    d1 = zero;
  const whole = panel + ((<usize>(I & ~3)) << 5);
  for (; panel < whole; panel += 128) {
    const v = v128.load(x);
    let s = v128.shuffle<f32>(v, v, 0, 0, 0, 0);
    a0 = madd(s, v128.load(panel), a0);
    a1 = madd(s, v128.load(panel, 16), a1);
    s = v128.shuffle<f32>(v, v, 1, 1, 1, 1);
    b0 = madd(s, v128.load(panel, 32), b0);
    b1 = madd(s, v128.load(panel, 48), b1);
    s = v128.shuffle<f32>(v, v, 2, 2, 2, 2);
    c0 = madd(s, v128.load(panel, 64), c0);
    c1 = madd(s, v128.load(panel, 80), c1);
    s = v128.shuffle<f32>(v, v, 3, 3, 3, 3);
    d0 = madd(s, v128.load(panel, 96), d0);
    d1 = madd(s, v128.load(panel, 112), d1);
    x += 16;
  }
  for (let i = I & ~3; i < I; i++) {
    const s = v128.load32_splat(x);
    a0 = madd(s, v128.load(panel), a0);
    a1 = madd(s, v128.load(panel, 16), a1);
    panel += 32;
    x += 4;
  }
  v128.store(tile, f32x4.add(f32x4.add(a0, b0), f32x4.add(c0, d0)));
  v128.store(tile, f32x4.add(f32x4.add(a1, b1), f32x4.add(c1, d1)), 16);
}

/** One row of a bf16 panel, converted as it streams. */
export function panelTimesRowBf16(args: usize, r: i32, panel: usize, I: i32, tile: usize): void {
  let x = inputRow(args, r, I);
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  const even = panel + ((<usize>(I & ~1)) << 4);
  for (; panel < even; panel += 32) {
    const s = v128.load32_splat(x);
    a0 = madd(s, fromBf16(v128.load16x4_s(panel)), a0);
    a1 = madd(s, fromBf16(v128.load16x4_s(panel, 8)), a1);
    const t = v128.load32_splat(x, 4);
    b0 = madd(t, fromBf16(v128.load16x4_s(panel, 16)), b0);
    b1 = madd(t, fromBf16(v128.load16x4_s(panel, 24)), b1);
    x += 8;
  }
  if (I & 1) {
    const s = v128.load32_splat(x);
    a0 = madd(s, fromBf16(v128.load16x4_s(panel)), a0);
    a1 = madd(s, fromBf16(v128.load16x4_s(panel, 8)), a1);
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
  const even = panel + ((<usize>(I & ~1)) << 4);
  for (; panel < even; panel += 32) {
    const s = v128.load32_splat(x);
    a0 = madd(s, fromHalf(v128.load16x4_s(panel)), a0);
    a1 = madd(s, fromHalf(v128.load16x4_s(panel, 8)), a1);
    const t = v128.load32_splat(x, 4);
    b0 = madd(t, fromHalf(v128.load16x4_s(panel, 16)), b0);
    b1 = madd(t, fromHalf(v128.load16x4_s(panel, 24)), b1);
    x += 8;
  }
  if (I & 1) {
    const s = v128.load32_splat(x);
    a0 = madd(s, fromHalf(v128.load16x4_s(panel)), a0);
    a1 = madd(s, fromHalf(v128.load16x4_s(panel, 8)), a1);
  }
  v128.store(tile, f32x4.add(a0, b0));
  v128.store(tile, f32x4.add(a1, b1), 16);
}

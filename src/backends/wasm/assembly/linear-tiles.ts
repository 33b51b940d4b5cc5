import { fromHalfBy, halfBias, halfPlaces } from './half';
import { madd } from './math';
import { inputRow, plainRow, plainStep, putTile } from './product';

/*
 * Every output adds its products up in the order of I, whatever the tile: so a row's product is the same, bit for bit, alone and
 * among others. What hides the time that an addition takes are other rows, or for a row alone other panels.
 */

/** Rows in the tallest tile. */
export const TILE: i32 = 6;

/** Rows `r` to `end` of a product with an f32 panel of eight outputs from `o` on. */
export function panelTimesRows(args: usize, r: i32, end: i32, panel: usize, I: i32, o: i32, tile: usize): void {
  // Whole tiles go where they belong at once, if nothing is to be added to them and their rows are equally far apart.
  const step = plainStep(args, o);
  while (r < end) {
    const left = end - r;
    const height = left > 3 ? TILE : left > 1 ? 3 : 1;
    if (left >= TILE && step) tile6(args, r, end, panel, I, plainRow(args, r, o, step), step);
    else {
      if (height == TILE) tile6(args, r, end, panel, I, tile, 32);
      else if (height == 3) tile3(args, r, end, panel, I, tile);
      else tile1(args, r, panel, I, tile);
      putTile(args, tile, r, min(r + height, end), o);
    }
    r += height;
  }
}

/**
 * Up to six rows × eight outputs: 12 sums, 2 loads and 1 splat are all the 15 vector registers that V8 gives. Rows from `end` on are
 * computed as copies of the last one. Sums go to rows `step` bytes apart.
 */
function tile6(args: usize, r: i32, end: i32, panel: usize, I: i32, to: usize, step: usize): void {
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
  v128.store(to, a0);
  v128.store(to, a1, 16);
  to += step;
  v128.store(to, b0);
  v128.store(to, b1, 16);
  to += step;
  v128.store(to, c0);
  v128.store(to, c1, 16);
  to += step;
  v128.store(to, d0);
  v128.store(to, d1, 16);
  to += step;
  v128.store(to, e0);
  v128.store(to, e1, 16);
  to += step;
  v128.store(to, f0);
  v128.store(to, f1, 16);
}

/** Two or three rows. */
function tile3(args: usize, r: i32, end: i32, panel: usize, I: i32, tile: usize): void {
  let x0 = inputRow(args, r, I);
  let x1 = inputRow(args, r + 1, I);
  let x2 = inputRow(args, min(r + 2, end - 1), I);
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  let c0 = f32x4.splat(0);
  let c1 = f32x4.splat(0);
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
    x0 += 4;
    x1 += 4;
    x2 += 4;
  }
  v128.store(tile, a0);
  v128.store(tile, a1, 16);
  v128.store(tile, b0, 32);
  v128.store(tile, b1, 48);
  v128.store(tile, c0, 64);
  v128.store(tile, c1, 80);
}

/** One row left over. */
function tile1(args: usize, r: i32, panel: usize, I: i32, tile: usize): void {
  let x = inputRow(args, r, I);
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  const stop = panel + ((<usize>I) << 5);
  for (; panel < stop; panel += 32) {
    const s = v128.load32_splat(x);
    a0 = madd(s, v128.load(panel), a0);
    a1 = madd(s, v128.load(panel, 16), a1);
    x += 4;
  }
  v128.store(tile, a0);
  v128.store(tile, a1, 16);
}

/** Panels that a row alone is multiplied with at a time. */
const PANELS: i32 = 4;
/** Bytes of those panels up to which they share pages of memory, where hardware does not foresee what is read of four at a time. */
const FORESEEN: usize = 8192;

/**
 * Row `r` of a product with panels `p` to `stop`, as fast as memory delivers them; 16-bit ones are converted as they stream. `panels` is
 * the address of the first panel of the matrix.
 */
export function panelsTimesRow(
  args: usize,
  r: i32,
  panels: usize,
  p: i32,
  stop: i32,
  I: i32,
  format: i32,
  tile: usize,
): void {
  const bytes = (<usize>I) << (format == 0 ? 5 : 4);
  const isShort = bytes * PANELS <= FORESEEN;
  while (p < stop) {
    const count = min(PANELS, stop - p);
    const panel = panels + <usize>p * bytes;
    // Where fewer are left, the last one is taken again: into other places, which nothing reads.
    const second = panel + (count > 1 ? bytes : 0);
    const third = count > 2 ? second + bytes : second;
    const fourth = count > 3 ? third + bytes : third;
    if (isShort)
      store<i32>(tile, touch(panel + bytes * PANELS, panels + <usize>min(p + 2 * PANELS, stop) * bytes), 128);
    if (format == 0) four(inputRow(args, r, I), panel, second, third, fourth, I, tile);
    else if (format == 1) fourBf16(inputRow(args, r, I), panel, second, third, fourth, I, tile);
    else fourHalf(inputRow(args, r, I), panel, second, third, fourth, I, tile);
    for (let k = 0; k < count; k++) putTile(args, tile + ((<usize>k) << 5), r, r + 1, (p + k) << 3);
    p += count;
  }
}

/** Reads a number of every cache line of what the next four panels are, in the order in which they lie; returns what nobody wants. */
function touch(from: usize, to: usize): i32 {
  let touched: i32 = 0;
  for (; from < to; from += 64) touched |= load<i32>(from);
  return touched;
}

/** One row × four panels in f32. */
function four(x: usize, p0: usize, p1: usize, p2: usize, p3: usize, I: i32, tile: usize): void {
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  let c0 = f32x4.splat(0);
  let c1 = f32x4.splat(0);
  let d0 = f32x4.splat(0);
  let d1 = f32x4.splat(0);
  const stop = p0 + <usize>I * 32;
  for (; p0 < stop; p0 += 32) {
    const s = v128.load32_splat(x);
    a0 = madd(s, v128.load(p0), a0);
    a1 = madd(s, v128.load(p0, 16), a1);
    b0 = madd(s, v128.load(p1), b0);
    b1 = madd(s, v128.load(p1, 16), b1);
    c0 = madd(s, v128.load(p2), c0);
    c1 = madd(s, v128.load(p2, 16), c1);
    d0 = madd(s, v128.load(p3), d0);
    d1 = madd(s, v128.load(p3, 16), d1);
    p1 += 32;
    p2 += 32;
    p3 += 32;
    x += 4;
  }
  v128.store(tile, a0);
  v128.store(tile, a1, 16);
  v128.store(tile, b0, 32);
  v128.store(tile, b1, 48);
  v128.store(tile, c0, 64);
  v128.store(tile, c1, 80);
  v128.store(tile, d0, 96);
  v128.store(tile, d1, 112);
}

/** The bits of a bf16 number in the high half of a lane. Loaded before loops, as the mask in linear-q4.ts. */
const HIGH_HALF = memory.data<u32>([0xffff0000]);

/** One row × four panels in bf16, of which even and odd outputs are added up apart. */
function fourBf16(x: usize, p0: usize, p1: usize, p2: usize, p3: usize, I: i32, tile: usize): void {
  const odd = v128.load32_splat(HIGH_HALF);
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  let c0 = f32x4.splat(0);
  let c1 = f32x4.splat(0);
  let d0 = f32x4.splat(0);
  let d1 = f32x4.splat(0);
  const stop = p0 + <usize>I * 16;
  for (; p0 < stop; p0 += 16) {
    const s = v128.load32_splat(x);
    let w = v128.load(p0);
    a0 = madd(s, i32x4.shl(w, 16), a0);
    a1 = madd(s, v128.and(w, odd), a1);
    w = v128.load(p1);
    b0 = madd(s, i32x4.shl(w, 16), b0);
    b1 = madd(s, v128.and(w, odd), b1);
    w = v128.load(p2);
    c0 = madd(s, i32x4.shl(w, 16), c0);
    c1 = madd(s, v128.and(w, odd), c1);
    w = v128.load(p3);
    d0 = madd(s, i32x4.shl(w, 16), d0);
    d1 = madd(s, v128.and(w, odd), d1);
    p1 += 16;
    p2 += 16;
    p3 += 16;
    x += 4;
  }
  inTurns(tile, a0, a1);
  inTurns(tile + 32, b0, b1);
  inTurns(tile + 64, c0, c1);
  inTurns(tile + 96, d0, d1);
}

/** Eight numbers in turns of `even` and `odd`. */
function inTurns(to: usize, even: v128, odd: v128): void {
  v128.store(to, v128.shuffle<f32>(even, odd, 0, 4, 1, 5));
  v128.store(to, v128.shuffle<f32>(even, odd, 2, 6, 3, 7), 16);
}

/** One row × four panels in f16. */
function fourHalf(x: usize, p0: usize, p1: usize, p2: usize, p3: usize, I: i32, tile: usize): void {
  const places = halfPlaces();
  const bias = halfBias();
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  let c0 = f32x4.splat(0);
  let c1 = f32x4.splat(0);
  let d0 = f32x4.splat(0);
  let d1 = f32x4.splat(0);
  const stop = p0 + <usize>I * 16;
  for (; p0 < stop; p0 += 16) {
    const s = v128.load32_splat(x);
    a0 = madd(s, fromHalfBy(v128.load16x4_s(p0), places, bias), a0);
    a1 = madd(s, fromHalfBy(v128.load16x4_s(p0, 8), places, bias), a1);
    b0 = madd(s, fromHalfBy(v128.load16x4_s(p1), places, bias), b0);
    b1 = madd(s, fromHalfBy(v128.load16x4_s(p1, 8), places, bias), b1);
    c0 = madd(s, fromHalfBy(v128.load16x4_s(p2), places, bias), c0);
    c1 = madd(s, fromHalfBy(v128.load16x4_s(p2, 8), places, bias), c1);
    d0 = madd(s, fromHalfBy(v128.load16x4_s(p3), places, bias), d0);
    d1 = madd(s, fromHalfBy(v128.load16x4_s(p3, 8), places, bias), d1);
    p1 += 16;
    p2 += 16;
    p3 += 16;
    x += 4;
  }
  v128.store(tile, a0);
  v128.store(tile, a1, 16);
  v128.store(tile, b0, 32);
  v128.store(tile, b1, 48);
  v128.store(tile, c0, 64);
  v128.store(tile, c1, 80);
  v128.store(tile, d0, 96);
  v128.store(tile, d1, 112);
}

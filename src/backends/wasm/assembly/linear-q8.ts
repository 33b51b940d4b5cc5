import { fromHalfBy, halfBias, halfPlaces } from './half';
import { ownRowQ8 } from './own-row';
import { partStart, partsOf, putTile, tileOf } from './product';
import { EXPANDED_Q8, GROUP_Q8, groupsOf, heightOf, panelsTogether, rowBytesQ8, rowsInCache, TILE } from './quantised';
import { share } from './rows';

/**
 * y = residual + (x Wᵀ + bias), W in q8 panels. args: those of a product (product.ts), where x is the address of the rows as integers, and
 * [source (4 words)]. Without a source they are from `quantiseRowsQ8`, or from the product before; with one, a row alone, each thread makes
 * them for itself, x's second word bytes behind those of the thread before (own-row.ts). Scratch: `panelsTogether` expanded panels for each thread.
 */
export function linearQ8(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(<usize>load<u32>(args)) * load<i32>(args, 4);
  const I = load<i32>(<usize>load<u32>(args, 32));
  const panels = (load<i32>(args, 36) + 7) >> 3;
  const bytes = groupsOf(I) * EXPANDED_Q8;
  const most = panelsTogether(bytes);
  const scratch = <usize>load<u32>(args, 44) + <usize>(thread * most * bytes);
  const parts = partsOf(rows, panels, threads, TILE, rowsInCache(rowBytesQ8(I)));
  const last = share(parts * panels, thread + 1, threads);
  const x = <usize>load<u32>(args, 8) + <usize>(thread * load<i32>(args, 12));
  if (load<u32>(args, 56) && rows == 1) ownRowQ8(args + 56, I, x);
  for (let unit = share(parts * panels, thread, threads); unit < last; ) {
    const p = unit % panels;
    const part = unit / panels;
    const count = min(most, min(panels - p, last - unit));
    const first = partStart(rows, part, parts, TILE);
    multiply(args, x, first, partStart(rows, part + 1, parts, TILE), I, p, count, scratch, tileOf(thread));
    unit += count;
  }
}

/** Rows `first` to `end` of x times `count` panels from `p` on. */
function multiply(
  args: usize,
  x: usize,
  first: i32,
  end: i32,
  I: i32,
  p: i32,
  count: i32,
  scratch: usize,
  tile: usize,
): void {
  const groups = groupsOf(I);
  const W = <usize>load<u32>(args, 16) + <usize>(p * groups) * GROUP_Q8;
  if (heightOf(first, end) == TILE) expand(W, scratch, count * groups);
  for (let k = 0; k < count; k++) {
    const panel = W + <usize>(k * groups) * GROUP_Q8;
    const expanded = scratch + <usize>(k * groups * EXPANDED_Q8);
    for (let r = first; r < end; ) {
      const height = heightOf(r, end);
      const block = x + <usize>(r * rowBytesQ8(I));
      if (height == TILE) tile4(block, expanded, groups, tile);
      else if (height == 2) tile2(block, panel, groups, tile);
      else tile1(block, panel, groups, tile);
      putTile(args, tile, r, min(r + height, end), (p + k) << 3);
      r += height;
    }
  }
}

/** `groups` groups of panels with f32 scales and 16-bit integers: [groups] of 8 scales and [16][8 outputs][2]. */
function expand(panel: usize, to: usize, groups: i32): void {
  const places = halfPlaces();
  const bias = halfBias();
  for (let g = 0; g < groups; g++) {
    v128.store(to, fromHalfBy(v128.load16x4_s(panel), places, bias));
    v128.store(to, fromHalfBy(v128.load16x4_s(panel, 8), places, bias), 16);
    panel += 16;
    to += 32;
    for (let k = 0; k < 16; k++) {
      v128.store(to, v128.load8x8_s(panel));
      v128.store(to, v128.load8x8_s(panel, 8), 16);
      panel += 16;
      to += 32;
    }
  }
}

/** Adds products of pairs of 16-bit integers, those of one output side by side in a 32-bit lane. */
function dot(x: v128, w: v128, sum: v128): v128 {
  return i32x4.add(sum, i32x4.dot_i16x8_s(x, w));
}

/** Adds a group's sum, in 32-bit integers, to the product. */
function scaled(sum: v128, w: v128, total: v128): v128 {
  return f32x4.add(total, f32x4.mul(f32x4.convert_i32x4_s(sum), w));
}

/** Four rows × eight outputs of an expanded panel: eight sums, two of W, four of x and one product fill the vector registers. */
function tile4(x: usize, w: usize, groups: i32, tile: usize): void {
  const scales = x;
  x += 16;
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  let c0 = f32x4.splat(0);
  let c1 = f32x4.splat(0);
  let d0 = f32x4.splat(0);
  let d1 = f32x4.splat(0);
  for (let g = 0; g < groups; g++) {
    let s00 = i32x4.splat(0);
    let s01 = i32x4.splat(0);
    let s10 = i32x4.splat(0);
    let s11 = i32x4.splat(0);
    let s20 = i32x4.splat(0);
    let s21 = i32x4.splat(0);
    let s30 = i32x4.splat(0);
    let s31 = i32x4.splat(0);
    let p = w + 32;
    const end = p + 512;
    for (; p < end; p += 32) {
      const w0 = v128.load(p);
      const w1 = v128.load(p, 16);
      const x0 = v128.load32_splat(x);
      s00 = dot(x0, w0, s00);
      s01 = dot(x0, w1, s01);
      const x1 = v128.load32_splat(x, 4);
      s10 = dot(x1, w0, s10);
      s11 = dot(x1, w1, s11);
      const x2 = v128.load32_splat(x, 8);
      s20 = dot(x2, w0, s20);
      s21 = dot(x2, w1, s21);
      const x3 = v128.load32_splat(x, 12);
      s30 = dot(x3, w0, s30);
      s31 = dot(x3, w1, s31);
      x += 16;
    }
    const w0 = v128.load(w);
    const w1 = v128.load(w, 16);
    a0 = scaled(s00, w0, a0);
    a1 = scaled(s01, w1, a1);
    b0 = scaled(s10, w0, b0);
    b1 = scaled(s11, w1, b1);
    c0 = scaled(s20, w0, c0);
    c1 = scaled(s21, w1, c1);
    d0 = scaled(s30, w0, d0);
    d1 = scaled(s31, w1, d1);
    w = end;
  }
  const t0 = v128.load32_splat(scales);
  v128.store(tile, f32x4.mul(a0, t0));
  v128.store(tile, f32x4.mul(a1, t0), 16);
  const t1 = v128.load32_splat(scales, 4);
  v128.store(tile, f32x4.mul(b0, t1), 32);
  v128.store(tile, f32x4.mul(b1, t1), 48);
  const t2 = v128.load32_splat(scales, 8);
  v128.store(tile, f32x4.mul(c0, t2), 64);
  v128.store(tile, f32x4.mul(c1, t2), 80);
  const t3 = v128.load32_splat(scales, 12);
  v128.store(tile, f32x4.mul(d0, t3), 96);
  v128.store(tile, f32x4.mul(d1, t3), 112);
}

/** Two rows. */
function tile2(x: usize, w: usize, groups: i32, tile: usize): void {
  const places = halfPlaces();
  const bias = halfBias();
  const scales = x;
  x += 8;
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  for (let g = 0; g < groups; g++) {
    let s00 = i32x4.splat(0);
    let s01 = i32x4.splat(0);
    let s10 = i32x4.splat(0);
    let s11 = i32x4.splat(0);
    let p = w + 16;
    const end = p + 256;
    for (; p < end; p += 16) {
      const w0 = v128.load8x8_s(p);
      const w1 = v128.load8x8_s(p, 8);
      const x0 = v128.load32_splat(x);
      s00 = dot(x0, w0, s00);
      s01 = dot(x0, w1, s01);
      const x1 = v128.load32_splat(x, 4);
      s10 = dot(x1, w0, s10);
      s11 = dot(x1, w1, s11);
      x += 8;
    }
    const w0 = fromHalfBy(v128.load16x4_s(w), places, bias);
    const w1 = fromHalfBy(v128.load16x4_s(w, 8), places, bias);
    a0 = scaled(s00, w0, a0);
    a1 = scaled(s01, w1, a1);
    b0 = scaled(s10, w0, b0);
    b1 = scaled(s11, w1, b1);
    w = end;
  }
  const t0 = v128.load32_splat(scales);
  v128.store(tile, f32x4.mul(a0, t0));
  v128.store(tile, f32x4.mul(a1, t0), 16);
  const t1 = v128.load32_splat(scales, 4);
  v128.store(tile, f32x4.mul(b0, t1), 32);
  v128.store(tile, f32x4.mul(b1, t1), 48);
}

/** One row, as fast as memory delivers the panel. */
function tile1(x: usize, w: usize, groups: i32, tile: usize): void {
  const places = halfPlaces();
  const bias = halfBias();
  const scales = x;
  x += 4;
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  for (let g = 0; g < groups; g++) {
    let s00 = i32x4.splat(0);
    let s01 = i32x4.splat(0);
    let p = w + 16;
    const end = p + 256;
    for (; p < end; p += 32) {
      const x0 = v128.load32_splat(x);
      s00 = dot(x0, v128.load8x8_s(p), s00);
      s01 = dot(x0, v128.load8x8_s(p, 8), s01);
      const x1 = v128.load32_splat(x, 4);
      s00 = dot(x1, v128.load8x8_s(p, 16), s00);
      s01 = dot(x1, v128.load8x8_s(p, 24), s01);
      x += 8;
    }
    const w0 = fromHalfBy(v128.load16x4_s(w), places, bias);
    const w1 = fromHalfBy(v128.load16x4_s(w, 8), places, bias);
    a0 = scaled(s00, w0, a0);
    a1 = scaled(s01, w1, a1);
    w = end;
  }
  const t0 = v128.load32_splat(scales);
  v128.store(tile, f32x4.mul(a0, t0));
  v128.store(tile, f32x4.mul(a1, t0), 16);
}

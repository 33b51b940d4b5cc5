import { fromHalfBy, halfBias, halfPlaces } from './half';
import { ownRowQ4 } from './own-row';
import { partStart, partsOf, putTile, tileOf } from './product';
import { EXPANDED_Q4, GROUP_Q4, groupsOf, heightOf, panelsTogether, rowBytesQ4, rowsInCache, TILE } from './quantised';
import { share } from './rows';

/**
 * y = residual + (x Wᵀ + bias), W in q4 panels. args: those of a product (product.ts), where x is the address of the rows as integers, and
 * [source (4 words)]. Without a source they are from `quantiseRowsQ4`, or from the product before; with one, a row alone, each thread makes
 * them for itself, x's second word bytes behind those of the thread before (own-row.ts). Scratch: `panelsTogether` expanded panels for each thread.
 */
export function linearQ4(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(<usize>load<u32>(args)) * load<i32>(args, 4);
  const I = load<i32>(<usize>load<u32>(args, 32));
  const panels = (load<i32>(args, 36) + 7) >> 3;
  const bytes = groupsOf(I) * EXPANDED_Q4;
  const most = panelsTogether(bytes);
  const scratch = <usize>load<u32>(args, 44) + <usize>(thread * most * bytes);
  const parts = partsOf(rows, panels, threads, TILE, rowsInCache(rowBytesQ4(I)));
  const last = share(parts * panels, thread + 1, threads);
  const x = <usize>load<u32>(args, 8) + <usize>(thread * load<i32>(args, 12));
  if (load<u32>(args, 56) && rows == 1) ownRowQ4(args + 56, I, x);
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
  const W = <usize>load<u32>(args, 16) + <usize>(p * groups) * GROUP_Q4;
  if (heightOf(first, end) == TILE) expand(W, scratch, count * groups);
  for (let k = 0; k < count; k++) {
    const panel = W + <usize>(k * groups) * GROUP_Q4;
    const expanded = scratch + <usize>(k * groups * EXPANDED_Q4);
    for (let r = first; r < end; ) {
      const height = heightOf(r, end);
      const block = x + <usize>(r * rowBytesQ4(I));
      if (height == TILE) tile4(block, expanded, groups, tile);
      else if (height == 2) tile2(block, panel, groups, tile);
      else tile1(block, panel, groups, tile);
      putTile(args, tile, r, min(r + height, end), (p + k) << 3);
      r += height;
    }
  }
}

/** Ones in the low half of each byte. From Node 24 on V8 makes a constant anew wherever it is used, in loops too; what is loaded before stays. */
const LOW_HALVES = memory.data<u32>([0x0f0f0f0f]);

/** `groups` groups of panels with f32 scales and a byte for each number: [groups] of 8 scales and [8][8 outputs][4]. */
function expand(panel: usize, to: usize, groups: i32): void {
  const mask = v128.load32_splat(LOW_HALVES);
  const places = halfPlaces();
  const bias = halfBias();
  for (let g = 0; g < groups; g++) {
    v128.store(to, fromHalfBy(v128.load16x4_s(panel), places, bias));
    v128.store(to, fromHalfBy(v128.load16x4_s(panel, 8), places, bias), 16);
    panel += 16;
    to += 32;
    for (let k = 0; k < 8; k += 2) {
      const w0 = v128.load(panel);
      const w1 = v128.load(panel, 16);
      v128.store(to, low(w0, mask));
      v128.store(to, low(w1, mask), 16);
      v128.store(to, high(w0, mask), 32);
      v128.store(to, high(w1, mask), 48);
      panel += 32;
      to += 64;
    }
  }
}

function low(bytes: v128, mask: v128): v128 {
  return v128.and(bytes, mask);
}

/** As V8 shifts 16-bit lanes in one instruction, and bytes in five. */
function high(bytes: v128, mask: v128): v128 {
  return v128.and(i16x8.shr_u(bytes, 4), mask);
}

/**
 * Adds products of pairs of bytes, x signed and w in 0…15, in 16-bit lanes: two of each output. The sums wrap around, but
 * with the correction that they start from, those of a whole group fit.
 */
function dot(x: v128, w: v128, sum: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i16x8.add(sum, v128.relaxed_dot<i16>(x, w));
  const even = i16x8.mul(i16x8.shr_s(i16x8.shl(x, 8), 8), v128.and(w, i16x8.splat(255)));
  const odd = i16x8.mul(i16x8.shr_s(x, 8), i16x8.shr_u(w, 8));
  return i16x8.add(sum, i16x8.add(even, odd));
}

/** Adds a group's sum, in pairs of 16-bit lanes, to the product. */
function scaled(sum: v128, scale: v128, total: v128): v128 {
  return f32x4.add(total, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extadd_pairwise_i16x8_s(sum)), scale));
}

/** Four rows × eight outputs of an expanded panel: eight sums, two of W, four of x and one product fill the vector registers. */
function tile4(x: usize, w: usize, groups: i32, tile: usize): void {
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  let c0 = f32x4.splat(0);
  let c1 = f32x4.splat(0);
  let d0 = f32x4.splat(0);
  let d1 = f32x4.splat(0);
  for (let g = 0; g < groups; g++) {
    let s00 = v128.load32_splat(x, 16);
    let s01 = s00;
    let s10 = v128.load32_splat(x, 20);
    let s11 = s10;
    let s20 = v128.load32_splat(x, 24);
    let s21 = s20;
    let s30 = v128.load32_splat(x, 28);
    let s31 = s30;
    let q = x + 32;
    let p = w + 32;
    const end = p + 256;
    for (; p < end; p += 32) {
      const w0 = v128.load(p);
      const w1 = v128.load(p, 16);
      const x0 = v128.load32_splat(q);
      s00 = dot(x0, w0, s00);
      s01 = dot(x0, w1, s01);
      const x1 = v128.load32_splat(q, 4);
      s10 = dot(x1, w0, s10);
      s11 = dot(x1, w1, s11);
      const x2 = v128.load32_splat(q, 8);
      s20 = dot(x2, w0, s20);
      s21 = dot(x2, w1, s21);
      const x3 = v128.load32_splat(q, 12);
      s30 = dot(x3, w0, s30);
      s31 = dot(x3, w1, s31);
      q += 16;
    }
    const w0 = v128.load(w);
    const w1 = v128.load(w, 16);
    const t0 = v128.load32_splat(x);
    a0 = scaled(s00, f32x4.mul(t0, w0), a0);
    a1 = scaled(s01, f32x4.mul(t0, w1), a1);
    const t1 = v128.load32_splat(x, 4);
    b0 = scaled(s10, f32x4.mul(t1, w0), b0);
    b1 = scaled(s11, f32x4.mul(t1, w1), b1);
    const t2 = v128.load32_splat(x, 8);
    c0 = scaled(s20, f32x4.mul(t2, w0), c0);
    c1 = scaled(s21, f32x4.mul(t2, w1), c1);
    const t3 = v128.load32_splat(x, 12);
    d0 = scaled(s30, f32x4.mul(t3, w0), d0);
    d1 = scaled(s31, f32x4.mul(t3, w1), d1);
    x = q;
    w = end;
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

/** Two rows. */
function tile2(x: usize, w: usize, groups: i32, tile: usize): void {
  const mask = v128.load32_splat(LOW_HALVES);
  const places = halfPlaces();
  const bias = halfBias();
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  for (let g = 0; g < groups; g++) {
    let s00 = v128.load32_splat(x, 8);
    let s01 = s00;
    let s10 = v128.load32_splat(x, 12);
    let s11 = s10;
    let q = x + 16;
    let p = w + 16;
    const end = p + 128;
    for (; p < end; p += 32) {
      const w0 = v128.load(p);
      const w1 = v128.load(p, 16);
      const low0 = low(w0, mask);
      const low1 = low(w1, mask);
      const high0 = high(w0, mask);
      const high1 = high(w1, mask);
      const x0 = v128.load32_splat(q);
      s00 = dot(x0, low0, s00);
      s01 = dot(x0, low1, s01);
      const y0 = v128.load32_splat(q, 8);
      s00 = dot(y0, high0, s00);
      s01 = dot(y0, high1, s01);
      const x1 = v128.load32_splat(q, 4);
      s10 = dot(x1, low0, s10);
      s11 = dot(x1, low1, s11);
      const y1 = v128.load32_splat(q, 12);
      s10 = dot(y1, high0, s10);
      s11 = dot(y1, high1, s11);
      q += 16;
    }
    const w0 = fromHalfBy(v128.load16x4_s(w), places, bias);
    const w1 = fromHalfBy(v128.load16x4_s(w, 8), places, bias);
    const t0 = v128.load32_splat(x);
    a0 = scaled(s00, f32x4.mul(t0, w0), a0);
    a1 = scaled(s01, f32x4.mul(t0, w1), a1);
    const t1 = v128.load32_splat(x, 4);
    b0 = scaled(s10, f32x4.mul(t1, w0), b0);
    b1 = scaled(s11, f32x4.mul(t1, w1), b1);
    x = q;
    w = end;
  }
  v128.store(tile, a0);
  v128.store(tile, a1, 16);
  v128.store(tile, b0, 32);
  v128.store(tile, b1, 48);
}

/** One row, as fast as memory delivers the panel. */
function tile1(x: usize, w: usize, groups: i32, tile: usize): void {
  const mask = v128.load32_splat(LOW_HALVES);
  const places = halfPlaces();
  const bias = halfBias();
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  for (let g = 0; g < groups; g++) {
    let s00 = v128.load32_splat(x, 4);
    let s01 = s00;
    let q = x + 8;
    let p = w + 16;
    const end = p + 128;
    for (; p < end; p += 32) {
      const w0 = v128.load(p);
      const w1 = v128.load(p, 16);
      const low0 = low(w0, mask);
      const low1 = low(w1, mask);
      const high0 = high(w0, mask);
      const high1 = high(w1, mask);
      const x0 = v128.load32_splat(q);
      s00 = dot(x0, low0, s00);
      s01 = dot(x0, low1, s01);
      const y0 = v128.load32_splat(q, 4);
      s00 = dot(y0, high0, s00);
      s01 = dot(y0, high1, s01);
      q += 8;
    }
    const w0 = fromHalfBy(v128.load16x4_s(w), places, bias);
    const w1 = fromHalfBy(v128.load16x4_s(w, 8), places, bias);
    const t0 = v128.load32_splat(x);
    a0 = scaled(s00, f32x4.mul(t0, w0), a0);
    a1 = scaled(s01, f32x4.mul(t0, w1), a1);
    x = q;
    w = end;
  }
  v128.store(tile, a0);
  v128.store(tile, a1, 16);
}

import { addValues, LIFT, score1, score2, turnKeys, widen } from './attention-stored';
import { exp2x4, madd } from './math';
import { PAGE, padded, pageOf } from './pages';
import { rowAt, share, stateAt, sumLanes } from './rows';
import { beginUnits, takeUnits, unitsEnd } from './schedule';

/** Queries of a group from which on it pays to turn the keys of a page; fewer go in pairs. */
const MANY: i32 = 12;
/** Of many, so many pass over the pages together. */
const QUERIES: i32 = 64;
/** Queries of a tile: 6 × 8 sums, two loads and a splat fill V8's registers. */
const TILE: i32 = 6;
/** Queries that pass over a page before the next do: two tiles, so that it is read from the first-level cache half as often. */
const BAND: i32 = 12;
/** Of few, so many pass over the pages together: more than QUERIES in whole tiles. */
const ROWS: i32 = 72;
/** Tokens whose values are added at a time where queries are few: about 4 KiB of memory, read in order. */
const RUN: i32 = 16;

/** What the functions below work on: a group's padded widths, how many heads share it, and a thread's working memory. */
let K: i32 = 0;
let V: i32 = 0;
let heads: i32 = 0;
let window: i32 = 0;
/** Whether keys, and values, are kept in f16, and log₂ of the bytes of a number. */
let halfKeys: bool = false;
let halfValues: bool = false;
let keyShift: usize = 2;
let valueShift: usize = 2;
/** Queries times scale · log₂ e: [tiles][K][TILE] of many, [rows][K] of few. */
let queries: usize = 0;
/** Keys of a page in panels of eight tokens, [PAGE / 8][K][8]. */
let panels: usize = 0;
/** Scores of queries with a page, later weights, [rows][PAGE]. */
let scores: usize = 0;
/** Of each query: Σ weight · value [ROWS][V], the largest score, Σ weight, and by what the sums before are to be multiplied. */
let totals: usize = 0;
let tops: usize = 0;
let sums: usize = 0;
let fades: usize = 0;
/** Values of a page, [PAGE][V], of those that are kept in f16. */
let wide: usize = 0;

/**
 * Causal attention over pages, with a running maximum (Milakov & Gimelshein 2018). args: [segmentsAt, ends, positions,
 * q (2 words), keys (2 words), values (2 words), y (2 words), H, G, K, V, scale (f32), window, scratch (own floats a thread),
 * own, formats of keys and of values (0: f32, 2: f16)]
 * Many queries of a group pass over a page together, so that it comes from memory once for all; threads take these blocks as
 * they come to them, since later ones cost more. Few queries, as in decoding, wait for memory alone: each thread reads what its
 * heads have in a page in one run.
 */
export function attention(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const positions = <usize>load<u32>(args, 8);
  const G = load<i32>(args, 48);
  K = padded(load<i32>(args, 52));
  V = padded(load<i32>(args, 56));
  heads = load<i32>(args, 44) / G;
  window = load<i32>(args, 64);
  queries = <usize>load<u32>(args, 68) + ((<usize>(thread * load<i32>(args, 72))) << 2);
  panels = queries + ((<usize>(ROWS * K)) << 2);
  totals = panels + ((<usize>(PAGE * K)) << 2);
  scores = totals + ((<usize>(ROWS * V)) << 2);
  tops = scores + ((<usize>(ROWS * PAGE)) << 2);
  sums = tops + ((<usize>ROWS) << 2);
  fades = sums + ((<usize>ROWS) << 2);
  wide = fades + ((<usize>ROWS) << 2);
  halfKeys = load<i32>(args, 76) == 2;
  halfValues = load<i32>(args, 80) == 2;
  keyShift = halfKeys ? 1 : 2;
  valueShift = halfValues ? 1 : 2;
  let first = 0;
  let block = 0;
  beginUnits(blocksOf(segments, ends, G), thread, threads);
  let own = takeUnits(1);
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    const start = load<i32>(positions + ((<usize>b) << 2));
    const keys = stateAt(args + 20, b);
    const values = stateAt(args + 28, b);
    const rows = (last - first) * heads;
    if (rows < MANY) {
      const pairs = (rows + 1) / 2;
      const to = share(G * pairs, thread + 1, threads);
      for (let from = share(G * pairs, thread, threads); from < to; from += ROWS / 2)
        attendFew(args, pairs, from, min(to, from + ROWS / 2), first, last, start, keys, values);
    } else {
      for (let from = 0; from < rows; from += QUERIES) {
        for (let g = 0; g < G; g++, block++) {
          if (block != own || own >= unitsEnd()) continue;
          attendMany(args, g, first, start, from, min(rows, from + QUERIES), keys, values);
          own = takeUnits(1);
        }
      }
    }
    first = last;
  }
}

/** Blocks of queries that pass over pages together. */
function blocksOf(segments: i32, ends: usize, G: i32): i32 {
  let blocks = 0;
  let first = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    const rows = (last - first) * heads;
    if (rows >= MANY) blocks += ((rows + QUERIES - 1) / QUERIES) * G;
    first = last;
  }
  return blocks;
}

/** Queries `from` to `to` of group g: the i-th is that of the segment's token ⌊i / heads⌋ and the group's head i mod heads. */
function attendMany(args: usize, g: i32, first: i32, start: i32, from: i32, to: i32, keys: usize, values: usize): void {
  const count = to - from;
  clear(((count + TILE - 1) / TILE) * TILE);
  for (let i = 0; i < count; i++)
    gather(args, g, first, from + i, queries + ((<usize>((i / TILE) * TILE * K + (i % TILE))) << 2), TILE * 4, 1);
  const begin = window ? max(0, start + from / heads + 1 - window) : 0;
  const newest = start + (to - 1) / heads;
  for (let p = begin / PAGE; p <= newest / PAGE; p++) {
    const k = pageOf(keys, p) + ((<usize>(g * PAGE * K)) << keyShift);
    const v = pageOf(values, p) + ((<usize>(g * PAGE * V)) << valueShift);
    attendTiles(from, count, start - p * PAGE, k, v);
  }
  for (let i = 0; i < count; i++) finish(args, g, first, from + i, i);
}

/**
 * Pairs `from` to `to` of all groups' queries, `pairs` to a group. What they read of a page lies in one piece: jumps of a few
 * kilobytes would halve the rate at which memory delivers it.
 */
function attendFew(
  args: usize,
  pairs: i32,
  from: i32,
  to: i32,
  first: i32,
  last: i32,
  start: i32,
  keys: usize,
  values: usize,
): void {
  const rows = (last - first) * heads;
  const lift: f32 = halfKeys ? LIFT : 1;
  clear(2 * (to - from));
  for (let n = from; n < to; n++) {
    const row = (n % pairs) * 2;
    const q = queries + ((<usize>(2 * (n - from) * K)) << 2);
    gather(args, n / pairs, first, row, q, 4, lift);
    if (row + 1 < rows) gather(args, n / pairs, first, row + 1, q + ((<usize>K) << 2), 4, lift);
  }
  const begin = window ? max(0, start + 1 - window) : 0;
  const newest = start + last - first - 1;
  for (let p = begin / PAGE; p <= newest / PAGE; p++) {
    const page = start - p * PAGE;
    for (let n = from; n < to; n++) {
      const row = (n % pairs) * 2;
      const own = page + row / heads;
      const i = 2 * (n - from);
      const q = queries + ((<usize>(i * K)) << 2);
      const k = pageOf(keys, p) + ((<usize>((n / pairs) * PAGE * K)) << keyShift);
      const to = scores + ((<usize>(i * PAGE)) << 2);
      if (row + 1 < rows) {
        const other = page + (row + 1) / heads;
        const width = max(0, min(PAGE, other + 1));
        if (halfKeys) score2<u16>(q, k, K, width, to);
        else score2<f32>(q, k, K, width, to);
        store<f32>(fades + ((<usize>i) << 2), weigh(to, i, own, width));
        store<f32>(fades + ((<usize>i) << 2), weigh(to + PAGE * 4, i + 1, other, width), 4);
      } else {
        const width = max(0, min(PAGE, own + 1));
        if (halfKeys) score1<u16>(q, k, K, width, to);
        else score1<f32>(q, k, K, width, to);
        store<f32>(fades + ((<usize>i) << 2), weigh(to, i, own, width));
      }
    }
    for (let n = from; n < to; n++) {
      const row = (n % pairs) * 2;
      const i = 2 * (n - from);
      const two = row + 1 < rows;
      const width = min(PAGE, page + (two ? row + 1 : row) / heads + 1);
      const v = pageOf(values, p) + ((<usize>((n / pairs) * PAGE * V)) << valueShift);
      const weights = scores + ((<usize>(i * PAGE)) << 2);
      const total = totals + ((<usize>(i * V)) << 2);
      scale(total, V, load<f32>(fades + ((<usize>i) << 2)));
      if (two) scale(total + ((<usize>V) << 2), V, load<f32>(fades + ((<usize>i) << 2), 4));
      for (let s = 0; s < width; s += RUN) {
        const w = weights + ((<usize>s) << 2);
        const run = v + ((<usize>(s * V)) << valueShift);
        if (halfValues) addValues<u16>(total, w, run, V, min(RUN, width - s), two);
        else addValues<f32>(total, w, run, V, min(RUN, width - s), two);
      }
    }
  }
  for (let n = from; n < to; n++) {
    const row = (n % pairs) * 2;
    finish(args, n / pairs, first, row, 2 * (n - from));
    if (row + 1 < rows) finish(args, n / pairs, first, row + 1, 2 * (n - from) + 1);
  }
}

/** Begins `rows` queries anew. */
function clear(rows: i32): void {
  memory.fill(queries, 0, (<usize>(rows * K)) << 2);
  memory.fill(totals, 0, (<usize>(rows * V)) << 2);
  memory.fill(sums, 0, (<usize>rows) << 2);
  for (let i = 0; i < rows; i++) store<f32>(tops + ((<usize>i) << 2), -Infinity);
}

/**
 * Puts query `row` of group g, times scale · log₂ e, so that weights are powers of two, and a power of two `lift`, where its numbers lie
 * `step` bytes apart.
 */
function gather(args: usize, g: i32, first: i32, row: i32, to: usize, step: usize, lift: f32): void {
  const width = load<i32>(args, 52);
  const factor = load<f32>(args, 60) * 1.4426950408889634 * lift;
  const q = rowAt(args + 12, first + row / heads) + ((<usize>((g * heads + (row % heads)) * width)) << 2);
  for (let j = 0; j < width; j++, to += step) store<f32>(to, load<f32>(q + ((<usize>j) << 2)) * factor);
}

/** y of query `row` of group g from the sums of the i-th here. */
function finish(args: usize, g: i32, first: i32, row: i32, i: i32): void {
  const width = load<i32>(args, 56);
  const y = rowAt(args + 36, first + row / heads) + ((<usize>((g * heads + (row % heads)) * width)) << 2);
  divide(y, totals + ((<usize>(i * V)) << 2), width, load<f32>(sums + ((<usize>i) << 2)));
}

/** Many queries with a page, whose first token the segment's first is `start` tokens behind: in tiles of six. */
function attendTiles(from: i32, count: i32, start: i32, keys: usize, values: usize): void {
  const row = (<usize>V) << 2;
  const all = min(PAGE, start + (from + count - 1) / heads + 1);
  for (let s = 0; s < all; s += 8) {
    const from = keys + ((<usize>(s * K)) << keyShift);
    const panel = panels + ((<usize>(s * K)) << 2);
    if (halfKeys) turnKeys<u16>(from, K, panel);
    else turnKeys<f32>(from, K, panel);
  }
  if (halfValues && all > 0) {
    widen(values, all * V, wide);
    values = wide;
  }
  for (let i = 0; i < count; i += BAND) {
    const rows = min(BAND, count - i);
    const width = min(PAGE, start + (from + i + rows - 1) / heads + 1);
    if (width <= 0) continue;
    for (let n = 0; n < rows; n += TILE) {
      const q = queries + ((<usize>((i + n) * K)) << 2);
      const to = scores + ((<usize>(n * PAGE)) << 2);
      // Called from two places each, the tiles stay functions: inside other loops V8 would unroll theirs, and spill.
      scoreTile(q, panels, to);
      for (let s = 8; s < width; s += 8) scoreTile(q, panels + ((<usize>(s * K)) << 2), to + ((<usize>s) << 2));
    }
    for (let n = 0; n < rows; n++)
      store<f32>(
        fades + ((<usize>n) << 2),
        weigh(scores + ((<usize>(n * PAGE)) << 2), i + n, start + (from + i + n) / heads, width),
      );
    for (let n = 0; n < rows; n += TILE) {
      const weights = scores + ((<usize>(n * PAGE)) << 2);
      const fade = fades + ((<usize>n) << 2);
      const total = totals + ((<usize>((i + n) * V)) << 2);
      addValuesTile(total, fade, weights, values, width);
      for (let at: usize = 32; at < row; at += 32) addValuesTile(total + at, fade, weights, values + at, width);
    }
  }
}

/** Scores of six queries with eight keys. */
function scoreTile(q: usize, panel: usize, to: usize): void {
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
  const end = panel + ((<usize>K) << 5);
  for (; panel < end; panel += 32) {
    const k0 = v128.load(panel);
    const k1 = v128.load(panel, 16);
    let x = v128.load32_splat(q);
    a0 = madd(x, k0, a0);
    a1 = madd(x, k1, a1);
    x = v128.load32_splat(q, 4);
    b0 = madd(x, k0, b0);
    b1 = madd(x, k1, b1);
    x = v128.load32_splat(q, 8);
    c0 = madd(x, k0, c0);
    c1 = madd(x, k1, c1);
    x = v128.load32_splat(q, 12);
    d0 = madd(x, k0, d0);
    d1 = madd(x, k1, d1);
    x = v128.load32_splat(q, 16);
    e0 = madd(x, k0, e0);
    e1 = madd(x, k1, e1);
    x = v128.load32_splat(q, 20);
    f0 = madd(x, k0, f0);
    f1 = madd(x, k1, f1);
    q += TILE * 4;
  }
  v128.store(to, a0);
  v128.store(to, a1, 16);
  v128.store(to, b0, PAGE * 4);
  v128.store(to, b1, PAGE * 4 + 16);
  v128.store(to, c0, PAGE * 8);
  v128.store(to, c1, PAGE * 8 + 16);
  v128.store(to, d0, PAGE * 12);
  v128.store(to, d1, PAGE * 12 + 16);
  v128.store(to, e0, PAGE * 16);
  v128.store(to, e1, PAGE * 16 + 16);
  v128.store(to, f0, PAGE * 20);
  v128.store(to, f1, PAGE * 20 + 16);
}

/** Of six queries and eight channels, total ← total · fade + Σ weight · value over the first `count` tokens of a page. */
function addValuesTile(total: usize, fade: usize, w: usize, values: usize, count: i32): void {
  const row = (<usize>V) << 2;
  const row2 = total + 2 * row;
  const row4 = total + 4 * row;
  let x = v128.load32_splat(fade);
  let a0 = f32x4.mul(x, v128.load(total));
  let a1 = f32x4.mul(x, v128.load(total, 16));
  x = v128.load32_splat(fade, 4);
  let b0 = f32x4.mul(x, v128.load(total + row));
  let b1 = f32x4.mul(x, v128.load(total + row, 16));
  x = v128.load32_splat(fade, 8);
  let c0 = f32x4.mul(x, v128.load(row2));
  let c1 = f32x4.mul(x, v128.load(row2, 16));
  x = v128.load32_splat(fade, 12);
  let d0 = f32x4.mul(x, v128.load(row2 + row));
  let d1 = f32x4.mul(x, v128.load(row2 + row, 16));
  x = v128.load32_splat(fade, 16);
  let e0 = f32x4.mul(x, v128.load(row4));
  let e1 = f32x4.mul(x, v128.load(row4, 16));
  x = v128.load32_splat(fade, 20);
  let f0 = f32x4.mul(x, v128.load(row4 + row));
  let f1 = f32x4.mul(x, v128.load(row4 + row, 16));
  const end = w + ((<usize>count) << 2);
  for (; w < end; w += 4) {
    const v0 = v128.load(values);
    const v1 = v128.load(values, 16);
    x = v128.load32_splat(w);
    a0 = madd(x, v0, a0);
    a1 = madd(x, v1, a1);
    x = v128.load32_splat(w, PAGE * 4);
    b0 = madd(x, v0, b0);
    b1 = madd(x, v1, b1);
    x = v128.load32_splat(w, PAGE * 8);
    c0 = madd(x, v0, c0);
    c1 = madd(x, v1, c1);
    x = v128.load32_splat(w, PAGE * 12);
    d0 = madd(x, v0, d0);
    d1 = madd(x, v1, d1);
    x = v128.load32_splat(w, PAGE * 16);
    e0 = madd(x, v0, e0);
    e1 = madd(x, v1, e1);
    x = v128.load32_splat(w, PAGE * 20);
    f0 = madd(x, v0, f0);
    f1 = madd(x, v1, f1);
    values += row;
  }
  v128.store(total, a0);
  v128.store(total, a1, 16);
  v128.store(total + row, b0);
  v128.store(total + row, b1, 16);
  v128.store(row2, c0);
  v128.store(row2, c1, 16);
  v128.store(row2 + row, d0);
  v128.store(row2 + row, d1, 16);
  v128.store(row4, e0);
  v128.store(row4, e1, 16);
  v128.store(row4 + row, f0);
  v128.store(row4 + row, f1, 16);
}

/**
 * A row of scores to weights 2^(score − largest so far). The query is the row's token `own` (or beyond) and sees none after it, nor
 * any before its window: of `width` tokens they weigh 0. Returns by what the query's sums so far are to be
 * multiplied, for a new largest.
 */
function weigh(row: usize, query: i32, own: i32, width: i32): f32 {
  const begin = window ? max(0, own + 1 - window) : 0;
  const end = min(width, own + 1);
  if (begin >= end) {
    memory.fill(row, 0, (<usize>width) << 2);
    return 1;
  }
  const top = tops + ((<usize>query) << 2);
  const sum = sums + ((<usize>query) << 2);
  const before = load<f32>(top);
  // Whole pairs of vectors: what is masked scores −∞ and then weighs nothing.
  const whole = (width + 7) & ~7;
  const masked = begin > 0 || end < whole;
  if (masked) {
    fill(row, 0, begin, -Infinity);
    fill(row, end, whole, -Infinity);
  }
  const largest = max(before, largestOf(row, whole));
  if (largest == -Infinity) {
    memory.fill(row, 0, (<usize>width) << 2);
    return 1;
  }
  const fade = f32x4.extract_lane(exp2x4(f32x4.splat(before - largest)), 0);
  const total = powers(row, whole, largest);
  if (masked) {
    fill(row, 0, begin, 0);
    fill(row, end, whole, 0);
  }
  store<f32>(top, largest);
  store<f32>(sum, load<f32>(sum) * fade + total);
  return fade;
}

/** Numbers `begin` to `end` of a row become `value`. */
function fill(row: usize, begin: i32, end: i32, value: f32): void {
  for (let s = begin; s < end; s++) store<f32>(row + ((<usize>s) << 2), value);
}

/** The largest of `count` numbers, a multiple of 8. */
function largestOf(row: usize, count: i32): f32 {
  let best = f32x4.splat(-Infinity);
  let other = best;
  const end = row + ((<usize>count) << 2);
  for (; row < end; row += 32) {
    best = f32x4.pmax(best, v128.load(row));
    other = f32x4.pmax(other, v128.load(row, 16));
  }
  best = f32x4.pmax(best, other);
  best = f32x4.pmax(best, v128.shuffle<f32>(best, best, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.pmax(best, v128.shuffle<f32>(best, best, 1, 0, 3, 2)), 0);
}

/** 2^(score − top) in place of `count` scores, a multiple of 8; returns their sum. What is masked adds 2⁻¹²⁶, which is lost in it. */
function powers(row: usize, count: i32, top: f32): f32 {
  const t = f32x4.splat(top);
  let sum = f32x4.splat(0);
  let other = sum;
  const end = row + ((<usize>count) << 2);
  for (; row < end; row += 32) {
    const x = exp2x4(f32x4.sub(v128.load(row), t));
    const y = exp2x4(f32x4.sub(v128.load(row, 16), t));
    v128.store(row, x);
    v128.store(row, y, 16);
    sum = f32x4.add(sum, x);
    other = f32x4.add(other, y);
  }
  return sumLanes(f32x4.add(sum, other));
}

/** x ← x · by, `count` numbers, a multiple of 4. */
function scale(x: usize, count: i32, by: f32): void {
  const factor = f32x4.splat(by);
  for (const end = x + ((<usize>count) << 2); x < end; x += 16) v128.store(x, f32x4.mul(v128.load(x), factor));
}

/** y = x / by, `count` numbers. */
function divide(y: usize, x: usize, count: i32, by: f32): void {
  const factor = f32x4.splat(1 / by);
  let j = 0;
  for (; j + 4 <= count; j += 4) {
    const at = (<usize>j) << 2;
    v128.store(y + at, f32x4.mul(v128.load(x + at), factor));
  }
  for (; j < count; j++) {
    const at = (<usize>j) << 2;
    store<f32>(y + at, load<f32>(x + at) / by);
  }
}

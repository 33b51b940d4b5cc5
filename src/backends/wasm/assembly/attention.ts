import { exp2x4, madd } from './math';
import { rowAt, share, stateAt, strideOf, sumLanes, sumRows } from './rows';
import { transpose4 } from './transpose';

/** Tokens in a page of keys or values: [G][PAGE][width], each row padded with zeros to a whole number of PADs. */
const PAGE: i32 = 64;
const PAD: i32 = 8;
/** Queries that pass over the pages together. */
const QUERIES: i32 = 64;
/** Queries of a tile: 6 × 8 sums, two loads and a splat fill V8's registers. */
const TILE: i32 = 6;
/** Queries that pass over a page before the next do: two tiles, so that it is read from the first-level cache half as often. */
const BAND: i32 = 12;
/** QUERIES in whole tiles. */
const ROWS: i32 = 66;
/** From so many queries on it pays to turn the keys of a page. */
const MANY: i32 = 12;

/** What the functions below work on: a group's padded widths, how many heads share it, and a thread's working memory. */
let K: i32 = 0;
let V: i32 = 0;
let heads: i32 = 0;
let window: i32 = 0;
/** Queries times scale · log₂ e: [tiles][K][TILE], or [rows][K] where they are few. */
let queries: usize = 0;
/** Keys of a page in panels of eight tokens, [PAGE / 8][K][8]. */
let panels: usize = 0;
/** Of a band: scores [BAND][PAGE], later weights, and by what the sums before are to be multiplied. */
let scores: usize = 0;
let fades: usize = 0;
/** Of each query: Σ weight · value [ROWS][V], the largest score and Σ weight. */
let totals: usize = 0;
let tops: usize = 0;
let sums: usize = 0;

function padded(width: i32): i32 {
  return (width + PAD - 1) & -PAD;
}

/** Adds a segment's rows to a state that grows. args: [segmentsAt, ends, positions, x (2 words), state (2 words), G, width] */
export function appendRows(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const positions = <usize>load<u32>(args, 8);
  const G = load<i32>(args, 28);
  const width = (<usize>load<i32>(args, 32)) << 2;
  const row = (<usize>padded(load<i32>(args, 32))) << 2;
  let first = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    const start = load<i32>(positions + ((<usize>b) << 2));
    const table = <usize>load<u32>(stateAt(args + 20, b));
    const to = first + share(last - first, thread + 1, threads);
    for (let t = first + share(last - first, thread, threads); t < to; t++) {
      const n = start + t - first;
      let x = rowAt(args + 12, t);
      let y = pageOf(table, n / PAGE) + <usize>(n % PAGE) * row;
      for (let g = 0; g < G; g++) {
        memory.copy(y, x, width);
        memory.fill(y + width, 0, row - width);
        x += width;
        y += <usize>PAGE * row;
      }
    }
    first = last;
  }
}

/** Address of page p of a state that grows: the state holds the address of its table of pages. */
function pageOf(table: usize, p: i32): usize {
  return <usize>load<u32>(table + ((<usize>p) << 2));
}

/**
 * Causal attention over pages, with a running maximum (Milakov & Gimelshein 2018). args: [segmentsAt, ends, positions,
 * q (2 words), keys (2 words), values (2 words), y (2 words), H, G, K, V, scale (f32), window, scratch (own floats a thread),
 * own]
 * The queries of the heads that share keys and values, up to QUERIES of them, pass over a page together, so that it comes from
 * memory once for all. Threads take these blocks in turn, since later ones cost more.
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
  tops = scores + ((<usize>(BAND * PAGE)) << 2);
  sums = tops + ((<usize>(ROWS + 2)) << 2);
  fades = sums + ((<usize>(ROWS + 2)) << 2);
  let first = 0;
  let dealt = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    const start = load<i32>(positions + ((<usize>b) << 2));
    const keys = <usize>load<u32>(stateAt(args + 20, b));
    const values = <usize>load<u32>(stateAt(args + 28, b));
    const rows = (last - first) * heads;
    // A token's few queries are cut where whole groups would leave threads idle: the sums of each are the same.
    const most = rows < MANY && G % threads != 0 ? 2 : QUERIES;
    for (let from = 0; from < rows; from += most) {
      for (let g = 0; g < G; g++, dealt++)
        if (dealt % threads == thread) attend(args, g, first, start, from, min(rows, from + most), keys, values);
    }
    first = last;
  }
}

/** Queries `from` to `to` of group g: the i-th is that of the segment's token ⌊i / heads⌋ and the group's head i mod heads. */
function attend(args: usize, g: i32, first: i32, start: i32, from: i32, to: i32, keys: usize, values: usize): void {
  const count = to - from;
  const many = count >= MANY;
  gather(args, g, first, from, to, many);
  memory.fill(totals, 0, (<usize>(((count + TILE - 1) / TILE) * TILE * V)) << 2);
  for (let i = 0; i < count; i++) {
    store<f32>(tops + ((<usize>i) << 2), -Infinity);
    store<f32>(sums + ((<usize>i) << 2), 0);
  }
  const oldest = start + from / heads;
  const newest = start + (to - 1) / heads;
  const begin = window ? max(0, oldest + 1 - window) : 0;
  for (let p = begin / PAGE; p <= newest / PAGE; p++) {
    const k = pageOf(keys, p) + ((<usize>(g * PAGE * K)) << 2);
    const v = pageOf(values, p) + ((<usize>(g * PAGE * V)) << 2);
    if (many) attendTiles(from, count, start - p * PAGE, k, v);
    else attendPairs(from, count, start - p * PAGE, k, v);
  }
  for (let i = 0; i < count; i++) {
    const row = from + i;
    const head = g * heads + (row % heads);
    const width = load<i32>(args, 56);
    const y = rowAt(args + 36, first + row / heads) + ((<usize>(head * width)) << 2);
    divide(y, totals + ((<usize>(i * V)) << 2), width, load<f32>(sums + ((<usize>i) << 2)));
  }
}

/** Brings the queries together, multiplied by scale · log₂ e, so that weights are powers of two. */
function gather(args: usize, g: i32, first: i32, from: i32, to: i32, many: bool): void {
  const width = load<i32>(args, 52);
  const factor = load<f32>(args, 60) * 1.4426950408889634;
  const rows = many ? ((to - from + TILE - 1) / TILE) * TILE : to - from;
  memory.fill(queries, 0, (<usize>(rows * K)) << 2);
  const step: usize = many ? <usize>TILE * 4 : 4;
  for (let row = from; row < to; row++) {
    const i = row - from;
    const q = rowAt(args + 12, first + row / heads) + ((<usize>((g * heads + (row % heads)) * width)) << 2);
    let at = queries + ((<usize>(many ? (i / TILE) * TILE * K + (i % TILE) : i * K)) << 2);
    for (let j = 0; j < width; j++, at += step) store<f32>(at, load<f32>(q + ((<usize>j) << 2)) * factor);
  }
}

/** Many queries with a page, whose first token the segment's first is `start` tokens behind: in tiles of six. */
function attendTiles(from: i32, count: i32, start: i32, keys: usize, values: usize): void {
  const row = (<usize>V) << 2;
  const all = min(PAGE, start + (from + count - 1) / heads + 1);
  for (let s = 0; s < all; s += 8) turnKeys(keys + ((<usize>(s * K)) << 2), panels + ((<usize>(s * K)) << 2));
  for (let i = 0; i < count; i += BAND) {
    const rows = min(BAND, count - i);
    const width = min(PAGE, start + (from + i + rows - 1) / heads + 1);
    if (width <= 0) continue;
    for (let n = 0; n < rows; n += TILE) {
      const q = queries + ((<usize>((i + n) * K)) << 2);
      const to = scores + ((<usize>(n * PAGE)) << 2);
      // Called from two places each, the tiles stay functions: inside other loops V8 would unroll theirs, and spill.
      scoreTile(q, panels, to);
      for (let s = 8; s < width; s += 8)
        scoreTile(q, panels + ((<usize>(s * K)) << 2), to + ((<usize>s) << 2));
    }
    for (let n = 0; n < rows; n++)
      store<f32>(fades + ((<usize>n) << 2), weigh(n, i + n, start + (from + i + n) / heads, width));
    for (let n = 0; n < rows; n += TILE) {
      const weights = scores + ((<usize>(n * PAGE)) << 2);
      const fade = fades + ((<usize>n) << 2);
      const total = totals + ((<usize>((i + n) * V)) << 2);
      addValuesTile(total, fade, weights, values, width);
      for (let at: usize = 32; at < row; at += 32) addValuesTile(total + at, fade, weights, values + at, width);
    }
  }
}

/** Eight keys to a panel [K][8]. */
function turnKeys(keys: usize, panel: usize): void {
  const row = (<usize>K) << 2;
  for (let j: usize = 0; j < row; j += 16) {
    transpose4(keys + j, row, panel + (j << 3), 32);
    transpose4(keys + 4 * row + j, row, panel + (j << 3) + 16, 32);
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

/** Few queries with a page, two at a time: it streams from memory. */
function attendPairs(from: i32, count: i32, start: i32, keys: usize, values: usize): void {
  const row = (<usize>V) << 2;
  for (let i = 0; i < count; i += 2) {
    const two = i + 2 <= count;
    const own = start + (from + i) / heads;
    const other = start + (from + i + 1) / heads;
    const width = min(PAGE, (two ? other : own) + 1);
    if (width <= 0) continue;
    const q = queries + ((<usize>(i * K)) << 2);
    if (two) score2(q, keys, width);
    else score1(q, keys, width);
    store<f32>(fades, weigh(0, i, own, width));
    if (two) store<f32>(fades, weigh(1, i + 1, other, width), 4);
    let j = 0;
    let total = totals + <usize>i * row;
    if (two) for (; j + 16 <= V; j += 16, total += 64) addValues2(total, values + ((<usize>j) << 2), width);
    else for (; j + 32 <= V; j += 32, total += 128) addValues1(total, values + ((<usize>j) << 2), width);
    for (; j < V; j += 8, total += 32) {
      addValues(total, values + ((<usize>j) << 2), width, 0);
      if (two) addValues(total + row, values + ((<usize>j) << 2), width, 1);
    }
  }
}

/** Scores of two queries with the first `count` keys of a page; those of up to three more keys come out as they may. */
function score2(q: usize, keys: usize, count: i32): void {
  const width = (<usize>K) << 2;
  const p = q + width;
  for (let s = 0; s < count; s += 4) {
    const k0 = keys + <usize>s * width;
    const k1 = k0 + width;
    const k2 = k1 + width;
    const k3 = k2 + width;
    let a0 = f32x4.splat(0);
    let a1 = f32x4.splat(0);
    let a2 = f32x4.splat(0);
    let a3 = f32x4.splat(0);
    let b0 = f32x4.splat(0);
    let b1 = f32x4.splat(0);
    let b2 = f32x4.splat(0);
    let b3 = f32x4.splat(0);
    for (let j: usize = 0; j < width; j += 16) {
      const x = v128.load(q + j);
      const z = v128.load(p + j);
      let k = v128.load(k0 + j);
      a0 = madd(x, k, a0);
      b0 = madd(z, k, b0);
      k = v128.load(k1 + j);
      a1 = madd(x, k, a1);
      b1 = madd(z, k, b1);
      k = v128.load(k2 + j);
      a2 = madd(x, k, a2);
      b2 = madd(z, k, b2);
      k = v128.load(k3 + j);
      a3 = madd(x, k, a3);
      b3 = madd(z, k, b3);
    }
    const to = scores + ((<usize>s) << 2);
    v128.store(to, sumRows(a0, a1, a2, a3));
    v128.store(to, sumRows(b0, b1, b2, b3), PAGE * 4);
  }
}

/** The same for one query. */
function score1(q: usize, keys: usize, count: i32): void {
  const width = (<usize>K) << 2;
  for (let s = 0; s < count; s += 4) {
    const k0 = keys + <usize>s * width;
    const k1 = k0 + width;
    const k2 = k1 + width;
    const k3 = k2 + width;
    let a = f32x4.splat(0);
    let b = f32x4.splat(0);
    let c = f32x4.splat(0);
    let d = f32x4.splat(0);
    for (let j: usize = 0; j < width; j += 16) {
      const x = v128.load(q + j);
      a = madd(x, v128.load(k0 + j), a);
      b = madd(x, v128.load(k1 + j), b);
      c = madd(x, v128.load(k2 + j), c);
      d = madd(x, v128.load(k3 + j), d);
    }
    v128.store(scores + ((<usize>s) << 2), sumRows(a, b, c, d));
  }
}

/** For two queries and sixteen channels, total ← total · fade + Σ weight · value over the first `count` tokens of a page. */
function addValues2(total: usize, values: usize, count: i32): void {
  const row = (<usize>V) << 2;
  const other = total + row;
  const fade = v128.load32_splat(fades);
  const fade2 = v128.load32_splat(fades, 4);
  let a0 = f32x4.mul(fade, v128.load(total));
  let a1 = f32x4.mul(fade, v128.load(total, 16));
  let a2 = f32x4.mul(fade, v128.load(total, 32));
  let a3 = f32x4.mul(fade, v128.load(total, 48));
  let b0 = f32x4.mul(fade2, v128.load(other));
  let b1 = f32x4.mul(fade2, v128.load(other, 16));
  let b2 = f32x4.mul(fade2, v128.load(other, 32));
  let b3 = f32x4.mul(fade2, v128.load(other, 48));
  let w = scores;
  const end = w + ((<usize>count) << 2);
  for (; w < end; w += 4) {
    const x = v128.load32_splat(w);
    const z = v128.load32_splat(w, PAGE * 4);
    let v = v128.load(values);
    a0 = madd(x, v, a0);
    b0 = madd(z, v, b0);
    v = v128.load(values, 16);
    a1 = madd(x, v, a1);
    b1 = madd(z, v, b1);
    v = v128.load(values, 32);
    a2 = madd(x, v, a2);
    b2 = madd(z, v, b2);
    v = v128.load(values, 48);
    a3 = madd(x, v, a3);
    b3 = madd(z, v, b3);
    values += row;
  }
  v128.store(total, a0);
  v128.store(total, a1, 16);
  v128.store(total, a2, 32);
  v128.store(total, a3, 48);
  v128.store(other, b0);
  v128.store(other, b1, 16);
  v128.store(other, b2, 32);
  v128.store(other, b3, 48);
}

/** The same for one query and 32 channels. */
function addValues1(total: usize, values: usize, count: i32): void {
  const row = (<usize>V) << 2;
  const fade = v128.load32_splat(fades);
  let a = f32x4.mul(fade, v128.load(total));
  let b = f32x4.mul(fade, v128.load(total, 16));
  let c = f32x4.mul(fade, v128.load(total, 32));
  let d = f32x4.mul(fade, v128.load(total, 48));
  let e = f32x4.mul(fade, v128.load(total, 64));
  let f = f32x4.mul(fade, v128.load(total, 80));
  let g = f32x4.mul(fade, v128.load(total, 96));
  let h = f32x4.mul(fade, v128.load(total, 112));
  let w = scores;
  const end = w + ((<usize>count) << 2);
  for (; w < end; w += 4) {
    const x = v128.load32_splat(w);
    a = madd(x, v128.load(values), a);
    b = madd(x, v128.load(values, 16), b);
    c = madd(x, v128.load(values, 32), c);
    d = madd(x, v128.load(values, 48), d);
    e = madd(x, v128.load(values, 64), e);
    f = madd(x, v128.load(values, 80), f);
    g = madd(x, v128.load(values, 96), g);
    h = madd(x, v128.load(values, 112), h);
    values += row;
  }
  v128.store(total, a);
  v128.store(total, b, 16);
  v128.store(total, c, 32);
  v128.store(total, d, 48);
  v128.store(total, e, 64);
  v128.store(total, f, 80);
  v128.store(total, g, 96);
  v128.store(total, h, 112);
}

/** The same for query `n` of two and eight channels. */
function addValues(total: usize, values: usize, count: i32, n: i32): void {
  const row = (<usize>V) << 2;
  const fade = v128.load32_splat(fades + ((<usize>n) << 2));
  let a = f32x4.mul(fade, v128.load(total));
  let b = f32x4.mul(fade, v128.load(total, 16));
  let w = scores + ((<usize>(n * PAGE)) << 2);
  const end = w + ((<usize>count) << 2);
  for (; w < end; w += 4) {
    const x = v128.load32_splat(w);
    a = madd(x, v128.load(values), a);
    b = madd(x, v128.load(values, 16), b);
    values += row;
  }
  v128.store(total, a);
  v128.store(total, b, 16);
}

/**
 * The scores in row `n` of the tile to weights 2^(score − largest so far). The query is the page's token `own` (or beyond) and
 * sees none after it, nor any before its window: of `width` tokens they weigh 0. Returns by what the query's sums so far are to be
 * multiplied, for a new largest.
 */
function weigh(n: i32, query: i32, own: i32, width: i32): f32 {
  const row = scores + ((<usize>(n * PAGE)) << 2);
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

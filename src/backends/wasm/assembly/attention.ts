import { expx4, madd } from './math';
import { rowAt, share, stateAt, strideOf, sumLanes, sumRows } from './rows';

/** Tokens in a page of keys or values. */
const PAGE: i32 = 64;
/** Queries that pass over the pages together. */
const QUERIES: i32 = 16;

/** Address of token n's row in a state that grows: the state holds the address of its table of pages. */
function tokenRow(table: usize, n: i32, width: i32): usize {
  return <usize>load<u32>(table + ((<usize>(n / PAGE)) << 2)) + ((<usize>((n % PAGE) * width)) << 2);
}

/** Adds a segment's rows to a state that grows. args: [segmentsAt, ends, positions, x (2 words), state (2 words), width] */
export function appendRows(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const positions = <usize>load<u32>(args, 8);
  const width = load<i32>(args, 28);
  let first = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    const start = load<i32>(positions + ((<usize>b) << 2));
    const table = <usize>load<u32>(stateAt(args + 20, b));
    const to = first + share(last - first, thread + 1, threads);
    for (let t = first + share(last - first, thread, threads); t < to; t++) {
      memory.copy(tokenRow(table, start + t - first, width), rowAt(args + 12, t), (<usize>width) << 2);
    }
    first = last;
  }
}

/**
 * Causal attention over pages, with a running maximum (Milakov & Gimelshein 2018). args: [segmentsAt, ends, positions,
 * q (2 words), keys (2 words), values (2 words), y (2 words), H, G, K, V, scale (f32), window, scratch ((QUERIES + 2)·PAGE
 * floats a thread)]
 * Up to QUERIES tokens of a head pass over a page together, so that its keys and values come from memory once for all. Threads
 * take these blocks in turn, since later ones cost more.
 */
export function attention(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const positions = <usize>load<u32>(args, 8);
  const H = load<i32>(args, 44);
  const scratch = <usize>load<u32>(args, 68) + ((<usize>(thread * PAGE * (QUERIES + 2))) << 2);
  let first = 0;
  let dealt = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    const start = load<i32>(positions + ((<usize>b) << 2));
    const keys = <usize>load<u32>(stateAt(args + 20, b));
    const values = <usize>load<u32>(stateAt(args + 28, b));
    for (let t = first; t < last; t += QUERIES) {
      const count = min(QUERIES, last - t);
      for (let h = 0; h < H; h++, dealt++)
        if (dealt % threads == thread) attend(args, t, count, h, start + t - first, keys, values, scratch);
    }
    first = last;
  }
}

/** One head of `count` tokens from `t` on, the sequence's n-th and those after it. */
function attend(args: usize, t: i32, count: i32, h: i32, n: i32, keys: usize, values: usize, scratch: usize): void {
  const G = load<i32>(args, 48);
  const K = load<i32>(args, 52);
  const V = load<i32>(args, 56);
  const window = load<i32>(args, 64);
  const g = (h * G) / load<i32>(args, 44);
  const q = rowAt(args + 12, t) + ((<usize>(h * K)) << 2);
  const qStep = strideOf(args + 12);
  const y = rowAt(args + 36, t) + ((<usize>(h * V)) << 2);
  const yStep = strideOf(args + 36);
  const scores = scratch;
  const tops = scratch + ((<usize>(QUERIES * PAGE)) << 2);
  const sums = tops + ((<usize>PAGE) << 2);
  for (let i = 0; i < count; i++) {
    memory.fill(y + <usize>i * yStep, 0, (<usize>V) << 2);
    store<f32>(tops + ((<usize>i) << 2), -Infinity);
    store<f32>(sums + ((<usize>i) << 2), 0);
  }
  const from = window ? max(0, n + 1 - window) : 0;
  const last = n + count - 1;
  for (let p = from / PAGE; p <= last / PAGE; p++) {
    const page = p * PAGE;
    const width = min(PAGE, last + 1 - page);
    const keyRows = tokenRow(keys, page, G * K) + ((<usize>(g * K)) << 2);
    const valueRows = tokenRow(values, page, G * V) + ((<usize>(g * V)) << 2);
    const keyStep = (<usize>(G * K)) << 2;
    const valueStep = (<usize>(G * V)) << 2;
    let i = 0;
    for (; i + 2 <= count; i += 2) {
      const row = scores + ((<usize>(i * PAGE)) << 2);
      score2(q + <usize>i * qStep, qStep, keyRows, keyStep, K, load<f32>(args, 60), width, row);
      weigh(row, i, n + i - page, window, width, tops, sums, y + <usize>i * yStep, V);
      weigh(row + PAGE * 4, i + 1, n + i + 1 - page, window, width, tops, sums, y + <usize>(i + 1) * yStep, V);
      addValues2(y + <usize>i * yStep, yStep, valueRows, valueStep, V, width, row);
    }
    if (i < count) {
      const row = scores + ((<usize>(i * PAGE)) << 2);
      score1(q + <usize>i * qStep, keyRows, keyStep, K, load<f32>(args, 60), 0, width, row);
      weigh(row, i, n + i - page, window, width, tops, sums, y + <usize>i * yStep, V);
      addValues1(y + <usize>i * yStep, valueRows, valueStep, V, 0, width, row);
    }
  }
  for (let i = 0; i < count; i++) scaleRow(y + <usize>i * yStep, V, 1 / load<f32>(sums + ((<usize>i) << 2)));
}

/** Scores of two queries, `qStep` apart, with the first `count` keys of a page: into two rows. */
function score2(q: usize, qStep: usize, keys: usize, step: usize, K: i32, scale: f32, count: i32, row: usize): void {
  const p = q + qStep;
  const other = row + PAGE * 4;
  const width = (<usize>K) << 2;
  const whole = (K & 3) == 0 ? count & ~3 : 0;
  const factor = f32x4.splat(scale);
  for (let s = 0; s < whole; s += 4) {
    const k0 = keys + <usize>s * step;
    const k1 = k0 + step;
    const k2 = k1 + step;
    const k3 = k2 + step;
    let a0 = f32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    let b0 = a0;
    let b1 = a0;
    let b2 = a0;
    let b3 = a0;
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
    v128.store(row + ((<usize>s) << 2), f32x4.mul(sumRows(a0, a1, a2, a3), factor));
    v128.store(other + ((<usize>s) << 2), f32x4.mul(sumRows(b0, b1, b2, b3), factor));
  }
  score1(q, keys, step, K, scale, whole, count, row);
  score1(p, keys, step, K, scale, whole, count, other);
}

/** Scores of one query with keys `begin` to `end` of a page, into `row`. */
function score1(q: usize, keys: usize, step: usize, K: i32, scale: f32, begin: i32, end: i32, row: usize): void {
  const width = (<usize>(K & ~3)) << 2;
  let s = begin;
  for (; s + 4 <= end; s += 4) {
    const k0 = keys + <usize>s * step;
    const k1 = k0 + step;
    const k2 = k1 + step;
    const k3 = k2 + step;
    let a = f32x4.splat(0);
    let b = a;
    let c = a;
    let d = a;
    for (let j: usize = 0; j < width; j += 16) {
      const x = v128.load(q + j);
      a = madd(x, v128.load(k0 + j), a);
      b = madd(x, v128.load(k1 + j), b);
      c = madd(x, v128.load(k2 + j), c);
      d = madd(x, v128.load(k3 + j), d);
    }
    let dots = sumRows(a, b, c, d);
    for (let j = K & ~3; j < K; j++) {
      const at = (<usize>j) << 2;
      const x = load<f32>(q + at);
      dots = f32x4.add(
        dots,
        f32x4(x * load<f32>(k0 + at), x * load<f32>(k1 + at), x * load<f32>(k2 + at), x * load<f32>(k3 + at)),
      );
    }
    v128.store(row + ((<usize>s) << 2), f32x4.mul(dots, f32x4.splat(scale)));
  }
  for (; s < end; s++) {
    const k = keys + <usize>s * step;
    let sum = f32x4.splat(0);
    for (let j: usize = 0; j < width; j += 16) sum = madd(v128.load(q + j), v128.load(k + j), sum);
    let dot = sumLanes(sum);
    for (let j = K & ~3; j < K; j++) dot += load<f32>(q + ((<usize>j) << 2)) * load<f32>(k + ((<usize>j) << 2));
    store<f32>(row + ((<usize>s) << 2), dot * scale);
  }
}

/**
 * Scores of query i with a page of `width` tokens to weights, e^(score − largest so far); what was summed before is scaled to a
 * new largest. The query is the page's token `own` (or beyond) and sees none after it, nor any before its window: they weigh 0.
 */
function weigh(
  row: usize,
  i: i32,
  own: i32,
  window: i32,
  width: i32,
  tops: usize,
  sums: usize,
  y: usize,
  V: i32,
): void {
  const begin = window ? max(0, min(width, own + 1 - window)) : 0;
  const end = min(width, own + 1);
  for (let s = 0; s < begin; s++) store<f32>(row + ((<usize>s) << 2), -Infinity);
  for (let s = max(0, end); s < width; s++) store<f32>(row + ((<usize>s) << 2), -Infinity);
  const top = tops + ((<usize>i) << 2);
  const sum = sums + ((<usize>i) << 2);
  const best = largest(row, width);
  if (best > load<f32>(top)) {
    const fade = f32x4.extract_lane(expx4(f32x4.splat(load<f32>(top) - best)), 0);
    store<f32>(sum, load<f32>(sum) * fade);
    if (fade != 0) scaleRow(y, V, fade);
    store<f32>(top, best);
  }
  if (load<f32>(top) == -Infinity) memory.fill(row, 0, (<usize>width) << 2);
  else store<f32>(sum, load<f32>(sum) + exponentials(row, width, load<f32>(top)));
}

function largest(row: usize, count: i32): f32 {
  let best = f32x4.splat(-Infinity);
  let s = 0;
  for (; s + 4 <= count; s += 4) best = f32x4.pmax(best, v128.load(row + ((<usize>s) << 2)));
  const pairs = f32x4.pmax(best, v128.shuffle<f32>(best, best, 2, 3, 0, 1));
  let result = f32x4.extract_lane(f32x4.pmax(pairs, v128.shuffle<f32>(pairs, pairs, 1, 0, 3, 2)), 0);
  for (; s < count; s++) result = max(result, load<f32>(row + ((<usize>s) << 2)));
  return result;
}

/** e^(score − top) in place of `count` scores; returns their sum. */
function exponentials(row: usize, count: i32, top: f32): f32 {
  const t = f32x4.splat(top);
  let sum = f32x4.splat(0);
  let s = 0;
  for (; s + 4 <= count; s += 4) {
    const at = row + ((<usize>s) << 2);
    const e = expx4(f32x4.sub(v128.load(at), t));
    v128.store(at, e);
    sum = f32x4.add(sum, e);
  }
  let result = sumLanes(sum);
  for (; s < count; s++) {
    const at = row + ((<usize>s) << 2);
    const e = f32x4.extract_lane(expx4(f32x4.splat(load<f32>(at) - top)), 0);
    store<f32>(at, e);
    result += e;
  }
  return result;
}

/** For two queries, y += Σ weight_s · value_s over the first `count` tokens of a page; sixteen channels stay in registers. */
function addValues2(y: usize, yStep: usize, values: usize, step: usize, V: i32, count: i32, weights: usize): void {
  const z = y + yStep;
  let j = 0;
  for (; j + 16 <= V; j += 16) {
    const at = (<usize>j) << 2;
    let a0 = v128.load(y + at);
    let a1 = v128.load(y + at, 16);
    let a2 = v128.load(y + at, 32);
    let a3 = v128.load(y + at, 48);
    let b0 = v128.load(z + at);
    let b1 = v128.load(z + at, 16);
    let b2 = v128.load(z + at, 32);
    let b3 = v128.load(z + at, 48);
    let value = values + at;
    let w = weights;
    const end = weights + ((<usize>count) << 2);
    for (; w < end; w += 4) {
      const u = v128.load32_splat(w);
      const v = v128.load32_splat(w, PAGE * 4);
      let x = v128.load(value);
      a0 = madd(u, x, a0);
      b0 = madd(v, x, b0);
      x = v128.load(value, 16);
      a1 = madd(u, x, a1);
      b1 = madd(v, x, b1);
      x = v128.load(value, 32);
      a2 = madd(u, x, a2);
      b2 = madd(v, x, b2);
      x = v128.load(value, 48);
      a3 = madd(u, x, a3);
      b3 = madd(v, x, b3);
      value += step;
    }
    v128.store(y + at, a0);
    v128.store(y + at, a1, 16);
    v128.store(y + at, a2, 32);
    v128.store(y + at, a3, 48);
    v128.store(z + at, b0);
    v128.store(z + at, b1, 16);
    v128.store(z + at, b2, 32);
    v128.store(z + at, b3, 48);
  }
  addValues1(y, values, step, V, j, count, weights);
  addValues1(z, values, step, V, j, count, weights + PAGE * 4);
}

/** For one query, from channel `j` on. */
function addValues1(y: usize, values: usize, step: usize, V: i32, j: i32, count: i32, weights: usize): void {
  for (; j + 16 <= V; j += 16) {
    const at = (<usize>j) << 2;
    let a = v128.load(y + at);
    let b = v128.load(y + at, 16);
    let c = v128.load(y + at, 32);
    let d = v128.load(y + at, 48);
    let value = values + at;
    for (let s = 0; s < count; s++) {
      const w = v128.load32_splat(weights + ((<usize>s) << 2));
      a = madd(w, v128.load(value), a);
      b = madd(w, v128.load(value, 16), b);
      c = madd(w, v128.load(value, 32), c);
      d = madd(w, v128.load(value, 48), d);
      value += step;
    }
    v128.store(y + at, a);
    v128.store(y + at, b, 16);
    v128.store(y + at, c, 32);
    v128.store(y + at, d, 48);
  }
  for (; j < V; j++) {
    const at = (<usize>j) << 2;
    let sum = load<f32>(y + at);
    for (let s = 0; s < count; s++)
      sum += load<f32>(weights + ((<usize>s) << 2)) * load<f32>(values + at + <usize>s * step);
    store<f32>(y + at, sum);
  }
}

function scaleRow(y: usize, V: i32, factor: f32): void {
  const f = f32x4.splat(factor);
  let j = 0;
  for (; j + 4 <= V; j += 4) {
    const at = y + ((<usize>j) << 2);
    v128.store(at, f32x4.mul(v128.load(at), f));
  }
  for (; j < V; j++) store<f32>(y + ((<usize>j) << 2), load<f32>(y + ((<usize>j) << 2)) * factor);
}

import { fromHalfBy, fromHalfScaled, halfBias, halfPlaces } from './half';
import { madd } from './math';
import { PAGE } from './pages';
import { sumRows } from './rows';
import { storeTurned } from './transpose';

/*
 * What attention does with keys and values that are kept in f16. Four numbers are moved to where f32 has them and are then 2⁻¹¹² times
 * what they should be (`half.ts`). Where queries are few that is made up for elsewhere, exactly, since all are powers of two: values by
 * their weights, keys by the queries and their scores. Not by the queries alone, which might overflow, nor by the scores alone: products
 * would be subnormal, which slows processors down.
 */

/** What queries are multiplied by, 2³². */
export const LIFT: f32 = 4294967296;
/** What their scores are then multiplied by, 2⁸⁰. */
const REST = memory.data<f32>([1.2089258196146292e24]);

/** Scores of two queries, times LIFT, with the first `count` keys of a page, as `score2` in `attention.ts`. */
export function score2Halves(q: usize, keys: usize, K: i32, count: i32, to: usize): void {
  const places = halfPlaces();
  const rest = v128.load32_splat(REST);
  const width = (<usize>K) << 1;
  const p = q + 2 * width;
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
    for (let j: usize = 0; j < width; j += 8) {
      const x = v128.load(q + (j << 1));
      const z = v128.load(p + (j << 1));
      let k = fromHalfScaled(v128.load16x4_s(k0 + j), places);
      a0 = madd(x, k, a0);
      b0 = madd(z, k, b0);
      k = fromHalfScaled(v128.load16x4_s(k1 + j), places);
      a1 = madd(x, k, a1);
      b1 = madd(z, k, b1);
      k = fromHalfScaled(v128.load16x4_s(k2 + j), places);
      a2 = madd(x, k, a2);
      b2 = madd(z, k, b2);
      k = fromHalfScaled(v128.load16x4_s(k3 + j), places);
      a3 = madd(x, k, a3);
      b3 = madd(z, k, b3);
    }
    v128.store(to, f32x4.mul(sumRows(a0, a1, a2, a3), rest));
    v128.store(to, f32x4.mul(sumRows(b0, b1, b2, b3), rest), PAGE * 4);
    to += 16;
  }
}

/** The same for one query. */
export function score1Halves(q: usize, keys: usize, K: i32, count: i32, to: usize): void {
  const places = halfPlaces();
  const rest = v128.load32_splat(REST);
  const width = (<usize>K) << 1;
  for (let s = 0; s < count; s += 4) {
    const k0 = keys + <usize>s * width;
    const k1 = k0 + width;
    const k2 = k1 + width;
    const k3 = k2 + width;
    let a = f32x4.splat(0);
    let b = f32x4.splat(0);
    let c = f32x4.splat(0);
    let d = f32x4.splat(0);
    for (let j: usize = 0; j < width; j += 8) {
      const x = v128.load(q + (j << 1));
      a = madd(x, fromHalfScaled(v128.load16x4_s(k0 + j), places), a);
      b = madd(x, fromHalfScaled(v128.load16x4_s(k1 + j), places), b);
      c = madd(x, fromHalfScaled(v128.load16x4_s(k2 + j), places), c);
      d = madd(x, fromHalfScaled(v128.load16x4_s(k3 + j), places), d);
    }
    v128.store(to, f32x4.mul(sumRows(a, b, c, d), rest));
    to += 16;
  }
}

/** Σ weight · value of a run of tokens, of one or two queries, V numbers, as `addValues` in `attention.ts`. */
export function addHalves(total: usize, weights: usize, values: usize, V: i32, count: i32, two: bool): void {
  const row = (<usize>V) << 1;
  let j = 0;
  if (two)
    for (; j + 16 <= V; j += 16, total += 64) add2(total, 2 * row, weights, values + ((<usize>j) << 1), row, count);
  else for (; j + 32 <= V; j += 32, total += 128) add1(total, weights, values + ((<usize>j) << 1), row, count);
  for (; j < V; j += 8, total += 32) {
    addEight(total, weights, values + ((<usize>j) << 1), row, count);
    if (two) addEight(total + 2 * row, weights + PAGE * 4, values + ((<usize>j) << 1), row, count);
  }
}

/** For two queries, whose sums lie `step` bytes apart, and sixteen channels of rows of `row` bytes. */
function add2(total: usize, step: usize, w: usize, values: usize, row: usize, count: i32): void {
  const places = halfPlaces();
  const bias = halfBias();
  const other = total + step;
  let a0 = v128.load(total);
  let a1 = v128.load(total, 16);
  let a2 = v128.load(total, 32);
  let a3 = v128.load(total, 48);
  let b0 = v128.load(other);
  let b1 = v128.load(other, 16);
  let b2 = v128.load(other, 32);
  let b3 = v128.load(other, 48);
  const end = w + ((<usize>count) << 2);
  for (; w < end; w += 4) {
    const x = f32x4.mul(v128.load32_splat(w), bias);
    const z = f32x4.mul(v128.load32_splat(w, PAGE * 4), bias);
    let v = fromHalfScaled(v128.load16x4_s(values), places);
    a0 = madd(x, v, a0);
    b0 = madd(z, v, b0);
    v = fromHalfScaled(v128.load16x4_s(values, 8), places);
    a1 = madd(x, v, a1);
    b1 = madd(z, v, b1);
    v = fromHalfScaled(v128.load16x4_s(values, 16), places);
    a2 = madd(x, v, a2);
    b2 = madd(z, v, b2);
    v = fromHalfScaled(v128.load16x4_s(values, 24), places);
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
function add1(total: usize, w: usize, values: usize, row: usize, count: i32): void {
  const places = halfPlaces();
  const bias = halfBias();
  let a = v128.load(total);
  let b = v128.load(total, 16);
  let c = v128.load(total, 32);
  let d = v128.load(total, 48);
  let e = v128.load(total, 64);
  let f = v128.load(total, 80);
  let g = v128.load(total, 96);
  let h = v128.load(total, 112);
  const end = w + ((<usize>count) << 2);
  for (; w < end; w += 4) {
    const x = f32x4.mul(v128.load32_splat(w), bias);
    a = madd(x, fromHalfScaled(v128.load16x4_s(values), places), a);
    b = madd(x, fromHalfScaled(v128.load16x4_s(values, 8), places), b);
    c = madd(x, fromHalfScaled(v128.load16x4_s(values, 16), places), c);
    d = madd(x, fromHalfScaled(v128.load16x4_s(values, 24), places), d);
    e = madd(x, fromHalfScaled(v128.load16x4_s(values, 32), places), e);
    f = madd(x, fromHalfScaled(v128.load16x4_s(values, 40), places), f);
    g = madd(x, fromHalfScaled(v128.load16x4_s(values, 48), places), g);
    h = madd(x, fromHalfScaled(v128.load16x4_s(values, 56), places), h);
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

/** The same for one query and eight channels. */
function addEight(total: usize, w: usize, values: usize, row: usize, count: i32): void {
  const places = halfPlaces();
  const bias = halfBias();
  let a = v128.load(total);
  let b = v128.load(total, 16);
  const end = w + ((<usize>count) << 2);
  for (; w < end; w += 4) {
    const x = f32x4.mul(v128.load32_splat(w), bias);
    a = madd(x, fromHalfScaled(v128.load16x4_s(values), places), a);
    b = madd(x, fromHalfScaled(v128.load16x4_s(values, 8), places), b);
    values += row;
  }
  v128.store(total, a);
  v128.store(total, b, 16);
}

/** Eight keys of K numbers to a panel [K][8] of f32. */
export function turnHalves(keys: usize, K: i32, panel: usize): void {
  const places = halfPlaces();
  const bias = halfBias();
  const row = (<usize>K) << 1;
  for (let at = keys; at < keys + row; at += 8, panel += 128) {
    for (let half: usize = 0; half < 2; half++) {
      const four = at + 4 * half * row;
      const r0 = fromHalfBy(v128.load16x4_s(four), places, bias);
      const r1 = fromHalfBy(v128.load16x4_s(four + row), places, bias);
      const r2 = fromHalfBy(v128.load16x4_s(four + 2 * row), places, bias);
      const r3 = fromHalfBy(v128.load16x4_s(four + 3 * row), places, bias);
      storeTurned(r0, r1, r2, r3, panel + 16 * half, 32);
    }
  }
}

/** `count` numbers, a multiple of 8, to f32. */
export function widenHalves(from: usize, count: i32, to: usize): void {
  const places = halfPlaces();
  const bias = halfBias();
  for (const end = from + ((<usize>count) << 1); from < end; from += 16, to += 32) {
    v128.store(to, fromHalfBy(v128.load16x4_s(from), places, bias));
    v128.store(to, fromHalfBy(v128.load16x4_s(from, 8), places, bias), 16);
  }
}

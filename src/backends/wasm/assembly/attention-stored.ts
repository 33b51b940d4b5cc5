import { fromHalfScaled, halfBias, halfPlaces } from './half';
import { madd } from './math';
import { PAGE } from './pages';
import { sumRows } from './rows';
import { storeTurned } from './transpose';

/*
 * What attention does with keys and values as they are stored: T is f32, or u16 for f16. Four numbers of f16 are moved to where f32 has
 * them and are then 2⁻¹¹² times what they should be (`half.ts`). Where queries are few that is made up for elsewhere, exactly, since all
 * are powers of two: values by their weights, keys by the queries and their scores. Not by the queries alone, which might overflow, nor by
 * the scores alone: products would be subnormal, which slows processors down.
 */

/** What queries are multiplied by where keys are f16, 2³². */
export const LIFT: f32 = 4294967296;
/** What their scores are then multiplied by, 2⁸⁰. */
const REST = memory.data<f32>([1.2089258196146292e24]);

/** What loops load before they begin: nothing for f32. */
function placesOf<T>(): v128 {
  return sizeof<T>() == 4 ? f32x4.splat(0) : halfPlaces();
}

function biasOf<T>(): v128 {
  return sizeof<T>() == 4 ? f32x4.splat(1) : halfBias();
}

/** Four stored numbers, those of f16 times 2⁻¹¹²; the next four, and so on: an instruction's offset is a constant. */
function four<T>(at: usize, places: v128): v128 {
  return sizeof<T>() == 4 ? v128.load(at) : fromHalfScaled(v128.load16x4_s(at), places);
}

function second<T>(at: usize, places: v128): v128 {
  return sizeof<T>() == 4 ? v128.load(at, 16) : fromHalfScaled(v128.load16x4_s(at, 8), places);
}

function third<T>(at: usize, places: v128): v128 {
  return sizeof<T>() == 4 ? v128.load(at, 32) : fromHalfScaled(v128.load16x4_s(at, 16), places);
}

function fourth<T>(at: usize, places: v128): v128 {
  return sizeof<T>() == 4 ? v128.load(at, 48) : fromHalfScaled(v128.load16x4_s(at, 24), places);
}

/** x times what stored numbers lack. */
function mended<T>(x: v128, factor: v128): v128 {
  return sizeof<T>() == 4 ? x : f32x4.mul(x, factor);
}

/**
 * Scores of two queries, times LIFT where keys are f16, with the first `count` keys of a page; those of up to three more keys come out as
 * they may.
 */
export function score2<T>(q: usize, keys: usize, K: i32, count: i32, to: usize): void {
  const places = placesOf<T>();
  const rest = v128.load32_splat(REST);
  const width = <usize>K * sizeof<T>();
  const p = q + ((<usize>K) << 2);
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
    for (let j: usize = 0; j < width; j += 4 * sizeof<T>()) {
      const x = v128.load(q + j * (4 / sizeof<T>()));
      const z = v128.load(p + j * (4 / sizeof<T>()));
      let k = four<T>(k0 + j, places);
      a0 = madd(x, k, a0);
      b0 = madd(z, k, b0);
      k = four<T>(k1 + j, places);
      a1 = madd(x, k, a1);
      b1 = madd(z, k, b1);
      k = four<T>(k2 + j, places);
      a2 = madd(x, k, a2);
      b2 = madd(z, k, b2);
      k = four<T>(k3 + j, places);
      a3 = madd(x, k, a3);
      b3 = madd(z, k, b3);
    }
    v128.store(to, mended<T>(sumRows(a0, a1, a2, a3), rest));
    v128.store(to, mended<T>(sumRows(b0, b1, b2, b3), rest), PAGE * 4);
    to += 16;
  }
}

/** The same for one query. */
export function score1<T>(q: usize, keys: usize, K: i32, count: i32, to: usize): void {
  const places = placesOf<T>();
  const rest = v128.load32_splat(REST);
  const width = <usize>K * sizeof<T>();
  for (let s = 0; s < count; s += 4) {
    const k0 = keys + <usize>s * width;
    const k1 = k0 + width;
    const k2 = k1 + width;
    const k3 = k2 + width;
    let a = f32x4.splat(0);
    let b = f32x4.splat(0);
    let c = f32x4.splat(0);
    let d = f32x4.splat(0);
    for (let j: usize = 0; j < width; j += 4 * sizeof<T>()) {
      const x = v128.load(q + j * (4 / sizeof<T>()));
      a = madd(x, four<T>(k0 + j, places), a);
      b = madd(x, four<T>(k1 + j, places), b);
      c = madd(x, four<T>(k2 + j, places), c);
      d = madd(x, four<T>(k3 + j, places), d);
    }
    v128.store(to, mended<T>(sumRows(a, b, c, d), rest));
    to += 16;
  }
}

/** Σ weight · value of a run of tokens, of one or two queries, V numbers. */
export function addValues<T>(total: usize, weights: usize, values: usize, V: i32, count: i32, two: bool): void {
  const row = <usize>V * sizeof<T>();
  const step = (<usize>V) << 2;
  let j = 0;
  if (two)
    for (; j + 16 <= V; j += 16, total += 64)
      addValues2<T>(total, step, weights, values + <usize>j * sizeof<T>(), row, count);
  else
    for (; j + 32 <= V; j += 32, total += 128)
      addValues1<T>(total, weights, values + <usize>j * sizeof<T>(), row, count);
  for (; j < V; j += 8, total += 32) {
    addEight<T>(total, weights, values + <usize>j * sizeof<T>(), row, count);
    if (two) addEight<T>(total + step, weights + PAGE * 4, values + <usize>j * sizeof<T>(), row, count);
  }
}

/**
 * For two queries, whose sums lie `step` bytes apart, and sixteen channels of rows of `row` bytes, total ← total + Σ weight · value over
 * `count` tokens.
 */
function addValues2<T>(total: usize, step: usize, w: usize, values: usize, row: usize, count: i32): void {
  const places = placesOf<T>();
  const bias = biasOf<T>();
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
    const x = mended<T>(v128.load32_splat(w), bias);
    const z = mended<T>(v128.load32_splat(w, PAGE * 4), bias);
    let v = four<T>(values, places);
    a0 = madd(x, v, a0);
    b0 = madd(z, v, b0);
    v = second<T>(values, places);
    a1 = madd(x, v, a1);
    b1 = madd(z, v, b1);
    v = third<T>(values, places);
    a2 = madd(x, v, a2);
    b2 = madd(z, v, b2);
    v = fourth<T>(values, places);
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
function addValues1<T>(total: usize, w: usize, values: usize, row: usize, count: i32): void {
  const places = placesOf<T>();
  const bias = biasOf<T>();
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
    const x = mended<T>(v128.load32_splat(w), bias);
    const half = values + 16 * sizeof<T>();
    a = madd(x, four<T>(values, places), a);
    b = madd(x, second<T>(values, places), b);
    c = madd(x, third<T>(values, places), c);
    d = madd(x, fourth<T>(values, places), d);
    e = madd(x, four<T>(half, places), e);
    f = madd(x, second<T>(half, places), f);
    g = madd(x, third<T>(half, places), g);
    h = madd(x, fourth<T>(half, places), h);
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
function addEight<T>(total: usize, w: usize, values: usize, row: usize, count: i32): void {
  const places = placesOf<T>();
  const bias = biasOf<T>();
  let a = v128.load(total);
  let b = v128.load(total, 16);
  const end = w + ((<usize>count) << 2);
  for (; w < end; w += 4) {
    const x = mended<T>(v128.load32_splat(w), bias);
    a = madd(x, four<T>(values, places), a);
    b = madd(x, second<T>(values, places), b);
    values += row;
  }
  v128.store(total, a);
  v128.store(total, b, 16);
}

/** Eight keys of K numbers to a panel [K][8] of f32. */
export function turnKeys<T>(keys: usize, K: i32, panel: usize): void {
  const places = placesOf<T>();
  const bias = biasOf<T>();
  const row = <usize>K * sizeof<T>();
  for (const end = keys + row; keys < end; keys += 4 * sizeof<T>(), panel += 128) {
    for (let half: usize = 0; half < 2; half++) {
      const at = keys + 4 * half * row;
      const r0 = mended<T>(four<T>(at, places), bias);
      const r1 = mended<T>(four<T>(at + row, places), bias);
      const r2 = mended<T>(four<T>(at + 2 * row, places), bias);
      const r3 = mended<T>(four<T>(at + 3 * row, places), bias);
      storeTurned(r0, r1, r2, r3, panel + 16 * half, 32);
    }
  }
}

/** `count` numbers of f16, a multiple of 8, to f32. */
export function widen(from: usize, count: i32, to: usize): void {
  const places = halfPlaces();
  const bias = halfBias();
  for (const end = from + ((<usize>count) << 1); from < end; from += 16, to += 32) {
    v128.store(to, f32x4.mul(four<u16>(from, places), bias));
    v128.store(to, f32x4.mul(second<u16>(from, places), bias), 16);
  }
}

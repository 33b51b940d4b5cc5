import { exp2x4 } from './math';
import { productRows, productTile, TILE } from './product-tile';
import { loadLanes, rowAt, storeLanes, strideOf } from './rows';
import { transpose4 } from './transpose';

/** Tokens of a chunk: whole tiles of six and whole panels of eight. */
const CHUNK: i32 = 48;
/** Chunks that a head runs along before the next head does. */
const CHUNKS: i32 = 3;

/** Floats of scratch memory that a thread wants for keys of K numbers and values of V. */
export function chunkScratch(K: i32, V: i32): i32 {
  return CHUNKS * chunkFloats(K) + CHUNK * K + 2 * CHUNK * CHUNK + 4 * CHUNK + 56 + padded(V) * (CHUNK + rowOf(K));
}

/** Of a chunk and group: r in tiles, k in rows, and their products. */
function chunkFloats(K: i32): i32 {
  return CHUNK * (K + rowOf(K) + CHUNK);
}

/** Length of a row of keys: whole tiles of six, so that a row begins on a whole vector, too. */
function rowOf(K: i32): i32 {
  return (wholeTiles(K) + 3) & ~3;
}

function wholeTiles(count: i32): i32 {
  return ((count + TILE - 1) / TILE) * TILE;
}

function padded(V: i32): i32 {
  return (V + 7) & ~7;
}

/** What the functions below work on. */
let K: i32 = 0;
let V: i32 = 0;
let row: i32 = 0;
/** r in tiles, k in rows and their products, of CHUNKS chunks. */
let shared: usize = 0;
/** k of a chunk in panels of eight tokens, [CHUNK / 8][K][8]. */
let turned: usize = 0;
/** The products times what decays between the tokens, in tiles [CHUNK / TILE][CHUNK][TILE]. */
let weights: usize = 0;
/** log₂ of what remains of the state before the chunk, token by token (f64), and what remains of it. */
let logs: usize = 0;
let remains: usize = 0;
/** Six times what remains after the chunk, and a tile. */
let whole: usize = 0;
let tile: usize = 0;
/** Values of a chunk and the state, in panels of eight: [V / 8][CHUNK][8] and [V / 8][row][8]. */
let values: usize = 0;
let states: usize = 0;

/**
 * The recurrence with one decay for all key channels of a head, S_t = w_t S_{t−1} + v_t k_tᵀ, y_t = S_t r_t, a chunk of tokens at a
 * time (Dao & Gu 2024, arXiv 2405.21060, §6): with c_t = Σ_{s ≤ t} log w_s from the chunk's first token on,
 *
 *     y_t = e^{c_t} S r_t + Σ_{s ≤ t} e^{c_t − c_s} (k_s·r_t) v_s        S ← e^{c_last} S + Σ_s e^{c_last − c_s} v_s k_sᵀ
 *
 * All of it is products of small matrices, and k_s·r_t are the same for all heads of a group. Exponents are differences of sums in
 * f64 and never above 0 where w ≤ 1, so nothing overflows whatever decays there are.
 * Panels `from` to `to` of eight value channels each, ⌈V / 8⌉ of them to a head.
 */
export function chunks(
  args: usize,
  from: i32,
  to: i32,
  first: i32,
  last: i32,
  state: usize,
  next: usize,
  scratch: usize,
): void {
  V = load<i32>(args, 16);
  K = load<i32>(args, 20);
  row = rowOf(K);
  shared = scratch;
  turned = shared + ((<usize>(CHUNKS * chunkFloats(K))) << 2);
  weights = turned + ((<usize>(CHUNK * K)) << 2);
  logs = weights + ((<usize>(CHUNK * CHUNK)) << 2);
  remains = logs + ((<usize>CHUNK) << 3);
  whole = remains + ((<usize>CHUNK) << 2);
  tile = whole + 32;
  values = tile + 192;
  states = values + ((<usize>(padded(V) * CHUNK)) << 2);
  const panels = (V + 7) >> 3;
  const heads = load<i32>(args, 8) / load<i32>(args, 12);
  for (let t = first; t < last; t += CHUNKS * CHUNK) {
    const end = min(last, t + CHUNKS * CHUNK);
    const before = t == first ? state : next;
    let group = -1;
    for (let unit = from; unit < to; ) {
      const h = unit / panels;
      const stop = min(to, (h + 1) * panels);
      if (h / heads != group) {
        group = h / heads;
        for (let s = t, n = 0; s < end; s += CHUNK, n++) share(args, group, s, min(CHUNK, end - s), chunkOf(n));
      }
      const at = (<usize>(h * V * K)) << 2;
      for (let p = unit - h * panels; p < stop - h * panels; p++) {
        loadState(before + at, p);
      }
      for (let s = t, n = 0; s < end; s += CHUNK, n++)
        chunk(args, h, unit - h * panels, stop - h * panels, s, min(CHUNK, end - s), chunkOf(n));
      for (let p = unit - h * panels; p < stop - h * panels; p++) storeState(next + at, p);
      unit = stop;
    }
  }
}

function chunkOf(n: i32): usize {
  return shared + ((<usize>(n * chunkFloats(K))) << 2);
}

/** What all heads of a group share of `count` tokens: r in tiles [count / TILE][K][TILE], rows of k, and k_s·r_t [t][CHUNK]. */
function share(args: usize, group: i32, t: i32, count: i32, at: usize): void {
  const offset = (<usize>(group * K)) << 2;
  const tall = wholeTiles(count);
  const keys = at + ((<usize>(CHUNK * K)) << 2);
  const products = keys + ((<usize>(CHUNK * row)) << 2);
  memory.fill(at, 0, (<usize>(tall * K)) << 2);
  for (let i = 0; i < count; i++)
    spread(rowAt(args + 24, t + i) + offset, at + ((<usize>((i / TILE) * TILE * K + (i % TILE))) << 2));
  memory.fill(keys, 0, (<usize>(CHUNK * row)) << 2);
  for (let s = 0; s < count; s++)
    memory.copy(keys + ((<usize>(s * row)) << 2), rowAt(args + 32, t + s) + offset, (<usize>K) << 2);
  for (let s = 0; s < count; s += 8) turn(keys + ((<usize>(s * row)) << 2), turned + ((<usize>(s * K)) << 2));
  for (let i = 0; i < count; i += TILE) {
    for (let s = 0; s < min(count, i + TILE); s += 8) {
      const to = products + ((<usize>(i * CHUNK + s)) << 2);
      const key = turned + ((<usize>(s * K)) << 2);
      productRows(to, CHUNK * 4, at + ((<usize>(i * K)) << 2), TILE * 4, key, K);
    }
  }
}

/** K numbers of r to one place of a tile. */
function spread(r: usize, to: usize): void {
  let j = 0;
  for (; j + 4 <= K; j += 4, r += 16, to += 4 * TILE * 4) {
    const x = v128.load(r);
    v128.store32_lane(to, x, 0);
    v128.store32_lane(to, x, 1, TILE * 4);
    v128.store32_lane(to, x, 2, TILE * 8);
    v128.store32_lane(to, x, 3, TILE * 12);
  }
  for (; j < K; j++, r += 4, to += TILE * 4) store<f32>(to, load<f32>(r));
}

/** Eight rows of keys to a panel [K][8]. */
function turn(keys: usize, panel: usize): void {
  const step = (<usize>row) << 2;
  let j = 0;
  for (; j + 4 <= K; j += 4, keys += 16, panel += 128) {
    transpose4(keys, step, panel, 32);
    transpose4(keys + 4 * step, step, panel + 16, 32);
  }
  for (; j < K; j++, keys += 4, panel += 32) {
    for (let i: usize = 0; i < 8; i++) store<f32>(panel + (i << 2), load<f32>(keys + i * step));
  }
}

/** Eight rows of S [V][K], from row 8p on, to a panel [row][8]. */
function loadState(S: usize, p: i32): void {
  const panel = states + ((<usize>(p * row)) << 5);
  const step = (<usize>K) << 2;
  const rows = min(8, V - 8 * p);
  const from = S + <usize>(8 * p) * step;
  let j = 0;
  if (rows == 8) {
    for (; j + 4 <= K; j += 4) {
      const at = from + ((<usize>j) << 2);
      transpose4(at, step, panel + ((<usize>j) << 5), 32);
      transpose4(at + 4 * step, step, panel + ((<usize>j) << 5) + 16, 32);
    }
  }
  memory.fill(panel + ((<usize>j) << 5), 0, (<usize>(row - j)) << 5);
  for (; j < K; j++) {
    for (let i = 0; i < rows; i++)
      store<f32>(panel + ((<usize>(8 * j + i)) << 2), load<f32>(from + <usize>i * step + ((<usize>j) << 2)));
  }
}

/** The other way round. */
function storeState(S: usize, p: i32): void {
  const panel = states + ((<usize>(p * row)) << 5);
  const step = (<usize>K) << 2;
  const rows = min(8, V - 8 * p);
  const to = S + <usize>(8 * p) * step;
  let j = 0;
  if (rows == 8) {
    for (; j + 4 <= K; j += 4) {
      const at = to + ((<usize>j) << 2);
      transpose4(panel + ((<usize>j) << 5), 32, at, step);
      transpose4(panel + ((<usize>j) << 5) + 16, 32, at + 4 * step, step);
    }
  }
  for (; j < K; j++) {
    for (let i = 0; i < rows; i++)
      store<f32>(to + <usize>i * step + ((<usize>j) << 2), load<f32>(panel + ((<usize>(8 * j + i)) << 2)));
  }
}

/** Panels `from` to `to` of head h along the `count` tokens from t on. */
function chunk(args: usize, h: i32, from: i32, to: i32, t: i32, count: i32, at: usize): void {
  const keys = at + ((<usize>(CHUNK * K)) << 2);
  const products = keys + ((<usize>(CHUNK * row)) << 2);
  const end = accumulate(args, h, t, count);
  weigh(products, count);
  const yStep = strideOf(args + 48);
  for (let p = from; p < to; p++) {
    const panel = states + ((<usize>(p * row)) << 5);
    const chosen = values + ((<usize>(p * CHUNK)) << 5);
    const width = min(8, V - 8 * p);
    const within = (<usize>(h * V + 8 * p)) << 2;
    loadValues(rowAt(args + 40, t) + within, strideOf(args + 40), width, count, chosen);
    for (let i = 0; i < count; i += TILE) {
      productRows(tile, 32, at + ((<usize>(i * K)) << 2), TILE * 4, panel, K);
      const w = weights + ((<usize>(i * CHUNK)) << 2);
      productTile(tile, remains + ((<usize>i) << 2), w, TILE * 4, chosen, min(count, i + TILE));
      putTile(rowAt(args + 48, t + i) + within, yStep, width, min(TILE, count - i));
    }
    fade(chosen, count, end);
    for (let j = 0; j < K; j += TILE)
      productTile(panel + ((<usize>j) << 5), whole, keys + ((<usize>j) << 2), (<usize>row) << 2, chosen, count);
  }
}

/** Sums the decays' logarithms; returns log₂ of what remains after the chunk. */
function accumulate(args: usize, h: i32, t: i32, count: i32): f64 {
  const g = <usize>load<u32>(args, 76);
  const perToken = (<usize>load<i32>(args, 80)) << 2;
  const dt = <usize>load<u32>(args, 92);
  const at = g + ((<usize>(h * load<i32>(args, 84))) << 2);
  let sum: f64 = 0;
  for (let i = 0; i < count; i++) {
    if (g) {
      const factor: f32 = dt ? load<f32>(rowAt(args + 92, t + i) + ((<usize>h) << 2)) : 1;
      // Below 2⁻³⁰⁰ nothing remains, and infinities would have no differences.
      sum += max(<f64>(load<f32>(at + <usize>(t + i) * perToken) * factor) * 1.4426950408889634, -300);
    }
    store<f64>(logs + ((<usize>i) << 3), sum);
  }
  for (let i = 0; i < wholeTiles(count); i++)
    store<f32>(remains + ((<usize>i) << 2), i < count ? <f32>load<f64>(logs + ((<usize>i) << 3)) : 0);
  for (let i = 0; i < wholeTiles(count); i += 4) {
    const to = remains + ((<usize>i) << 2);
    storeLanes(to, wholeTiles(count) - i, exp2x4(loadLanes(to, wholeTiles(count) - i)));
  }
  const left = exp2x4(f32x4.splat(<f32>sum));
  v128.store(whole, left);
  v128.store(whole, left, 16);
  return sum;
}

/** weight[t][s] = 2^(log_t − log_s) (k_s·r_t) for s ≤ t, else 0, in tiles. */
function weigh(products: usize, count: i32): void {
  for (let t = 0; t < wholeTiles(count); t++) {
    const start = (t / TILE) * TILE;
    const to = weights + ((<usize>(start * CHUNK + (t - start))) << 2);
    const from = products + ((<usize>(t * CHUNK)) << 2);
    const stop = min(count, start + TILE);
    const log = f64x2.splat(t < count ? load<f64>(logs + ((<usize>t) << 3)) : 0);
    let s = 0;
    for (; s <= min(t, count - 1); s += 4) {
      const at = logs + ((<usize>s) << 3);
      const low = f32x4.demote_f64x2_zero(f64x2.sub(log, v128.load(at)));
      const high = f32x4.demote_f64x2_zero(f64x2.sub(log, v128.load(at, 16)));
      // Tokens after t, whose weights are set to 0 below, would grow instead.
      const exponents = f32x4.pmin(v128.shuffle<f32>(low, high, 0, 1, 4, 5), f32x4.splat(120));
      const w = f32x4.mul(exp2x4(exponents), v128.load(from + ((<usize>s) << 2)));
      const place = to + ((<usize>(s * TILE)) << 2);
      v128.store32_lane(place, w, 0);
      v128.store32_lane(place, w, 1, TILE * 4);
      v128.store32_lane(place, w, 2, TILE * 8);
      v128.store32_lane(place, w, 3, TILE * 12);
    }
    for (s = min(t, count - 1) + 1; s < stop; s++) store<f32>(to + ((<usize>(s * TILE)) << 2), 0);
  }
}

/** Eight channels of `count` tokens, zeros beyond `width` of them. */
function loadValues(v: usize, step: usize, width: i32, count: i32, to: usize): void {
  if (width == 8) {
    for (let s = 0; s < count; s++, v += step, to += 32) {
      v128.store(to, v128.load(v));
      v128.store(to, v128.load(v, 16), 16);
    }
    return;
  }
  for (let s = 0; s < count; s++, v += step, to += 32) {
    v128.store(to, loadLanes(v, width));
    v128.store(to, width > 4 ? loadLanes(v + 16, width - 4) : f32x4.splat(0), 16);
  }
}

/** Values times what remains of them after the chunk. */
function fade(chosen: usize, count: i32, end: f64): void {
  for (let s = 0; s < count; s += 4) {
    const at = logs + ((<usize>s) << 3);
    const log = f64x2.splat(end);
    const low = f32x4.demote_f64x2_zero(f64x2.sub(log, v128.load(at)));
    const high = f32x4.demote_f64x2_zero(f64x2.sub(log, v128.load(at, 16)));
    const left = exp2x4(f32x4.pmin(v128.shuffle<f32>(low, high, 0, 1, 4, 5), f32x4.splat(120)));
    scale(chosen + ((<usize>s) << 5), v128.shuffle<f32>(left, left, 0, 0, 0, 0));
    if (s + 1 < count) scale(chosen + ((<usize>(s + 1)) << 5), v128.shuffle<f32>(left, left, 1, 1, 1, 1));
    if (s + 2 < count) scale(chosen + ((<usize>(s + 2)) << 5), v128.shuffle<f32>(left, left, 2, 2, 2, 2));
    if (s + 3 < count) scale(chosen + ((<usize>(s + 3)) << 5), v128.shuffle<f32>(left, left, 3, 3, 3, 3));
  }
}

function scale(at: usize, by: v128): void {
  v128.store(at, f32x4.mul(v128.load(at), by));
  v128.store(at, f32x4.mul(v128.load(at, 16), by), 16);
}

/** Rows of the tile to rows of y, `width` numbers of each. */
function putTile(y: usize, step: usize, width: i32, rows: i32): void {
  for (let n = 0; n < rows; n++, y += step) {
    const at = tile + ((<usize>n) << 5);
    storeLanes(y, width, v128.load(at));
    if (width > 4) storeLanes(y + 16, width - 4, v128.load(at, 16));
  }
}

import { exp2x4, madd } from './math';
import { productRows, productTile } from './product-tile';
import { firstOf, loadLanes, rowAt, storeLanes, sumLanes } from './rows';
import { beginUnits, takeUnits, unitsEnd } from './schedule';
import { largest } from './vectors';

/** Rows of a product's tile, and columns. */
const TILE: i32 = 6;
const COLUMNS: i32 = 8;
/** Queries that go together: whole tiles. */
const BLOCK: i32 = 48;
/** Rows of keys are laid out in multiples of this: whole tiles and whole columns of them. */
const ALIGNED: i32 = 24;

/** What a tile's sums are multiplied by before more is added. */
const KEPT = memory.data<f32>([1, 1, 1, 1, 1, 1]);

let H: i32 = 0;
let G: i32 = 0;
let K: i32 = 0;
let V: i32 = 0;
/** Tokens of a segment, in whole tiles, and floats from one query's weights to the next's. */
let rows: i32 = 0;
let stride: i32 = 0;
/** Keys and values turned, [rows / 8][width][8], and keys in columns, [⌈K / 8⌉][rows][8]. */
let turnedKeys: usize = 0;
let turnedValues: usize = 0;
let keys: usize = 0;
/** Gradients of keys and values in tiles, [rows / 6][⌈width / 8⌉][6][8]. */
let dKeys: usize = 0;
let dValues: usize = 0;
/** A block's queries and dy, turned, [8][width][6], and in columns, [⌈width / 8⌉][BLOCK][8]. */
let turnedQueries: usize = 0;
let turnedDy: usize = 0;
let queries: usize = 0;
let dys: usize = 0;
/** A block's weights p and gradients of scores ds, [BLOCK][stride]; ds of a tile turned, [rows][6]. */
let weights: usize = 0;
let slopes: usize = 0;
let turnedSlopes: usize = 0;
let tile: usize = 0;

/**
 * The adjoint of causal attention over whole texts: with p the weights, dp = v·dy and ds = scale · p ⊙ (dp − Σ p dp),
 * dq = Σ ds k, dk = Σ ds q, dv = Σ p dy. Weights are made again, for a block of queries at a time; the five products are of tiles.
 * args: [segmentsAt, ends, q (2 words), k (2), v (2), dy (2), dq (2), dk (2), dv (2), H, G, K, V, scale (f32), window,
 *        scratch, its floats for a thread]. Threads take the segments' groups of heads in turns.
 */
export function attentionGrad(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  H = load<i32>(args, 64);
  G = load<i32>(args, 68);
  K = load<i32>(args, 72);
  V = load<i32>(args, 76);
  const scratch = <usize>load<u32>(args, 88) + ((<usize>(thread * load<i32>(args, 92))) << 2);
  beginUnits(segments * G, thread, threads);
  for (let unit = takeUnits(1); unit < unitsEnd(); unit = takeUnits(1)) {
    const b = unit / G;
    const g = unit % G;
    const first = firstOf(ends, b);
    const last = load<i32>(ends + ((<usize>b) << 2));
    layOut(last - first, scratch);
    const ofKey = (<usize>(g * K)) << 2;
    const ofValue = (<usize>(g * V)) << 2;
    turn(args + 16, ofKey, first, last - first, K, COLUMNS, rows, turnedKeys);
    turn(args + 24, ofValue, first, last - first, V, COLUMNS, rows, turnedValues);
    columns(args + 16, ofKey, first, last - first, K, rows, keys);
    memory.fill(dKeys, 0, turnedQueries - dKeys);
    for (let h = (g * H) / G; h < ((g + 1) * H) / G; h++)
      for (let t = first; t < last; t += BLOCK) block(args, h, first, last, t);
    putTiles(args + 48, ofKey, first, last - first, K, dKeys);
    putTiles(args + 56, ofValue, first, last - first, V, dValues);
  }
}

/** A width in whole columns of a tile. */
function wide(width: i32): i32 {
  return (width + COLUMNS - 1) & ~(COLUMNS - 1);
}

/** Gives everything its place in scratch memory (kernels.ts counts the floats). */
function layOut(tokens: i32, scratch: usize): void {
  rows = ((tokens + ALIGNED - 1) / ALIGNED) * ALIGNED;
  // No power of two, so that rows of weights lie in different sets of the cache.
  stride = ((rows + 63) & ~63) + 16;
  turnedKeys = scratch;
  turnedValues = turnedKeys + ((<usize>(rows * K)) << 2);
  keys = turnedValues + ((<usize>(rows * V)) << 2);
  dKeys = keys + ((<usize>(rows * wide(K))) << 2);
  dValues = dKeys + ((<usize>(rows * wide(K))) << 2);
  turnedQueries = dValues + ((<usize>(rows * wide(V))) << 2);
  turnedDy = turnedQueries + ((<usize>(BLOCK * K)) << 2);
  queries = turnedDy + ((<usize>(BLOCK * V)) << 2);
  dys = queries + ((<usize>(BLOCK * wide(K))) << 2);
  weights = dys + ((<usize>(BLOCK * wide(V))) << 2);
  slopes = weights + ((<usize>(BLOCK * stride)) << 2);
  turnedSlopes = slopes + ((<usize>(BLOCK * stride)) << 2);
  tile = turnedSlopes + ((<usize>(TILE * rows)) << 2);
}

/** `count` rows from row `first` on as [most / group][width][group], zeros where there are no more. */
function turn(x: usize, within: usize, first: i32, count: i32, width: i32, group: i32, most: i32, to: usize): void {
  const step = (<usize>group) << 2;
  for (let n = 0; n < most; n++) {
    let at = to + ((<usize>((n / group) * width * group + (n % group))) << 2);
    if (n < count) {
      let from = rowAt(x, first + n) + within;
      for (let j = 0; j < width; j++, at += step, from += 4) store<f32>(at, load<f32>(from));
    } else for (let j = 0; j < width; j++, at += step) store<f32>(at, 0);
  }
}

/** `count` rows from row `first` on as [⌈width / 8⌉][most][8], zeros where there are no more. */
function columns(x: usize, within: usize, first: i32, count: i32, width: i32, most: i32, to: usize): void {
  for (let j = 0; j < width; j += COLUMNS) {
    const bytes = (<usize>min(COLUMNS, width - j)) << 2;
    for (let n = 0; n < most; n++, to += 32) {
      const from = n < count ? rowAt(x, first + n) + within + ((<usize>j) << 2) : 0;
      if (from && bytes == 32) {
        v128.store(to, v128.load(from));
        v128.store(to, v128.load(from, 16), 16);
      } else {
        memory.fill(to, 0, 32);
        if (from) memory.copy(to, from, bytes);
      }
    }
  }
}

/** What the queries of one head from token `t` on give back, `BLOCK` of them or what is left of the segment. */
function block(args: usize, h: i32, first: i32, last: i32, t: i32): void {
  const window = load<i32>(args, 84);
  const ofQuery = (<usize>(h * K)) << 2;
  const ofDy = (<usize>(h * V)) << 2;
  const count = min(BLOCK, last - t);
  const tiles = (count + TILE - 1) / TILE;
  turn(args + 8, ofQuery, t, count, K, TILE, tiles * TILE, turnedQueries);
  turn(args + 32, ofDy, t, count, V, TILE, tiles * TILE, turnedDy);
  columns(args + 8, ofQuery, t, count, K, tiles * TILE, queries);
  columns(args + 32, ofDy, t, count, V, tiles * TILE, dys);
  // The first key that any of the queries sees.
  const base = window ? (max(0, t + 1 - window - first) / ALIGNED) * ALIGNED : 0;
  const apart = (<usize>stride) << 2;
  for (let i = 0; i < tiles; i++) {
    const query = t + i * TILE;
    const stop = min(last, query + TILE) - first;
    const from = window ? max(base, (query + 1 - window - first) & ~(COLUMNS - 1)) : 0;
    const row = (<usize>(i * TILE * stride)) << 2;
    for (let key = from; key < stop; key += COLUMNS) {
      const at = row + ((<usize>key) << 2);
      const q = turnedQueries + ((<usize>(i * TILE * K)) << 2);
      productRows(weights + at, apart, q, 24, turnedKeys + ((<usize>(key * K)) << 2), K);
      const dy = turnedDy + ((<usize>(i * TILE * V)) << 2);
      productRows(slopes + at, apart, dy, 24, turnedValues + ((<usize>(key * V)) << 2), V);
    }
    for (let r = 0; r < TILE; r++) weigh(args, first, last, query + r, i * TILE + r, base, stop);
    turnSlopes(slopes + row, base, stop);
    for (let j = 0; j < K; j += COLUMNS) {
      const panel = keys + ((<usize>(j * rows + base * COLUMNS)) << 2);
      productRows(tile, 32, turnedSlopes, 24, panel, stop - base);
      for (let r = 0; r < min(TILE, last - query); r++)
        putRow(rowAt(args + 40, query + r) + ofQuery + ((<usize>j) << 2), K - j, tile + ((<usize>r) << 5));
    }
  }
  gather(t - first, base, min(last, t + BLOCK) - first, tiles, slopes, queries, wide(K), dKeys);
  gather(t - first, base, min(last, t + BLOCK) - first, tiles, weights, dys, wide(V), dValues);
}

/**
 * The weights and gradients of scores of the query of token `t`, in row `row`, in the place of its scores and dp; zeros for keys from
 * `base` on that it does not see, as far as products read.
 */
function weigh(args: usize, first: i32, last: i32, t: i32, row: i32, base: i32, stop: i32): void {
  const window = load<i32>(args, 84);
  const from = window ? max(0, t + 1 - window - first) : 0;
  const count = t < last ? t + 1 - first - from : 0;
  const start = (<usize>(row * stride)) << 2;
  const p = weights + start + ((<usize>from) << 2);
  const dp = slopes + start + ((<usize>from) << 2);
  if (count > 0) {
    const scale = load<f32>(args, 80);
    const top = f32x4.splat(largest(p, count));
    const factor = f32x4.splat(scale);
    const inTwos = f32x4.splat(scale * 1.4426950408889634);
    let total = f32x4.splat(0);
    let mean = total;
    for (let s = 0; s < count; s += 4) {
      const at = (<usize>s) << 2;
      let weight = exp2x4(f32x4.mul(inTwos, f32x4.sub(loadLanes(p + at, count - s), top)));
      if (count - s < 4) weight = v128.and(weight, firstLanes(count - s));
      total = f32x4.add(total, weight);
      mean = madd(weight, loadLanes(dp + at, count - s), mean);
      storeLanes(p + at, count - s, weight);
    }
    const whole: f32 = <f32>1 / sumLanes(total);
    const ofMean = f32x4.splat(sumLanes(mean) * whole);
    const toWeight = f32x4.splat(whole);
    for (let s = 0; s < count; s += 4) {
      const at = (<usize>s) << 2;
      const weight = f32x4.mul(loadLanes(p + at, count - s), toWeight);
      const ds = f32x4.mul(f32x4.mul(factor, weight), f32x4.sub(loadLanes(dp + at, count - s), ofMean));
      storeLanes(p + at, count - s, weight);
      storeLanes(dp + at, count - s, ds);
    }
  }
  clear(start, base, min(from, stop));
  clear(start, count > 0 ? from + count : base, min(rows, stop + COLUMNS));
}

/** Zeros weights and gradients of scores of keys `from` to `to` in the row at byte `start`. */
function clear(start: usize, from: i32, to: i32): void {
  if (from >= to) return;
  const at = start + ((<usize>from) << 2);
  const bytes = (<usize>(to - from)) << 2;
  memory.fill(weights + at, 0, bytes);
  memory.fill(slopes + at, 0, bytes);
}

/** All bits of the first `count` lanes. */
function firstLanes(count: i32): v128 {
  return i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(count));
}

/** Six rows of gradients of scores of keys `base` to `stop` as [key][6]. */
function turnSlopes(row: usize, base: i32, stop: i32): void {
  const step = (<usize>stride) << 2;
  let to = turnedSlopes;
  let from = row + ((<usize>base) << 2);
  for (let key = base; key < stop; key++, from += 4, to += 24) {
    store<f32>(to, load<f32>(from));
    store<f32>(to, load<f32>(from + step), 4);
    store<f32>(to, load<f32>(from + 2 * step), 8);
    store<f32>(to, load<f32>(from + 3 * step), 12);
    store<f32>(to, load<f32>(from + 4 * step), 16);
    store<f32>(to, load<f32>(from + 5 * step), 20);
  }
}

/**
 * Tiles of keys `base` to `stop` ← tiles + Σ weight · x over a block's queries, the first of which is token `query`: those before a
 * tile's first key don't see it.
 */
function gather(query: i32, base: i32, stop: i32, tiles: i32, factors: usize, x: usize, width: i32, to: usize): void {
  const step = (<usize>stride) << 2;
  for (let key = base; key < stop; key += TILE) {
    const skipped = key > query ? ((key - query) / TILE) * TILE : 0;
    const q = factors + ((<usize>(skipped * stride + key)) << 2);
    for (let j = 0; j < width; j += COLUMNS) {
      const panel = x + ((<usize>(j * tiles * TILE + skipped * COLUMNS)) << 2);
      productTile(to + ((<usize>(key * width + j * TILE)) << 2), KEPT, q, step, panel, tiles * TILE - skipped);
    }
  }
}

/** Tiles of gradients to rows. */
function putTiles(x: usize, within: usize, first: i32, count: i32, width: i32, from: usize): void {
  const whole = wide(width);
  for (let n = 0; n < count; n++) {
    const row = rowAt(x, first + n) + within;
    for (let j = 0; j < width; j += COLUMNS) {
      const at = (n / TILE) * TILE * whole + j * TILE + (n % TILE) * COLUMNS;
      putRow(row + ((<usize>j) << 2), width - j, from + ((<usize>at) << 2));
    }
  }
}

/** The first of eight numbers, as many as there is room for. */
function putRow(to: usize, width: i32, from: usize): void {
  storeLanes(to, width, v128.load(from));
  if (width > 4) storeLanes(to + 16, width - 4, v128.load(from, 16));
}

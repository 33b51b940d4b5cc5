import { expx4, madd } from './math';
import { rowAt, share, stateAt, sumLanes } from './rows';

/** Tokens in a page of keys or values. */
const PAGE: i32 = 64;

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
 * Causal attention over pages, with a running maximum. args: [segmentsAt, ends, positions, q (2 words), keys (2 words),
 * values (2 words), y (2 words), H, G, K, V, scale (f32), window, scratch (PAGE floats a thread)]
 * Threads take (token, head) pairs in turn, since later tokens cost more.
 */
export function attention(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const positions = <usize>load<u32>(args, 8);
  const H = load<i32>(args, 44);
  const scores = <usize>load<u32>(args, 68) + ((<usize>(thread * PAGE)) << 2);
  let first = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    const start = load<i32>(positions + ((<usize>b) << 2));
    const keys = <usize>load<u32>(stateAt(args + 20, b));
    const values = <usize>load<u32>(stateAt(args + 28, b));
    const units = (last - first) * H;
    for (let unit = thread; unit < units; unit += threads) {
      const t = first + unit / H;
      attend(args, t, unit % H, start + t - first, keys, values, scores);
    }
    first = last;
  }
}

/** One head of one token, which is the sequence's n-th. */
function attend(args: usize, t: i32, h: i32, n: i32, keys: usize, values: usize, scores: usize): void {
  const H = load<i32>(args, 44);
  const G = load<i32>(args, 48);
  const K = load<i32>(args, 52);
  const V = load<i32>(args, 56);
  const scale = load<f32>(args, 60);
  const window = load<i32>(args, 64);
  const g = (h * G) / H;
  const q = rowAt(args + 12, t) + ((<usize>(h * K)) << 2);
  const y = rowAt(args + 36, t) + ((<usize>(h * V)) << 2);
  memory.fill(y, 0, (<usize>V) << 2);
  const from = window ? max(0, n + 1 - window) : 0;
  let top: f32 = -Infinity;
  let sum: f32 = 0;
  for (let p = from / PAGE; p <= n / PAGE; p++) {
    const begin = max(from, p * PAGE);
    const end = min(n + 1, (p + 1) * PAGE);
    let best: f32 = top;
    for (let s = begin; s < end; s++) {
      const score = scale * dot(q, tokenRow(keys, s, G * K) + ((<usize>(g * K)) << 2), K);
      store<f32>(scores + ((<usize>(s - begin)) << 2), score);
      best = max(best, score);
    }
    if (best > top) {
      // What was summed so far was scaled by the old maximum.
      const fade = f32x4.extract_lane(expx4(f32x4.splat(top - best)), 0);
      sum *= fade;
      for (let i = 0; i < V; i++) store<f32>(y + ((<usize>i) << 2), load<f32>(y + ((<usize>i) << 2)) * fade);
      top = best;
    }
    const count = end - begin;
    for (let s = 0; s < count; s += 4) {
      const at = scores + ((<usize>s) << 2);
      v128.store(at, expx4(f32x4.sub(v128.load(at), f32x4.splat(top))));
    }
    for (let s = 0; s < count; s++) {
      const weight = load<f32>(scores + ((<usize>s) << 2));
      sum += weight;
      accumulate(y, tokenRow(values, begin + s, G * V) + ((<usize>(g * V)) << 2), weight, V);
    }
  }
  const scaleBack: f32 = 1 / sum;
  for (let i = 0; i < V; i++) store<f32>(y + ((<usize>i) << 2), load<f32>(y + ((<usize>i) << 2)) * scaleBack);
}

function dot(x: usize, y: usize, K: i32): f32 {
  let sum = f32x4.splat(0);
  let j = 0;
  for (; j + 4 <= K; j += 4) sum = madd(v128.load(x + ((<usize>j) << 2)), v128.load(y + ((<usize>j) << 2)), sum);
  let result = sumLanes(sum);
  for (; j < K; j++) result += load<f32>(x + ((<usize>j) << 2)) * load<f32>(y + ((<usize>j) << 2));
  return result;
}

/** y += weight · x. */
function accumulate(y: usize, x: usize, weight: f32, V: i32): void {
  const w = f32x4.splat(weight);
  let j = 0;
  for (; j + 4 <= V; j += 4) {
    const at = (<usize>j) << 2;
    v128.store(y + at, madd(w, v128.load(x + at), v128.load(y + at)));
  }
  for (; j < V; j++)
    store<f32>(y + ((<usize>j) << 2), load<f32>(y + ((<usize>j) << 2)) + weight * load<f32>(x + ((<usize>j) << 2)));
}

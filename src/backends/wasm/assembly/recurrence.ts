import { expx4, madd } from './math';
import { rowAt, share, stateAt, sumLanes } from './rows';

/**
 * S_t = S_{t−1} diag(w_t) + (S_{t−1} a_t) b_tᵀ + v_t k_tᵀ, y_t = S_t r_t, S [V, K] per head.
 * args, in words: 0 segmentsAt · 1 ends · 2 H · 3 G · 4 V · 5 K · 6 r (2) · 8 k (2) · 10 v (2) · 12 y (2) · 14 state (2) ·
 *   16 next (2) · 18 scratch (4·K floats a thread) · 19 g (or 0) · 20 its stride from token to token · 21 from head to head ·
 *   22 1 if it varies along K, else 0 · 23 dt (2, or 0) · 25 a (2, or 0) · 27 b (2) · 29 u (or 0)
 * Rows of S are independent of each other: threads share the H·V rows, and each runs its rows along the whole segment.
 */
export function recurrence(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const H = load<i32>(args, 8);
  const V = load<i32>(args, 16);
  const K = load<i32>(args, 20);
  const scratch = <usize>load<u32>(args, 72) + ((<usize>(thread * K)) << 4);
  const from = share(H * V, thread, threads);
  const to = share(H * V, thread + 1, threads);
  const perChannel =
    V == 1 &&
    K == 16 &&
    load<i32>(args, 92) != 0 &&
    load<i32>(args, 80) == 0 &&
    load<i32>(args, 88) == 1 &&
    load<i32>(args, 100) == 0 &&
    load<i32>(args, 116) == 0;
  let first = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    const state = stateAt(args + 56, b);
    const next = stateAt(args + 64, b);
    if (perChannel) {
      for (let h = from; h < to; h++) channel16(args, h, first, last, state, next);
    } else {
      if (state != next)
        memory.copy(
          next + ((<usize>(from * K)) << 2),
          state + ((<usize>(from * K)) << 2),
          (<usize>((to - from) * K)) << 2,
        );
      for (let row = from; row < to; ) {
        const h = row / V;
        const end = min(to, (h + 1) * V);
        head(args, h, row - h * V, end - h * V, first, last, next + ((<usize>(h * V * K)) << 2), scratch);
        row = end;
      }
    }
    first = last;
  }
}

/** Rows `from` to `to` of one head along a segment; S is updated where it lies. */
function head(args: usize, h: i32, from: i32, to: i32, first: i32, last: i32, S: usize, scratch: usize): void {
  const H = load<i32>(args, 8);
  const G = load<i32>(args, 12);
  const V = load<i32>(args, 16);
  const K = load<i32>(args, 20);
  const group = (<usize>(((h * G) / H) * K)) << 2;
  const perHead = (<usize>(h * K)) << 2;
  const g = <usize>load<u32>(args, 76);
  const perToken = load<i32>(args, 80);
  const varies = load<i32>(args, 88);
  const dt = <usize>load<u32>(args, 92);
  const a = <usize>load<u32>(args, 100);
  const u = <usize>load<u32>(args, 116);
  const w = scratch;
  const constant = perToken == 0 && !dt;
  if (!g) fill(w, K, 1);
  for (let t = first; t < last; t++) {
    if (g && (!constant || t == first)) {
      const at = g + ((<usize>(t * perToken + h * load<i32>(args, 84))) << 2);
      decay(w, at, K, varies, dt ? load<f32>(rowAt(args + 92, t) + ((<usize>h) << 2)) : 1);
    }
    const r = rowAt(args + 24, t) + group;
    const k = rowAt(args + 32, t) + group;
    const v = rowAt(args + 40, t) + ((<usize>(h * V)) << 2);
    const y = rowAt(args + 48, t) + ((<usize>(h * V)) << 2);
    if (a) {
      const at = rowAt(args + 100, t) + perHead;
      const bt = rowAt(args + 108, t) + perHead;
      for (let i = from; i < to; i++) {
        const row = S + ((<usize>(i * K)) << 2);
        store<f32>(y + ((<usize>i) << 2), removeAndWrite(row, w, at, bt, k, r, load<f32>(v + ((<usize>i) << 2)), K));
      }
    } else if (u) {
      const bonus = dot3(u + perHead, k, r, K);
      for (let i = from; i < to; i++) {
        const row = S + ((<usize>(i * K)) << 2);
        const value = load<f32>(v + ((<usize>i) << 2));
        store<f32>(y + ((<usize>i) << 2), dot(row, r, K) + bonus * value);
        write(row, w, k, r, value, K);
      }
    } else {
      for (let i = from; i < to; i++) {
        const row = S + ((<usize>(i * K)) << 2);
        store<f32>(y + ((<usize>i) << 2), write(row, w, k, r, load<f32>(v + ((<usize>i) << 2)), K));
      }
    }
  }
}

/** w = exp(factor · g), K of them; one for all channels unless g varies. */
function decay(w: usize, g: usize, K: i32, varies: i32, factor: f32): void {
  const f = f32x4.splat(factor);
  if (!varies) {
    fill(w, K, f32x4.extract_lane(expx4(f32x4.mul(f, f32x4.splat(load<f32>(g)))), 0));
    return;
  }
  let j = 0;
  for (; j + 4 <= K; j += 4) v128.store(w + ((<usize>j) << 2), expx4(f32x4.mul(f, v128.load(g + ((<usize>j) << 2)))));
  for (; j < K; j++) {
    store<f32>(
      w + ((<usize>j) << 2),
      f32x4.extract_lane(expx4(f32x4.splat(factor * load<f32>(g + ((<usize>j) << 2)))), 0),
    );
  }
}

function fill(w: usize, K: i32, value: f32): void {
  for (let j = 0; j < K; j++) store<f32>(w + ((<usize>j) << 2), value);
}

/** S ← S·w + value·k; returns S·r. */
function write(S: usize, w: usize, k: usize, r: usize, value: f32, K: i32): f32 {
  const x = f32x4.splat(value);
  let sum = f32x4.splat(0);
  let j = 0;
  for (; j + 4 <= K; j += 4) {
    const at = (<usize>j) << 2;
    const s = madd(x, v128.load(k + at), f32x4.mul(v128.load(S + at), v128.load(w + at)));
    v128.store(S + at, s);
    sum = madd(s, v128.load(r + at), sum);
  }
  let result = sumLanes(sum);
  for (; j < K; j++) {
    const at = (<usize>j) << 2;
    const s = load<f32>(S + at) * load<f32>(w + at) + value * load<f32>(k + at);
    store<f32>(S + at, s);
    result += s * load<f32>(r + at);
  }
  return result;
}

/** S ← S·w + (S·a)·b + value·k; returns S·r. */
function removeAndWrite(S: usize, w: usize, a: usize, b: usize, k: usize, r: usize, value: f32, K: i32): f32 {
  const removed = dot(S, a, K);
  const x = f32x4.splat(value);
  const y = f32x4.splat(removed);
  let sum = f32x4.splat(0);
  let j = 0;
  for (; j + 4 <= K; j += 4) {
    const at = (<usize>j) << 2;
    let s = madd(x, v128.load(k + at), f32x4.mul(v128.load(S + at), v128.load(w + at)));
    s = madd(y, v128.load(b + at), s);
    v128.store(S + at, s);
    sum = madd(s, v128.load(r + at), sum);
  }
  let result = sumLanes(sum);
  for (; j < K; j++) {
    const at = (<usize>j) << 2;
    const s = load<f32>(S + at) * load<f32>(w + at) + removed * load<f32>(b + at) + value * load<f32>(k + at);
    store<f32>(S + at, s);
    result += s * load<f32>(r + at);
  }
  return result;
}

function dot(x: usize, y: usize, K: i32): f32 {
  let sum = f32x4.splat(0);
  let j = 0;
  for (; j + 4 <= K; j += 4) sum = madd(v128.load(x + ((<usize>j) << 2)), v128.load(y + ((<usize>j) << 2)), sum);
  let result = sumLanes(sum);
  for (; j < K; j++) result += load<f32>(x + ((<usize>j) << 2)) * load<f32>(y + ((<usize>j) << 2));
  return result;
}

function dot3(x: usize, y: usize, z: usize, K: i32): f32 {
  let result: f32 = 0;
  for (let j = 0; j < K; j++) {
    const at = (<usize>j) << 2;
    result += load<f32>(x + at) * load<f32>(y + at) * load<f32>(z + at);
  }
  return result;
}

/** 2ˣ for |x| ≤ 126, relative error about 2e-7; beyond, clamped. Fewer steps than `expx4`: the decays are most of Mamba's scan. */
function exp2x4(x: v128): v128 {
  const clamped = f32x4.max(f32x4.min(x, f32x4.splat(126)), f32x4.splat(-126));
  const n = f32x4.nearest(clamped);
  const f = f32x4.sub(clamped, n);
  let p = f32x4.splat(1.32764715e-3);
  p = madd(p, f, f32x4.splat(9.67554133e-3));
  p = madd(p, f, f32x4.splat(5.55071327e-2));
  p = madd(p, f, f32x4.splat(2.40221197e-1));
  p = madd(p, f, f32x4.splat(6.93146967e-1));
  p = madd(p, f, f32x4.splat(1.00000007));
  return i32x4.add(p, i32x4.shl(i32x4.trunc_sat_f32x4_s(n), 23));
}

/** One channel of Mamba: V = 1, K = 16, decay exp(dt·A): the state and A stay in registers along the segment. */
function channel16(args: usize, h: i32, first: i32, last: i32, state: usize, next: usize): void {
  const group = (<usize>(((h * load<i32>(args, 12)) / load<i32>(args, 8)) * 16)) << 2;
  const A = <usize>load<u32>(args, 76) + ((<usize>(h * load<i32>(args, 84))) << 2);
  const log2e = f32x4.splat(1.4426950408889634);
  const A0 = f32x4.mul(v128.load(A), log2e);
  const A1 = f32x4.mul(v128.load(A, 16), log2e);
  const A2 = f32x4.mul(v128.load(A, 32), log2e);
  const A3 = f32x4.mul(v128.load(A, 48), log2e);
  const from = state + ((<usize>(h * 16)) << 2);
  let S0 = v128.load(from);
  let S1 = v128.load(from, 16);
  let S2 = v128.load(from, 32);
  let S3 = v128.load(from, 48);
  const at = (<usize>h) << 2;
  for (let t = first; t < last; t++) {
    const Δ = v128.load32_splat(rowAt(args + 92, t) + at);
    const x = v128.load32_splat(rowAt(args + 40, t) + at);
    const B = rowAt(args + 32, t) + group;
    const C = rowAt(args + 24, t) + group;
    S0 = madd(x, v128.load(B), f32x4.mul(S0, exp2x4(f32x4.mul(Δ, A0))));
    let y = f32x4.mul(S0, v128.load(C));
    S1 = madd(x, v128.load(B, 16), f32x4.mul(S1, exp2x4(f32x4.mul(Δ, A1))));
    y = madd(S1, v128.load(C, 16), y);
    S2 = madd(x, v128.load(B, 32), f32x4.mul(S2, exp2x4(f32x4.mul(Δ, A2))));
    y = madd(S2, v128.load(C, 32), y);
    S3 = madd(x, v128.load(B, 48), f32x4.mul(S3, exp2x4(f32x4.mul(Δ, A3))));
    y = madd(S3, v128.load(C, 48), y);
    store<f32>(rowAt(args + 48, t) + at, sumLanes(y));
  }
  const to = next + ((<usize>(h * 16)) << 2);
  v128.store(to, S0);
  v128.store(to, S1, 16);
  v128.store(to, S2, 32);
  v128.store(to, S3, 48);
}

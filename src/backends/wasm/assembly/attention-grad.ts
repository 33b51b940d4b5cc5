import { expx4, madd } from './math';
import { loadLanes, rowAt, share, storeLanes, sumLanes, sumRows } from './rows';
import { axpy, dot, largest, zero } from './vectors';

/**
 * The adjoint of causal attention over whole texts: with p the weights, dp = v·dy and ds = scale · p ⊙ (dp − Σ p dp),
 * dq = Σ ds k, dk = Σ ds q, dv = Σ p dy. Weights are made again, a query at a time.
 * args: [segmentsAt, ends, q (2 words), k (2), v (2), dy (2), dq (2), dk (2), dv (2), H, G, K, V, scale (f32), window,
 *        scratch, its floats for a thread (2 a token)]. Threads share the segments' groups of heads.
 */
export function attentionGrad(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const H = load<i32>(args, 64);
  const G = load<i32>(args, 68);
  const p = <usize>load<u32>(args, 88) + ((<usize>(thread * load<i32>(args, 92))) << 2);
  const dp = p + <usize>(load<i32>(args, 92) << 1);
  const to = share(segments * G, thread + 1, threads);
  for (let unit = share(segments * G, thread, threads); unit < to; unit++) {
    const b = unit / G;
    const g = unit % G;
    const first = b > 0 ? load<i32>(ends + ((<usize>(b - 1)) << 2)) : 0;
    const last = load<i32>(ends + ((<usize>b) << 2));
    clearGroup(args, g, first, last);
    for (let h = (g * H) / G; h < ((g + 1) * H) / G; h++)
      for (let t = first; t < last; t++) query(args, h, g, first, t, p, dp);
  }
}

function clearGroup(args: usize, g: i32, first: i32, last: i32): void {
  const K = load<i32>(args, 72);
  const V = load<i32>(args, 76);
  for (let t = first; t < last; t++) {
    zero(rowAt(args + 48, t) + ((<usize>(g * K)) << 2), K);
    zero(rowAt(args + 56, t) + ((<usize>(g * V)) << 2), V);
  }
}

/** What one query of one head gives back. */
function query(args: usize, h: i32, g: i32, first: i32, t: i32, p: usize, dp: usize): void {
  const K = load<i32>(args, 72);
  const V = load<i32>(args, 76);
  const scale = load<f32>(args, 80);
  const window = load<i32>(args, 84);
  const from = window ? max(first, t + 1 - window) : first;
  const count = t + 1 - from;
  const q = rowAt(args + 8, t) + ((<usize>(h * K)) << 2);
  const dy = rowAt(args + 32, t) + ((<usize>(h * V)) << 2);
  const ofKey = (<usize>(g * K)) << 2;
  const ofValue = (<usize>(g * V)) << 2;
  dots(args + 16, ofKey, q, from, count, K, p);
  dots(args + 24, ofValue, dy, from, count, V, dp);

  // p = softmax(scale · scores), then p is overwritten by ds and its sum with dp taken out.
  const top = f32x4.splat(largest(p, count));
  const factor = f32x4.splat(scale);
  let total = f32x4.splat(0);
  let mean = total;
  for (let s = 0; s < count; s += 4) {
    const at = (<usize>s) << 2;
    let weight = expx4(f32x4.mul(factor, f32x4.sub(loadLanes(p + at, count - s), top)));
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
  const dq = rowAt(args + 40, t) + ((<usize>(h * K)) << 2);
  zero(dq, K);
  gather(args, ofKey, q, dq, from, count, K, dp);
  spread(args + 56, ofValue, dy, from, count, V, p);
}

/** All bits of the first `count` lanes. */
function firstLanes(count: i32): v128 {
  return i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(count));
}

/** to[s] = row s · x, four rows at a time. */
function dots(operand: usize, within: usize, x: usize, from: i32, count: i32, width: i32, to: usize): void {
  const step = (<usize>load<i32>(operand, 4)) << 2;
  let row = rowAt(operand, from) + within;
  let s = 0;
  if ((width & 3) == 0) {
    const bytes = (<usize>width) << 2;
    for (; s + 4 <= count; s += 4) {
      let a = f32x4.splat(0);
      let b = a;
      let c = a;
      let d = a;
      for (let j: usize = 0; j < bytes; j += 16) {
        const xj = v128.load(x + j);
        a = madd(xj, v128.load(row + j), a);
        b = madd(xj, v128.load(row + step + j), b);
        c = madd(xj, v128.load(row + 2 * step + j), c);
        d = madd(xj, v128.load(row + 3 * step + j), d);
      }
      v128.store(to + ((<usize>s) << 2), sumRows(a, b, c, d));
      row += 4 * step;
    }
  }
  for (; s < count; s++) {
    store<f32>(to + ((<usize>s) << 2), dot(x, row, width));
    row += step;
  }
}

/** dq = Σ ds[s] k_s and dk_s ← dk_s + ds[s] q. */
function gather(args: usize, within: usize, q: usize, dq: usize, from: i32, count: i32, K: i32, ds: usize): void {
  const kStep = (<usize>load<i32>(args, 20)) << 2;
  const dkStep = (<usize>load<i32>(args, 52)) << 2;
  let k = rowAt(args + 16, from) + within;
  let dk = rowAt(args + 48, from) + within;
  let s = 0;
  if ((K & 3) == 0) {
    const bytes = (<usize>K) << 2;
    for (; s + 4 <= count; s += 4) {
      const at = ds + ((<usize>s) << 2);
      const d0 = v128.load32_splat(at);
      const d1 = v128.load32_splat(at, 4);
      const d2 = v128.load32_splat(at, 8);
      const d3 = v128.load32_splat(at, 12);
      for (let j: usize = 0; j < bytes; j += 16) {
        const qj = v128.load(q + j);
        let sum = madd(d0, v128.load(k + j), v128.load(dq + j));
        sum = madd(d1, v128.load(k + kStep + j), sum);
        sum = madd(d2, v128.load(k + 2 * kStep + j), sum);
        sum = madd(d3, v128.load(k + 3 * kStep + j), sum);
        v128.store(dq + j, sum);
        const to = dk + j;
        v128.store(to, madd(d0, qj, v128.load(to)));
        v128.store(to + dkStep, madd(d1, qj, v128.load(to + dkStep)));
        v128.store(to + 2 * dkStep, madd(d2, qj, v128.load(to + 2 * dkStep)));
        v128.store(to + 3 * dkStep, madd(d3, qj, v128.load(to + 3 * dkStep)));
      }
      k += 4 * kStep;
      dk += 4 * dkStep;
    }
  }
  for (; s < count; s++) {
    const d = load<f32>(ds + ((<usize>s) << 2));
    axpy(dq, d, k, K);
    axpy(dk, d, q, K);
    k += kStep;
    dk += dkStep;
  }
}

/** Row s ← row s + weights[s] · x. */
function spread(operand: usize, within: usize, x: usize, from: i32, count: i32, width: i32, weights: usize): void {
  const step = (<usize>load<i32>(operand, 4)) << 2;
  let row = rowAt(operand, from) + within;
  let s = 0;
  if ((width & 3) == 0) {
    const bytes = (<usize>width) << 2;
    for (; s + 4 <= count; s += 4) {
      const at = weights + ((<usize>s) << 2);
      const w0 = v128.load32_splat(at);
      const w1 = v128.load32_splat(at, 4);
      const w2 = v128.load32_splat(at, 8);
      const w3 = v128.load32_splat(at, 12);
      for (let j: usize = 0; j < bytes; j += 16) {
        const xj = v128.load(x + j);
        const to = row + j;
        v128.store(to, madd(w0, xj, v128.load(to)));
        v128.store(to + step, madd(w1, xj, v128.load(to + step)));
        v128.store(to + 2 * step, madd(w2, xj, v128.load(to + 2 * step)));
        v128.store(to + 3 * step, madd(w3, xj, v128.load(to + 3 * step)));
      }
      row += 4 * step;
    }
  }
  for (; s < count; s++) {
    axpy(row, load<f32>(weights + ((<usize>s) << 2)), x, width);
    row += step;
  }
}

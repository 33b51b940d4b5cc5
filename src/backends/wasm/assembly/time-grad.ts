import { madd } from './math';
import { gatherLanes, loadLanes, rowAt, scatterLanes, share, stateAt, storeLanes } from './rows';

/**
 * The adjoint of `shift`: dx_t = dy_{t+1}, the last of a segment gets dnext, and the state the first dy.
 * args: [segmentsAt, ends, dy (2 words, or 0), dnext (2 words, or 0), dx (2 words), dstate (2 words), C]. Threads share the channels.
 */
export function shiftGrad(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const C = load<i32>(args, 40);
  const from = (<usize>share(C, thread, threads)) << 2;
  const bytes = ((<usize>share(C, thread + 1, threads)) << 2) - from;
  let first = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    const state = rowAt(args + 32, b) + from;
    for (let t = first; t <= last; t++) {
      const to = t == first ? state : rowAt(args + 24, t - 1) + from;
      if (t < last) copyOrClear(to, args + 8, t, from, bytes);
      else copyOrClear(to, args + 16, b, from, bytes);
    }
    first = last;
  }
}

/** Row r of an operand, or zeros where it is absent. */
function copyOrClear(to: usize, operand: usize, r: i32, from: usize, bytes: usize): void {
  if (load<u32>(operand)) memory.copy(to, rowAt(operand, r) + from, bytes);
  else memory.fill(to, 0, bytes);
}

/**
 * The adjoint of `conv`, four channels at a time, backwards along each segment with the arriving gradients in a window of K.
 * args: [segmentsAt, ends, x (2 words), w, state (2 words), dy (2 words, or 0), dnext (2 words, or 0), dx (2 words), dw, dbias,
 *        dstate (2 words), C, K, scratch (8·K floats a thread)]. Threads share the channels.
 */
export function convGrad(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const C = load<i32>(args, 68);
  const K = load<i32>(args, 72);
  const scratch = <usize>load<u32>(args, 76) + <usize>(thread * K * 32);
  const to = min(C, share((C + 3) >> 2, thread + 1, threads) << 2);
  for (let c = share((C + 3) >> 2, thread, threads) << 2; c < to; c += 4) {
    clearTaps(args, c, min(4, to - c), K);
    let first = 0;
    for (let b = 0; b < segments; b++) {
      const last = load<i32>(ends + ((<usize>b) << 2));
      if (K == 4) convolveBack4(args, b, first, last, c, min(4, to - c));
      else convolveBack(args, b, first, last, c, min(4, to - c), K, scratch);
      first = last;
    }
  }
}

function clearTaps(args: usize, c: i32, channels: i32, K: i32): void {
  memory.fill(<usize>load<u32>(args, 52) + ((<usize>(c * K)) << 2), 0, (<usize>(channels * K)) << 2);
  memory.fill(<usize>load<u32>(args, 56) + ((<usize>c) << 2), 0, (<usize>channels) << 2);
}

/** dy of token t, zero past the segment and where there is none. */
function arriving(args: usize, t: i32, last: i32, c: i32, channels: i32): v128 {
  if (t >= last || load<u32>(args, 28) == 0) return f32x4.splat(0);
  return loadLanes(rowAt(args + 28, t) + ((<usize>c) << 2), channels);
}

/** Input s of the segment: before its first token the state's. */
function inputOf(args: usize, b: i32, s: i32, first: i32, c: i32, channels: i32, J: i32): v128 {
  if (s >= first) return loadLanes(rowAt(args + 8, s) + ((<usize>c) << 2), channels);
  return gatherLanes(stateAt(args + 20, b) + ((<usize>(c * J + s - first + J)) << 2), (<usize>J) << 2, channels);
}

/** Puts the gradient of input s away, with that of the next state, in which the segment's last J inputs are. */
function putGradient(
  args: usize,
  b: i32,
  s: i32,
  first: i32,
  last: i32,
  c: i32,
  channels: i32,
  J: i32,
  dx: v128,
): void {
  const kept = s - (last - J);
  const step = (<usize>J) << 2;
  if (kept >= 0 && load<u32>(args, 36) != 0)
    dx = f32x4.add(dx, gatherLanes(rowAt(args + 36, b) + ((<usize>(c * J + kept)) << 2), step, channels));
  if (s >= first) storeLanes(rowAt(args + 44, s) + ((<usize>c) << 2), channels, dx);
  else scatterLanes(rowAt(args + 60, b) + ((<usize>(c * J + s - first + J)) << 2), step, channels, dx);
}

/** Four channels, four taps: taps, their gradients and the window in registers. */
function convolveBack4(args: usize, b: i32, first: i32, last: i32, c: i32, channels: i32): void {
  const w = <usize>load<u32>(args, 16) + ((<usize>c) << 4);
  const w0 = gatherLanes(w, 16, channels);
  const w1 = gatherLanes(w + 4, 16, channels);
  const w2 = gatherLanes(w + 8, 16, channels);
  const w3 = gatherLanes(w + 12, 16, channels);
  const dw = <usize>load<u32>(args, 52) + ((<usize>c) << 4);
  let d0 = gatherLanes(dw, 16, channels);
  let d1 = gatherLanes(dw + 4, 16, channels);
  let d2 = gatherLanes(dw + 8, 16, channels);
  let d3 = gatherLanes(dw + 12, 16, channels);
  const dbias = <usize>load<u32>(args, 56) + ((<usize>c) << 2);
  let bias = loadLanes(dbias, channels);
  let e1 = f32x4.splat(0);
  let e2 = e1;
  let e3 = e1;
  for (let s = last - 1; s >= first - 3; s--) {
    const e0 = s >= first ? arriving(args, s, last, c, channels) : f32x4.splat(0);
    const x = inputOf(args, b, s, first, c, channels, 3);
    bias = f32x4.add(bias, e0);
    d3 = madd(x, e0, d3);
    d2 = madd(x, e1, d2);
    d1 = madd(x, e2, d1);
    d0 = madd(x, e3, d0);
    const dx = madd(w3, e0, madd(w2, e1, madd(w1, e2, f32x4.mul(w0, e3))));
    putGradient(args, b, s, first, last, c, channels, 3, dx);
    e3 = e2;
    e2 = e1;
    e1 = e0;
  }
  scatterLanes(dw, 16, channels, d0);
  scatterLanes(dw + 4, 16, channels, d1);
  scatterLanes(dw + 8, 16, channels, d2);
  scatterLanes(dw + 12, 16, channels, d3);
  storeLanes(dbias, channels, bias);
}

/** Any number of taps. */
function convolveBack(args: usize, b: i32, first: i32, last: i32, c: i32, channels: i32, K: i32, scratch: usize): void {
  const step = (<usize>K) << 2;
  const w = <usize>load<u32>(args, 16) + <usize>c * step;
  const dw = <usize>load<u32>(args, 52) + <usize>c * step;
  const dbias = <usize>load<u32>(args, 56) + ((<usize>c) << 2);
  for (let j = 0; j < K; j++)
    v128.store(scratch + ((<usize>j) << 4), gatherLanes(w + ((<usize>j) << 2), step, channels));
  for (let s = last - 1; s >= first - K + 1; s--) {
    const x = inputOf(args, b, s, first, c, channels, K - 1);
    let dx = f32x4.splat(0);
    for (let j = 0; j < K; j++) {
      // Tap j took input s to the output at s + K − 1 − j.
      const t = s + K - 1 - j;
      if (t < first) continue;
      const e = arriving(args, t, last, c, channels);
      const at = dw + ((<usize>j) << 2);
      dx = madd(v128.load(scratch + ((<usize>j) << 4)), e, dx);
      scatterLanes(at, step, channels, madd(x, e, gatherLanes(at, step, channels)));
    }
    putGradient(args, b, s, first, last, c, channels, K - 1, dx);
    if (s >= first)
      storeLanes(dbias, channels, f32x4.add(loadLanes(dbias, channels), arriving(args, s, last, c, channels)));
  }
}

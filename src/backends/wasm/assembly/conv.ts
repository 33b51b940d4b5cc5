import { madd } from './math';
import { rowAt, share, stateAt } from './rows';

/**
 * Causal depthwise convolution with carried state.
 * args: [segmentsAt, ends, x (2 words), w, bias (or 0), state (2 words), next (2 words), y (2 words), C, K]
 * Threads share the channels. Four channels at a time run along the whole segment, their history in registers.
 */
export function conv(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const C = load<i32>(args, 48);
  const K = load<i32>(args, 52);
  const groups = (C + 3) >> 2;
  const from = share(groups, thread, threads) << 2;
  const to = min(C, share(groups, thread + 1, threads) << 2);
  let first = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    let c = from;
    if (K == 4) for (; c + 4 <= to; c += 4) convolve4(args, b, first, last, c);
    for (; c < to; c++) convolve(args, b, first, last, c, K);
    first = last;
  }
}

/** Four channels, four taps. */
function convolve4(args: usize, b: i32, first: i32, last: i32, c: i32): void {
  const w = <usize>load<u32>(args, 16) + ((<usize>c) << 4);
  const bias = <usize>load<u32>(args, 20);
  const offset = (<usize>c) << 2;
  const state = stateAt(args + 24, b) + ((<usize>(c * 3)) << 2);
  const next = stateAt(args + 32, b) + ((<usize>(c * 3)) << 2);

  // Rows are channels, columns taps: transposed to a vector of channels per tap.
  const r0 = v128.load(w);
  const r1 = v128.load(w, 16);
  const r2 = v128.load(w, 32);
  const r3 = v128.load(w, 48);
  const a = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5);
  const d = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
  const e = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
  const f = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
  const w0 = v128.shuffle<f32>(a, d, 0, 1, 4, 5);
  const w1 = v128.shuffle<f32>(a, d, 2, 3, 6, 7);
  const w2 = v128.shuffle<f32>(e, f, 0, 1, 4, 5);
  const w3 = v128.shuffle<f32>(e, f, 2, 3, 6, 7);

  // The state [4, 3] the same way: s0 = c0:0 c0:1 c0:2 c1:0, s1 = c1:1 c1:2 c2:0 c2:1, s2 = c2:2 c3:0 c3:1 c3:2.
  const s0 = v128.load(state);
  const s1 = v128.load(state, 16);
  const s2 = v128.load(state, 32);
  let h0 = v128.shuffle<f32>(v128.shuffle<f32>(s0, s1, 0, 3, 6, 6), s2, 0, 1, 2, 5);
  let h1 = v128.shuffle<f32>(v128.shuffle<f32>(s0, s1, 1, 4, 7, 7), s2, 0, 1, 2, 6);
  let h2 = v128.shuffle<f32>(v128.shuffle<f32>(s0, s1, 2, 5, 5, 5), s2, 0, 1, 4, 7);

  const start = bias ? v128.load(bias + offset) : f32x4.splat(0);
  for (let t = first; t < last; t++) {
    const x = v128.load(rowAt(args + 8, t) + offset);
    let y = madd(w0, h0, start);
    y = madd(w1, h1, y);
    y = madd(w2, h2, y);
    y = madd(w3, x, y);
    v128.store(rowAt(args + 40, t) + offset, y);
    h0 = h1;
    h1 = h2;
    h2 = x;
  }
  // Back to [4, 3].
  v128.store(
    next,
    v128.shuffle<f32>(v128.shuffle<f32>(h0, h1, 0, 4, 1, 1), v128.shuffle<f32>(h2, h0, 0, 5, 5, 5), 0, 1, 4, 5),
  );
  v128.store(
    next,
    v128.shuffle<f32>(v128.shuffle<f32>(h1, h2, 1, 5, 1, 1), v128.shuffle<f32>(h0, h1, 2, 6, 2, 2), 0, 1, 4, 5),
    16,
  );
  v128.store(
    next,
    v128.shuffle<f32>(v128.shuffle<f32>(h2, h0, 2, 7, 2, 2), v128.shuffle<f32>(h1, h2, 3, 7, 3, 3), 0, 1, 4, 5),
    32,
  );
}

/** One channel, any number of taps. */
function convolve(args: usize, b: i32, first: i32, last: i32, c: i32, K: i32): void {
  const w = <usize>load<u32>(args, 16) + ((<usize>(c * K)) << 2);
  const bias = <usize>load<u32>(args, 20);
  const offset = (<usize>c) << 2;
  const J = K - 1;
  const state = stateAt(args + 24, b) + ((<usize>(c * J)) << 2);
  const next = stateAt(args + 32, b) + ((<usize>(c * J)) << 2);
  // Backwards in time, so that a state updated in place is read before it is overwritten.
  const start: f32 = bias ? load<f32>(bias + offset) : 0;
  for (let t = last - 1; t >= first; t--) {
    let sum = start;
    for (let j = 0; j < K; j++) {
      const s = t - J + j;
      const x = s < first ? load<f32>(state + ((<usize>(s - first + J)) << 2)) : load<f32>(rowAt(args + 8, s) + offset);
      sum += load<f32>(w + ((<usize>j) << 2)) * x;
    }
    store<f32>(rowAt(args + 40, t) + offset, sum);
  }
  for (let j = 0; j < J; j++) {
    const s = last - J + j;
    const x = s < first ? load<f32>(state + ((<usize>(s - first + J)) << 2)) : load<f32>(rowAt(args + 8, s) + offset);
    store<f32>(next + ((<usize>j) << 2), x);
  }
}

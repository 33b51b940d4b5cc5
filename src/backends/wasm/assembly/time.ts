import { rowAt, share, stateAt } from './rows';

/** y_t = x_{t−1}. args: [segmentsAt, ends, x (2 words), state (2 words), next (2 words), y (2 words), C]. Threads share the channels. */
export function shift(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const C = load<i32>(args, 40);
  const from = (<usize>share(C, thread, threads)) << 2;
  const bytes = ((<usize>share(C, thread + 1, threads)) << 2) - from;
  let first = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    if (last == first) continue;
    memory.copy(rowAt(args + 32, first) + from, stateAt(args + 16, b) + from, bytes);
    for (let t = first + 1; t < last; t++)
      memory.copy(rowAt(args + 32, t) + from, rowAt(args + 8, t - 1) + from, bytes);
    memory.copy(stateAt(args + 24, b) + from, rowAt(args + 8, last - 1) + from, bytes);
    first = last;
  }
}

/**
 * Rotary embedding. args: [segmentsAt, ends, positions, x (2 words), y (2 words), H, K, n, frequencies (f64), interleaved,
 * inverse, scratch (2·n floats a thread), magnitude (f32)]. Threads share the tokens of every segment; tokens of different segments at one position
 * come one after the other, so that the angles of a position are made once.
 */
export function rope(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const positions = <usize>load<u32>(args, 8);
  const n = load<i32>(args, 36);
  const cosines = <usize>load<u32>(args, 52) + ((<usize>(thread * n)) << 3);
  let made = i64.MIN_VALUE;
  let more = true;
  for (let d = 0; more; d++) {
    more = false;
    let first = 0;
    for (let b = 0; b < segments; b++) {
      const last = load<i32>(ends + ((<usize>b) << 2));
      const t = first + share(last - first, thread, threads) + d;
      if (t < first + share(last - first, thread + 1, threads)) {
        more = true;
        const position = <i64>(load<i32>(positions + ((<usize>b) << 2)) + t - first);
        if (position != made) angles(args, <f64>position, n, cosines);
        made = position;
        turnHeads(args, t, n, cosines);
      }
      first = last;
    }
  }
}

/** The cosines of a position's angles, and their sines after them, times the magnitude. */
function angles(args: usize, position: f64, n: i32, cosines: usize): void {
  const frequencies = <usize>load<u32>(args, 40);
  const direction: f64 = load<i32>(args, 48) ? -1 : 1;
  const magnitude = <f64>load<f32>(args, 56);
  for (let i = 0; i < n; i++) {
    const angle = position * direction * load<f64>(frequencies + ((<usize>i) << 3));
    store<f32>(cosines + ((<usize>i) << 2), <f32>(magnitude * Math.cos(angle)));
    store<f32>(cosines + ((<usize>(n + i)) << 2), <f32>(magnitude * Math.sin(angle)));
  }
}

/** All heads of token t. */
function turnHeads(args: usize, t: i32, n: i32, cosines: usize): void {
  const H = load<i32>(args, 28);
  const K = load<i32>(args, 32);
  const interleaved = load<i32>(args, 44);
  const step: usize = interleaved ? 8 : 4;
  const half = (<usize>n) << 2;
  const apart: usize = interleaved ? 4 : half;
  const sines = cosines + half;
  for (let h = 0; h < H; h++) {
    const x = rowAt(args + 12, t) + ((<usize>(h * K)) << 2);
    const y = rowAt(args + 20, t) + ((<usize>(h * K)) << 2);
    let i = 0;
    if (!interleaved)
      for (; i + 4 <= n; i += 4) {
        const at = (<usize>i) << 2;
        const c = v128.load(cosines + at);
        const s = v128.load(sines + at);
        const p = v128.load(x + at);
        const q = v128.load(x + at + half);
        v128.store(y + at, f32x4.sub(f32x4.mul(p, c), f32x4.mul(q, s)));
        v128.store(y + at + half, f32x4.add(f32x4.mul(q, c), f32x4.mul(p, s)));
      }
    for (; i < n; i++) {
      const c = load<f32>(cosines + ((<usize>i) << 2));
      const s = load<f32>(sines + ((<usize>i) << 2));
      const at = <usize>i * step;
      const p = load<f32>(x + at);
      const q = load<f32>(x + at + apart);
      store<f32>(y + at, p * c - q * s);
      store<f32>(y + at + apart, q * c + p * s);
    }
    const done = (<usize>(2 * n)) << 2;
    memory.copy(y + done, x + done, ((<usize>K) << 2) - done);
  }
}

/** y_t = position of token t. args: [segmentsAt, ends, positions, y]. One thread: it is a few numbers. */
export function tokenPositions(args: usize, thread: i32, threads: i32): void {
  if (thread != 0) return;
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const positions = <usize>load<u32>(args, 8);
  const y = <usize>load<u32>(args, 12);
  let t = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    let position = load<i32>(positions + ((<usize>b) << 2));
    for (; t < last; t++) store<i32>(y + ((<usize>t) << 2), position++);
  }
}

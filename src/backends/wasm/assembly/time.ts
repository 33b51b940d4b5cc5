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
 * inverse, scratch (2·n floats a thread)]. Threads share the tokens.
 */
export function rope(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const positions = <usize>load<u32>(args, 8);
  const H = load<i32>(args, 28);
  const K = load<i32>(args, 32);
  const n = load<i32>(args, 36);
  const frequencies = <usize>load<u32>(args, 40);
  const interleaved = load<i32>(args, 44);
  const direction: f64 = load<i32>(args, 48) ? -1 : 1;
  const table = <usize>load<u32>(args, 52) + ((<usize>(thread * n)) << 3);
  const step: usize = interleaved ? 8 : 4;
  const apart: usize = interleaved ? 4 : (<usize>n) << 2;
  let first = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    const start = load<i32>(positions + ((<usize>b) << 2));
    const to = first + share(last - first, thread + 1, threads);
    for (let t = first + share(last - first, thread, threads); t < to; t++) {
      const position = <f64>(start + t - first) * direction;
      for (let i = 0; i < n; i++) {
        const angle = position * load<f64>(frequencies + ((<usize>i) << 3));
        store<f32>(table + ((<usize>i) << 3), <f32>Math.cos(angle));
        store<f32>(table + ((<usize>i) << 3), <f32>Math.sin(angle), 4);
      }
      for (let h = 0; h < H; h++) {
        const within = (<usize>(h * K)) << 2;
        const x = rowAt(args + 12, t) + within;
        const y = rowAt(args + 20, t) + within;
        for (let i = 0; i < n; i++) {
          const c = load<f32>(table + ((<usize>i) << 3));
          const s = load<f32>(table + ((<usize>i) << 3), 4);
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
    first = last;
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

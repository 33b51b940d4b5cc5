import { madd } from './math';
import { rowAt, share, sumLanes } from './rows';

/**
 * y = x / √(mean(x²) + ε) · w.
 * args: [rowsAt, rows of `width` in a row of x, x (2 words), y (2 words), width, w (address or 0), ε (f32)]
 */
export function rmsNorm(args: usize, thread: i32, threads: i32): void {
  const inner = load<i32>(args, 4);
  const width = load<i32>(args, 24);
  const w = <usize>load<u32>(args, 28);
  const epsilon = load<f32>(args, 32);
  const rows = load<i32>(<usize>load<u32>(args)) * inner;
  const to = share(rows, thread + 1, threads);
  for (let r = share(rows, thread, threads); r < to; r++) {
    const within = (<usize>((r % inner) * width)) << 2;
    const x = rowAt(args + 8, r / inner) + within;
    const y = rowAt(args + 16, r / inner) + within;
    rmsRow(y, x, w, width, epsilon);
  }
}

/** One row of it. */
export function rmsRow(y: usize, x: usize, w: usize, width: i32, epsilon: f32): void {
  scaleRow(y, x, w, width, <f32>(1 / Math.sqrt(<f64>squares(x, width) / <f64>width + <f64>epsilon)));
}

/** Σ x². */
function squares(x: usize, width: i32): f32 {
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  let i = 0;
  for (; i + 8 <= width; i += 8) {
    const p = v128.load(x + ((<usize>i) << 2));
    const q = v128.load(x + ((<usize>i) << 2), 16);
    a = madd(p, p, a);
    b = madd(q, q, b);
  }
  let sum = sumLanes(f32x4.add(a, b));
  for (; i < width; i++) sum += load<f32>(x + ((<usize>i) << 2)) * load<f32>(x + ((<usize>i) << 2));
  return sum;
}

/** y = x · scale · w, w = 1 where its address is 0. */
function scaleRow(y: usize, x: usize, w: usize, width: i32, scale: f32): void {
  const s = f32x4.splat(scale);
  let i = 0;
  for (; i + 4 <= width; i += 4) {
    const at = (<usize>i) << 2;
    let value = f32x4.mul(v128.load(x + at), s);
    if (w) value = f32x4.mul(value, v128.load(w + at));
    v128.store(y + at, value);
  }
  for (; i < width; i++) {
    const at = (<usize>i) << 2;
    store<f32>(y + at, load<f32>(x + at) * scale * (w ? load<f32>(w + at) : 1));
  }
}

/**
 * y = (x − mean) / √(var + ε) · w + b.
 * args: [rowsAt, rows of `width` in a row of x, x (2 words), y (2 words), width, w (or 0), b (or 0), ε (f32), 1 if each row of `width` has its own w and b]
 */
export function layerNorm(args: usize, thread: i32, threads: i32): void {
  const inner = load<i32>(args, 4);
  const width = load<i32>(args, 24);
  const w = <usize>load<u32>(args, 28);
  const b = <usize>load<u32>(args, 32);
  const epsilon = load<f32>(args, 36);
  const isOwn = load<i32>(args, 40) != 0;
  const rows = load<i32>(<usize>load<u32>(args)) * inner;
  const to = share(rows, thread + 1, threads);
  for (let r = share(rows, thread, threads); r < to; r++) {
    const within = (<usize>((r % inner) * width)) << 2;
    const x = rowAt(args + 8, r / inner) + within;
    const y = rowAt(args + 16, r / inner) + within;
    const mean = <f32>(<f64>sum(x, width) / <f64>width);
    // The centred row is kept in y, so that its squares don't cancel.
    shiftRow(y, x, width, mean);
    const own = isOwn ? within : 0;
    const scale = <f32>(1 / Math.sqrt(<f64>squares(y, width) / <f64>width + <f64>epsilon));
    scaleRow(y, y, w ? w + own : 0, width, scale);
    if (b) addRow(y, b + own, width);
  }
}

function sum(x: usize, width: i32): f32 {
  let a = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= width; i += 4) a = f32x4.add(a, v128.load(x + ((<usize>i) << 2)));
  let total = sumLanes(a);
  for (; i < width; i++) total += load<f32>(x + ((<usize>i) << 2));
  return total;
}

function shiftRow(y: usize, x: usize, width: i32, by: f32): void {
  const s = f32x4.splat(by);
  let i = 0;
  for (; i + 4 <= width; i += 4) v128.store(y + ((<usize>i) << 2), f32x4.sub(v128.load(x + ((<usize>i) << 2)), s));
  for (; i < width; i++) store<f32>(y + ((<usize>i) << 2), load<f32>(x + ((<usize>i) << 2)) - by);
}

function addRow(y: usize, b: usize, width: i32): void {
  let i = 0;
  for (; i + 4 <= width; i += 4) {
    const at = (<usize>i) << 2;
    v128.store(y + at, f32x4.add(v128.load(y + at), v128.load(b + at)));
  }
  for (; i < width; i++)
    store<f32>(y + ((<usize>i) << 2), load<f32>(y + ((<usize>i) << 2)) + load<f32>(b + ((<usize>i) << 2)));
}

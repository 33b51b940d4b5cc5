import { madd } from './math';
import { loadLanes, rowAt, share, storeLanes, sumLanes } from './rows';

/** What `totals` and `moments` find. */
let first: f32 = 0;
let second: f32 = 0;

/** Σ x and Σ y over `width` numbers. */
function totals(x: usize, y: usize, width: i32): void {
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  let c = f32x4.splat(0);
  let d = f32x4.splat(0);
  let i = 0;
  for (; i + 8 <= width; i += 8, x += 32, y += 32) {
    a = f32x4.add(a, v128.load(x));
    b = f32x4.add(b, v128.load(x, 16));
    c = f32x4.add(c, v128.load(y));
    d = f32x4.add(d, v128.load(y, 16));
  }
  for (; i < width; i += 4, x += 16, y += 16) {
    a = f32x4.add(a, loadLanes(x, width - i));
    c = f32x4.add(c, loadLanes(y, width - i));
  }
  first = sumLanes(f32x4.add(a, b));
  second = sumLanes(f32x4.add(c, d));
}

/** Σ (x − x0)² and Σ (x − x0)·(y − y0) over `width` numbers. */
function moments(x: usize, y: usize, width: i32, x0: f32, y0: f32): void {
  const p0 = f32x4.splat(x0);
  const q0 = f32x4.splat(y0);
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  let c = f32x4.splat(0);
  let d = f32x4.splat(0);
  let i = 0;
  for (; i + 8 <= width; i += 8, x += 32, y += 32) {
    let p = f32x4.sub(v128.load(x), p0);
    a = madd(p, p, a);
    c = madd(p, f32x4.sub(v128.load(y), q0), c);
    p = f32x4.sub(v128.load(x, 16), p0);
    b = madd(p, p, b);
    d = madd(p, f32x4.sub(v128.load(y, 16), q0), d);
  }
  first = sumLanes(f32x4.add(a, b));
  second = sumLanes(f32x4.add(c, d));
  for (; i < width; i++, x += 4, y += 4) {
    const p = load<f32>(x) - x0;
    first += p * p;
    second += p * (load<f32>(y) - y0);
  }
}

/** y = a·p + b·x. */
function combine(y: usize, p: usize, x: usize, width: i32, a: f32, b: f32): void {
  const va = f32x4.splat(a);
  const vb = f32x4.splat(b);
  let i = 0;
  for (; i + 4 <= width; i += 4, y += 16, p += 16, x += 16)
    v128.store(y, madd(va, v128.load(p), f32x4.mul(vb, v128.load(x))));
  if (i < width) {
    const rest = f32x4.mul(vb, loadLanes(x, width - i));
    storeLanes(y, width - i, madd(va, loadLanes(p, width - i), rest));
  }
}

/**
 * With s = 1/√(mean(x²) + ε): dx = s·(dy − x·s²·mean(dy·x)).
 * args: [rowsAt, rows of `width` in a row, x (2 words), dy (2 words), dx (2 words), width, ε (f32)]. Threads share the rows.
 */
export function rmsNormGrad(args: usize, thread: i32, threads: i32): void {
  const inner = load<i32>(args, 4);
  const width = load<i32>(args, 32);
  const epsilon = load<f32>(args, 36);
  const rows = load<i32>(<usize>load<u32>(args)) * inner;
  const to = share(rows, thread + 1, threads);
  for (let r = share(rows, thread, threads); r < to; r++) {
    const within = (<usize>((r % inner) * width)) << 2;
    const x = rowAt(args + 8, r / inner) + within;
    const dy = rowAt(args + 16, r / inner) + within;
    const dx = rowAt(args + 24, r / inner) + within;
    moments(x, dy, width, 0, 0);
    const scale = <f32>(1 / Math.sqrt(<f64>first / <f64>width + <f64>epsilon));
    combine(dx, dy, x, width, scale, -scale * scale * scale * (second / <f32>width));
  }
}

/**
 * With n the normalised x and s its scale: dx = s·(dy − mean(dy) − n·mean(dy·n)).
 * args: [rowsAt, rows of `width` in a row, x (2 words), dy (2 words), dx (2 words), width, ε (f32)]. Threads share the rows.
 */
export function layerNormGrad(args: usize, thread: i32, threads: i32): void {
  const inner = load<i32>(args, 4);
  const width = load<i32>(args, 32);
  const epsilon = load<f32>(args, 36);
  const rows = load<i32>(<usize>load<u32>(args)) * inner;
  const to = share(rows, thread + 1, threads);
  for (let r = share(rows, thread, threads); r < to; r++) {
    const within = (<usize>((r % inner) * width)) << 2;
    const x = rowAt(args + 8, r / inner) + within;
    const dy = rowAt(args + 16, r / inner) + within;
    const dx = rowAt(args + 24, r / inner) + within;
    const count = <f32>width;
    totals(x, dy, width);
    const mean = first / count;
    const arriving = second / count;
    // Centred moments, so that large means don't cancel.
    moments(x, dy, width, mean, arriving);
    const scale = <f32>(1 / Math.sqrt(<f64>first / <f64>width + <f64>epsilon));
    putCentred(dx, x, dy, width, mean, arriving, scale, scale * scale * (second / count));
  }
}

/** dx = s·((dy − arriving) − (x − mean)·back). */
function putCentred(dx: usize, x: usize, dy: usize, width: i32, mean: f32, arriving: f32, s: f32, back: f32): void {
  const centre = f32x4.splat(mean);
  const a = f32x4.splat(arriving);
  const scale = f32x4.splat(s);
  const b = f32x4.splat(back);
  let i = 0;
  for (; i + 4 <= width; i += 4, dx += 16, x += 16, dy += 16) {
    const rest = f32x4.sub(f32x4.sub(v128.load(dy), a), f32x4.mul(f32x4.sub(v128.load(x), centre), b));
    v128.store(dx, f32x4.mul(scale, rest));
  }
  if (i < width) {
    const left = width - i;
    const rest = f32x4.sub(f32x4.sub(loadLanes(dy, left), a), f32x4.mul(f32x4.sub(loadLanes(x, left), centre), b));
    storeLanes(dx, left, f32x4.mul(scale, rest));
  }
}

import { madd } from './math';
import { loadLanes, rowAt, storeLanes, sumLanes } from './rows';
import { beginUnits, takeUnits, unitsEnd } from './schedule';
import { addTo, zero } from './vectors';

/** Rows that a thread takes at a time, whose sums are made apart (kernels.ts counts the floats). */
const BLOCK: i32 = 32;

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

/** y = a ⊙ b. */
function multiply(y: usize, a: usize, b: usize, width: i32): void {
  let i = 0;
  for (; i + 4 <= width; i += 4, y += 16, a += 16, b += 16) v128.store(y, f32x4.mul(v128.load(a), v128.load(b)));
  if (i < width) storeLanes(y, width - i, f32x4.mul(loadLanes(a, width - i), loadLanes(b, width - i)));
}

/** dw ← dw + dy ⊙ (x − mean)·scale. */
function addNormal(dw: usize, dy: usize, x: usize, width: i32, mean: f32, scale: f32): void {
  const centre = f32x4.splat(mean);
  const s = f32x4.splat(scale);
  let i = 0;
  for (; i + 4 <= width; i += 4, dw += 16, dy += 16, x += 16)
    v128.store(dw, madd(v128.load(dy), f32x4.mul(f32x4.sub(v128.load(x), centre), s), v128.load(dw)));
  if (i < width) {
    const left = width - i;
    const normal = f32x4.mul(f32x4.sub(loadLanes(x, left), centre), s);
    storeLanes(dw, left, madd(loadLanes(dy, left), normal, loadLanes(dw, left)));
  }
}

/**
 * With s = 1/√(mean(x²) + ε) and g = dy ⊙ w: dx = s·(g − x·s²·mean(g·x)); of dw = Σ dy ⊙ x·s the sums of BLOCK rows each, for `sumBlocks`.
 * args: [rowsAt, rows of `width` in a row, x (2 words), dy (2 words), dx (2 words), width, ε (f32), w (or 0), sums (width floats a block, or 0)].
 */
export function rmsNormGrad(args: usize, thread: i32, threads: i32): void {
  const inner = load<i32>(args, 4);
  const width = load<i32>(args, 32);
  const epsilon = load<f32>(args, 36);
  const w = <usize>load<u32>(args, 40);
  const rows = load<i32>(<usize>load<u32>(args)) * inner;
  beginUnits((rows + BLOCK - 1) / BLOCK, thread, threads);
  for (let unit = takeUnits(1); unit < unitsEnd(); unit = takeUnits(1)) {
    const dw = sumsOf(args, unit, width);
    for (let r = unit * BLOCK; r < min(rows, (unit + 1) * BLOCK); r++) {
      const within = (<usize>((r % inner) * width)) << 2;
      const x = rowAt(args + 8, r / inner) + within;
      const dy = rowAt(args + 16, r / inner) + within;
      const dx = rowAt(args + 24, r / inner) + within;
      if (w) multiply(dx, dy, w, width);
      const g = w ? dx : dy;
      moments(x, g, width, 0, 0);
      const scale = <f32>(1 / Math.sqrt(<f64>first / <f64>width + <f64>epsilon));
      combine(dx, g, x, width, scale, -scale * scale * scale * (second / <f32>width));
      if (dw) addNormal(dw, dy, x, width, 0, scale);
    }
  }
}

/** Where the sums of a block of rows go, cleared; 0 where nobody asks for them. */
function sumsOf(args: usize, block: i32, floats: i32): usize {
  const sums = <usize>load<u32>(args, 44);
  if (sums == 0) return 0;
  const own = sums + ((<usize>(block * floats)) << 2);
  zero(own, floats);
  return own;
}

/**
 * With n the normalised x, s its scale and g = dy ⊙ w: dx = s·(g − mean(g) − n·mean(g·n)); of dw = Σ dy ⊙ n and db = Σ dy the sums of BLOCK rows
 * each, for `sumBlocks`.
 * args: [rowsAt, rows of `width` in a row, x (2 words), dy (2 words), dx (2 words), width, ε (f32), w (or 0), sums (2 floats for each of w in a block, or 0),
 *        1 if each row of `width` has its own w].
 */
export function layerNormGrad(args: usize, thread: i32, threads: i32): void {
  const inner = load<i32>(args, 4);
  const width = load<i32>(args, 32);
  const epsilon = load<f32>(args, 36);
  const w = <usize>load<u32>(args, 40);
  const rows = load<i32>(<usize>load<u32>(args)) * inner;
  const count = <f32>width;
  const isOwn = load<i32>(args, 48) != 0;
  const weights = isOwn ? inner * width : width;
  beginUnits((rows + BLOCK - 1) / BLOCK, thread, threads);
  for (let unit = takeUnits(1); unit < unitsEnd(); unit = takeUnits(1)) {
    const dw = sumsOf(args, unit, 2 * weights);
    for (let r = unit * BLOCK; r < min(rows, (unit + 1) * BLOCK); r++) {
      const within = (<usize>((r % inner) * width)) << 2;
      const x = rowAt(args + 8, r / inner) + within;
      const dy = rowAt(args + 16, r / inner) + within;
      const dx = rowAt(args + 24, r / inner) + within;
      const own = isOwn ? within : 0;
      if (w) multiply(dx, dy, w + own, width);
      const g = w ? dx : dy;
      totals(x, g, width);
      const mean = first / count;
      const arriving = second / count;
      // Centred moments, so that large means don't cancel.
      moments(x, g, width, mean, arriving);
      const scale = <f32>(1 / Math.sqrt(<f64>first / <f64>width + <f64>epsilon));
      putCentred(dx, x, g, width, mean, arriving, scale, scale * scale * (second / count));
      if (dw) {
        addNormal(dw + own, dy, x, width, mean, scale);
        addTo(dw + ((<usize>weights) << 2) + own, dy, width);
      }
    }
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

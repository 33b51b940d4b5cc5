import { exp2Finex4, expx4 } from './math';
import { loadLanes, rowAt, share, storeLanes, sumLanes } from './rows';
import { beginUnits, takeUnits, unitsEnd } from './schedule';
import { dot, largest, sum } from './vectors';

/** log₂ e, and the least power of two that is not 0. Loaded, as the tables in math.ts. */
const POWERS = memory.data<f32>([1.4426950408889634, -126]);

/** e^(x − shift) for x ≤ shift, by powers of two, in fewer steps than `expx4`: of 0 it is 1, far below 0, of NaN NaN. */
function below(x: v128, shift: v128): v128 {
  const power = f32x4.mul(f32x4.sub(x, shift), v128.load32_splat(POWERS));
  return v128.andnot(exp2Finex4(power), f32x4.le(power, v128.load32_splat(POWERS, 4)));
}

/** Σ exp(x − shift). */
function sumOfExponentials(x: usize, count: i32, shift: f32): f32 {
  const by = f32x4.splat(shift);
  let total = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= count; i += 4) total = f32x4.add(total, below(v128.load(x + ((<usize>i) << 2)), by));
  let result = sumLanes(total);
  for (; i < count; i++) result += f32x4.extract_lane(below(f32x4.splat(load<f32>(x + ((<usize>i) << 2))), by), 0);
  return result;
}

/** log Σ exp(x), without overflow. */
function logSumExp(x: usize, count: i32): f32 {
  const top = largest(x, count);
  return top + <f32>Math.log(sumOfExponentials(x, count, top));
}

/** y = exp(x − shift), and their sum. */
function exponentials(y: usize, x: usize, count: i32, shift: f32): f32 {
  const by = f32x4.splat(shift);
  let total = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= count; i += 4, x += 16, y += 16) {
    const e = below(v128.load(x), by);
    v128.store(y, e);
    total = f32x4.add(total, e);
  }
  let result = sumLanes(total);
  for (; i < count; i++, x += 4, y += 4) {
    const e = f32x4.extract_lane(below(f32x4.splat(load<f32>(x)), by), 0);
    store<f32>(y, e);
    result += e;
  }
  return result;
}

/**
 * y = log Σ exp(logits) − logits[target]; 0 for a negative target.
 * args: [rowsAt, logits (2 words), targets, y (2 words), V]. Threads share the rows.
 */
export function crossEntropy(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(<usize>load<u32>(args));
  const targets = <usize>load<u32>(args, 12);
  const V = load<i32>(args, 24);
  beginUnits(rows, thread, threads);
  for (let r = takeUnits(1); r < unitsEnd(); r = takeUnits(1)) {
    const target = load<i32>(targets + ((<usize>r) << 2));
    const x = rowAt(args + 4, r);
    const y: f32 = target < 0 ? 0 : logSumExp(x, V) - load<f32>(x + ((<usize>target) << 2));
    store<f32>(rowAt(args + 16, r), y);
  }
}

/**
 * dlogits = dy · (softmax(logits) − onehot(target)); it may take the logits' place.
 * args: [rowsAt, logits (2 words), targets, dy (2 words), dlogits (2 words), V]. Threads share the rows.
 */
export function crossEntropyGrad(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(<usize>load<u32>(args));
  const targets = <usize>load<u32>(args, 12);
  const V = load<i32>(args, 32);
  beginUnits(rows, thread, threads);
  for (let r = takeUnits(1); r < unitsEnd(); r = takeUnits(1)) {
    const target = load<i32>(targets + ((<usize>r) << 2));
    const x = rowAt(args + 4, r);
    const y = rowAt(args + 24, r);
    const arriving = load<f32>(rowAt(args + 16, r));
    if (target < 0 || arriving == 0) {
      memory.fill(y, 0, (<usize>V) << 2);
      continue;
    }
    scale(y, V, arriving / exponentials(y, x, V, largest(x, V)));
    const at = y + ((<usize>target) << 2);
    store<f32>(at, load<f32>(at) - arriving);
  }
}

function scale(x: usize, count: i32, by: f32): void {
  const factor = f32x4.splat(by);
  let i = 0;
  for (; i + 4 <= count; i += 4, x += 16) v128.store(x, f32x4.mul(v128.load(x), factor));
  for (; i < count; i++, x += 4) store<f32>(x, load<f32>(x) * by);
}

/**
 * y = softmax(x) over rows of `width`, or its logarithm.
 * args: [rowsAt, rows of `width` in a row of x, x (2 words), y (2 words), width, log]. Threads share the rows.
 */
export function softmax(args: usize, thread: i32, threads: i32): void {
  const inner = load<i32>(args, 4);
  const width = load<i32>(args, 24);
  const log = load<i32>(args, 28);
  const rows = load<i32>(<usize>load<u32>(args)) * inner;
  const to = share(rows, thread + 1, threads);
  for (let r = share(rows, thread, threads); r < to; r++) {
    const within = (<usize>((r % inner) * width)) << 2;
    const x = rowAt(args + 8, r / inner) + within;
    const y = rowAt(args + 16, r / inner) + within;
    if (!log) {
      scale(y, width, 1 / exponentials(y, x, width, largest(x, width)));
      continue;
    }
    const by = f32x4.splat(logSumExp(x, width));
    for (let i = 0; i < width; i += 4) {
      const at = (<usize>i) << 2;
      storeLanes(y + at, width - i, f32x4.sub(loadLanes(x + at, width - i), by));
    }
  }
}

/**
 * dx = y·(dy − Σ dy·y), or dy − exp(y)·Σ dy for the logarithm.
 * args: [rowsAt, rows of `width` in a row, y (2 words), dy (2 words), dx (2 words), width, log]. Threads share the rows.
 */
export function softmaxGrad(args: usize, thread: i32, threads: i32): void {
  const inner = load<i32>(args, 4);
  const width = load<i32>(args, 32);
  const log = load<i32>(args, 36);
  const rows = load<i32>(<usize>load<u32>(args)) * inner;
  const to = share(rows, thread + 1, threads);
  for (let r = share(rows, thread, threads); r < to; r++) {
    const within = (<usize>((r % inner) * width)) << 2;
    const y = rowAt(args + 8, r / inner) + within;
    const dy = rowAt(args + 16, r / inner) + within;
    const dx = rowAt(args + 24, r / inner) + within;
    const total = f32x4.splat(log ? sum(dy, width) : dot(dy, y, width));
    for (let i = 0; i < width; i += 4) {
      const at = (<usize>i) << 2;
      const value = loadLanes(y + at, width - i);
      const arriving = loadLanes(dy + at, width - i);
      const result = log
        ? f32x4.sub(arriving, f32x4.mul(expx4(value), total))
        : f32x4.mul(value, f32x4.sub(arriving, total));
      storeLanes(dx + at, width - i, result);
    }
  }
}

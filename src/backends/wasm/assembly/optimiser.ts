import { madd } from './math';
import { loadLanes, share, storeLanes } from './rows';

/** y = keep · total + x, x alone where keep is 0. args: [total, x, keep, y, count]. Threads share the elements. */
export function accumulate(args: usize, thread: i32, threads: i32): void {
  const total = <usize>load<u32>(args);
  const x = <usize>load<u32>(args, 4);
  const keep = load<f32>(<usize>load<u32>(args, 8));
  const y = <usize>load<u32>(args, 12);
  const count = load<i32>(args, 16);
  const factor = f32x4.splat(keep);
  const to = min(count, share((count + 3) >> 2, thread + 1, threads) << 2);
  for (let i = share((count + 3) >> 2, thread, threads) << 2; i < to; i += 4) {
    const at = (<usize>i) << 2;
    let sum = loadLanes(x + at, count - i);
    if (keep != 0) sum = madd(factor, loadLanes(total + at, count - i), sum);
    storeLanes(y + at, count - i, sum);
  }
}

/**
 * One step of AdamW, equation in ops/adamw.ts.
 * args: [p, g, m, v, step, scale, next p, next m, next v, count, β₁, β₂, ε, λ, rate (f32 each)]. Threads share the elements.
 */
export function adamw(args: usize, thread: i32, threads: i32): void {
  const p = <usize>load<u32>(args);
  const g = <usize>load<u32>(args, 4);
  const m = <usize>load<u32>(args, 8);
  const v = <usize>load<u32>(args, 12);
  const step = <usize>load<u32>(args, 16);
  const scale = load<f32>(<usize>load<u32>(args, 20));
  const nextP = <usize>load<u32>(args, 24);
  const nextM = <usize>load<u32>(args, 28);
  const nextV = <usize>load<u32>(args, 32);
  const count = load<i32>(args, 36);
  const beta1 = f32x4.splat(load<f32>(args, 40));
  const beta2 = f32x4.splat(load<f32>(args, 44));
  const rest1 = f32x4.splat(1 - load<f32>(args, 40));
  const rest2 = f32x4.splat(1 - load<f32>(args, 44));
  const epsilon = f32x4.splat(load<f32>(args, 48));
  const eta = load<f32>(step) * load<f32>(args, 56);
  const rate = f32x4.splat(eta);
  const kept = f32x4.splat(1 - eta * load<f32>(args, 52));
  const correct1 = f32x4.splat(load<f32>(step, 4));
  const correct2 = f32x4.splat(load<f32>(step, 8));
  // A gradient that is not finite moves nothing.
  const moves = isFinite(scale);
  const factor = f32x4.splat(scale);
  const to = min(count, share((count + 3) >> 2, thread + 1, threads) << 2);
  for (let i = share((count + 3) >> 2, thread, threads) << 2; i < to; i += 4) {
    const at = (<usize>i) << 2;
    const lanes = count - i;
    let mean = loadLanes(m + at, lanes);
    let square = loadLanes(v + at, lanes);
    let value = loadLanes(p + at, lanes);
    if (moves) {
      const gradient = f32x4.mul(loadLanes(g + at, lanes), factor);
      mean = madd(beta1, mean, f32x4.mul(rest1, gradient));
      square = madd(beta2, square, f32x4.mul(rest2, f32x4.mul(gradient, gradient)));
      const root = f32x4.add(f32x4.sqrt(f32x4.mul(square, correct2)), epsilon);
      const direction = f32x4.div(f32x4.mul(mean, correct1), root);
      value = f32x4.sub(f32x4.mul(kept, value), f32x4.mul(rate, direction));
    }
    storeLanes(nextM + at, lanes, mean);
    storeLanes(nextV + at, lanes, square);
    storeLanes(nextP + at, lanes, value);
  }
}

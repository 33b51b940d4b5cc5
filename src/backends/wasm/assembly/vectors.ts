import { madd } from './math';
import { sumLanes } from './rows';

/** Σ x ⊙ y over `count` numbers. */
export function dot(x: usize, y: usize, count: i32): f32 {
  let sum = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const at = (<usize>i) << 2;
    sum = madd(v128.load(x + at), v128.load(y + at), sum);
  }
  let total = sumLanes(sum);
  for (; i < count; i++) total += load<f32>(x + ((<usize>i) << 2)) * load<f32>(y + ((<usize>i) << 2));
  return total;
}

/** Σ x. */
export function sum(x: usize, count: i32): f32 {
  let a = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= count; i += 4) a = f32x4.add(a, v128.load(x + ((<usize>i) << 2)));
  let total = sumLanes(a);
  for (; i < count; i++) total += load<f32>(x + ((<usize>i) << 2));
  return total;
}

/** y ← y + x. */
export function addTo(y: usize, x: usize, count: i32): void {
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const at = (<usize>i) << 2;
    v128.store(y + at, f32x4.add(v128.load(y + at), v128.load(x + at)));
  }
  for (; i < count; i++) {
    const at = (<usize>i) << 2;
    store<f32>(y + at, load<f32>(y + at) + load<f32>(x + at));
  }
}

/** y ← y + a · x. */
export function axpy(y: usize, a: f32, x: usize, count: i32): void {
  const factor = f32x4.splat(a);
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const at = (<usize>i) << 2;
    v128.store(y + at, madd(factor, v128.load(x + at), v128.load(y + at)));
  }
  for (; i < count; i++) {
    const at = (<usize>i) << 2;
    store<f32>(y + at, load<f32>(y + at) + a * load<f32>(x + at));
  }
}

/** The largest of `count` numbers; −∞ of none. */
export function largest(x: usize, count: i32): f32 {
  let a = f32x4.splat(-Infinity);
  let b = a;
  let i = 0;
  for (; i + 8 <= count; i += 8) {
    const at = x + ((<usize>i) << 2);
    a = f32x4.pmax(a, v128.load(at));
    b = f32x4.pmax(b, v128.load(at, 16));
  }
  a = f32x4.pmax(a, b);
  for (; i + 4 <= count; i += 4) a = f32x4.pmax(a, v128.load(x + ((<usize>i) << 2)));
  let result = max(
    max(f32x4.extract_lane(a, 0), f32x4.extract_lane(a, 1)),
    max(f32x4.extract_lane(a, 2), f32x4.extract_lane(a, 3)),
  );
  for (; i < count; i++) result = max(result, load<f32>(x + ((<usize>i) << 2)));
  return result;
}

/** Fills `count` numbers with zeros. */
export function zero(x: usize, count: i32): void {
  memory.fill(x, 0, (<usize>count) << 2);
}

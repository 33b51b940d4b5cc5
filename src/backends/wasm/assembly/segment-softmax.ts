import { expx4 } from './math';
import { firstOf, rowAt, share } from './rows';

/** exp of one number, as of four. */
function exp(x: f32): f32 {
  return f32x4.extract_lane(expx4(f32x4.splat(x)), 0);
}

function at(x: usize, row: i32, column: i32): f32 {
  return load<f32>(rowAt(x, row) + ((<usize>column) << 2));
}

function largest(x: usize, column: i32, first: i32, last: i32): f32 {
  let top = -f32.MAX_VALUE;
  for (let t = first; t < last; t++) top = max<f32>(top, at(x, t, column));
  return top;
}

/** Σ exp(x − shift) of a column's rows. */
function total(x: usize, column: i32, first: i32, last: i32, shift: f32): f32 {
  let sum: f32 = 0;
  for (let t = first; t < last; t++) sum += exp(at(x, t, column) - shift);
  return sum;
}

/**
 * y[b, c] = log Σ_t exp(x[t, c]) − x[target, c] over the tokens of segment b, from whose first token the target counts.
 * args: [segmentsAt, ends, x (2 words), targets, y (2 words), C]. Threads share the segments' columns.
 */
export function segmentCrossEntropy(args: usize, thread: i32, threads: i32): void {
  const ends = <usize>load<u32>(args, 4);
  const x = args + 8;
  const targets = <usize>load<u32>(args, 16);
  const C = load<i32>(args, 28);
  const count = load<i32>(<usize>load<u32>(args)) * C;
  const to = share(count, thread + 1, threads);
  for (let i = share(count, thread, threads); i < to; i++) {
    const b = i / C;
    const c = i % C;
    const first = firstOf(ends, b);
    const last = load<i32>(ends + ((<usize>b) << 2));
    const top = largest(x, c, first, last);
    const normaliser = top + <f32>Math.log(total(x, c, first, last, top));
    const target = first + load<i32>(targets + ((<usize>i) << 2));
    store<f32>(rowAt(args + 20, b) + ((<usize>c) << 2), normaliser - at(x, target, c));
  }
}

/**
 * dx[t, c] = dy[b, c] · (softmax over the segment's tokens − onehot(target)).
 * args: [segmentsAt, ends, x (2 words), targets, dy (2 words), dx (2 words), C]. Threads share the segments' columns.
 */
export function segmentCrossEntropyGrad(args: usize, thread: i32, threads: i32): void {
  const ends = <usize>load<u32>(args, 4);
  const x = args + 8;
  const targets = <usize>load<u32>(args, 16);
  const C = load<i32>(args, 36);
  const count = load<i32>(<usize>load<u32>(args)) * C;
  const to = share(count, thread + 1, threads);
  for (let i = share(count, thread, threads); i < to; i++) {
    const b = i / C;
    const c = i % C;
    const first = firstOf(ends, b);
    const last = load<i32>(ends + ((<usize>b) << 2));
    const top = largest(x, c, first, last);
    const arriving = at(args + 20, b, c);
    const scale = arriving / total(x, c, first, last, top);
    const target = first + load<i32>(targets + ((<usize>i) << 2));
    for (let t = first; t < last; t++) {
      const dx = rowAt(args + 28, t) + ((<usize>c) << 2);
      store<f32>(dx, scale * exp(at(x, t, c) - top) - (t == target ? arriving : 0));
    }
  }
}

/** First of the `count` units of work that thread `thread` of `threads` takes; the next thread's first is where it stops. */
export function share(count: i32, thread: i32, threads: i32): i32 {
  return <i32>((<i64>count * thread) / threads);
}

/** Address of row `r` of operand words at `args` (address, row stride in elements). */
export function rowAt(args: usize, r: i32): usize {
  return <usize>load<u32>(args) + ((<usize>(r * load<i32>(args, 4))) << 2);
}

/** Bytes from one row to the next of operand words at `args`. */
export function strideOf(args: usize): usize {
  return (<usize>load<i32>(args, 4)) << 2;
}

/** Address of segment b's row of a state: words (table of row addresses, byte offset in a row). */
export function stateAt(args: usize, b: i32): usize {
  return <usize>load<u32>(<usize>load<u32>(args) + ((<usize>b) << 2)) + <usize>load<u32>(args, 4);
}

/** The first token of segment b, where `ends` has the one after each segment's last. */
export function firstOf(ends: usize, b: i32): i32 {
  return b == 0 ? 0 : load<i32>(ends + ((<usize>(b - 1)) << 2));
}

/** Sum of the four lanes. */
export function sumLanes(x: v128): f32 {
  const pairs = f32x4.add(x, v128.shuffle<f32>(x, x, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.add(pairs, v128.shuffle<f32>(pairs, pairs, 1, 0, 3, 2)), 0);
}

/** The sums of four vectors' lanes. */
export function sumRows(a: v128, b: v128, c: v128, d: v128): v128 {
  const low = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7));
  const high = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7));
  return f32x4.add(v128.shuffle<f32>(low, high, 0, 1, 4, 5), v128.shuffle<f32>(low, high, 2, 3, 6, 7));
}

/** The first `count` of four numbers, zeros after them: nothing past them is read. */
export function loadLanes(from: usize, count: i32): v128 {
  if (count >= 4) return v128.load(from);
  let x = f32x4.splat(0);
  if (count > 0) x = f32x4.replace_lane(x, 0, load<f32>(from));
  if (count > 1) x = f32x4.replace_lane(x, 1, load<f32>(from, 4));
  if (count > 2) x = f32x4.replace_lane(x, 2, load<f32>(from, 8));
  return x;
}

/** Stores the first `count` of four lanes. */
export function storeLanes(to: usize, count: i32, x: v128): void {
  if (count >= 4) {
    v128.store(to, x);
    return;
  }
  if (count > 0) store<f32>(to, f32x4.extract_lane(x, 0));
  if (count > 1) store<f32>(to, f32x4.extract_lane(x, 1), 4);
  if (count > 2) store<f32>(to, f32x4.extract_lane(x, 2), 8);
}

/** Four numbers `step` bytes apart, the first `count` of them. */
export function gatherLanes(from: usize, step: usize, count: i32): v128 {
  let x = f32x4.splat(0);
  if (count > 0) x = f32x4.replace_lane(x, 0, load<f32>(from));
  if (count > 1) x = f32x4.replace_lane(x, 1, load<f32>(from + step));
  if (count > 2) x = f32x4.replace_lane(x, 2, load<f32>(from + 2 * step));
  if (count > 3) x = f32x4.replace_lane(x, 3, load<f32>(from + 3 * step));
  return x;
}

/** The other way round. */
export function scatterLanes(to: usize, step: usize, count: i32, x: v128): void {
  if (count > 0) store<f32>(to, f32x4.extract_lane(x, 0));
  if (count > 1) store<f32>(to + step, f32x4.extract_lane(x, 1));
  if (count > 2) store<f32>(to + 2 * step, f32x4.extract_lane(x, 2));
  if (count > 3) store<f32>(to + 3 * step, f32x4.extract_lane(x, 3));
}

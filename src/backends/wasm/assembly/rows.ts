/** First of the `count` units of work that thread `thread` of `threads` takes; the next thread's first is where it stops. */
export function share(count: i32, thread: i32, threads: i32): i32 {
  return <i32>((<i64>count * thread) / threads);
}

/** Address of row `r` of operand words at `args` (address, row stride in elements). */
export function rowAt(args: usize, r: i32): usize {
  return <usize>load<u32>(args) + ((<usize>(r * load<i32>(args, 4))) << 2);
}

/** Address of segment b's row of a state: words (table of row addresses, byte offset in a row). */
export function stateAt(args: usize, b: i32): usize {
  return <usize>load<u32>(<usize>load<u32>(args) + ((<usize>b) << 2)) + <usize>load<u32>(args, 4);
}

/** Sum of the four lanes. */
export function sumLanes(x: v128): f32 {
  const pairs = f32x4.add(x, v128.shuffle<f32>(x, x, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.add(pairs, v128.shuffle<f32>(pairs, pairs, 1, 0, 3, 2)), 0);
}

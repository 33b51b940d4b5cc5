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

import { rmsRow } from './norm';
import { quantiseRowQ4, quantiseRowQ8 } from './quantise-rows';
import { groupsOf, rowBytesQ4, rowBytesQ8 } from './quantised';

/*
 * A row alone, as when one token is generated, is made integers by each thread for itself: that takes less time than to share the work and
 * to meet at a barrier. So is the norm that it is the value of. Bits are those of the kernels that do this for all threads.
 * source: [row of I numbers, 1 if it is still to be normed, w (or 0), ε (f32)]
 */

/** Integers of a row for `linearQ8`; what is behind them keeps the normed row. */
export function ownRowQ8(source: usize, I: i32, to: usize): void {
  quantiseRowQ8(normed(source, I, to + <usize>rowBytesQ8(I)), I, to, 4);
}

/** The same for `linearQ4`. */
export function ownRowQ4(source: usize, I: i32, to: usize): void {
  quantiseRowQ4(normed(source, I, to + <usize>rowBytesQ4(I)), I, to);
}

function normed(source: usize, I: i32, room: usize): usize {
  const x = <usize>load<u32>(source);
  if (!load<i32>(source, 4)) return x;
  rmsRow(room, x, <usize>load<u32>(source, 8), I, load<f32>(source, 12));
  return room;
}

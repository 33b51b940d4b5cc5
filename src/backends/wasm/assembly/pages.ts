/** Tokens in a page of keys or values: [G][PAGE][width], each row padded with zeros to a whole number of PADs. */
export const PAGE: i32 = 64;
const PAD: i32 = 8;

/** Numbers of a row in a page. */
export function padded(width: i32): i32 {
  return (width + PAD - 1) & -PAD;
}

/** Address of page p of a state that grows: the state holds the address of its table of pages, a ring, and the mask of its places. */
export function pageOf(state: usize, p: i32): usize {
  return <usize>load<u32>(<usize>load<u32>(state) + ((<usize>(p & load<i32>(state, 4))) << 2));
}

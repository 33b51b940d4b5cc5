/**
 * Quantised products: integers times integers, exact and the same on every CPU, then scales in f32 by plain multiplications
 * and additions in one order, so that every build, tile and number of threads gives the same bits.
 *
 * Numbers along I are in groups of 32, the last one filled with zeros. A panel of W is [groups] of
 *   8 f16 scales, then for q8 [16][8 outputs][2 numbers] i8, for q4 [4][8 outputs][4 bytes]: of 8 numbers along I, the
 *   first four are the low halves of the bytes, the others the high halves, all plus 8.
 * Rows of x are in blocks of TILE rows, at the end 2 or 1 where they suffice; `height` rows lie interleaved by 4 bytes:
 *   for q8 [height] f32 scales, then [I / 2][height][2] i16;
 *   for q4 [groups] of [height] f32 scales, [height][2] i16 corrections and [8][height][4] i8.
 */

/** Rows in a block of x. */
export const TILE: i32 = 4;

export function groupsOf(I: i32): i32 {
  return (I + 31) >> 5;
}

/** Rows in the block of x that starts at `row`: rows that do not exist are zeros. */
export function heightOf(row: i32, rows: i32): i32 {
  const left = rows - row;
  return left > 2 ? TILE : left;
}

/** Bytes of a row of x. */
export function rowBytesQ8(I: i32): i32 {
  return 4 + (groupsOf(I) << 6);
}

export function rowBytesQ4(I: i32): i32 {
  return groupsOf(I) * 40;
}

/** Rows of x, each `bytes` long, that may stay in the second-level cache while the panels pass: whole blocks. */
export function rowsInCache(bytes: i32): i32 {
  return max(TILE, (262144 / bytes / TILE) * TILE);
}

/**
 * Panels, each `bytes` long when expanded, that are expanded together, so that memory is read in long streams; src/backends/wasm/kernels.ts
 * makes room for them.
 */
export function panelsTogether(bytes: i32): i32 {
  return max(1, min(16, 131072 / bytes));
}

/** Bytes of a group of an expanded panel. */
export const EXPANDED_Q8: i32 = 544;
export const EXPANDED_Q4: i32 = 288;

/** Bytes of a panel's group. */
export const GROUP_Q8: usize = 272;
export const GROUP_Q4: usize = 144;

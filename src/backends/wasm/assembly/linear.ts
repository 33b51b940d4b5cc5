import { fromBf16, fromHalfBy, halfBias, halfPlaces } from './half';
import { panelsTimesRow, panelTimesRows, TILE } from './linear-tiles';
import { partStart, partsOf, tileOf } from './product';
import { share } from './rows';
import { beginUnits, runEnd, takeUnits, unitsEnd } from './schedule';

/** Bytes of x that may stay in the second-level cache while the panels pass. */
const CACHE: i32 = 393216;

/** Multiply-adds that a thread takes at a time, at least. */
const WORK: i32 = 1 << 18;

/**
 * y = x Wᵀ + bias with W in panels of 8 outputs, [⌈O/8⌉][I][8], so that one row of x or many stream through the same
 * memory in the same order. args: those of a product (product.ts). Formats: 0 f32 · 1 bf16 · 2 f16. With several rows a
 * 16-bit panel is expanded first. Scratch: 8·I floats for each thread.
 */
export function linear(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(<usize>load<u32>(args)) * load<i32>(args, 4);
  const I = load<i32>(<usize>load<u32>(args, 32));
  const panels = (load<i32>(args, 36) + 7) >> 3;
  const format = load<i32>(args, 40);
  const shift = format == 0 ? 5 : 4;
  const scratch = <usize>load<u32>(args, 44) + ((<usize>(thread * I)) << 5);
  const tile = tileOf(thread);
  const parts = partsOf(rows, panels, threads, TILE, max(TILE, (CACHE / 4 / max(I, 1) / TILE) * TILE));
  if (rows == 1 || (rows == 2 && format != 0)) {
    const from = share(panels, thread, threads);
    const to = share(panels, thread + 1, threads);
    for (let r = 0; r < rows; r++) panelsTimesRow(args, r, <usize>load<u32>(args, 16), from, to, I, format, tile);
    return;
  }
  // Two panels' outputs are a cache line of y: one thread's.
  const pairs = (panels + 1) >> 1;
  const run = max(1, WORK / max(1, (rows / max(1, parts)) * I * 16));
  beginUnits(parts * pairs, thread, threads);
  for (let unit = takeUnits(run); unit < unitsEnd(); unit = takeUnits(run)) {
    for (const stop = runEnd(unit, run); unit < stop; unit++) {
      const first = partStart(rows, unit / pairs, parts, TILE);
      const end = partStart(rows, unit / pairs + 1, parts, TILE);
      const p = (unit % pairs) << 1;
      for (let k = p; k < min(p + 2, panels); k++) {
        const panel = <usize>load<u32>(args, 16) + ((<usize>(k * I)) << shift);
        if (format == 0) {
          panelTimesRows(args, first, end, panel, I, k << 3, tile);
        } else {
          expand(panel, scratch, I, format);
          panelTimesRows(args, first, end, scratch, I, k << 3, tile);
        }
      }
    }
  }
}

/** A 16-bit panel in f32. */
function expand(panel: usize, to: usize, I: i32, format: i32): void {
  const end = panel + ((<usize>I) << 4);
  if (format == 1) {
    for (; panel < end; panel += 16, to += 32) {
      v128.store(to, fromBf16(v128.load16x4_s(panel)));
      v128.store(to, fromBf16(v128.load16x4_s(panel, 8)), 16);
    }
    return;
  }
  const places = halfPlaces();
  const bias = halfBias();
  for (; panel < end; panel += 16, to += 32) {
    v128.store(to, fromHalfBy(v128.load16x4_s(panel), places, bias));
    v128.store(to, fromHalfBy(v128.load16x4_s(panel, 8), places, bias), 16);
  }
}

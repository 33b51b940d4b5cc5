import { digestWords } from './digest';
import { tileOf } from './product';
import { GROUP_Q4, GROUP_Q8, groupsOf } from './quantised';
import { expandBytes, expandQ8, scaleOf, widenRow } from './stored-rows';

/** Numbers of a parameter kept by rows that are digested at a time. */
const STRETCH: i32 = 4096;

/**
 * Goes on with digests over the numbers that parameters hold, row-major as f32, as if they had been taken from the files that the
 * numbers came from. Threads take parameters one by one. args: [unit, parameters, entries]; an entry is [state (digest.ts), layout, format, W,
 * rows, columns] with storeRows' layouts and formats.
 */
export function digestWeights(args: usize, thread: i32, threads: i32): void {
  const tile = tileOf(thread);
  const count = load<i32>(args, 4);
  for (let unit = atomic.add<i32>(args, 1); unit < count; unit = atomic.add<i32>(args, 1))
    digestWeight(<usize>load<u32>(args, 8) + <usize>(unit * 24), tile);
}

function digestWeight(entry: usize, tile: usize): void {
  const state = <usize>load<u32>(entry);
  const layout = load<i32>(entry, 4);
  const rows = load<i32>(entry, 16);
  const columns = load<i32>(entry, 20);
  if (layout == 0) {
    const W = <usize>load<u32>(entry, 12);
    for (let at = 0; at < rows * columns; at += STRETCH)
      digestWords(state, W + ((<usize>at) << 2), min(STRETCH, rows * columns - at), tile);
    return;
  }
  for (let row = 0; row < rows; row++)
    for (let k = 0; k < columns; k += 32) {
      const length = min(32, columns - k);
      gather(entry, row, k, length, tile);
      digestWords(state, tile, length, tile);
    }
}

/** `count` ≤ 32 numbers of a packed parameter's row from column k on. */
function gather(entry: usize, row: i32, k: i32, count: i32, tile: usize): void {
  const layout = load<i32>(entry, 4);
  const format = load<i32>(entry, 8);
  const W = <usize>load<u32>(entry, 12);
  const rows = load<i32>(entry, 16);
  const columns = load<i32>(entry, 20);
  if (format >= 3) gatherGroup(W, row, k, columns, format, tile);
  else if (layout == 1) gatherPlaces(W, (row >> 3) * columns * 8 + k * 8 + (row & 7), 8, 8, count, format, tile);
  // Of a transposed matrix eight numbers of a row lie side by side, and the next eight in the next panel.
  else gatherPlaces(W, (k >> 3) * rows * 8 + row * 8, 1, rows * 8, count, format, tile);
}

/** Numbers `step` places apart; of every eight the first is `panel` places after that of the eight before, where `step` is 1. */
function gatherPlaces(W: usize, place: i32, step: i32, panel: i32, count: i32, format: i32, tile: usize): void {
  for (let j = 0; j < count; j++) {
    const at = <usize>(place + (step == 1 ? (j >> 3) * panel + (j & 7) : j * step));
    if (format == 0) store<f32>(tile + ((<usize>j) << 2), load<f32>(W + (at << 2)));
    else store<u16>(tile + ((<usize>j) << 1), load<u16>(W + (at << 1)), 128);
  }
  if (format != 0) widenRow(tile + 128, count, tile, format);
}

/** A group of an output, of which every number is in its place (quantised.ts). */
function gatherGroup(W: usize, o: i32, k: i32, I: i32, format: i32, tile: usize): void {
  const lane = <usize>(o & 7);
  let group = W + <usize>((o >> 3) * groupsOf(I) + (k >> 5)) * (format == 3 ? GROUP_Q8 : GROUP_Q4);
  const scale = scaleOf(load<i16>(group + (lane << 1)));
  group += 16;
  if (format == 3) {
    group += lane << 1;
    for (let j: usize = 0; j < 32; j += 2) store<u16>(tile + j, load<u16>(group + (j << 3)), 128);
    expandQ8(tile + 128, scale, tile);
    return;
  }
  group += lane << 2;
  let bytes = v128.load32_zero(group);
  bytes = v128.load32_lane(group, bytes, 1, 32);
  bytes = v128.load32_lane(group, bytes, 2, 64);
  bytes = v128.load32_lane(group, bytes, 3, 96);
  const low = v128.and(bytes, i8x16.splat(15));
  const high = v128.and(i16x8.shr_u(bytes, 4), i8x16.splat(15));
  expandBytes(v128.shuffle<i32>(low, high, 0, 4, 1, 5), scale, tile);
  expandBytes(v128.shuffle<i32>(low, high, 2, 6, 3, 7), scale, tile + 64);
}

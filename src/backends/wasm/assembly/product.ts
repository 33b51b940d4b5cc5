import { share } from './rows';

/**
 * What the products y = residual + (x Wᵀ + bias) have in common. Their args:
 * [rowsAt, rows of x in a row of its tensor, x (2 words), W, bias (or 0), y (2 words), address of I, O, format, scratch, residual (2 words; 0: none)]
 * W is packed in panels of 8 outputs, the last one filled with zeros. `residual` may be y.
 */

/** Units of work that each thread should get at least, so that none waits long for the others. */
const UNITS: i32 = 8;

/** In how many parts the rows are divided: parts of at most `most` rows, and enough units of a panel × a part to share. */
export function partsOf(rows: i32, panels: i32, threads: i32, tile: i32, most: i32): i32 {
  const cached = (rows + most - 1) / most;
  if (threads == 1) return cached;
  const balanced = min((UNITS * threads) / panels, rows / (4 * tile));
  return max(cached, balanced);
}

/** First row of part `part`: parts are whole tiles. */
export function partStart(rows: i32, part: i32, parts: i32, tile: i32): i32 {
  return min(rows, share((rows + tile - 1) / tile, part, parts) * tile);
}

/** Up to four floats, zeros beyond. */
export function partial(at: usize, count: i32): v128 {
  if (count >= 4) return v128.load(at);
  let result = f32x4.splat(0);
  if (count > 0) result = f32x4.replace_lane(result, 0, load<f32>(at));
  if (count > 1) result = f32x4.replace_lane(result, 1, load<f32>(at, 4));
  if (count > 2) result = f32x4.replace_lane(result, 2, load<f32>(at, 8));
  return result;
}

/** Stores up to four floats. */
function storePartial(at: usize, count: i32, values: v128): void {
  if (count >= 4) {
    v128.store(at, values);
    return;
  }
  if (count > 0) v128.store32_lane(at, values, 0);
  if (count > 1) v128.store32_lane(at, values, 1, 4);
  if (count > 2) v128.store32_lane(at, values, 2, 8);
}

/** Bias of four outputs from `o` on, zeros where there is none. */
function biasOf(args: usize, o: i32): v128 {
  const bias = <usize>load<u32>(args, 20);
  return bias ? partial(bias + ((<usize>o) << 2), load<i32>(args, 36) - o) : f32x4.splat(0);
}

/**
 * Bytes from row to row of y where it is the sums alone, of eight outputs from `o` on: without bias and residual, and all
 * rows equally far apart; else 0.
 */
export function plainStep(args: usize, o: i32): usize {
  const inner = load<i32>(args, 4);
  const O = load<i32>(args, 36);
  const stride = load<i32>(args, 28);
  if (O - o < 8 || load<u32>(args, 20) || load<u32>(args, 48)) return 0;
  return inner == 1 ? (<usize>stride) << 2 : stride == inner * O ? (<usize>O) << 2 : 0;
}

/** Where outputs from `o` on of row `r` of y go, rows `step` bytes apart. */
export function plainRow(args: usize, r: i32, o: i32, step: usize): usize {
  return <usize>load<u32>(args, 24) + <usize>r * step + ((<usize>o) << 2);
}

/** Address of row `r` of x: rows of a tensor lie `stride` apart, rows within one are dense. */
export function inputRow(args: usize, r: i32, I: i32): usize {
  const inner = load<i32>(args, 4);
  const stride = load<i32>(args, 12);
  const element = inner == 1 ? r * stride : (r / inner) * stride + (r % inner) * I;
  return <usize>load<u32>(args, 8) + ((<usize>element) << 2);
}

/**
 * Where a thread's tiles leave their sums, [rows][8]: sums that end in plain stores, one after the other, stay in registers
 * in V8's compilers, and pairs of stores are what its revectorizer starts from. The kernels own the first page of memory:
 * behind their constants there is room for more than 300 threads.
 */
export function tileOf(thread: i32): usize {
  return ((__heap_base + 63) & ~63) + <usize>(thread * 192);
}

/** Stores a tile's sums with the bias and the residual: rows `r` to `end` of y, eight outputs from `o` on, none beyond the last. */
export function putTile(args: usize, tile: usize, r: i32, end: i32, o: i32): void {
  const inner = load<i32>(args, 4);
  const O = load<i32>(args, 36);
  const stride = load<i32>(args, 28);
  const residual = <usize>load<u32>(args, 48);
  const residualStride = load<i32>(args, 52);
  const width = O - o;
  const bias0 = biasOf(args, o);
  const bias1 = biasOf(args, o + 4);
  for (; r < end; r++) {
    const row = inner == 1 ? r * stride : (r / inner) * stride + (r % inner) * O;
    const y = <usize>load<u32>(args, 24) + ((<usize>(row + o)) << 2);
    let a = f32x4.add(v128.load(tile), bias0);
    let b = f32x4.add(v128.load(tile, 16), bias1);
    if (residual) {
      const before = inner == 1 ? r * residualStride : (r / inner) * residualStride + (r % inner) * O;
      const from = residual + ((<usize>(before + o)) << 2);
      a = f32x4.add(partial(from, width), a);
      b = f32x4.add(partial(from + 16, width - 4), b);
    }
    storePartial(y, width, a);
    storePartial(y + 16, width - 4, b);
    tile += 32;
  }
}

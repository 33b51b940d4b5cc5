import { rowAt, share } from './rows';
import { addTo, sum } from './vectors';

/**
 * y = Σ x over what y is broadcast in: element j of row t adds to element ⌊j/inner⌋ mod size of row t, or of the only row.
 * args: [rowsAt, x (2 words), width, y (2 words), perRow, inner, size]. Threads share the rows, or the elements of the only one.
 */
export function sumTo(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(<usize>load<u32>(args));
  const width = load<i32>(args, 12);
  const inner = load<i32>(args, 28);
  const size = load<i32>(args, 32);
  if (load<i32>(args, 24)) {
    const to = share(rows, thread + 1, threads);
    for (let t = share(rows, thread, threads); t < to; t++) {
      const y = rowAt(args + 16, t);
      memory.fill(y, 0, (<usize>size) << 2);
      addRow(y, rowAt(args + 4, t), width, inner, size, 0, size);
    }
    return;
  }
  const y = rowAt(args + 16, 0);
  if (size == 1) {
    if (thread != 0) return;
    let total: f64 = 0;
    for (let t = 0; t < rows; t++) total += <f64>sum(rowAt(args + 4, t), width);
    store<f32>(y, <f32>total);
    return;
  }
  const from = share(size, thread, threads);
  const to = share(size, thread + 1, threads);
  memory.fill(y + ((<usize>from) << 2), 0, (<usize>(to - from)) << 2);
  for (let t = 0; t < rows; t++) addRow(y, rowAt(args + 4, t), width, inner, size, from, to);
}

/** Adds a row of x to elements `from` to `to` of y. */
function addRow(y: usize, x: usize, width: i32, inner: i32, size: i32, from: i32, to: i32): void {
  const run = inner * size;
  for (let start = 0; start < width; start += run) {
    if (inner == 1) {
      addTo(y + ((<usize>from) << 2), x + ((<usize>(start + from)) << 2), to - from);
      continue;
    }
    for (let i = from; i < to; i++) {
      const at = y + ((<usize>i) << 2);
      store<f32>(at, load<f32>(at) + sum(x + ((<usize>(start + i * inner)) << 2), inner));
    }
  }
}

/**
 * The sums of blocks of rows together, in their order: [⌈rows / each⌉][n][width] floats become n vectors.
 * args: [rowsAt, rows of each block, sums, width, n, y …]. Threads share the columns.
 */
export function sumBlocks(args: usize, thread: i32, threads: i32): void {
  const blocks = (load<i32>(<usize>load<u32>(args)) + load<i32>(args, 4) - 1) / load<i32>(args, 4);
  const width = load<i32>(args, 12);
  const n = load<i32>(args, 16);
  const from = share(width, thread, threads);
  const columns = share(width, thread + 1, threads) - from;
  const offset = (<usize>from) << 2;
  const block = (<usize>(n * width)) << 2;
  for (let i = 0; i < n; i++) {
    const y = <usize>load<u32>(args + 20 + ((<usize>i) << 2)) + offset;
    memory.fill(y, 0, (<usize>columns) << 2);
    let x = <usize>load<u32>(args, 8) + ((<usize>(i * width)) << 2) + offset;
    for (let b = 0; b < blocks; b++, x += block) addTo(y, x, columns);
  }
}

/**
 * y[ids[t]] = Σ x[t], zero where no id points: the adjoint of taking rows.
 * args: [countAt, ids, x (2 words), rowsAt, y (2 words), width]. Threads share the columns.
 */
export function scatterRows(args: usize, thread: i32, threads: i32): void {
  const count = load<i32>(<usize>load<u32>(args));
  const ids = <usize>load<u32>(args, 4);
  const rows = load<i32>(<usize>load<u32>(args, 16));
  const width = load<i32>(args, 28);
  const from = share(width, thread, threads);
  const columns = share(width, thread + 1, threads) - from;
  const offset = (<usize>from) << 2;
  for (let r = 0; r < rows; r++) memory.fill(rowAt(args + 20, r) + offset, 0, (<usize>columns) << 2);
  for (let t = 0; t < count; t++) {
    const id = load<i32>(ids + ((<usize>t) << 2));
    addTo(rowAt(args + 20, id) + offset, rowAt(args + 8, t) + offset, columns);
  }
}

/** y[g] = Σ of the `times` blocks of x that g was repeated to. args: [rowsAt, x (2 words), y (2 words), G, K, times]. */
export function sumRepeats(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(<usize>load<u32>(args));
  const G = load<i32>(args, 20);
  const K = load<i32>(args, 24);
  const times = load<i32>(args, 28);
  const to = share(rows * G, thread + 1, threads);
  for (let n = share(rows * G, thread, threads); n < to; n++) {
    const y = rowAt(args + 12, n / G) + ((<usize>((n % G) * K)) << 2);
    let x = rowAt(args + 4, n / G) + ((<usize>((n % G) * K * times)) << 2);
    memory.copy(y, x, (<usize>K) << 2);
    for (let i = 1; i < times; i++) {
      x += (<usize>K) << 2;
      addTo(y, x, K);
    }
  }
}

/** y = Σ w x / Σ w; w = 1 without weights. args: [rowsAt, x (2 words), w (2 words, or 0), y]. One thread: it is one number a token. */
export function mean(args: usize, thread: i32, threads: i32): void {
  if (thread != 0) return;
  const rows = load<i32>(<usize>load<u32>(args));
  const weighted = load<u32>(args, 12) != 0;
  let total: f64 = 0;
  let weights: f64 = 0;
  for (let t = 0; t < rows; t++) {
    const w: f64 = weighted ? <f64>load<f32>(rowAt(args + 12, t)) : 1;
    total += w * <f64>load<f32>(rowAt(args + 4, t));
    weights += w;
  }
  store<f32>(<usize>load<u32>(args, 20), weights == 0 ? 0 : <f32>(total / weights));
}

/** dx = dy · w / Σ w and dw = dy · (x − mean) / Σ w. args: [rowsAt, x (2 words), w (2 words, or 0), dy, dx (2 words), dw (2 words)]. */
export function meanGrad(args: usize, thread: i32, threads: i32): void {
  if (thread != 0) return;
  const rows = load<i32>(<usize>load<u32>(args));
  const weighted = load<u32>(args, 12) != 0;
  let total: f64 = 0;
  let weights: f64 = 0;
  for (let t = 0; t < rows; t++) {
    const w: f64 = weighted ? <f64>load<f32>(rowAt(args + 12, t)) : 1;
    total += w * <f64>load<f32>(rowAt(args + 4, t));
    weights += w;
  }
  const scale: f64 = weights == 0 ? 0 : <f64>load<f32>(<usize>load<u32>(args, 20)) / weights;
  const centre: f64 = weights == 0 ? 0 : total / weights;
  for (let t = 0; t < rows; t++) {
    const w: f64 = weighted ? <f64>load<f32>(rowAt(args + 12, t)) : 1;
    store<f32>(rowAt(args + 24, t), <f32>(scale * w));
    store<f32>(rowAt(args + 32, t), <f32>(scale * (<f64>load<f32>(rowAt(args + 4, t)) - centre)));
  }
}

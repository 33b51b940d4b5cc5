import { rowAt, share, stateAt } from './rows';

/**
 * Copies blocks of rows: of each row, `blocks` runs of `run` elements, each `times` times in succession.
 * args: [rowsAt, x (2 words), y (2 words), blocks, run, x block stride, y block stride, times]
 */
export function copyBlocks(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(<usize>load<u32>(args));
  const blocks = load<i32>(args, 20);
  const run = (<usize>load<i32>(args, 24)) << 2;
  const xBlock = (<usize>load<i32>(args, 28)) << 2;
  const yBlock = (<usize>load<i32>(args, 32)) << 2;
  const times = load<i32>(args, 36);
  const to = share(rows * blocks, thread + 1, threads);
  for (let n = share(rows * blocks, thread, threads); n < to; n++) {
    const row = n / blocks;
    const block = <usize>(n % blocks);
    const x = rowAt(args + 4, row) + block * xBlock;
    let y = rowAt(args + 12, row) + block * yBlock;
    for (let i = 0; i < times; i++) {
      memory.copy(y, x, run);
      y += run;
    }
  }
}

/** Copies a state, row by row of the segments. args: [segmentsAt, x (table, offset), y (table, offset), width] */
export function copyState(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const width = load<i32>(args, 20);
  const from = share(width, thread, threads);
  const bytes = (<usize>(share(width, thread + 1, threads) - from)) << 2;
  for (let b = 0; b < segments; b++) {
    memory.copy(stateAt(args + 12, b) + ((<usize>from) << 2), stateAt(args + 4, b) + ((<usize>from) << 2), bytes);
  }
}

/** y[r] = x[rows[r]]. args: [countAt, x (2 words), rows (address of i32), y (2 words), width] */
export function selectRows(args: usize, thread: i32, threads: i32): void {
  const count = load<i32>(<usize>load<u32>(args));
  const rows = <usize>load<u32>(args, 12);
  const bytes = (<usize>load<i32>(args, 24)) << 2;
  const to = share(count, thread + 1, threads);
  for (let r = share(count, thread, threads); r < to; r++) {
    memory.copy(rowAt(args + 16, r), rowAt(args + 4, load<i32>(rows + ((<usize>r) << 2))), bytes);
  }
}

import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { InputError, RiverrunError, UnsupportedError } from '../../core/errors.ts';
import { spawnThread } from '../../platform/node.ts';
import { defaultThreads } from '../../platform/node-load.ts';
import { kernelIds } from './generated/kernel-ids.ts';
import { module as simd } from './generated/simd.ts';
import { startWasmBackend, wasmBackend } from './index.ts';
import { Memory } from './memory.ts';
import { type KernelModule, moduleBytes } from './module.ts';
import { CONTROL_BYTES, type SpawnThread, Threads } from './threads.ts';

const pools: Threads[] = [];
afterAll(() => {
  for (const pool of pools) pool.dispose();
});
afterEach(() => void vi.unstubAllGlobals());

/** Threads over a memory, which copy rows of four numbers. */
async function copying(count: number, spawn: SpawnThread = spawnThread) {
  const memory = new Memory(true);
  const module = await WebAssembly.compile(moduleBytes(simd, true));
  const { exports } = await WebAssembly.instantiate(module, { env: { memory: memory.wasm } });
  const control = memory.allocate(CONTROL_BYTES);
  const threads = new Threads(exports as unknown as KernelModule, module, memory.wasm, control, count, spawn, true);
  pools.push(threads);
  await threads.ready();
  const [x, y, rowsAt, plan] = [64, 64, 4, 64].map((bytes) => memory.allocate(bytes)) as [
    number,
    number,
    number,
    number,
  ];
  return {
    memory,
    threads,
    /** Copies as many rows, `stride` numbers apart, from x to y. */
    copy(rows: number, stride: number): number[] {
      memory.i32[rowsAt / 4] = rows;
      memory.i32.set([kernelIds.copyBlocks, plan + 8, rowsAt, x, stride, y, stride, 1, 4, 0, 0, 1], plan / 4);
      memory.f32.set([1, 2, 3, 4, 5, 6, 7, 8], x / 4);
      memory.f32.fill(0, y / 4, y / 4 + 8);
      threads.walk(plan, 1);
      return [...memory.f32.subarray(y / 4, y / 4 + 8)];
    },
  };
}

/** Rows so far apart that all but the first lie behind the end of the memory. */
const BEYOND = 1 << 28;

describe('a thread that is no more', () => {
  test.each([2, 3])('ended between runs, of %i: the next run fails and does not wait for it', async (count) => {
    const ends: Promise<unknown>[] = [];
    const workers: { terminate(): void }[] = [];
    const { threads, copy } = await copying(count, (source, data, ended) => {
      ends.push(
        new Promise((resolve) =>
          workers.push(
            spawnThread(source, data, (cause) => {
              ended(cause);
              resolve(cause);
            }),
          ),
        ),
      );
      return workers.at(-1)!;
    });
    expect(copy(2, 4)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    workers[0]!.terminate();
    await ends[0];
    expect(() => copy(2, 4)).toThrow(RiverrunError);
    expect(() => copy(2, 4)).toThrow(/a thread that computes has ended: it ended with code 1; load the model again/);
    // The others have no work any more, and end by themselves.
    await Promise.all(ends);
    expect(threads.count).toBe(count);
  });

  test.each([2, 3])('failed in a kernel, of %i: the run fails, and those after it', async (count) => {
    const { copy } = await copying(count);
    expect(() => copy(count, BEYOND)).toThrow(/a thread that computes has ended/);
    expect(() => copy(2, 4)).toThrow(/a thread that computes has ended/);
  });

  test('is told apart from this thread, which fails by itself', async () => {
    const { copy } = await copying(2);
    // Two of five rows are this thread's.
    expect(() => copy(5, BEYOND)).toThrow(WebAssembly.RuntimeError);
    expect(() => copy(2, 4)).toThrow(/a thread that computes has ended: memory access out of bounds/);
  });

  test('did not start: that is said, and nothing waits', async () => {
    const refused: SpawnThread = (_, __, ended) => {
      setTimeout(() => ended(new Error('no memory for it')), 1);
      return { terminate: () => undefined };
    };
    await expect(wasmBackend({ threads: 3, spawn: refused })).rejects.toThrow(UnsupportedError);
    await expect(wasmBackend({ threads: 3, spawn: refused })).rejects.toThrow(
      /3 threads can't be started: no memory for it/,
    );
    // Nor does it go unhandled where nobody waits.
    await startWasmBackend({ threads: 3, spawn: refused });
    await new Promise((resolve) => setTimeout(resolve, 20));
    let started = 0;
    let ended = 0;
    const second: SpawnThread = () => {
      if (started === 1) throw new Error('not two');
      started++;
      return { terminate: () => void ended++ };
    };
    await expect(wasmBackend({ threads: 3, spawn: second })).rejects.toThrow(/3 threads can't be started: not two/);
    expect([started, ended]).toEqual([1, 1]);
  });
});

describe('more threads than one', () => {
  test('need something that starts them', async () => {
    await expect(wasmBackend({ threads: 2 })).rejects.toThrow(InputError);
  });

  test('need shared memory: without it there is one unless more are asked for, which is refused', async () => {
    vi.stubGlobal('SharedArrayBuffer', undefined);
    expect(defaultThreads()).toBe(1);
    await expect(wasmBackend({ threads: 2, spawn: spawnThread })).rejects.toThrow(/need SharedArrayBuffer/);
    const backend = await wasmBackend({ threads: 1, spawn: spawnThread });
    expect(backend.threads).toBe(1);
    backend.dispose();
  });
});

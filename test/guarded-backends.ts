import { wasmBackend } from '../src/backends/wasm/index.ts';
import { spawnThread } from '../src/platform/node.ts';
import { watchedReads } from './watched-reads.ts';

/**
 * Wasm backends whose values, scratch memory and weights have poison behind them: what is written there fails, and on one thread what is read,
 * too. The caller disposes of them.
 */
export const guardedBackends = async () => [
  await wasmBackend({ relaxed: false, guards: true, rewrite: watchedReads }),
  await wasmBackend({ relaxed: true, guards: true, rewrite: watchedReads }),
  await wasmBackend({ threads: 2, spawn: spawnThread, guards: true }),
];

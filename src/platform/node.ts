import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import type { SpawnThread } from '../backends/wasm/threads.ts';

/** Node 20 has relaxed SIMD behind a flag; it must be set before the first module is compiled. */
export function enableWasmFeatures(): void {
  if (Number(process.versions.node.split('.')[0]) < 22) setFlagsFromString('--experimental-wasm-relaxed-simd');
}

/** Runs `source` in a worker thread and calls its `start(data)`. The thread does not keep the process alive. */
export const spawnThread: SpawnThread = (source, data) => {
  const worker = new Worker(`${source}\nstart(require('node:worker_threads').workerData);`, {
    eval: true,
    workerData: data,
  });
  worker.unref();
  return { terminate: () => void worker.terminate() };
};

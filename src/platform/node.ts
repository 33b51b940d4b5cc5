import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import type { SpawnThread } from '../backends/wasm/threads.ts';

/** Node 20 has relaxed SIMD behind a flag; it must be set before the first module is compiled. */
export function enableWasmFeatures(): void {
  if (Number(process.versions.node.split('.')[0]) < 22) setFlagsFromString('--experimental-wasm-relaxed-simd');
}

/**
 * Runs `source` in a worker thread and calls its `start(data)`. The thread does not keep the process alive. The code
 * travels as a data: URL, so that no file need be found by bundlers, and is a module whatever the process's own flags say.
 */
export const spawnThread: SpawnThread = (source, data, ended) => {
  const code = `import { workerData } from 'node:worker_threads';\n${source}\nstart(workerData);`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), { workerData: data });
  worker.unref();
  worker.on('error', ended);
  worker.on('exit', (code) => ended(new Error(`it ended with code ${code}`)));
  return { terminate: () => void worker.terminate() };
};

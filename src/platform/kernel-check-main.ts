// Prints digests of what the kernels compute, as JSON: run by revectorization.ts in processes with and without the flag.
import { wasmBackend } from '../backends/wasm/index.ts';
import { kernelDigests } from '../verification/kernel-digests.ts';
import { spawnThread } from './node.ts';

const backend = await wasmBackend();
const together = await wasmBackend({ threads: 2, spawn: spawnThread });
process.stdout.write(JSON.stringify([...kernelDigests(backend, together)]));
together.dispose();
backend.dispose();

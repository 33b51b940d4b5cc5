// Prints digests of what the kernels compute, as JSON: run by revectorization.ts in processes with and without the flag.
import { wasmBackend } from '../backends/wasm/index.ts';
import { kernelDigests } from '../verification/kernel-digests.ts';

const backend = await wasmBackend();
process.stdout.write(JSON.stringify([...kernelDigests(backend)]));
backend.dispose();

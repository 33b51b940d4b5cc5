import { availableParallelism, cpus, totalmem } from 'node:os';
import { hasRelaxedSimd } from '../backends/wasm/index.ts';
import { enableWasmFeatures } from './node.ts';
import { defaultThreads } from './node-load.ts';
import { type Revectorization, revectorization } from './revectorization.ts';

/** What models compute with on this machine. */
export interface Device {
  readonly cpu: string;
  readonly arch: string;
  /** Cores that this process may use. */
  readonly cores: number;
  readonly memoryBytes: number;
  readonly node: string;
  readonly v8: string;
  /** Threads that models get when none are asked for. */
  readonly threads: number;
  /** The build of the kernels that the engine takes. */
  readonly kernels: 'relaxed' | 'simd';
  /** Whether they are compiled to 256-bit operations, and what that was decided by. */
  readonly revectorization: Revectorization;
}

/** Finds out what models would compute with. Where Node can revectorize kernels and it is not known yet, they are compared first. */
export async function device(): Promise<Device> {
  enableWasmFeatures();
  const { arch, version, versions } = process;
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    arch,
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    node: version,
    v8: versions.v8,
    threads: defaultThreads(),
    kernels: hasRelaxedSimd() ? 'relaxed' : 'simd',
    revectorization: await revectorization(),
  };
}

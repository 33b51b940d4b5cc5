import { availableParallelism, cpus, totalmem } from 'node:os';
import { hasRelaxedSimd } from '../backends/wasm/index.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import { enableWasmFeatures } from './node.ts';
import { defaultThreads, type LoadOptions } from './node-load.ts';
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

/**
 * Finds out what models would compute with. Where Node can revectorize kernels and it is not known yet, they are compared first; not so
 * with `revectorize: false`, which tells of models that are loaded with that.
 */
export async function device(options: Pick<LoadOptions, 'revectorize'> = {}): Promise<Device> {
  refuseUnknownOptions(options, ['revectorize']);
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
    revectorization:
      options.revectorize === false
        ? { on: false, reason: 'turned off by the option revectorize (--no-revectorize)' }
        : await revectorization(),
  };
}

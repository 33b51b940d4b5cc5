import type { Backend } from '../../core/backend.ts';
import { Digest } from '../../core/digest.ts';
import { InputError, UnsupportedError } from '../../core/errors.ts';
import type { OpName } from '../../ops/index.ts';
import { WasmExecutable } from './executable.ts';
import { isJoined, kernels } from './kernels.ts';
import { hasSharedMemory, Memory } from './memory.ts';
import { hasRelaxedSimd, type KernelModule, moduleBytes } from './module.ts';
import { WasmSlot } from './slot.ts';
import { CONTROL_BYTES, type SpawnThread, Threads } from './threads.ts';
import { WasmWeights } from './weights.ts';

export interface WasmOptions {
  /** Threads that share the work, this one included. More than 1 needs `spawn` and SharedArrayBuffer. Default 1. */
  readonly threads?: number;
  /** How the platform starts a thread. */
  readonly spawn?: SpawnThread;
  /** Relaxed SIMD: by default where the engine has it. */
  readonly relaxed?: boolean;
  /** Whether this thread may sleep: not so on a browser's main thread. Default true. */
  readonly mayWait?: boolean;
  /** Fills working memory with NaN before each run, so that nothing stale can look like a result. For tests. */
  readonly poison?: boolean;
  /** Leaves poisoned bands behind every block and value, and fails where a kernel writes there. For tests. */
  readonly guards?: boolean;
  /** Rewrites the kernels of this thread, and tells what they then import besides the memory. For tests. */
  readonly rewrite?: (
    module: Uint8Array<ArrayBuffer>,
    memory: WebAssembly.Memory,
  ) => { readonly module: Uint8Array<ArrayBuffer>; readonly env: WebAssembly.ModuleImports };
}

export { hasRelaxedSimd, hasSharedMemory };

/** A digest of the build of the kernels that this engine takes. */
export async function moduleDigest(): Promise<string> {
  const build = hasRelaxedSimd() ? await import('./generated/relaxed.ts') : await import('./generated/simd.ts');
  return new Digest().text(build.module).hex();
}

/** Elements behind every value of a guarded plan: as far as a tile may reach. */
const GUARD = 64;

/** The CPU: SIMD kernels in WebAssembly, on one thread or several. */
export async function wasmBackend(options: WasmOptions = {}): Promise<Backend> {
  const { backend, ready } = await startWasmBackend(options);
  await ready;
  return backend;
}

/** A backend whose threads are being started: memory may be asked for, but nothing be computed, before `ready`. */
export interface StartedBackend {
  readonly backend: Backend;
  /** UnsupportedError where a thread can't be started; the backend is disposed then. */
  readonly ready: Promise<void>;
}

/** The same, for those who have something else to do until the threads are there. */
export async function startWasmBackend(options: WasmOptions = {}): Promise<StartedBackend> {
  const { threads = 1, spawn, relaxed = hasRelaxedSimd(), mayWait = true, poison = false, guards = false } = options;
  const shared = threads > 1;
  if (shared && !spawn) throw new InputError(`threads is ${threads}: more than one need \`spawn\`, which starts them`);
  if (shared && !hasSharedMemory())
    throw new UnsupportedError(
      `threads is ${threads}: more than one need SharedArrayBuffer, which is not there. Take one, or serve the page cross-origin isolated`,
    );
  const memory = new Memory(shared, guards);
  const build = relaxed ? await import('./generated/relaxed.ts') : await import('./generated/simd.ts');
  const bytes = moduleBytes(build.module, shared);
  const module = await WebAssembly.compile(bytes);
  const own = options.rewrite?.(bytes, memory.wasm);
  const instance = await WebAssembly.instantiate(own ? await WebAssembly.compile(own.module) : module, {
    env: { memory: memory.wasm, ...own?.env },
  });
  const control = memory.allocate(CONTROL_BYTES);
  const pool = new Threads(
    instance.exports as unknown as KernelModule,
    module,
    memory.wasm,
    control,
    threads,
    spawn,
    mayWait,
  );
  const ready = pool.ready().catch((error: unknown) => {
    pool.dispose();
    throw error;
  });
  // Whoever never comes to wait for it has an error of their own to tell.
  ready.catch(() => {});
  const backend: Backend = {
    name: `wasm-${relaxed ? 'relaxed' : 'simd'}`,
    threads: pool.count,
    layout: (weights) => ({
      ...(guards && { guard: GUARD }),
      acceptsStrided: (op, input, shape) => {
        const kernel = kernels[op.name as OpName];
        if (kernel === undefined || kernel === 'reference') return true;
        return kernel.strided?.(input, shape) ?? true;
      },
      scratch: (node, capacity) => {
        const kernel = kernels[node.op!.name as OpName];
        if (kernel === undefined || kernel === 'reference') return 0;
        return kernel.scratch?.(node, capacity, pool.count, weights as WasmWeights | undefined) ?? 0;
      },
      joins: (node, readers, capacity) => isJoined(node, readers, capacity, weights as WasmWeights | undefined),
    }),
    weights: (declarations) => new WasmWeights(memory, pool, declarations),
    slot: (declarations) => new WasmSlot(memory, declarations),
    compile: (plan, weights, states) => new WasmExecutable(memory, pool, plan, weights as WasmWeights, states, poison),
    dispose: () => pool.dispose(),
  };
  return { backend, ready };
}

import type { KernelModule } from './module.ts';

/** A thread of execution, as the platform makes it: a Node worker or a web worker. */
export interface WorkerThread {
  terminate(): void;
}

/** Starts a thread that runs JavaScript `source`, in which `start(data)` is called with a structured clone of `data`. */
export type SpawnThread = (source: string, data: unknown) => WorkerThread;

/** i32 words in shared memory. The first three are the barrier's. */
const COMMAND = 4;
const PLAN = 5;
const STEPS = 6;
const READY = 7;
export const CONTROL_BYTES = 64;

/**
 * What a worker runs. It sleeps until the command word changes, walks the plan it is given together with all other
 * threads, and sleeps again; a short spin before sleeping spares the wake-up between the tokens of one text.
 */
const workerSource = `
function start({ module, memory, thread, threads, control, spin }) {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const words = new Int32Array(memory.buffer, control, ${CONTROL_BYTES / 4});
  let seen = 0;
  Atomics.add(words, ${READY}, 1);
  Atomics.notify(words, ${READY});
  for (;;) {
    let spins = 0;
    while (Atomics.load(words, ${COMMAND}) === seen) {
      if (++spins > spin) Atomics.wait(words, ${COMMAND}, seen);
    }
    seen = Atomics.load(words, ${COMMAND});
    exports.walk(Atomics.load(words, ${PLAN}), Atomics.load(words, ${STEPS}), thread, threads, control, 1);
  }
}`;

/** Runs plans on this thread and `threads − 1` workers. */
export class Threads {
  readonly count: number;
  readonly #kernels: KernelModule;
  readonly #words: Int32Array;
  readonly #control: number;
  readonly #mayWait: number;
  readonly #workers: WorkerThread[];

  constructor(
    kernels: KernelModule,
    module: WebAssembly.Module,
    memory: WebAssembly.Memory,
    control: number,
    count: number,
    spawn: SpawnThread | undefined,
    mayWait: boolean,
  ) {
    this.#kernels = kernels;
    this.#control = control;
    this.#words = new Int32Array(memory.buffer, control, CONTROL_BYTES / 4);
    this.#mayWait = Number(mayWait);
    this.count = spawn ? count : 1;
    this.#workers = Array.from({ length: this.count - 1 }, (_, i) =>
      spawn!(workerSource, { module, memory, thread: i + 1, threads: count, control, spin: 20_000 }),
    );
  }

  /** Resolves when every worker has started. */
  async ready(): Promise<void> {
    while (Atomics.load(this.#words, READY) < this.#workers.length)
      await new Promise((resolve) => setTimeout(resolve, 1));
  }

  /** Walks `steps` steps of the plan at an address, on all threads; returns when all are done. */
  walk(plan: number, steps: number): void {
    if (this.count > 1) {
      Atomics.store(this.#words, PLAN, plan);
      Atomics.store(this.#words, STEPS, steps);
      Atomics.add(this.#words, COMMAND, 1);
      Atomics.notify(this.#words, COMMAND);
    }
    this.#kernels.walk(plan, steps, 0, this.count, this.#control, this.#mayWait);
  }

  /** The same on this thread alone: for work that is done before another has woken. */
  walkAlone(plan: number, steps: number): void {
    this.#kernels.walk(plan, steps, 0, 1, this.#control, this.#mayWait);
  }

  dispose(): void {
    for (const worker of this.#workers) worker.terminate();
    this.#workers.length = 0;
  }
}

import { RiverrunError, UnsupportedError } from '../../core/errors.ts';
import type { KernelModule } from './module.ts';

/** A thread of execution, as the platform makes it: a Node worker or a web worker. */
export interface WorkerThread {
  terminate(): void;
}

/**
 * Starts a thread that runs JavaScript `source`, in which `start(data)` is called with a structured clone of `data`. `ended` is to be called
 * with the cause when the thread could not be started, failed or is no more.
 */
export type SpawnThread = (source: string, data: unknown, ended: (cause: unknown) => void) => WorkerThread;

/**
 * i32 words in shared memory. The first four are the barrier's: arrived, generation, sleeping, failed.
 * The second cache line is the kernels' count of units.
 */
const GENERATION = 1;
const FAILED = 3;
const COMMAND = 4;
const PLAN = 5;
const STEPS = 6;
const READY = 7;
export const CONTROL_BYTES = 128;

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
  for (;;) {
    let spins = 0;
    while (Atomics.load(words, ${COMMAND}) === seen) {
      if (++spins > spin) Atomics.wait(words, ${COMMAND}, seen);
    }
    if (Atomics.load(words, ${FAILED}) !== 0) return;
    seen = Atomics.load(words, ${COMMAND});
    try {
      exports.walk(Atomics.load(words, ${PLAN}), Atomics.load(words, ${STEPS}), thread, threads, control, 1);
    } catch (error) {
      // The others wait for this thread's part.
      Atomics.store(words, ${FAILED}, 1);
      Atomics.add(words, ${GENERATION}, 1);
      Atomics.notify(words, ${GENERATION});
      throw error;
    }
  }
}`;

/** Runs plans on this thread and `threads − 1` workers. */
export class Threads {
  readonly count: number;
  readonly #kernels: KernelModule;
  readonly #words: Int32Array;
  readonly #control: number;
  readonly #mayWait: number;
  readonly #workers: WorkerThread[] = [];
  #cause: unknown;

  /** UnsupportedError where a thread can't be started. */
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
    this.count = count;
    try {
      for (let thread = 1; thread < this.count; thread++) {
        const data = { module, memory, thread, threads: count, control, spin: 20_000 };
        this.#workers.push(spawn!(workerSource, data, (cause) => this.#fail(cause)));
      }
    } catch (cause) {
      this.dispose();
      throw notStarted(count, cause);
    }
  }

  /** Resolves when every worker has started; UnsupportedError where one does not. */
  async ready(): Promise<void> {
    while (Atomics.load(this.#words, READY) < this.#workers.length) {
      if (this.#hasFailed) throw notStarted(this.count, this.#cause);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** Walks `steps` steps of the plan at an address, on all threads; returns when all are done. RiverrunError where a thread has failed. */
  walk(plan: number, steps: number): void {
    if (this.count === 1) {
      this.#kernels.walk(plan, steps, 0, 1, this.#control, this.#mayWait);
      return;
    }
    this.#expectAll();
    Atomics.store(this.#words, PLAN, plan);
    Atomics.store(this.#words, STEPS, steps);
    Atomics.add(this.#words, COMMAND, 1);
    Atomics.notify(this.#words, COMMAND);
    try {
      this.#kernels.walk(plan, steps, 0, this.count, this.#control, this.#mayWait);
    } catch (error) {
      this.#fail(error);
      throw error;
    }
    this.#expectAll();
  }

  /** The same on this thread alone: for work that is done before another has woken. */
  walkAlone(plan: number, steps: number): void {
    this.#kernels.walk(plan, steps, 0, 1, this.#control, this.#mayWait);
  }

  get #hasFailed(): boolean {
    return Atomics.load(this.#words, FAILED) !== 0;
  }

  #expectAll(): void {
    if (!this.#hasFailed) return;
    const cause = this.#cause === undefined ? '' : `: ${messageOf(this.#cause)}`;
    throw new RiverrunError(`a thread that computes has ended${cause}; load the model again`, { cause: this.#cause });
  }

  /** Lets go of all who wait for a thread that will not arrive: for good, since nobody knows which parts of the work are done. */
  #fail(cause: unknown): void {
    this.#cause ??= cause;
    Atomics.store(this.#words, FAILED, 1);
    Atomics.add(this.#words, GENERATION, 1);
    Atomics.notify(this.#words, GENERATION);
    Atomics.add(this.#words, COMMAND, 1);
    Atomics.notify(this.#words, COMMAND);
  }

  dispose(): void {
    for (const worker of this.#workers) worker.terminate();
    this.#workers.length = 0;
  }
}

const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));

const notStarted = (count: number, cause: unknown): UnsupportedError =>
  new UnsupportedError(`${count} threads can't be started: ${messageOf(cause)}. Take fewer`, { cause });

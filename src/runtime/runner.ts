import type { Backend, Executable, Slot, Weights } from '../core/backend.ts';
import { DisposedError, UnsupportedError } from '../core/errors.ts';
import type { Numbers } from '../core/op.ts';
import { plan } from '../core/plan.ts';
import { type Counts, elementCount } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';
import type { ModelGraph } from './graph.ts';

/** One sequence's part of a step. */
export interface Segment {
  readonly slot: Slot;
  readonly tokens: ArrayLike<number>;
  /** How many tokens the sequence held before. */
  readonly position: number;
  /** Which of its tokens logits are wanted for. */
  readonly outputs: 'none' | 'last' | 'all';
}

/** Values of the graph that a run is to leave readable, by names of the caller's. `key` tells the set from other sets. */
export interface Taps {
  readonly key: string;
  readonly values: ReadonlyMap<string, Tensor>;
}

const noTaps: Taps = { key: '', values: new Map() };

/**
 * What takes sessions forward: a runner, or a batcher that packs the steps of several. Results are handed over as soon as they are
 * there: the next run, maybe of another session, has its own in the same place.
 */
export interface Stepper {
  /** One more token of one sequence; copies the logits [V] of the next to `logits`. */
  decode(slots: readonly [Slot], token: number, position: number, logits: Float32Array): void | Promise<void>;
  /**
   * @param take given the logits [outputs, V] of the wanted tokens in order, valid until it returns
   * @param onHidden told the hidden states [tokens, D] after the last norm, valid until it returns
   */
  run(segments: readonly Segment[], take: Take, onHidden?: Take): Promise<void>;
  /** Told that a slot is about to go. */
  forget?(slot: Slot): void;
}

export type Take = (numbers: Float32Array) => void;

/**
 * Runs a model's step on packed segments. Plans are made when a capacity is first needed and kept: one for single tokens,
 * one for blocks, one for each larger batch (capacities are powers of two, so there are few). Runs take turns, whoever asks.
 */
export class Runner implements Stepper {
  readonly #backend: Backend;
  readonly #weights: Weights;
  readonly #graph: ModelGraph;
  readonly #outputSize: number;
  readonly #executables = new Map<string, Executable>();
  /** While it is there, seconds spent in each kernel are added to it, and runs are slower for it. */
  seconds: Map<string, number> | undefined;
  readonly #single = { tokens: 1, segments: 1, outputs: 1 };

  constructor(backend: Backend, weights: Weights, graph: ModelGraph, outputSize: number) {
    this.#backend = backend;
    this.#weights = weights;
    this.#graph = graph;
    this.#outputSize = outputSize;
  }

  /** Bytes of working memory that the plans made so far hold. */
  get bytes(): number {
    return [...this.#executables.values()].reduce((sum, executable) => sum + executable.bytes, 0);
  }

  /** One more token of one sequence. Allocates nothing, where the backend is done when it returns and nobody is before. */
  decode(slots: readonly [Slot], token: number, position: number, logits: Float32Array): void | Promise<void> {
    if (this.#queued > 0) return this.#inTurn(() => this.#decode(slots, token, position, logits));
    const running = this.#decode(slots, token, position, logits);
    if (running) return this.#inTurn(() => running);
  }

  #decode(slots: readonly [Slot], token: number, position: number, logits: Float32Array): void | Promise<void> {
    const executable = this.#executable(this.#single);
    slots[0].reserve(position + 1, position);
    executable.input('tokens')[0] = token;
    executable.input('ends')[0] = 1;
    if (this.#has(executable, 'positions')) executable.input('positions')[0] = position;
    executable.input('rows')[0] = 0;
    const running = this.#run(executable, this.#single, slots);
    if (running) return running.then(() => logits.set(executable.output('logits') as Float32Array));
    logits.set(executable.output('logits') as Float32Array);
  }

  /** Advances several segments together. */
  async run(segments: readonly Segment[], take: Take, onHidden?: Take): Promise<void> {
    if (!onHidden) return await this.tapped(segments, noTaps, take);
    const taps = { key: 'hidden', values: new Map([['hidden', this.#graph.hidden]]) };
    await this.tapped(segments, taps, (logits, value) => {
      take(logits);
      onHidden(value('hidden') as Float32Array);
    });
  }

  /**
   * Like `run`, by a plan that keeps some of the graph's values: `take` is also given what tells of a tap's value, rows dense. All is
   * valid until it returns; what it returns is returned.
   */
  async tapped<R>(
    segments: readonly Segment[],
    taps: Taps,
    take: (logits: Float32Array, value: (name: string) => Numbers) => R,
  ): Promise<R> {
    return await this.#inTurn(() => this.#tapped(segments, taps, take));
  }

  async #tapped<R>(
    segments: readonly Segment[],
    taps: Taps,
    take: (logits: Float32Array, value: (name: string) => Numbers) => R,
  ): Promise<R> {
    const counts = countsOf(segments);
    const executable = this.#executable(counts, taps);
    // First of all: making room may grow the memory, and views of it end then.
    for (const { slot, position, tokens } of segments) slot.reserve(position + tokens.length, position);
    const [tokens, ends, rows] = ['tokens', 'ends', 'rows'].map((name) => executable.input(name)) as [
      Numbers,
      Numbers,
      Numbers,
    ];
    let at = 0;
    let row = 0;
    for (const [b, segment] of segments.entries()) {
      const { length } = segment.tokens;
      tokens.set(segment.tokens, at);
      if (segment.outputs === 'all') for (let t = 0; t < length; t++) rows[row++] = at + t;
      if (segment.outputs === 'last') rows[row++] = at + length - 1;
      at += length;
      ends[b] = at;
      if (this.#has(executable, 'positions')) executable.input('positions')[b] = segment.position;
    }
    await this.#run(
      executable,
      counts,
      segments.map(({ slot }) => slot),
    );
    return take(executable.output('logits').subarray(0, counts.outputs * this.#outputSize) as Float32Array, (name) =>
      executable.output(name).subarray(0, elementCount(taps.values.get(name)!.shape, counts)),
    );
  }

  /** Runs that were begun or wait, and the end of the last of them. */
  #queued = 0;
  #last: Promise<unknown> = Promise.resolve();
  #isDisposed = false;

  /** Lets those before finish first: plans have one place for what goes in and comes out. */
  async #inTurn<R>(work: () => R | Promise<R>): Promise<R> {
    this.#queued++;
    const mine = this.#last.then(() => {
      if (this.#isDisposed) throw new DisposedError('the model is disposed');
      return work();
    });
    this.#last = mine.catch(() => {});
    try {
      return await mine;
    } finally {
      this.#queued--;
    }
  }

  /** Numbers D of a token's hidden state. */
  get hiddenSize(): number {
    return this.#graph.hidden.shape[1] as number;
  }

  #run(executable: Executable, counts: Counts, slots: readonly Slot[]): void | Promise<void> {
    if (!this.seconds) return executable.run(counts, slots);
    if (!executable.profile)
      throw new UnsupportedError(`the ${this.#backend.name} backend can't tell its kernels' times`);
    executable.profile(counts, slots, this.seconds);
  }

  #executable(counts: Counts, taps = noTaps): Executable {
    const capacity = counts === this.#single ? counts : capacityFor(counts);
    const { tokens, segments, outputs } = capacity;
    const key = counts === this.#single ? 'single' : `${tokens} ${segments} ${outputs} ${taps.key}`;
    let executable = this.#executables.get(key);
    if (!executable) {
      const { logits, carries } = this.#graph;
      const results = new Map([['logits', logits], ...taps.values]);
      const made = plan(results, carries, capacity, this.#backend.layout(this.#weights));
      executable = this.#backend.compile(made, this.#weights, carries);
      this.#executables.set(key, executable);
      this.#inputs.set(executable, new Set(made.inputs.keys()));
    }
    return executable;
  }

  readonly #inputs = new Map<Executable, Set<string>>();

  /** Whether the model reads this input: one without attention has no use for positions. */
  #has(executable: Executable, input: string): boolean {
    return this.#inputs.get(executable)!.has(input);
  }

  dispose(): void {
    this.#isDisposed = true;
    for (const executable of this.#executables.values()) executable.dispose();
    this.#executables.clear();
    this.#inputs.clear();
  }
}

function countsOf(segments: readonly Segment[]): Counts {
  let tokens = 0;
  let outputs = 0;
  for (const segment of segments) {
    tokens += segment.tokens.length;
    outputs += { none: 0, last: 1, all: segment.tokens.length }[segment.outputs];
  }
  return { tokens, segments: segments.length, outputs };
}

const powerOfTwo = (n: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, n)));

const capacityFor = ({ tokens, segments, outputs }: Counts): Counts => ({
  tokens: powerOfTwo(tokens),
  segments: powerOfTwo(segments),
  outputs: powerOfTwo(outputs),
});

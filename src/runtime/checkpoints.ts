import { InputError } from '../core/errors.ts';
import { refuseUnknownOptions } from './sampler.ts';
import type { Sequence } from './sequence.ts';
import type { State } from './state.ts';

export interface CheckpointsOptions {
  /** How many are kept; the oldest go first. Default 8. */
  readonly capacity?: number;
  /** Keeps one every so many tokens; after the block that passes them, while reading. Default: only those marked. */
  readonly every?: number;
  /** Keeps one where a generation ends. Default false. */
  readonly turns?: boolean;
}

/** A place of a text that its session can go back to. */
export interface Checkpoint {
  /** Tokens of the text. */
  readonly position: number;
  /** What `mark` called it. */
  readonly label?: string;
}

/** A ring of earlier states of a session, to go back to. */
export class Checkpoints {
  readonly capacity: number;
  readonly every: number;
  readonly turns: boolean;
  readonly #sequence: Sequence;
  readonly #idle: () => void;
  #kept: { readonly label: string | undefined; readonly state: State }[] = [];
  #next: number;

  /** @param idle throws where the session is at work or disposed */
  constructor(sequence: Sequence, idle: () => void, options: CheckpointsOptions = {}) {
    refuseUnknownOptions(options, ['capacity', 'every', 'turns']);
    const { capacity = 8, every = Infinity, turns = false } = options;
    if (!Number.isInteger(capacity) || capacity < 1)
      throw new InputError(`checkpoints.capacity is ${capacity}: it must be a whole number from 1`);
    if (every !== Infinity && (!Number.isInteger(every) || every < 1))
      throw new InputError(`checkpoints.every is ${every}: it must be a whole number of tokens`);
    this.#sequence = sequence;
    this.#idle = idle;
    this.capacity = capacity;
    this.every = every;
    this.turns = turns;
    this.#next = every;
  }

  /** Those kept, oldest first. */
  get list(): readonly Checkpoint[] {
    return this.#kept.map(({ label, state: { position } }) => ({ position, ...(label !== undefined && { label }) }));
  }

  /** Bytes that they take. */
  get size(): number {
    return this.#kept.reduce((sum, { state }) => sum + state.size, 0);
  }

  /** Keeps the state as it is now, under a name if one is given. */
  mark(label?: string): void {
    this.#idle();
    this.#keep(label);
  }

  /**
   * Goes back to the last checkpoint of that label, or the last at or before that position; those after it are forgotten.
   * Returns the position. InputError when there is none.
   */
  rewind(to: string | number): number {
    this.#idle();
    const index = this.#kept.findLastIndex(({ label, state: { position } }) =>
      typeof to === 'number' ? position <= to : label === to,
    );
    if (index < 0) {
      const kept = this.list.map(({ position, label }) => (label === undefined ? position : `${position} "${label}"`));
      const wanted = typeof to === 'number' ? `at or before position ${to}` : `"${to}"`;
      throw new InputError(`there is no checkpoint ${wanted}; kept: ${kept.length > 0 ? kept.join(', ') : 'none'}`);
    }
    const { state } = this.#kept[index]!;
    this.#sequence.put(state);
    this.#kept.length = index + 1;
    this.#schedule();
    return state.position;
  }

  /** Forgets all. */
  clear(): void {
    this.#kept = [];
    this.#schedule();
  }

  /** Tells that the session has moved on. */
  passed(): void {
    if (this.#sequence.position >= this.#next) this.#keep(undefined);
  }

  /** Tells that a generation has ended. */
  turnEnded(): void {
    if (this.turns && this.#kept.at(-1)?.state.position !== this.#sequence.position) this.#keep(undefined);
  }

  /** Keeps what another session kept: states never change, so both may have them. */
  copyFrom(other: Checkpoints): void {
    this.#kept = [...other.#kept];
    this.#next = other.#next;
  }

  #keep(label: string | undefined): void {
    if (this.#kept.length === this.capacity) this.#kept.shift();
    this.#kept.push({ label, state: this.#sequence.snapshot() });
    this.#schedule();
  }

  #schedule(): void {
    const passed = this.every === Infinity ? 0 : Math.floor(this.#sequence.position / this.every);
    this.#next = (passed + 1) * this.every;
  }
}

import { keptRows } from '../core/backend.ts';
import { InputError } from '../core/errors.ts';
import { formatShape } from '../core/shape.ts';
import { difference, type Fingerprint } from './fingerprint.ts';
import { refuseUnknownOptions } from './sampler.ts';
import type { Sequence } from './sequence.ts';
import { decodeState, encodeState, type StateContents, type StatePrecision } from './state-file.ts';
import { heldNumbers, type StateTensor } from './state-tensor.ts';

export interface SaveOptions {
  /** `f32` keeps every bit (default); `f16` halves the file, and continues closely rather than exactly. */
  readonly precision?: StatePrecision;
  /** Texts to keep in the file, under names of the caller's: see `State.notes`. */
  readonly notes?: Readonly<Record<string, string>>;
}

/**
 * All that a model knows of a text, apart from any session: of constant size for linear-time models, and with a row for
 * every token for attention, or for every token of its window. It may be saved, loaded in another process or on another backend, and restored any number of
 * times.
 */
export class State implements StateContents {
  readonly model: Fingerprint;
  /** Tokens that made it. */
  readonly position: number;
  /** Logits [V] of the next token; none before the first. */
  readonly logits: Float32Array | undefined;
  /** The carried states by name. */
  readonly tensors: ReadonlyMap<string, StateTensor>;
  /** Texts that were saved with it. */
  readonly notes: Readonly<Record<string, string>>;

  constructor({ model, position, logits, tensors, notes }: StateContents) {
    this.model = model;
    this.position = position;
    this.logits = logits;
    this.tensors = tensors;
    this.notes = notes;
  }

  /**
   * Reads a saved state. FormatError for bytes that are damaged or no state, UnsupportedError for a newer version.
   *
   * @param name what messages call it, such as the file's path
   */
  static async load(bytes: Uint8Array, name = 'the state'): Promise<State> {
    return new State(await decodeState(bytes, name));
  }

  /** Bytes of its numbers. */
  get size(): number {
    let bytes = this.logits?.byteLength ?? 0;
    for (const tensor of this.tensors.values()) bytes += heldNumbers(tensor).byteLength;
    return bytes;
  }

  /** A safetensors file that any backend, process or browser can load. */
  save(options: SaveOptions = {}): Uint8Array {
    refuseUnknownOptions(options, ['precision', 'notes']);
    const { precision = 'f32', notes = this.notes } = options;
    if (precision !== 'f32' && precision !== 'f16')
      throw new InputError(`precision is ${String(precision)}; known: f32, f16`);
    return encodeState({ ...this, notes }, precision);
  }
}

/** Refuses a state that the sequence's model can't continue, saying which it is of. */
export function checkState(state: State, sequence: Sequence, name = 'the state'): void {
  // What no token made does not depend on how matrices, or keys and values, are held.
  const { weights, kvCache } = sequence.fingerprint;
  const made = state.position > 0 ? state.model : { ...state.model, weights, kvCache };
  const problem = difference(made, sequence.fingerprint);
  if (problem) throw new InputError(`${name} is ${problem}`);
  const { position, tensors } = state;
  for (const declaration of sequence.carries) {
    const { name: carry, shape, growing, window = 0 } = declaration;
    const tensor = tensors.get(carry);
    if (!tensor) throw new InputError(`${name} lacks ${carry}`);
    const expected = growing ? [keptRows(declaration, position), ...shape] : shape;
    // States that were saved before windows let go have all rows.
    const whole = growing && window > 0 ? [position, ...shape] : expected;
    if (![expected, whole].some((one) => formatShape(tensor.shape) === formatShape(one)))
      throw new InputError(`${name}: ${carry} is ${formatShape(tensor.shape)}, expected ${formatShape(expected)}`);
  }
  const known = new Set(sequence.carries.map((carry) => carry.name));
  for (const carry of tensors.keys())
    if (!known.has(carry)) throw new InputError(`${name} holds ${carry}, which the model has not`);
  const { length } = sequence.logits;
  if (state.logits && state.logits.length !== length)
    throw new InputError(`${name} has ${state.logits.length} logits, but the model's vocabulary is ${length}`);
  if (position > sequence.longest)
    throw new InputError(`${name} is of ${position} tokens, and the model has positions for ${sequence.longest}`);
}

/** The state of a session, as it is now. */
export class SessionState {
  readonly #sequence: Sequence;
  readonly #idle: () => void;
  readonly #onReplaced: () => void;

  /** @param idle throws where the session is at work or disposed */
  constructor(sequence: Sequence, idle: () => void, onReplaced: () => void) {
    this.#sequence = sequence;
    this.#idle = idle;
    this.#onReplaced = onReplaced;
  }

  /** Bytes that it takes in memory: what a fork costs. It grows with the text only for models with attention. */
  get size(): number {
    return this.#sequence.slot.bytes;
  }

  /** Tokens that made it. */
  get position(): number {
    return this.#sequence.position;
  }

  /** Names of the carried states. */
  get names(): readonly string[] {
    return this.#sequence.carries.map(({ name }) => name);
  }

  /** One of the carried states, row-major. */
  read(name: string): Float32Array {
    this.#idle();
    if (!this.names.includes(name))
      throw new InputError(`there is no state ${name}; there are ${this.names.join(', ')}`);
    return this.#sequence.slot.read(name);
  }

  /** A copy that stays as it is now. */
  copy(): State {
    this.#idle();
    return this.#sequence.snapshot();
  }

  /** A copy as a safetensors file: see `State.load`. */
  save(options: SaveOptions = {}): Uint8Array {
    return this.copy().save(options);
  }

  /** Goes on from a saved state. InputError for a state of another model, training, or precision of weights. */
  async restore(saved: State | Uint8Array): Promise<void> {
    this.#idle();
    const state = saved instanceof Uint8Array ? await State.load(saved) : saved;
    this.#idle();
    checkState(state, this.#sequence);
    this.#sequence.put(state);
    this.#onReplaced();
  }

  /** Back to an empty text, and to the model's initial state. */
  reset(): void {
    this.#idle();
    this.#sequence.reset();
    this.#onReplaced();
  }
}

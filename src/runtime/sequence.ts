import { keptRows, type Slot, type StateDeclaration } from '../core/backend.ts';
import type { Fingerprint } from './fingerprint.ts';
import { State } from './state.ts';
import { HalfTensor, heldNumbers, type StateTensor } from './state-tensor.ts';

/** What the sequences of one model have in common. */
export interface SequenceModel {
  readonly carries: readonly StateDeclaration[];
  /** The model's fingerprint, which takes time when it is asked for the first time. */
  readonly fingerprint: () => Fingerprint;
  /** Number of logits. */
  readonly outputSize: number;
  /** Tokens that the model can see at most. */
  readonly longest: number;
  /** What texts begin with; nothing for the architecture's own first state. */
  readonly initial?: State | undefined;
  slot(): Slot;
}

/** Where a model is in one text: the carried state on the backend, the number of tokens, the logits of the next. */
export class Sequence {
  readonly slot: Slot;
  /** Logits [V] after the last token, a copy of its own: other sessions share the runner. */
  readonly logits: Float32Array;
  position = 0;
  readonly #model: SequenceModel;
  #isInitial = true;

  constructor(model: SequenceModel) {
    this.#model = model;
    this.slot = model.slot();
    this.logits = new Float32Array(model.outputSize);
    if (model.initial) this.put(model.initial);
  }

  get carries(): readonly StateDeclaration[] {
    return this.#model.carries;
  }

  get fingerprint(): Fingerprint {
    return this.#model.fingerprint();
  }

  get longest(): number {
    return this.#model.longest;
  }

  /** Whether nothing was read, nor restored: a state may be of no tokens and yet not the model's own first. */
  get isEmpty(): boolean {
    return this.position === 0 && this.#isInitial;
  }

  /** A copy of it all. */
  snapshot(): State {
    const { position } = this;
    const tensors = new Map<string, StateTensor>();
    for (const carry of this.carries) {
      const { name, shape, growing, format = 'f32' } = carry;
      const whole = [...(growing ? [keptRows(carry, position)] : []), ...shape];
      const isHalf = format === 'f16';
      tensors.set(
        name,
        isHalf ? new HalfTensor(whole, this.slot.readHalves(name)) : { shape: whole, values: this.slot.read(name) },
      );
    }
    return new State({
      model: this.fingerprint,
      position,
      logits: position > 0 ? this.logits.slice() : undefined,
      tensors,
      notes: {},
    });
  }

  /** Becomes what `state` says, which must be one of this model. */
  put(state: State): void {
    this.slot.reset();
    this.slot.reserve(state.position, state.position);
    for (const carry of this.carries) {
      const tensor = state.tensors.get(carry.name)!;
      const values = carry.format === 'f16' ? heldNumbers(tensor) : tensor.values;
      const row = carry.shape.reduce((a, b) => a * b, 1);
      // States that were saved before windows let go have all rows.
      const kept = carry.growing ? values.subarray(values.length - row * keptRows(carry, state.position)) : values;
      this.slot.write(carry.name, kept);
    }
    if (state.logits) this.logits.set(state.logits);
    this.position = state.position;
    this.#isInitial = false;
  }

  copyFrom(other: Sequence): void {
    this.slot.copyFrom(other.slot);
    this.logits.set(other.logits);
    this.position = other.position;
    this.#isInitial = other.#isInitial;
  }

  /** Back to what texts begin with. */
  reset(): void {
    this.slot.reset();
    this.position = 0;
    this.#isInitial = true;
    if (this.#model.initial) this.put(this.#model.initial);
  }
}

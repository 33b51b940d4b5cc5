import type { StateDeclaration } from '../../core/backend.ts';
import type { Place, Plan } from '../../core/plan.ts';
import { type Counts, type Dim, elementCount, resolve, rowSize } from '../../core/shape.ts';
import { refuseBeyondF16, type StateFormat } from '../../core/state-format.ts';
import { type KernelName, kernelIds } from './generated/kernel-ids.ts';
import type { Memory } from './memory.ts';
import { slotLayout } from './slot.ts';
import type { StoredWeight, WasmWeights } from './weights.ts';

/** A number of a kernel's arguments that is a float. */
export class Float {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

export type Word = number | Float;

const nothing = { rows: '', at: 0 };

/**
 * Turns the steps of a plan into kernel calls: gives every operand its address, and collects the words that the kernels
 * read their arguments from.
 */
export class Encoder {
  readonly threads: number;
  /** Everything allocated here, to be released together. */
  readonly blocks: number[] = [];
  /** Address of the table of the segments' slot addresses. */
  readonly slots: number;
  readonly #memory: Memory;
  readonly #plan: Plan;
  readonly #weights: WasmWeights;
  readonly #arena: number;
  readonly #inputs = new Map<string, number>();
  readonly #constants: number[];
  readonly #counts = new Map<string, { address: number; dim: Dim; factor: number }>();
  readonly #offsets: Map<string, number>;
  readonly #formats: ReadonlyMap<string, StateFormat>;
  /** States in f16, and the words where kernels tell of what is beyond it. */
  readonly #halves: { readonly name: string; readonly beyond: number }[] = [];
  readonly #tables = new Map<number, number>();
  #calls: { name: KernelName; words: Word[] }[] = [];
  /** Rows that are there in another form, and the call from which on they are. */
  #made = nothing;

  constructor(memory: Memory, threads: number, plan: Plan, weights: WasmWeights, states: readonly StateDeclaration[]) {
    this.#memory = memory;
    this.threads = threads;
    this.#plan = plan;
    this.#weights = weights;
    this.#offsets = slotLayout(states, memory).offsets;
    this.#formats = new Map(states.map(({ name, format = 'f32' }) => [name, format]));
    this.#arena = this.allocate(4 * plan.arena);
    this.slots = this.allocate(4 * plan.capacity.segments);
    for (const [name, { shape }] of plan.inputs)
      this.#inputs.set(name, this.allocate(4 * elementCount(shape, plan.capacity)));
    this.#constants = plan.constants.map((values) => {
      const address = this.allocate(4 * values.length);
      memory.f32.set(values, address / 4);
      return address;
    });
  }

  allocate(bytes: number): number {
    const address = this.#memory.allocate(bytes);
    this.blocks.push(address);
    return address;
  }

  get arena(): { address: number; elements: number } {
    return { address: this.#arena, elements: this.#plan.arena };
  }

  inputAddress(name: string): number {
    return this.#inputs.get(name)!;
  }

  /** Address of the word that holds, in each run, the length of an axis times `factor`. */
  count(dim: Dim, factor = 1): number {
    const key = `${dim}·${factor}`;
    let count = this.#counts.get(key);
    if (!count) {
      count = { address: this.allocate(4), dim, factor };
      this.#counts.set(key, count);
      if (typeof dim === 'number') this.#memory.i32[count.address / 4] = dim * factor;
    }
    return count.address;
  }

  /** The most that an axis can be. */
  capacity(dim: Dim): number {
    return resolve(dim, this.#plan.capacity);
  }

  /** Sets the lengths of the run-time axes for a run. */
  setCounts(counts: Counts): void {
    const { i32 } = this.#memory;
    for (const { address, dim, factor } of this.#counts.values()) {
      if (typeof dim !== 'number') i32[address / 4] = counts[dim] * factor;
    }
  }

  /** Address of a tensor's first element. Not for states: their sequences each have their own. */
  address(place: Place): number {
    const offset = 4 * place.offset;
    if (place.region === 'arena') return this.#arena + offset;
    if (place.region === 'input') return this.#inputs.get(place.name)! + offset;
    if (place.region === 'constant') return this.#constants[Number(place.name)]! + offset;
    if (place.region === 'parameter') return this.#weights.find(place.name).address + offset;
    throw new Error(`a state has no single address (${place.name})`);
  }

  /** The parameter at a place, if it is one and not part of one. */
  weight(place: Place): StoredWeight | undefined {
    return place.region === 'parameter' ? this.#weights.find(place.name) : undefined;
  }

  /** Address and row stride; the address is 0 where the operand is absent. */
  operand(place: Place | undefined): [number, number] {
    return place ? [this.address(place), place.stride] : [0, 0];
  }

  /** Address, or 0 where the operand is absent. */
  optional(place: Place | undefined): number {
    return place ? this.address(place) : 0;
  }

  /** A state: the table of the addresses of the segments' rows, and the byte offset in a row. */
  state(place: Place): [number, number] {
    if (place.region === 'state') return [this.slots, this.#offsets.get(place.name)! + 4 * place.offset];
    return [this.#table(rowSize(place.shape)), this.address(place)];
  }

  /** How a state's numbers are kept. */
  stateFormat({ region, name }: Place): StateFormat {
    return (region === 'state' ? this.#formats.get(name) : undefined) ?? 'f32';
  }

  /** Address of the word where a kernel leaves the magnitude of a number that a state's format has no place for; 0 where it has for all. */
  beyond(place: Place): number {
    if (this.stateFormat(place) === 'f32') return 0;
    const beyond = this.allocate(4);
    this.#halves.push({ name: place.name, beyond });
    return beyond;
  }

  /** UnsupportedError where a kernel of the last run left such a magnitude. */
  inspectStates(): void {
    const { f32 } = this.#memory;
    for (let n = 0; n < this.#halves.length; n++) {
      const { name, beyond } = this.#halves[n]!;
      const magnitude = f32[beyond / 4]!;
      if (magnitude === 0) continue;
      for (const half of this.#halves) f32[half.beyond / 4] = 0;
      refuseBeyondF16(magnitude, name);
    }
  }

  /** A table of row offsets, for states that lie in the arena. */
  #table(width: number): number {
    let table = this.#tables.get(width);
    if (table === undefined) {
      table = this.allocate(4 * this.#plan.capacity.segments);
      for (let b = 0; b < this.#plan.capacity.segments; b++) this.#memory.i32[table / 4 + b] = 4 * width * b;
      this.#tables.set(width, table);
    }
    return table;
  }

  /** Address of scratch memory, in elements from the start of the arena. */
  scratch(offset: number): number {
    return this.#arena + 4 * offset;
  }

  /** Address of a table of f64 constants. */
  doubles(values: readonly number[]): number {
    const address = this.allocate(8 * values.length);
    new Float64Array(this.#memory.u8.buffer, address, values.length).set(values);
    return address;
  }

  /** Adds a kernel call. */
  call(kernel: KernelName, ...words: Word[]): void {
    this.#calls.push({ name: kernel, words });
  }

  /** Notes that the next calls, of `kernels`, read rows in another form; whether those before them have left them there, so that they need not be made. */
  hasMade(rows: string, kernels: readonly KernelName[]): boolean {
    const isMade =
      this.#made.rows === rows && this.#calls.slice(this.#made.at).every(({ name }) => kernels.includes(name));
    if (!isMade) this.#made = { rows, at: this.#calls.length };
    return isMade;
  }

  /** Writes the calls collected since the last time as a plan for `walk`. */
  finish(): { plan: number; kernels: readonly KernelName[] } {
    const calls = this.#calls;
    this.#calls = [];
    this.#made = nothing;
    const plan = this.allocate(8 * calls.length);
    const args = this.allocate(4 * calls.reduce((sum, { words }) => sum + words.length, 0));
    const { i32, f32 } = this.#memory;
    let at = args / 4;
    for (const [i, { name, words }] of calls.entries()) {
      i32[plan / 4 + 2 * i] = kernelIds[name];
      i32[plan / 4 + 2 * i + 1] = 4 * at;
      for (const word of words) {
        if (word instanceof Float) f32[at++] = word.value;
        else i32[at++] = word;
      }
    }
    return { plan, kernels: calls.map(({ name }) => name) };
  }
}

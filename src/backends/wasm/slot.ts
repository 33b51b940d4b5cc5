import { keptRows, type Slot, type StateDeclaration } from '../../core/backend.ts';
import { float16Table, numberToFloat16 } from '../../core/float16.ts';
import { exceeds } from '../../core/magnitude.ts';
import { bytesOfFormat, checkHalves, F16_LIMIT, refuseBeyondF16 } from '../../core/state-format.ts';
import { type Memory, POISON } from './memory.ts';

const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Bytes that are left unused behind every state of a guarded memory. */
const GUARD = 64;

/** Where the states lie in a sequence's block, in bytes. */
interface SlotLayout {
  readonly offsets: Map<string, number>;
  /** Where what nothing may touch begins and ends behind each state: none unless the memory is guarded. */
  readonly guards: readonly (readonly [start: number, end: number])[];
  readonly bytes: number;
}

/** The layout of a sequence's block: the same for every sequence of a model. */
export function slotLayout(
  declarations: readonly StateDeclaration[],
  { guarded }: Pick<Memory, 'guarded'>,
): SlotLayout {
  const offsets = new Map<string, number>();
  const guards: [number, number][] = [];
  let bytes = 0;
  for (const { name, shape, growing } of declarations) {
    offsets.set(name, bytes);
    // Of a state that grows, the block has only the address of its table of pages, and the mask of places in it.
    const end = bytes + (growing ? 16 : 4 * count(shape));
    bytes = Math.ceil(end / 16) * 16;
    if (!guarded) continue;
    bytes += GUARD;
    guards.push([end, bytes]);
  }
  return { offsets, guards, bytes };
}

/** Tokens in a page of a state that grows. The attention kernel goes by pages too. */
export const PAGE_TOKENS = 64;

/** Length of a row in a page: whole pairs of vectors. */
export const paddedWidth = (width: number): number => 8 * Math.ceil(width / 8);

/** The pages of a state that grows: those from page `first` on, page p's address in the table's place p modulo its length. */
interface Pages {
  table: number;
  /** Places in the table, a power of two. */
  capacity: number;
  /** Number of the first page that is kept: with a window, those before were let go. */
  first: number;
  readonly addresses: number[];
}

/**
 * The carried state of one sequence: one block of Wasm memory. Of a state that grows, [G, width] a token, the block holds the
 * address of a table of pages of PAGE_TOKENS tokens, [G][PAGE_TOKENS][paddedWidth], in f32 or f16: what one head reads lies in one piece. Pages
 * are added as the text grows, and never move; with a window, those that it has passed are let go, and the table is a ring.
 */
export class WasmSlot implements Slot {
  readonly address: number;
  readonly #size: number;
  readonly #memory: Memory;
  readonly #declarations: readonly StateDeclaration[];
  readonly #offsets: Map<string, number>;
  readonly #guards: SlotLayout['guards'];
  readonly #pages = new Map<string, Pages>();
  #tokens = 0;

  constructor(memory: Memory, declarations: readonly StateDeclaration[]) {
    const { offsets, guards, bytes } = slotLayout(declarations, memory);
    this.#memory = memory;
    this.#declarations = declarations;
    this.#offsets = offsets;
    this.#guards = guards;
    this.#size = bytes;
    this.address = memory.allocate(bytes);
    for (const [start, end] of guards) memory.i32.fill(POISON, (this.address + start) / 4, (this.address + end) / 4);
    for (const { name, growing } of declarations) {
      if (growing) this.#pages.set(name, { table: 0, capacity: 0, first: 0, addresses: [] });
    }
    this.reset();
  }

  get bytes(): number {
    let total = this.#size;
    for (const [name, { addresses, capacity }] of this.#pages)
      total += 4 * capacity + addresses.length * this.#pageBytes(name);
    return total;
  }

  reserve(tokens: number, position = 0): void {
    this.#tokens = tokens;
    if (this.#pages.size === 0) return;
    const needed = Math.ceil(tokens / PAGE_TOKENS);
    for (const [name, state] of this.#pages) {
      const { window = 0 } = this.#declaration(name);
      this.#letGo(state, window > 0 ? Math.floor(Math.max(0, position - window) / PAGE_TOKENS) : 0);
      while (state.first + state.addresses.length < needed) this.#addPage(name, state);
    }
  }

  /** Makes `first` the first page. Where it lies before those that are kept, none of them are what is wanted. */
  #letGo(state: Pages, first: number): void {
    const { addresses } = state;
    const gone = first < state.first ? addresses.length : Math.min(first - state.first, addresses.length);
    if (gone > 0) for (const page of addresses.splice(0, gone)) this.#memory.release(page);
    state.first = first;
  }

  #addPage(name: string, state: Pages): void {
    const { addresses } = state;
    if (addresses.length === state.capacity) {
      const capacity = Math.max(16, 2 * state.capacity);
      const table = this.#memory.allocate(4 * capacity);
      if (state.table > 0) this.#memory.release(state.table);
      state.table = table;
      state.capacity = capacity;
      const { i32 } = this.#memory;
      for (const [i, page] of addresses.entries()) i32[table / 4 + ((state.first + i) & (capacity - 1))] = page;
      const at = (this.address + this.#offsets.get(name)!) / 4;
      [i32[at], i32[at + 1]] = [table, capacity - 1];
    }
    const page = this.#memory.allocate(this.#pageBytes(name));
    const place = (state.first + addresses.length) & (state.capacity - 1);
    this.#memory.i32[state.table / 4 + place] = page;
    addresses.push(page);
  }

  #pageBytes(name: string): number {
    const [G, width] = this.#declaration(name).shape as [number, number];
    return this.#bytesOf(name) * PAGE_TOKENS * G * paddedWidth(width);
  }

  /** Bytes of a number of a state. */
  #bytesOf(name: string): number {
    return bytesOfFormat[this.#declaration(name).format ?? 'f32'];
  }

  #declaration(name: string): StateDeclaration {
    return this.#declarations.find((declaration) => declaration.name === name)!;
  }

  read(name: string): Float32Array {
    if (!this.#pages.has(name)) return this.#part(name).slice();
    const declaration = this.#declaration(name);
    const values = new Float32Array(keptRows(declaration, this.#tokens) * count(declaration.shape));
    const { f32, u16 } = this.#memory;
    if (declaration.format === 'f16') {
      const numbers = float16Table();
      this.#eachRow(name, (row, at, width) => {
        for (let i = 0; i < width; i++) values[row + i] = numbers[u16[at + i]!]!;
      });
    } else {
      this.#eachRow(name, (row, at, width) => {
        for (let i = 0; i < width; i++) values[row + i] = f32[at + i]!;
      });
    }
    return values;
  }

  readHalves(name: string): Uint16Array {
    const declaration = this.#declaration(name);
    const halves = new Uint16Array(keptRows(declaration, this.#tokens) * count(declaration.shape));
    const { u16 } = this.#memory;
    this.#eachRow(name, (row, at, width) => {
      for (let i = 0; i < width; i++) halves[row + i] = u16[at + i]!;
    });
    return halves;
  }

  /** Tells of every row of a head that is kept: where it begins among all numbers, token by token, and where in memory, in elements. */
  #eachRow(name: string, visit: (row: number, at: number, width: number) => void): void {
    const { addresses, first } = this.#pages.get(name)!;
    const declaration = this.#declaration(name);
    const [G, width] = declaration.shape as [number, number];
    const padded = paddedWidth(width);
    const from = this.#tokens - keptRows(declaration, this.#tokens);
    const bytes = this.#bytesOf(name);
    for (let t = from; t < this.#tokens; t++) {
      const start = addresses[Math.floor(t / PAGE_TOKENS) - first]! / bytes + (t % PAGE_TOKENS) * padded;
      for (let g = 0; g < G; g++) visit(((t - from) * G + g) * width, start + g * PAGE_TOKENS * padded, width);
    }
  }

  /** Writes a state; one that grows must have been given room for as many tokens. */
  write(name: string, values: Float32Array | Uint16Array): void {
    if (!this.#pages.has(name)) {
      this.#part(name).set(values);
      return;
    }
    const { f32, u16, u8 } = this.#memory;
    const isHalf = this.#declaration(name).format === 'f16';
    const areBits = values instanceof Uint16Array;
    if (areBits) checkHalves(values, name);
    else if (isHalf && exceeds(values, F16_LIMIT))
      refuseBeyondF16(values.find((x) => !(Math.abs(x) <= F16_LIMIT))!, name);
    const numbers = isHalf ? u16 : f32;
    // What the first page has before the rows that are kept is read, though it weighs nothing.
    const [first] = this.#pages.get(name)!.addresses;
    if (first !== undefined) u8.fill(0, first, first + this.#pageBytes(name));
    this.#eachRow(name, (row, at, width) => {
      if (areBits) for (let i = 0; i < width; i++) u16[at + i] = values[row + i]!;
      else if (isHalf) for (let i = 0; i < width; i++) u16[at + i] = numberToFloat16(values[row + i]!);
      else for (let i = 0; i < width; i++) f32[at + i] = values[row + i]!;
      numbers.fill(0, at + width, at + paddedWidth(width));
    });
  }

  copyFrom(other: Slot): void {
    const source = other as WasmSlot;
    this.reserve(source.#tokens, source.#tokens);
    for (const { name, growing } of this.#declarations) {
      if (growing) this.#copyPages(name, source);
      else this.#part(name).set(source.#part(name));
    }
  }

  #copyPages(name: string, source: WasmSlot): void {
    const { u8 } = this.#memory;
    const bytes = this.#pageBytes(name);
    const from = source.#pages.get(name)!;
    const { first, addresses } = this.#pages.get(name)!;
    const pages = Math.ceil(this.#tokens / PAGE_TOKENS) - first;
    // Of what the other still keeps, its first pages may be of tokens that the window has passed.
    for (const [i, page] of addresses.slice(0, pages).entries()) {
      const other = from.addresses[first + i - from.first]!;
      u8.copyWithin(page, other, other + bytes);
    }
  }

  reset(): void {
    this.#release();
    this.#tokens = 0;
    for (const { name, fill, growing } of this.#declarations) if (!growing) this.#part(name).fill(fill);
  }

  dispose(): void {
    this.#inspectGuards();
    this.#release();
    this.#memory.release(this.address);
  }

  /** Fails where something was written behind a state. */
  #inspectGuards(): void {
    for (const [start, end] of this.#guards)
      for (let at = start; at < end; at += 4)
        if (this.#memory.i32[(this.address + at) / 4] !== POISON)
          throw new Error(`something was written ${at - start} bytes behind a state that ends at ${start} of its slot`);
  }

  #release(): void {
    for (const state of this.#pages.values()) {
      this.#letGo(state, state.first + state.addresses.length);
      if (state.table > 0) this.#memory.release(state.table);
      Object.assign(state, { table: 0, capacity: 0, first: 0 });
    }
  }

  #part(name: string): Float32Array {
    const start = (this.address + this.#offsets.get(name)!) / 4;
    return this.#memory.f32.subarray(start, start + count(this.#declaration(name).shape));
  }
}

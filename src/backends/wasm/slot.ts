import type { Slot, StateDeclaration } from '../../core/backend.ts';
import type { Memory } from './memory.ts';

const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Byte offset of each state in a sequence's block, and the block's length. The same for every sequence of a model. */
export function slotLayout(declarations: readonly StateDeclaration[]): { offsets: Map<string, number>; bytes: number } {
  const offsets = new Map<string, number>();
  let bytes = 0;
  for (const { name, shape, growing } of declarations) {
    offsets.set(name, bytes);
    // Of a state that grows, the block has only the address of its table of pages.
    bytes += growing ? 16 : Math.ceil((4 * count(shape)) / 16) * 16;
  }
  return { offsets, bytes };
}

/** Tokens in a page of a state that grows. The attention kernel goes by pages too. */
export const PAGE_TOKENS = 64;

/** Length of a row in a page: whole pairs of vectors. */
export const paddedWidth = (width: number): number => 8 * Math.ceil(width / 8);

/**
 * The carried state of one sequence: one block of Wasm memory. Of a state that grows, [G, width] a token, the block holds the
 * address of a table of pages of PAGE_TOKENS tokens, [G][PAGE_TOKENS][paddedWidth]: what one head reads lies in one piece. Pages
 * are added as the text grows, and never move.
 */
export class WasmSlot implements Slot {
  readonly address: number;
  readonly #size: number;
  readonly #memory: Memory;
  readonly #declarations: readonly StateDeclaration[];
  readonly #offsets: Map<string, number>;
  readonly #pages = new Map<string, { table: number; capacity: number; pages: number[] }>();
  #tokens = 0;

  constructor(memory: Memory, declarations: readonly StateDeclaration[]) {
    const { offsets, bytes } = slotLayout(declarations);
    this.#memory = memory;
    this.#declarations = declarations;
    this.#offsets = offsets;
    this.#size = bytes;
    this.address = memory.allocate(bytes);
    for (const { name, growing } of declarations) {
      if (growing) this.#pages.set(name, { table: 0, capacity: 0, pages: [] });
    }
    this.reset();
  }

  get bytes(): number {
    let total = this.#size;
    for (const [name, { pages, capacity }] of this.#pages) total += 4 * capacity + pages.length * this.#pageBytes(name);
    return total;
  }

  reserve(tokens: number): void {
    this.#tokens = tokens;
    if (this.#pages.size === 0) return;
    const needed = Math.ceil(tokens / PAGE_TOKENS);
    for (const [name, state] of this.#pages) {
      while (state.pages.length < needed) this.#addPage(name, state);
    }
  }

  #addPage(name: string, state: { table: number; capacity: number; pages: number[] }): void {
    if (state.pages.length === state.capacity) {
      const capacity = Math.max(16, 2 * state.capacity);
      const table = this.#memory.allocate(4 * capacity);
      this.#memory.i32.set(state.pages, table / 4);
      if (state.table > 0) this.#memory.release(state.table);
      state.table = table;
      state.capacity = capacity;
      this.#memory.i32[(this.address + this.#offsets.get(name)!) / 4] = table;
    }
    const page = this.#memory.allocate(this.#pageBytes(name));
    this.#memory.i32[state.table / 4 + state.pages.length] = page;
    state.pages.push(page);
  }

  #pageBytes(name: string): number {
    const [G, width] = this.#declaration(name).shape as [number, number];
    return 4 * PAGE_TOKENS * G * paddedWidth(width);
  }

  #declaration(name: string): StateDeclaration {
    return this.#declarations.find((declaration) => declaration.name === name)!;
  }

  read(name: string): Float32Array {
    if (!this.#pages.has(name)) return this.#part(name).slice();
    const values = new Float32Array(this.#tokens * count(this.#declaration(name).shape));
    const { f32 } = this.#memory;
    this.#eachRow(name, (row, at, width) => {
      for (let i = 0; i < width; i++) values[row + i] = f32[at + i]!;
    });
    return values;
  }

  /** Tells of every row of a head: where it begins among all numbers, token by token, and where in memory, in elements. */
  #eachRow(name: string, visit: (row: number, at: number, width: number) => void): void {
    const { pages } = this.#pages.get(name)!;
    const [G, width] = this.#declaration(name).shape as [number, number];
    const padded = paddedWidth(width);
    for (let t = 0; t < this.#tokens; t++) {
      const start = pages[Math.floor(t / PAGE_TOKENS)]! / 4 + (t % PAGE_TOKENS) * padded;
      for (let g = 0; g < G; g++) visit((t * G + g) * width, start + g * PAGE_TOKENS * padded, width);
    }
  }

  /** Writes a state; one that grows must have been given room for as many tokens. */
  write(name: string, values: Float32Array): void {
    if (!this.#pages.has(name)) {
      this.#part(name).set(values);
      return;
    }
    const { f32 } = this.#memory;
    this.#eachRow(name, (row, at, width) => {
      for (let i = 0; i < width; i++) f32[at + i] = values[row + i]!;
      f32.fill(0, at + width, at + paddedWidth(width));
    });
  }

  copyFrom(other: Slot): void {
    const source = other as WasmSlot;
    this.reserve(source.#tokens);
    for (const { name, growing } of this.#declarations) {
      if (growing) this.#copyPages(name, source);
      else this.#part(name).set(source.#part(name));
    }
  }

  #copyPages(name: string, source: WasmSlot): void {
    const { u8 } = this.#memory;
    const bytes = this.#pageBytes(name);
    const from = source.#pages.get(name)!.pages;
    const pages = Math.ceil(this.#tokens / PAGE_TOKENS);
    for (const [i, page] of this.#pages.get(name)!.pages.slice(0, pages).entries())
      u8.copyWithin(page, from[i]!, from[i]! + bytes);
  }

  reset(): void {
    this.#release();
    this.#tokens = 0;
    for (const { name, fill, growing } of this.#declarations) if (!growing) this.#part(name).fill(fill);
  }

  dispose(): void {
    this.#release();
    this.#memory.release(this.address);
  }

  #release(): void {
    for (const state of this.#pages.values()) {
      for (const page of state.pages.splice(0)) this.#memory.release(page);
      if (state.table > 0) this.#memory.release(state.table);
      state.table = 0;
      state.capacity = 0;
    }
  }

  #part(name: string): Float32Array {
    const start = (this.address + this.#offsets.get(name)!) / 4;
    return this.#memory.f32.subarray(start, start + count(this.#declaration(name).shape));
  }
}

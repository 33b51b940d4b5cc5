import type { Slot, StateDeclaration } from '../../core/backend.ts';
import type { Memory } from './memory.ts';

const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Byte offset of each state in a sequence's block, and the block's length. The same for every sequence of a model. */
export function slotLayout(declarations: readonly StateDeclaration[]): { offsets: Map<string, number>; bytes: number } {
  const offsets = new Map<string, number>();
  let bytes = 0;
  for (const { name, shape } of declarations) {
    offsets.set(name, bytes);
    bytes += Math.ceil((4 * count(shape)) / 16) * 16;
  }
  return { offsets, bytes };
}

/** The carried state of one sequence: one block of Wasm memory. */
export class WasmSlot implements Slot {
  readonly address: number;
  readonly bytes: number;
  readonly #memory: Memory;
  readonly #declarations: readonly StateDeclaration[];
  readonly #offsets: Map<string, number>;

  constructor(memory: Memory, declarations: readonly StateDeclaration[]) {
    const { offsets, bytes } = slotLayout(declarations);
    this.#memory = memory;
    this.#declarations = declarations;
    this.#offsets = offsets;
    this.bytes = bytes;
    this.address = memory.allocate(bytes);
    this.reset();
  }

  read(name: string): Float32Array {
    return this.#part(name).slice();
  }

  write(name: string, values: Float32Array): void {
    this.#part(name).set(values);
  }

  copyFrom(other: Slot): void {
    const { address } = other as WasmSlot;
    this.#memory.u8.copyWithin(this.address, address, address + this.bytes);
  }

  reset(): void {
    for (const { name, fill } of this.#declarations) this.#part(name).fill(fill);
  }

  dispose(): void {
    this.#memory.release(this.address);
  }

  #part(name: string): Float32Array {
    const start = (this.address + this.#offsets.get(name)!) / 4;
    const { shape } = this.#declarations.find((declaration) => declaration.name === name)!;
    return this.#memory.f32.subarray(start, start + count(shape));
  }
}

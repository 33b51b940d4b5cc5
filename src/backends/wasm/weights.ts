import type { Intake, WeightDeclaration, Weights } from '../../core/backend.ts';
import type { Digest } from '../../core/digest.ts';
import { UnsupportedError } from '../../core/errors.ts';
import { exceeds } from '../../core/magnitude.ts';
import { kernelIds } from './generated/kernel-ids.ts';
import { WasmIntake } from './intake.ts';
import type { Memory } from './memory.ts';
import { formatCodes, isQuantised, layoutCodes, packingOf } from './packing.ts';
import { limits, refuseBeyond } from './range.ts';
import type { Threads } from './threads.ts';

/** Where a parameter lies and how. */
export interface StoredWeight {
  readonly declaration: WeightDeclaration;
  readonly address: number;
  readonly bytes: number;
}

const bytesOf = (declaration: WeightDeclaration): number =>
  declaration.layout === 'rows' ? 4 * declaration.shape.reduce((a, b) => a * b, 1) : packingOf(declaration).bytes;

/** A model's parameters in Wasm memory. */
export class WasmWeights implements Weights {
  readonly #memory: Memory;
  readonly #threads: Threads;
  readonly #stored = new Map<string, StoredWeight>();
  /** Matrices that can't be packed before the last piece is there. */
  readonly #waiting = new Map<string, Float32Array>();

  constructor(memory: Memory, threads: Threads, declarations: readonly WeightDeclaration[]) {
    this.#memory = memory;
    this.#threads = threads;
    const sizes = declarations.map(bytesOf);
    memory.reserve(sizes.reduce((a, b) => a + b, 0));
    for (const [n, declaration] of declarations.entries()) {
      const { name, format, layout } = declaration;
      if (layout === 'rows' && format !== 'f32') {
        throw new UnsupportedError(`${name} is read element by element and must be kept in f32, not ${format}`);
      }
      const bytes = sizes[n]!;
      this.#stored.set(name, { declaration, address: memory.allocate(bytes), bytes });
    }
  }

  get bytes(): number {
    let total = 0;
    for (const { bytes } of this.#stored.values()) total += bytes;
    return total;
  }

  bytesOf(name: string): number {
    return this.find(name).bytes;
  }

  /** Where parameter `name` lies; undefined where it was not declared. */
  get(name: string): StoredWeight | undefined {
    return this.#stored.get(name);
  }

  /** Where parameter `name` lies. */
  find(name: string): StoredWeight {
    const weight = this.#stored.get(name);
    if (!weight) throw new Error(`no parameter ${name} was declared`);
    return weight;
  }

  write(name: string, values: Float32Array, start = 0): void {
    const { declaration, address } = this.find(name);
    const { layout, format, shape } = declaration;
    if (layout === 'rows') {
      this.#memory.f32.set(values, address / 4 + start);
      return;
    }
    const columns = shape[1]!;
    if (start % columns !== 0 || values.length % columns !== 0)
      throw new UnsupportedError(`${name} [${shape.join(', ')}] is packed by whole rows, not from element ${start} on`);
    const limit = limits[format];
    if (limit !== Infinity && exceeds(values, limit))
      refuseBeyond(Math.abs(values.find((x) => !(Math.abs(x) <= limit))!), declaration);
    // The groups of a quantised matrix run across the rows of a transposed one.
    if (layout === 'linearTransposed' && isQuantised(format) && values.length < shape[0]! * columns)
      this.#collect(declaration, address, values, start);
    else this.#pack(declaration, address, values, start / columns);
  }

  intake(bytes: number): Intake {
    return new WasmIntake(this.#memory, this.#threads, bytes, (name) => this.find(name));
  }

  #collect(declaration: WeightDeclaration, address: number, values: Float32Array, start: number): void {
    const { name, shape } = declaration;
    const all = this.#waiting.get(name) ?? new Float32Array(shape[0]! * shape[1]!);
    this.#waiting.set(name, all);
    all.set(values, start);
    if (start + values.length < all.length) return;
    this.#waiting.delete(name);
    this.#pack(declaration, address, all, 0);
  }

  /** Packs rows from `row` on, on all threads. */
  #pack(declaration: WeightDeclaration, address: number, values: Float32Array, row: number): void {
    const { layout, format } = declaration;
    const { O, I } = packingOf(declaration);
    const rows = values.length / (layout === 'linear' ? I : O);
    const memory = this.#memory;
    const source = memory.allocate(values.byteLength, true);
    const plan = memory.allocate(8 + 4 * 10);
    memory.f32.set(values, source / 4);
    const part = layout === 'linear' ? [I, 1, row, rows, 0, I] : [1, O, 0, O, row, rows];
    const args = [source, ...part, I, address, formatCodes[format]];
    memory.i32.set([kernelIds.packWeights, plan + 8, ...args], plan / 4);
    this.#threads.walk(plan, 1);
    memory.release(plan);
    memory.release(source);
  }

  read(name: string): Float32Array {
    const { declaration, address, bytes } = this.find(name);
    if (declaration.layout === 'rows') return this.#memory.f32.slice(address / 4, (address + bytes) / 4);
    return packingOf(declaration).unpack(this.#memory.u8, address);
  }

  digest(digests: ReadonlyMap<string, Digest>): void {
    const memory = this.#memory;
    const names = [...digests.keys()];
    // One step, its arguments, and for each parameter an entry of 6 words and a state of 5.
    const plan = memory.allocate(4 * (5 + 11 * names.length));
    const entries = plan + 20;
    const states = entries + 24 * names.length;
    const { i32 } = memory;
    i32.set([kernelIds.digestWeights, plan + 8, 0, names.length, entries], plan / 4);
    for (const [n, name] of names.entries()) {
      const { declaration, address } = this.find(name);
      const { layout, format, shape } = declaration;
      const [rows, columns] = layout === 'rows' ? [1, shape.reduce((a, b) => a * b, 1)] : shape;
      const entry = [states + 20 * n, layoutCodes[layout], formatCodes[format], address, rows!, columns!];
      i32.set(entry, entries / 4 + 6 * n);
      i32.set(digests.get(name)!.state, states / 4 + 5 * n);
    }
    this.#threads.walk(plan, 1);
    for (const [n, name] of names.entries())
      digests.get(name)!.state = i32.slice(states / 4 + 5 * n, states / 4 + 5 * n + 5);
    memory.release(plan);
  }

  dispose(): void {
    for (const { address } of this.#stored.values()) this.#memory.release(address);
    this.#stored.clear();
  }
}

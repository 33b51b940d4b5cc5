import type { WeightDeclaration, Weights } from '../../core/backend.ts';
import { UnsupportedError } from '../../core/errors.ts';
import type { Memory } from './memory.ts';
import { packingOf } from './packing.ts';

/** Where a parameter lies and how. */
export interface StoredWeight {
  readonly declaration: WeightDeclaration;
  readonly address: number;
  readonly bytes: number;
}

/** A model's parameters in Wasm memory. */
export class WasmWeights implements Weights {
  readonly #memory: Memory;
  readonly #stored = new Map<string, StoredWeight>();

  constructor(memory: Memory, declarations: readonly WeightDeclaration[]) {
    this.#memory = memory;
    for (const declaration of declarations) {
      const { name, shape, format, layout } = declaration;
      if (layout === 'rows' && format !== 'f32') {
        throw new UnsupportedError(`${name} is read element by element and must be kept in f32, not ${format}`);
      }
      const bytes = layout === 'rows' ? 4 * shape.reduce((a, b) => a * b, 1) : packingOf(declaration).bytes;
      this.#stored.set(name, { declaration, address: memory.allocate(bytes), bytes });
    }
  }

  get bytes(): number {
    let total = 0;
    for (const { bytes } of this.#stored.values()) total += bytes;
    return total;
  }

  /** Where parameter `name` lies. */
  find(name: string): StoredWeight {
    const weight = this.#stored.get(name);
    if (!weight) throw new Error(`no parameter ${name} was declared`);
    return weight;
  }

  write(name: string, values: Float32Array, start = 0): void {
    const { declaration, address } = this.find(name);
    if (declaration.layout === 'rows') this.#memory.f32.set(values, address / 4 + start);
    else packingOf(declaration).pack(values, start, this.#memory.u8, address);
  }

  read(name: string): Float32Array {
    const { declaration, address, bytes } = this.find(name);
    if (declaration.layout === 'rows') return this.#memory.f32.slice(address / 4, (address + bytes) / 4);
    return packingOf(declaration).unpack(this.#memory.u8, address);
  }

  dispose(): void {
    for (const { address } of this.#stored.values()) this.#memory.release(address);
    this.#stored.clear();
  }
}

import { float16Table } from '../core/float16.ts';

/** One of the carried states, row-major, as `State` holds it. */
export interface StateTensor {
  readonly shape: readonly number[];
  /** The numbers in f32; where `halves` are what is held, made of them each time. */
  readonly values: Float32Array;
  /** The bits of f16 of a state whose numbers are all of f16. */
  readonly halves?: Uint16Array;
}

/** A state whose numbers are all of f16, held so: half the memory, and the very same numbers. */
export class HalfTensor implements StateTensor {
  readonly shape: readonly number[];
  readonly halves: Uint16Array;

  constructor(shape: readonly number[], halves: Uint16Array) {
    this.shape = shape;
    this.halves = halves;
  }

  get values(): Float32Array {
    const { halves } = this;
    const numbers = float16Table();
    const values = new Float32Array(halves.length);
    for (let i = 0; i < values.length; i++) values[i] = numbers[halves[i]!]!;
    return values;
  }
}

/** What is held of a state. */
export const heldNumbers = (tensor: StateTensor): Float32Array | Uint16Array => tensor.halves ?? tensor.values;

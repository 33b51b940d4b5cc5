import {
  type Backend,
  type Executable,
  keptRows,
  type Slot,
  type StateDeclaration,
  type WeightDeclaration,
  type Weights,
} from '../../core/backend.ts';
import { WeightError } from '../../core/errors.ts';
import { float16ToNumber, numberToFloat16 } from '../../core/float16.ts';
import type { Numbers, View } from '../../core/op.ts';
import type { Place, Plan } from '../../core/plan.ts';
import { type Counts, elementCount, resolve, runtimeAxes } from '../../core/shape.ts';
import { checkHalves, roundedToF16 } from '../../core/state-format.ts';

type Floats = Float32Array | Float64Array;
const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Runs every op by its own reference kernel, in float64 or float32: the truth that other backends are tested against. */
export function referenceBackend(precision: 'f64' | 'f32' = 'f64'): Backend {
  const floats = (length: number): Floats =>
    precision === 'f64' ? new Float64Array(length) : new Float32Array(length);
  const pool = new StatePool(floats);
  return {
    name: `reference-${precision}`,
    threads: 1,
    layout: () => ({ acceptsStrided: () => true, scratch: () => 0 }),
    weights: (declarations) => new ReferenceWeights(declarations, floats),
    slot: (declarations) => new ReferenceSlot(declarations, pool),
    compile: (plan, weights, states) =>
      new ReferenceExecutable(plan, weights as ReferenceWeights, states, pool, floats),
    dispose() {},
  };
}

class ReferenceWeights implements Weights {
  readonly arrays = new Map<string, Floats>();

  constructor(declarations: readonly WeightDeclaration[], floats: (length: number) => Floats) {
    for (const { name, shape, format } of declarations) {
      if (format !== 'f32')
        throw new WeightError(`the reference backend keeps weights in full precision, not ${format} (${name})`);
      this.arrays.set(name, floats(count(shape)));
    }
  }

  get bytes(): number {
    return [...this.arrays.values()].reduce((sum, array) => sum + array.byteLength, 0);
  }

  bytesOf(name: string): number {
    return this.arrays.get(name)!.byteLength;
  }

  write(name: string, values: Float32Array, start = 0): void {
    this.arrays.get(name)!.set(values, start);
  }

  read(name: string): Float32Array {
    return Float32Array.from(this.arrays.get(name)!);
  }

  dispose(): void {
    this.arrays.clear();
  }
}

/** Where one state of a sequence lies in the pool. */
interface Region {
  readonly declaration: StateDeclaration;
  /** Elements of the state, or of one token's row. */
  readonly row: number;
  position: number;
  length: number;
  /** Of a state that grows, the token of its first row: with a window, those before were let go. */
  first: number;
}

/** Tokens that a window may pass before their rows are let go, all at once. */
const SLACK = 64;

/** All states of one sequence, each a region of the pool. */
class ReferenceSlot implements Slot {
  readonly #pool: StatePool;
  readonly #regions = new Map<string, Region>();
  #tokens = 0;

  constructor(declarations: readonly StateDeclaration[], pool: StatePool) {
    this.#pool = pool;
    for (const declaration of declarations) {
      const row = count(declaration.shape);
      const length = declaration.growing ? 0 : row;
      this.#regions.set(declaration.name, { declaration, row, position: pool.allocate(length), length, first: 0 });
    }
    this.reset();
  }

  get bytes(): number {
    let elements = 0;
    for (const { length } of this.#regions.values()) elements += length;
    return elements * this.#pool.data.BYTES_PER_ELEMENT;
  }

  /** Position of a state's first element; of one that grows, where the first token's row is or would be. */
  position(name: string): number {
    const { position, first, row } = this.#regions.get(name)!;
    return position - first * row;
  }

  reserve(tokens: number, position = 0): void {
    this.#tokens = tokens;
    for (const region of this.#regions.values()) {
      const { window = 0, growing } = region.declaration;
      if (!growing) continue;
      this.#letGo(region, window > 0 ? Math.max(0, position - window) : 0);
      const needed = (tokens - region.first) * region.row;
      if (needed > region.length) this.#resize(region, Math.max(needed, 2 * region.length));
    }
  }

  /** Makes `first` about the first row: what is before is let go. */
  #letGo(region: Region, first: number): void {
    if (first >= region.first && first < region.first + SLACK) return;
    const { position, length, row } = region;
    const gone = Math.max(0, first - region.first) * row;
    if (gone < length) this.#pool.data.copyWithin(position, position + gone, position + length);
    region.first = first;
  }

  #resize(region: Region, length: number): void {
    const position = this.#pool.allocate(length);
    this.#pool.data.copyWithin(position, region.position, region.position + region.length);
    this.#pool.release(region.position, region.length);
    region.position = position;
    region.length = length;
  }

  read(name: string): Float32Array {
    return Float32Array.from(this.#part(name));
  }

  readHalves(name: string): Uint16Array {
    return Uint16Array.from(this.#part(name), numberToFloat16);
  }

  write(name: string, values: Float32Array | Uint16Array): void {
    const { format } = this.#regions.get(name)!.declaration;
    if (values instanceof Uint16Array) {
      checkHalves(values, name);
      this.#part(name).set(Float32Array.from(values, float16ToNumber));
    } else this.#part(name).set(format === 'f16' ? values.map(roundedToF16) : values);
  }

  copyFrom(other: Slot): void {
    const source = other as ReferenceSlot;
    this.reserve(source.#tokens, source.#tokens);
    for (const name of this.#regions.keys()) this.#part(name).set(source.#part(name));
  }

  reset(): void {
    this.reserve(0);
    for (const { declaration } of this.#regions.values()) {
      if (!declaration.growing) this.#part(declaration.name).fill(declaration.fill);
    }
  }

  dispose(): void {
    for (const { position, length } of this.#regions.values()) this.#pool.release(position, length);
  }

  #part(name: string): Floats {
    const { declaration, position, row, first } = this.#regions.get(name)!;
    if (!declaration.growing) return this.#pool.data.subarray(position, position + row);
    const from = this.#tokens - keptRows(declaration, this.#tokens);
    return this.#pool.data.subarray(position + row * (from - first), position + row * (this.#tokens - first));
  }
}

class ReferenceExecutable implements Executable {
  readonly #plan: Plan;
  readonly #weights: ReferenceWeights;
  readonly #arena: Floats;
  readonly #inputs = new Map<string, Numbers>();
  readonly #constants: Floats[];
  readonly #pool: StatePool;
  /** States that are kept in f16: their numbers are rounded so, and take as much memory as others here. */
  readonly #halves: ReadonlySet<string>;

  constructor(
    plan: Plan,
    weights: ReferenceWeights,
    states: readonly StateDeclaration[],
    pool: StatePool,
    floats: (length: number) => Floats,
  ) {
    this.#plan = plan;
    this.#weights = weights;
    this.#halves = new Set(states.filter(({ format }) => format === 'f16').map(({ name }) => name));
    this.#pool = pool;
    this.#arena = floats(plan.arena);
    for (const [name, { shape, dtype }] of plan.inputs) {
      const length = elementCount(shape, plan.capacity);
      this.#inputs.set(name, dtype === 'i32' ? new Int32Array(length) : floats(length));
    }
    this.#constants = plan.constants.map((values) => {
      const data = floats(values.length);
      data.set(values);
      return data;
    });
  }

  get bytes(): number {
    return this.#arena.byteLength + [...this.#inputs.values()].reduce((sum, array) => sum + array.byteLength, 0);
  }

  input(name: string): Numbers {
    return this.#inputs.get(name)!;
  }

  run(counts: Counts, slots: readonly Slot[]): void {
    for (const axis of runtimeAxes) {
      if (counts[axis] > this.#plan.capacity[axis]) {
        throw new RangeError(`${counts[axis]} ${axis} in a plan for ${this.#plan.capacity[axis]}`);
      }
    }
    // A value that no step wrote shows as NaN, never as what an earlier run left.
    this.#arena.fill(Number.NaN);
    const states = slots as readonly ReferenceSlot[];
    const views = (places: Readonly<Record<string, Place>>) =>
      Object.fromEntries(Object.entries(places).map(([name, place]) => [name, this.#view(place, counts, states)]));
    for (const { op, inputs, outputs, attributes } of this.#plan.steps) {
      op.reference(views(inputs), views(outputs), attributes);
    }
  }

  output(name: string): Numbers {
    const place = this.#plan.outputs.get(name)!;
    const length = elementCount(place.shape, this.#plan.capacity);
    return this.#data(place).subarray(place.offset, place.offset + length);
  }

  dispose(): void {}

  #data({ region, name }: Place): Numbers {
    if (region === 'parameter') return this.#weights.arrays.get(name)!;
    if (region === 'input') return this.#inputs.get(name)!;
    if (region === 'constant') return this.#constants[Number(name)]!;
    return this.#arena;
  }

  #view(place: Place, counts: Counts, slots: readonly ReferenceSlot[]): View {
    const shape = place.shape.map((dim) => resolve(dim, counts));
    const { offset, stride } = place;
    if (place.region !== 'state') return { data: this.#data(place), shape, row: (t) => offset + t * stride };
    return {
      data: this.#pool.data,
      shape,
      row: (b) => slots[b]!.position(place.name) + offset,
      ...(this.#halves.has(place.name) && { rounded: roundedToF16 }),
    };
  }
}

/** The memory of all sequences' states: one array, so that a view can reach every one of them by position. */
class StatePool {
  data: Floats;
  #used = 0;
  readonly #free = new Map<number, number[]>();

  constructor(floats: (length: number) => Floats) {
    this.data = floats(0);
    this.#floats = floats;
  }

  readonly #floats: (length: number) => Floats;

  /** Position of `length` free elements. */
  allocate(length: number): number {
    const reused = this.#free.get(length)?.pop();
    if (reused !== undefined) return reused;
    if (this.#used + length > this.data.length) {
      const grown = this.#floats(Math.max(this.#used + length, 2 * this.data.length));
      grown.set(this.data);
      this.data = grown;
    }
    this.#used += length;
    return this.#used - length;
  }

  release(position: number, length: number): void {
    this.#free.set(length, [...(this.#free.get(length) ?? []), position]);
  }
}

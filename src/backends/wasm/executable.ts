import type { Executable, Slot, StateDeclaration } from '../../core/backend.ts';
import { UnsupportedError } from '../../core/errors.ts';
import type { Numbers, View, Views } from '../../core/op.ts';
import type { Place, Plan, Step } from '../../core/plan.ts';
import { type Counts, elementCount, resolve, runtimeAxes, type Shape } from '../../core/shape.ts';
import type { OpName } from '../../ops/index.ts';
import { Encoder } from './encoder.ts';
import { kernels } from './kernels.ts';
import { type Memory, POISON } from './memory.ts';
import type { WasmSlot } from './slot.ts';
import type { Threads } from './threads.ts';
import type { WasmWeights } from './weights.ts';

/** A run of kernel calls, or one step that the op's reference kernel does. */
type Section = { readonly plan: number; readonly kernels: readonly string[] } | { readonly step: Step };

/** A plan as words in Wasm memory, walked by all threads. */
export class WasmExecutable implements Executable {
  readonly bytes: number;
  readonly #memory: Memory;
  readonly #threads: Threads;
  readonly #plan: Plan;
  readonly #encoder: Encoder;
  readonly #sections: Section[] = [];
  readonly #poison: boolean;
  readonly #views = new Map<string, Numbers>();

  constructor(
    memory: Memory,
    threads: Threads,
    plan: Plan,
    weights: WasmWeights,
    states: readonly StateDeclaration[],
    poison: boolean,
  ) {
    this.#memory = memory;
    this.#threads = threads;
    this.#plan = plan;
    this.#poison = poison;
    const before = memory.used;
    this.#encoder = new Encoder(memory, threads.count, plan, weights, states);
    for (const step of plan.steps) {
      const kernel = kernels[step.op.name as OpName];
      if (kernel === undefined)
        throw new UnsupportedError(`the wasm backend has no kernel for ${step.op.name} (at ${step.path})`);
      if (kernel === 'reference') {
        this.#close();
        this.#sections.push({ step });
      } else kernel.encode(step, this.#encoder);
    }
    this.#close();
    this.bytes = memory.used - before;
  }

  #close(): void {
    const section = this.#encoder.finish();
    if (section.kernels.length > 0) this.#sections.push(section);
  }

  input(name: string): Numbers {
    const { shape, dtype } = this.#plan.inputs.get(name)!;
    return this.#numbers(`input ${name}`, this.#encoder.inputAddress(name), shape, dtype);
  }

  output(name: string): Numbers {
    const { shape, dtype } = this.#plan.outputs.get(name)!;
    return this.#numbers(`output ${name}`, this.#encoder.address(this.#plan.outputs.get(name)!), shape, dtype);
  }

  /** A view of the memory, the same object until the memory grows, so that a step of decoding allocates none. */
  #numbers(key: string, address: number, shape: Shape, dtype: 'f32' | 'i32'): Numbers {
    const memory = this.#memory[dtype];
    const known = this.#views.get(key);
    if (known && known.buffer === memory.buffer) return known;
    const view = memory.subarray(address / 4, address / 4 + elementCount(shape, this.#plan.capacity));
    this.#views.set(key, view);
    return view;
  }

  run(counts: Counts, slots: readonly Slot[]): void {
    this.#prepare(counts, slots);
    for (const section of this.#sections) {
      if ('kernels' in section) this.#threads.walk(section.plan, section.kernels.length);
      else this.#reference(section.step, counts, slots as readonly WasmSlot[]);
    }
    this.#encoder.inspectStates();
    this.#inspectGuards();
  }

  /** Fails where a kernel wrote behind a value or its scratch memory. */
  #inspectGuards(): void {
    const { i32 } = this.#memory;
    const first = this.#encoder.arena.address / 4;
    for (const [start, end] of this.#plan.guards) {
      for (let at = start; at < end; at++) {
        if (i32[first + at] === POISON) continue;
        const steps = this.#plan.steps.map(({ op }) => op.name).join(', ');
        throw new Error(
          `a kernel wrote ${at - start} elements behind a value or scratch memory at ${start} (of ${steps})`,
        );
      }
    }
  }

  /** Runs like `run`, one call after the other, and adds the seconds that each took to `seconds`, by kernel. */
  profile(counts: Counts, slots: readonly Slot[], seconds: Map<string, number>): void {
    this.#prepare(counts, slots);
    const timed = (name: string, call: () => void) => {
      const start = performance.now();
      call();
      seconds.set(name, (seconds.get(name) ?? 0) + (performance.now() - start) / 1000);
    };
    for (const section of this.#sections) {
      if ('kernels' in section) {
        for (const [i, kernel] of section.kernels.entries())
          timed(kernel, () => this.#threads.walk(section.plan + 8 * i, 1));
      } else
        timed(`${section.step.op.name} (reference)`, () =>
          this.#reference(section.step, counts, slots as readonly WasmSlot[]),
        );
    }
    this.#encoder.inspectStates();
  }

  #prepare(counts: Counts, slots: readonly Slot[]): void {
    const { i32 } = this.#memory;
    for (const axis of runtimeAxes) {
      if (counts[axis] > this.#plan.capacity[axis])
        throw new RangeError(`${counts[axis]} ${axis} in a plan for ${this.#plan.capacity[axis]}`);
    }
    this.#encoder.setCounts(counts);
    for (let b = 0; b < slots.length; b++) i32[this.#encoder.slots / 4 + b] = (slots[b] as WasmSlot).address;
    if (this.#poison || this.#plan.guards.length > 0) {
      const { address, elements } = this.#encoder.arena;
      i32.fill(POISON, address / 4, address / 4 + elements);
    }
  }

  #reference({ op, inputs, outputs, attributes }: Step, counts: Counts, slots: readonly WasmSlot[]): void {
    const views = (places: Readonly<Record<string, Place>>): Views =>
      Object.fromEntries(Object.entries(places).map(([name, place]) => [name, this.#view(place, counts, slots)]));
    op.reference(views(inputs), views(outputs), attributes);
  }

  #view(place: Place, counts: Counts, slots: readonly WasmSlot[]): View {
    const data = this.#memory[place.dtype];
    const shape = place.shape.map((dim) => resolve(dim, counts));
    if (place.region === 'state') {
      const [, offset] = this.#encoder.state(place);
      return { data, shape, row: (b) => (slots[b]!.address + offset) / 4 };
    }
    const weight = this.#encoder.weight(place);
    if (weight && weight.declaration.layout !== 'rows') {
      throw new UnsupportedError(`${place.name} is packed for matrix kernels and can't be read by rows`);
    }
    const start = this.#encoder.address(place) / 4;
    return { data, shape, row: (t) => start + t * place.stride };
  }

  dispose(): void {
    for (const address of this.#encoder.blocks.splice(0)) this.#memory.release(address);
  }
}

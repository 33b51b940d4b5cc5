import type { Backend, Executable, Slot, Weights } from '../core/backend.ts';
import { DisposedError, UnsupportedError } from '../core/errors.ts';
import { plan, type Replacement } from '../core/plan.ts';
import type { Counts } from '../core/shape.ts';
import type { Node, Tensor } from '../core/tensor.ts';
import { type Carry, input, leaf, type Parameter } from '../core/trace.ts';
import { accumulate, adamw } from '../ops/adamw.ts';
import { expr, sumTo } from '../ops/expr.ts';
import { gradients } from '../ops/gradients.ts';
import { limitsOf, type ObjectiveLimits, refuseBeyond } from './part-limits.ts';

/** How one parameter is learned. */
export interface Learning {
  /** Decoupled weight decay λ. */
  readonly decay: number;
  /** Factor of the learning rate. */
  readonly rate: number;
}

/** How a state that texts begin with is learned: from what value on. */
export interface StateLearning extends Learning {
  readonly begin: number;
}

/** A quantity to be made small, as graph. */
export interface Objective {
  /** The loss [1] of a part of a batch; the batch's is their sum. */
  readonly loss: Tensor;
  readonly carries: readonly Carry[];
  /** All parameters that the loss reads. */
  readonly parameters: ReadonlyMap<string, Parameter>;
  /** Which of them are learned, and how. */
  readonly trained: ReadonlyMap<string, Learning>;
  /** States that are learned: every text begins with them instead of with what the model begins with. */
  readonly initialStates?: ReadonlyMap<string, StateLearning>;
  /** Whatever else an evaluation is to give, such as logits. */
  readonly outputs?: ReadonlyMap<string, Tensor>;
}

export interface AdamWOptions {
  /** Decay of the mean of gradients. Default 0.9. */
  readonly beta1?: number;
  /** Decay of the mean of their squares. Default 0.95. */
  readonly beta2?: number;
  readonly epsilon?: number;
  /** The most that the gradient of all parameters together may be long: longer ones are shortened. Default 1. */
  readonly clip?: number;
  /** Computes every layer once more for its derivatives instead of keeping what it computed: less memory, a third more work. */
  readonly recompute?: boolean;
}

/** What one run takes: a part of a batch. */
export interface Part {
  readonly tokens: ArrayLike<number>;
  /** Where each segment ends in `tokens`. */
  readonly ends: readonly number[];
  /** The tokens whose outputs count, by index. */
  readonly rows: ArrayLike<number>;
  /** The objective's own inputs, such as targets. */
  readonly inputs: Readonly<Record<string, ArrayLike<number>>>;
  /** Sequences that the segments continue; without, every segment begins a text. */
  readonly sequences?: readonly Sequence[];
  /** Streams whose state the learner keeps from one run of this part's place to the next; other segments begin texts. */
  readonly streams?: readonly Stretch[];
}

export interface Sequence {
  readonly slot: Slot;
  /** Tokens before. */
  readonly position: number;
}

/** A stretch of a stream of texts: the segments `first` to `last` of a part. */
export interface Stretch {
  /** Number of the stream. */
  readonly stream: number;
  readonly first: number;
  readonly last: number;
  /** Whether the first segment goes on where the stream's stretch before ended, in its state; it begins a text otherwise. */
  readonly continues: boolean;
}

/** What is waited for between two parts of an evaluation, so that it can be ended; throws when it is. */
export type Pause = () => Promise<void>;

export interface StepResult {
  /** Loss before the step. */
  readonly loss: number;
  /** Length of the gradient of all parameters together, before clipping. */
  readonly gradientNorm: number;
}

/** Something that is learned: a parameter, or the state that texts begin with. */
interface Learned extends Learning, Pick<Parameter, 'name' | 'shape' | 'initial' | 'tensor'> {
  /** What the gradient is of: the parameter itself, or the segments' states before their first tokens. */
  readonly source: Tensor;
}

function learnedOf({ parameters, trained, carries, initialStates }: Objective): Map<string, Learned> {
  const own = [...trained].map(([name, learning]): Learned => {
    const parameter = parameters.get(name)!;
    return { ...parameter, ...learning, source: parameter.tensor };
  });
  const states = [...(initialStates ?? [])].map(([carry, learning]): Learned => {
    const { shape, previous } = carries.find(({ name }) => name === carry)!;
    const [name, initial] = [`state:${carry}`, { kind: 'constant', value: learning.begin } as const];
    return {
      name,
      shape,
      initial,
      ...learning,
      tensor: leaf({ kind: 'parameter', name, initial }, shape),
      source: previous,
    };
  });
  return new Map([...own, ...states].map((learned) => [learned.name, learned]));
}

/** The layer that a node was made in, by its path. */
const layerOf = ({ path }: Node): string | undefined => /^(?:.*\.)?(?:layers|blocks|h)\.\d+(?=[./])/.exec(path)?.[0];

function areFinite(values: Float32Array): boolean {
  // Zero, but for what is no number.
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += 0 * values[i]!;
  return sum === 0;
}

interface Graph {
  readonly outputs: ReadonlyMap<string, Tensor>;
  readonly replacements: readonly Replacement[];
}

type Kind = 'learn' | 'evaluate' | 'update';

const one: Counts = { tokens: 1, segments: 1, outputs: 1 };

/**
 * Parameters, the sums of their gradients and AdamW's means on a backend, and the plans that move them: forward and backward
 * over a part of a batch, adding to the sums; the update; the loss alone.
 */
export class Learner {
  readonly #backend: Backend;
  readonly #objective: Objective;
  readonly #capacity: Counts;
  readonly #limits: ObjectiveLimits;
  readonly #options: Required<AdamWOptions>;
  readonly #weights: Weights;
  readonly #executables = new Map<Kind, { executable: Executable; inputs: ReadonlySet<string> }>();
  readonly #learned: ReadonlyMap<string, Learned>;
  readonly #derivatives: ReadonlyMap<string, Tensor>;
  readonly #leaves = new Map<string, Tensor>();
  readonly #slots: Slot[] = [];
  /** Where streams are: the sequences that their next stretches continue. */
  readonly #streams = new Map<number, Sequence>();
  #disposed = false;

  /** @param capacity the most tokens, segments and outputs of a part */
  constructor(backend: Backend, objective: Objective, capacity: Counts, options: AdamWOptions = {}) {
    this.#backend = backend;
    this.#objective = objective;
    this.#capacity = capacity;
    this.#limits = limitsOf([objective.loss]);
    this.#options = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, clip: 1, recompute: false, ...options };
    this.#learned = learnedOf(objective);
    const names = [...this.#learned.keys()];
    const found = gradients(
      objective.loss,
      names.map((name) => this.#learned.get(name)!.source),
      this.#options.recompute ? layerOf : undefined,
    );
    this.#derivatives = new Map(
      names.flatMap((name, i) => (found[i] ? [[name, sumTo(found[i], this.#learned.get(name)!.shape)] as const] : [])),
    );
    const parameters = this.parameters;
    const own = [...parameters.values()].map(({ name, shape }) => ({ name, shape }));
    const kept = this.trained.flatMap((name) =>
      (['gradient', 'mean', 'square'] as const).map((kind) => ({
        name: `${kind}:${name}`,
        shape: parameters.get(name)!.shape,
      })),
    );
    this.#weights = backend.weights(
      [...own, ...kept].map((one) => ({ ...one, format: 'f32' as const, layout: 'rows' as const })),
    );
  }

  /** Names of the parameters that are learned: those that the loss depends on. */
  get trained(): readonly string[] {
    return [...this.#derivatives.keys()];
  }

  /** Bytes held: parameters, gradients, means, working memory. */
  get bytes(): number {
    return [...this.#executables.values()].reduce((sum, { executable }) => sum + executable.bytes, this.#weights.bytes);
  }

  /** A new sequence, before its first token. */
  slot(): Slot {
    return this.#backend.slot(this.#objective.carries);
  }

  /** A parameter, or one of AdamW's means of it: `mean:NAME`, `square:NAME`. */
  read(name: string): Float32Array {
    this.#alive();
    return this.#weights.read(name);
  }

  /** Writes a parameter or a mean, whole or from an element on. */
  write(name: string, values: Float32Array, start = 0): void {
    this.#alive();
    this.#weights.write(name, values, start);
  }

  /** The parameters of the objective, learned initial states (`state:NAME`) among them. */
  get parameters(): ReadonlyMap<string, Pick<Parameter, 'name' | 'shape' | 'initial'>> {
    const states = [...this.#learned.values()].filter(({ name }) => !this.#objective.parameters.has(name));
    return new Map([...this.#objective.parameters, ...states.map((state) => [state.name, state] as const)]);
  }

  /**
   * One step of learning on a batch, in parts that are run one after the other. A gradient that is not finite changes nothing. InputError for
   * parts with tokens, targets or places that the model has not.
   * @param count how many steps have been made, this one included
   */
  async step(parts: Iterable<Part>, learningRate: number, count: number): Promise<StepResult> {
    let loss = 0;
    let keep = 0;
    for (const part of parts) {
      loss += await this.#run('learn', part, { keep: [keep] });
      keep = 1;
    }
    const { beta1, beta2 } = this.#options;
    const { executable } = this.#executable('update', one);
    executable.input('step').set([learningRate, 1 / (1 - beta1 ** count), 1 / (1 - beta2 ** count)]);
    await executable.run(one, []);
    return { loss, gradientNorm: executable.output('norm')[0]! };
  }

  /**
   * What is no number any more: a parameter that is learned, a mean, the state of a stream, or the loss or the gradient of the next batch. Nothing
   * where a step on it can be made. Changes nothing.
   */
  async unsound(parts: Iterable<Part>): Promise<string | undefined> {
    for (const name of this.trained) {
      if (!areFinite(this.read(name))) return name;
      if (!areFinite(this.read(`mean:${name}`))) return `the mean of gradients of ${name}`;
      if (!areFinite(this.read(`square:${name}`))) return `the mean of squared gradients of ${name}`;
    }
    for (const { states } of this.streams.values())
      for (const [name, values] of states) if (!areFinite(values)) return `the carried state ${name}`;
    // The sums of gradients are begun anew by every step.
    let keep = 0;
    for (const { streams: _, ...part } of parts) {
      if (!Number.isFinite(await this.#run('learn', part, { keep: [keep] }))) return 'the next loss';
      keep = 1;
    }
    let squares = 0;
    for (const name of this.trained) for (const g of this.read(`gradient:${name}`)) squares += g * g;
    // A step has its length in single precision.
    return Number.isFinite(Math.fround(squares)) ? undefined : 'the next gradient';
  }

  /** The loss alone; `read` gets every part's outputs before the next is run, and `pause` lets others have their turn, or throws. */
  async evaluate(
    parts: Iterable<Part>,
    read?: (part: Part, output: (name: string) => ArrayLike<number>) => void,
    pause?: Pause,
  ): Promise<number> {
    let loss = 0;
    for (const part of parts) {
      await pause?.();
      loss += await this.#run('evaluate', part);
      read?.(part, (name) => this.#executables.get('evaluate')!.executable.output(name));
    }
    return loss;
  }

  /** Gradients of a part's loss, by parameter. */
  async gradients(part: Part): Promise<Map<string, Float32Array>> {
    await this.#run('learn', part, { keep: [0] });
    return new Map(this.trained.map((name) => [name, this.#weights.read(`gradient:${name}`)]));
  }

  /** From now on, adds the seconds that each kernel takes to this map. */
  seconds: Map<string, number> | undefined;

  async #run(kind: 'learn' | 'evaluate', part: Part, more: Part['inputs'] = {}): Promise<number> {
    this.#alive();
    const { tokens, ends, rows } = part;
    const { executable, inputs } = this.#executable(kind, this.#capacity);
    const sequences = part.sequences ?? this.#sequences(part);
    if (kind === 'learn' && this.#grows && sequences.some(({ position }) => position > 0))
      throw new UnsupportedError('attention learns from whole texts only: its state is not carried from step to step');
    const positions = sequences.map(({ position }) => position);
    refuseBeyond(this.#limits, part, positions);
    // Room for attention's rows first: making it may grow the memory, and views of it end then.
    for (const [b, { slot, position }] of sequences.entries())
      slot.reserve(position + ends[b]! - (b > 0 ? ends[b - 1]! : 0));
    const all: Part['inputs'] = { tokens, ends, rows, positions, ...part.inputs, ...more };
    for (const name of inputs) executable.input(name).set(all[name]!);
    const counts = { tokens: tokens.length, segments: ends.length, outputs: rows.length };
    const slots = sequences.map(({ slot }) => slot);
    if (this.seconds && executable.profile) executable.profile(counts, slots, this.seconds);
    else await executable.run(counts, slots);
    this.#keepStreams(part, sequences);
    return executable.output('loss')[0]!;
  }

  get #grows(): boolean {
    return this.#objective.carries.some(({ growing }) => growing);
  }

  /** Where the stretches of streams ended: states, by stream and carry. */
  get streams(): ReadonlyMap<
    number,
    { readonly position: number; readonly states: ReadonlyMap<string, Float32Array> }
  > {
    const names = this.#objective.carries.map(({ name }) => name);
    return new Map(
      [...this.#streams].map(([stream, { slot, position }]) => [
        stream,
        { position, states: new Map(names.map((name) => [name, slot.read(name)])) },
      ]),
    );
  }

  /** Puts a stream where it ended before. */
  resumeStream(stream: number, position: number, states: ReadonlyMap<string, Float32Array>): void {
    const slot = this.#streams.get(stream)?.slot ?? this.slot();
    for (const { name } of this.#objective.carries) slot.write(name, states.get(name)!);
    this.#streams.set(stream, { slot, position });
  }

  /** The states that objectives carry from token to token, by name. */
  get carries(): readonly Pick<Carry, 'name' | 'shape' | 'growing'>[] {
    return this.#objective.carries;
  }

  /** The sequences of a part's segments: new ones, but for those that continue streams. */
  #sequences({ ends, streams = [] }: Part): Sequence[] {
    const sequences: Sequence[] = this.#fresh(ends.length);
    for (const { stream, first, continues } of streams) {
      if (!continues) continue;
      const kept = this.#streams.get(stream);
      if (!kept) throw new Error(`stream ${stream} goes on, but nothing is known of it`);
      sequences[first] = kept;
    }
    return sequences;
  }

  /** Keeps the last sequence of every stretch for the stream's next one; the slot that was kept before is free where it is another. */
  #keepStreams({ ends, streams = [] }: Part, sequences: readonly Sequence[]): void {
    for (const { stream, last } of streams) {
      const { slot, position } = sequences[last]!;
      const before = this.#streams.get(stream)?.slot;
      this.#streams.set(stream, { slot, position: position + ends[last]! - (last > 0 ? ends[last - 1]! : 0) });
      if (before === slot) continue;
      this.#slots.splice(this.#slots.indexOf(slot), 1);
      if (before) this.#slots.push(before);
    }
  }

  /** Sequences before their first token. */
  #fresh(count: number): { slot: Slot; position: number }[] {
    while (this.#slots.length < count) this.#slots.push(this.slot());
    const states = [...(this.#objective.initialStates?.keys() ?? [])].map(
      (name) => [name, this.#weights.read(`state:${name}`)] as const,
    );
    return this.#slots.slice(0, count).map((slot) => {
      slot.reset();
      for (const [name, values] of states) slot.write(name, values);
      return { slot, position: 0 };
    });
  }

  #executable(kind: Kind, capacity: Counts): { executable: Executable; inputs: ReadonlySet<string> } {
    let known = this.#executables.get(kind);
    if (!known) {
      const { outputs, replacements } = this.#graphs[kind]();
      const made = plan(outputs, replacements, capacity, this.#backend.layout(this.#weights));
      const executable = this.#backend.compile(made, this.#weights, this.#objective.carries);
      known = { executable, inputs: new Set(made.inputs.keys()) };
      this.#executables.set(kind, known);
    }
    return known;
  }

  readonly #graphs: Readonly<Record<Kind, () => Graph>> = {
    learn: (): Graph => {
      const { loss, carries } = this.#objective;
      const keep = input('keep', [1]);
      const sums = [...this.#derivatives].map(([name, gradient]): Replacement => {
        const previous = this.#kept('gradient', name);
        return { name: `gradient:${name}`, previous, next: accumulate(previous, gradient, keep) };
      });
      return { outputs: new Map([['loss', loss]]), replacements: [...carries, ...sums] };
    },

    evaluate: (): Graph => {
      const { loss, carries, outputs = [] } = this.#objective;
      return { outputs: new Map([['loss', loss], ...outputs]), replacements: carries };
    },

    update: (): Graph => {
      const { beta1, beta2, epsilon, clip } = this.#options;
      const squares = this.trained.map((name) => sumTo(expr`square(${this.#kept('gradient', name)})`, [1]));
      const norm = expr`sqrt(${squares.reduce((sum, square) => expr`${sum} + ${square}`)})`;
      // 0 · norm hands on what is not finite, which `min` may hide.
      const scale = expr`min(1, ${clip} / (${norm} + 1e-6)) + 0 * ${norm}`;
      const step = input('step', [3]);
      const replacements = this.trained.flatMap((name): Replacement[] => {
        const { decay, rate, tensor: p } = this.#learned.get(name)!;
        const [g, m, v] = [this.#kept('gradient', name), this.#kept('mean', name), this.#kept('square', name)];
        const options = { beta1, beta2, epsilon, decay, rate };
        const [nextP, nextM, nextV] = adamw({ p, g, m, v, step, scale }, options);
        return [
          { name, previous: p, next: nextP },
          { name: `mean:${name}`, previous: m, next: nextM },
          { name: `square:${name}`, previous: v, next: nextV },
        ];
      });
      return { outputs: new Map([['norm', norm]]), replacements };
    },
  };

  /** What is kept of a parameter beside itself: a leaf of its shape. */
  #kept(kind: 'gradient' | 'mean' | 'square', name: string): Tensor {
    const key = `${kind}:${name}`;
    const known = this.#leaves.get(key);
    if (known) return known;
    const made = leaf({ kind: 'parameter', name: key, initial: { kind: 'zeros' } }, this.#learned.get(name)!.shape);
    this.#leaves.set(key, made);
    return made;
  }

  #alive(): void {
    if (this.#disposed) throw new DisposedError('the learner is disposed');
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const { executable } of this.#executables.values()) executable.dispose();
    for (const slot of [...this.#slots, ...[...this.#streams.values()].map((kept) => kept.slot)]) slot.dispose();
    this.#weights.dispose();
  }
}

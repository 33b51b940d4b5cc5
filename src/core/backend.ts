import type { Digest } from './digest.ts';
import type { Numbers } from './op.ts';
import type { Layout, Plan } from './plan.ts';
import type { Counts } from './shape.ts';
import type { StateFormat } from './state-format.ts';

/** How the numbers of a matrix parameter are kept in memory. */
export type WeightFormat = 'f32' | 'bf16' | 'f16' | 'q8' | 'q4';

export type WeightLayout = 'rows' | 'linear' | 'linearTransposed';

/** A parameter that a backend is to hold. */
export interface WeightDeclaration {
  readonly name: string;
  readonly shape: readonly number[];
  /** Formats other than f32 are for matrices only. */
  readonly format: WeightFormat;
  /**
   * How kernels read it. `rows`: element by element, row-major. A matrix that only `linear` and `embed` read, [O, I], or
   * only `linearTransposed`, [I, O], may be laid out as those kernels like it.
   */
  readonly layout: WeightLayout;
}

/**
 * How rows of numbers lie in a file: one after the other, or in groups of 32 with an f16 scale: ggml's blocks, the scale before 32
 * bytes (`q8_0`) or 16 (`q4_0`, numbers 0–15 in the low halves); or integers alone, i8 (`q8`) or two to a byte (`q4`, the low half
 * first, all plus 8), with the scales elsewhere.
 */
export type StoredRowsType = 'f32' | 'bf16' | 'f16' | 'q8_0' | 'q4_0' | 'q8' | 'q4';

/** Whole rows of a parameter as a file holds them. */
export interface StoredRows {
  readonly type: StoredRowsType;
  /** How many numbers they are. */
  readonly count: number;
  readonly bytes: Uint8Array;
  /** f16, of `q8` and `q4`. */
  readonly scales?: Uint8Array | undefined;
}

/** The format that holds integers of these types as they are. */
export const formatOfIntegers = { q8_0: 'q8', q4_0: 'q4', q8: 'q8', q4: 'q4' } as const;

/** Whether a parameter holds the integers of a type as they are, for its rows are the file's. */
export const holdsIntegers = ({ format, layout }: WeightDeclaration, type: StoredRowsType): boolean =>
  layout === 'linear' && type in formatOfIntegers && formatOfIntegers[type as keyof typeof formatOfIntegers] === format;

/** What stored rows turned out to hold. */
export interface RowsFound {
  /** The largest magnitude, or 0 of integers that are kept without a digest; Infinity where a number is not finite. */
  readonly largest: number;
  /** Whether all are numbers that the 16-bit format holds that they are held in. */
  readonly fit16: boolean;
}

/** Where rows of files are read to, and stored from: without decoding them, and without a second copy of a parameter. */
export interface Intake {
  /** Memory for two pieces, so that one is read while the other is stored. Rows and scales to be stored must lie in one of them. */
  readonly rooms: readonly [Uint8Array, Uint8Array];
  /**
   * Stores rows of a parameter from element `start` on, as `Weights.write` does with their numbers; `digest`, if there is one, goes
   * on over these. Where one is not finite nothing is refused, and what is stored is of no use. `transposed` parameters in q8 and q4 are not taken.
   */
  store(name: string, rows: StoredRows, start: number, digest?: Digest): RowsFound;
  dispose(): void;
}

/** A model's parameters, resident on a backend. */
export interface Weights {
  /** Bytes of memory held. */
  readonly bytes: number;
  /** Bytes of one parameter. */
  bytesOf(name: string): number;
  /**
   * Stores a parameter, or whole rows of its last axis from element `start` on, converting from row-major f32 to its
   * declared format.
   */
  write(name: string, values: Float32Array, start?: number): void;
  /** A faster way in for rows of files, in pieces of at most so many bytes; absent where a backend has none. */
  intake?(bytes: number): Intake;
  /** The parameter as row-major f32: exactly what the kernels compute with. */
  read(name: string): Float32Array;
  /** Goes on with digests, by the parameters' names, over the numbers of `read`; faster, where a backend has it. */
  digest?(digests: ReadonlyMap<string, Digest>): void;
  dispose(): void;
}

/** One array that every sequence carries from step to step. */
export interface StateDeclaration {
  readonly name: string;
  /** Shape of the state; of one token's row, where the state grows. */
  readonly shape: readonly number[];
  /** Value of every element before the first token. */
  readonly fill: number;
  /** Whether it gains a row with every token: the keys and values of attention. */
  readonly growing?: boolean;
  /** Of one that grows, how many of the last rows are looked at; 0 or none for all. */
  readonly window?: number;
  /** Of one that grows, how its numbers are kept; f32 by default. */
  readonly format?: StateFormat;
}

/** How many rows of a state that grows are kept for a sequence of `tokens`: the last of its window, or all. */
export const keptRows = ({ window = 0 }: Pick<StateDeclaration, 'window'>, tokens: number): number =>
  window > 0 ? Math.min(window, tokens) : tokens;

/** The carried state of one sequence. */
export interface Slot {
  /** Bytes held. */
  readonly bytes: number;
  /**
   * Makes room for states that grow to hold `tokens` tokens in all; called before every step, with the number of tokens before
   * it. Of states with a window, what the window has passed by then is let go.
   */
  reserve(tokens: number, position?: number): void;
  /** A state, row-major; of one that grows, the rows that are kept (`keptRows`). */
  read(name: string): Float32Array;
  /** The same of a state whose format is f16, as its bits. */
  readHalves(name: string): Uint16Array;
  /** Takes numbers, or the bits of f16 for a state of that format. UnsupportedError for what it has no place for. */
  write(name: string, values: Float32Array | Uint16Array): void;
  /** Becomes a copy of another slot of the same model. */
  copyFrom(other: Slot): void;
  /** Back to the state before the first token. */
  reset(): void;
  dispose(): void;
}

/** A plan made ready to run. */
export interface Executable {
  /** Bytes of memory held: arena and inputs. */
  readonly bytes: number;
  /** Where the caller puts the data of an input before a run: an array of the plan's capacity. */
  input(name: string): Numbers;
  /**
   * Runs the plan over `counts` tokens, segments and outputs; segment b advances `slots[b]`. UnsupportedError where a state gained a
   * number that its format has no place for.
   */
  run(counts: Counts, slots: readonly Slot[]): void | Promise<void>;
  /** Runs like `run` and adds the seconds that each kernel took to `seconds`, on backends that can tell. */
  profile?(counts: Counts, slots: readonly Slot[], seconds: Map<string, number>): void;
  /** An output's data after a run, rows dense, of the plan's capacity; valid until the next run. */
  output(name: string): Numbers;
  dispose(): void;
}

/** Something that can run plans. Models never see it; the runtime sees nothing else of it. */
export interface Backend {
  readonly name: string;
  readonly threads: number;
  /** What kernels ask of the planner, given the weights that they will run with. */
  layout(weights?: Weights): Layout;
  weights(declarations: readonly WeightDeclaration[]): Weights;
  slot(declarations: readonly StateDeclaration[]): Slot;
  compile(plan: Plan, weights: Weights, states: readonly StateDeclaration[]): Executable;
  dispose(): void;
}

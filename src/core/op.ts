import type { StateFormat } from './state-format.ts';
import type { Attributes, DType, Tensor } from './tensor.ts';

export type Numbers = Float32Array | Float64Array | Int32Array;

/**
 * A tensor's data as a reference kernel sees it. Element (r, i) of a tensor read as rows of its last axes is
 * `data[row(r) + i]`; rows may lie apart (views of a wider tensor, states in their sequences' own memory).
 */
export interface View {
  readonly data: Numbers;
  /** Lengths of all axes, run-time ones resolved. */
  readonly shape: readonly number[];
  /** Position of row `t` of the first axis. */
  row(t: number): number;
  /** What a number becomes that is written here, where it is kept in fewer bits: of states that grow. */
  readonly rounded?: (value: number) => number;
}

/** Position of row `r` when all axes but the last ones, of `width` elements in all, are read as one axis. */
export function position(view: View, r: number, width: number): number {
  let perRow = 1;
  for (let axis = 1; axis < view.shape.length; axis++) perRow *= view.shape[axis]!;
  perRow = Math.max(1, perRow / width);
  return perRow === 1 ? view.row(r) : view.row(Math.floor(r / perRow)) + (r % perRow) * width;
}

/** Number of rows when all axes but the last ones, of `width` elements in all, are read as one axis. */
export const rowCount = (view: View, width: number): number => view.shape.reduce((a, b) => a * b, 1) / width;

/** Operands by the signature's names. An optional operand that was not passed is absent. */
export type Views = Readonly<Record<string, View>>;

/** What `grad` is given: the node's operands and the gradients of its outputs that exist. */
export interface Backward {
  readonly inputs: Readonly<Record<string, Tensor>>;
  readonly outputs: Readonly<Record<string, Tensor>>;
  readonly attributes: Attributes;
  /** ∂loss/∂output by output name; absent where the loss does not depend on it. */
  readonly gradients: Readonly<Record<string, Tensor>>;
  /** Whether anyone wants the gradient of this input. */
  wants(input: string): boolean;
}

/** How a test fills an operand: a distribution that keeps the op inside its domain. */
export type Fill = 'normal' | 'positive' | 'negative' | 'unit' | 'token' | 'zero' | 'large' | 'vanishing';

/** One test of an op. Axis T is the tokens, B the segments (given by their lengths). */
export interface Case {
  /** Lengths of the axes of the signature that are fixed in this case. */
  readonly axes: Readonly<Record<string, number>>;
  /** Lengths of the segments; T is their sum and B their number. */
  readonly segments?: readonly number[];
  readonly attributes?: Attributes;
  /** Optional inputs that this case passes; `true` for the first pattern, or the alternative of the pattern to use. */
  readonly optional?: Readonly<Record<string, boolean | string>>;
  /** Which alternative a required input's pattern takes, where it has several. */
  readonly patterns?: Readonly<Record<string, string>>;
  /** How the states that grow are kept; f32 by default. */
  readonly stateFormat?: StateFormat;
  readonly fill?: Readonly<Record<string, Fill>>;
}

/**
 * An operation: equation, shapes, plain reference, derivative and test cases in one place. Signatures name axes:
 * `x: '… I'` is any number of leading axes and then I; a key ending in `?` may be left out; `a | b` are alternatives.
 */
export interface Op {
  readonly name: string;
  readonly inputs: Readonly<Record<string, string>>;
  readonly outputs: Readonly<Record<string, string>>;
  /** Element types that are not f32. */
  readonly dtypes?: Readonly<Record<string, DType>>;
  /** Lengths of output axes that no input has, from attributes and the axes bound so far. */
  readonly axes?: (attributes: Attributes, bound: ReadonlyMap<string, unknown>) => Record<string, number>;
  /** Shapes of the outputs, for the few ops that no signature describes (views, `expr`); outputs past their number are absent. */
  readonly infer?: (inputs: Readonly<Record<string, Tensor>>, attributes: Attributes) => readonly Tensor['shape'][];
  /** Inputs that may be carried state, one row per segment: the output that may overwrite it, or null if it is only read. */
  readonly state?: Readonly<Record<string, string | null>>;
  /** Those states that gain a row with every token: their views have one row per token of the sequence, back to back. */
  readonly growing?: readonly string[];
  /**
   * Inputs whose memory an output may take over, element for element, when nothing reads them afterwards: the output by
   * input. Where the input is a parameter, this is how it is updated in place.
   */
  readonly overwrites?: Readonly<Record<string, string>>;
  /** Views only: how many elements into its (only) input the output begins, when it can share the input's memory. */
  readonly view?: (input: Tensor, attributes: Attributes) => { readonly offset: number } | undefined;
  /** Writes every element of every output. Plain loops over rows, in whatever precision `data` has. */
  readonly reference: (inputs: Views, outputs: Views, attributes: Attributes) => void;
  /** Gradients of the inputs, as graph. Absent: the op has no derivative, and asking for it is an error. */
  readonly grad?: (backward: Backward) => Readonly<Record<string, Tensor | undefined>>;
  readonly cases: readonly Case[];
}

import type { Op } from './op.ts';
import type { Shape } from './shape.ts';

/** Element types inside a graph. How a parameter is *stored* (bf16, q8 …) is not the graph's business. */
export type DType = 'f32' | 'i32';

/** Plain values that shape an op: sizes, flags, constants. They must survive `structuredClone`. */
export type Attributes = Readonly<Record<string, unknown>>;

/** What a graph starts from. */
export type Leaf =
  | { readonly kind: 'parameter'; readonly name: string; readonly initial: Initializer }
  | { readonly kind: 'input'; readonly name: string }
  | { readonly kind: 'state'; readonly name: string; readonly fill: number }
  | { readonly kind: 'constant'; readonly values: readonly number[] };

/** One application of an op, or a leaf. Inputs that are optional may be absent. */
export interface Node {
  /** Grows with every node made, so that sorting by it is a topological order. */
  readonly id: number;
  readonly op: Op | undefined;
  readonly leaf: Leaf | undefined;
  readonly inputs: Readonly<Record<string, Tensor>>;
  readonly attributes: Attributes;
  /** In the order of the op's signature. */
  readonly outputs: readonly Tensor[];
  /** Where in the model it was made, such as `layers.3.mixer/recurrence`. */
  readonly path: string;
}

/** A value to be: what made it, its shape and element type. It holds no data and never changes. */
export interface Tensor {
  readonly node: Node;
  /** Which output of the node. */
  readonly index: number;
  readonly shape: Shape;
  readonly dtype: DType;
}

/** How a parameter that is not loaded begins; see `random.ts` for the distributions. */
export type Initializer =
  | { readonly kind: 'zeros' }
  | { readonly kind: 'ones' }
  | { readonly kind: 'constant'; readonly value: number }
  | { readonly kind: 'normal'; readonly std: number }
  | { readonly kind: 'uniform'; readonly low: number; readonly high: number }
  /** Row-orthogonal with this gain (Saxe et al. 2013). */
  | { readonly kind: 'orthogonal'; readonly gain: number }
  /** Any formula of the element's index in the parameter's shape and a uniform number in [0, 1). */
  | { readonly kind: 'formula'; readonly value: (index: readonly number[], uniform: number) => number };

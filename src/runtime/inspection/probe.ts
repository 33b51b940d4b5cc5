import type { StateFormat } from '../../core/state-format.ts';
import type { Node } from '../../core/tensor.ts';
import type { ReadMap, TokenNorms } from './inspection.ts';

/** A value of the graph, as a run left it: row-major numbers. */
export interface Tapped {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}

/** A block of tokens that went through an op. */
export interface ProbedBlock {
  /** Tokens of the block. */
  readonly tokens: number;
  /** Tokens that the sequence held before the block. */
  readonly position: number;
  /** The op's operands, those that are present. */
  readonly operands: Readonly<Record<string, Tapped>>;
  /** The op's states before the block, by operand. */
  readonly states: Readonly<Record<string, Float32Array>>;
  /** How the states keep what they gain, by operand; f32 by default. */
  readonly formats?: Readonly<Record<string, StateFormat>>;
}

/** Looks at one op that carries state along time. It knows the op's equation, and nothing of models or backends. */
export interface Probe {
  readonly heads: number;
  /** Tells what each token of a block did in each head: in the order of tokens, and of heads within a token. */
  observe(block: ProbedBlock, tell: (token: number, head: number, norms: TokenNorms) => void): void;
  /** From which tokens each token of all blocks read in a head; for probes that were made to keep what that takes. */
  map(head: number): ReadMap;
}

/** A probe of an op with some operands' shapes; `keepsMaps` keeps what maps are made of. */
export type ProbeMaker = (node: Node, keepsMaps: boolean) => Probe;

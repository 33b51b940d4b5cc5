import { InputError } from '../core/errors.ts';
import { reachable } from '../core/grad.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Part } from './learner.ts';

/** How far the numbers go by which kernels take rows of tables, without looking whether there are such rows. */
export interface PartLimits {
  /** Rows of the table of tokens. */
  readonly vocabulary: number;
  /** Rows of the table of positions; Infinity for a model that has none. */
  readonly positions: number;
}

/** Limits of an objective's inputs: those of a part's tokens, and of what is to be told. */
export interface ObjectiveLimits extends PartLimits {
  /** Logits of which a target is one, by the input's name. */
  readonly classes: ReadonlyMap<string, number>;
  /** Inputs [segments, C] that are places within their segments. */
  readonly places: ReadonlySet<string>;
}

/** The limits of what a graph is given. */
export function limitsOf(roots: readonly Tensor[]): ObjectiveLimits {
  let [vocabulary, positions] = [Infinity, Infinity];
  const classes = new Map<string, number>();
  const places = new Set<string>();
  for (const { op, inputs } of reachable(roots.map(({ node }) => node))) {
    const { ids, table, logits, targets } = inputs;
    if (op?.name === 'embed') {
      const rows = table!.shape[0] as number;
      if (ids!.node.op?.name === 'tokenPositions') positions = Math.min(positions, rows);
      else vocabulary = Math.min(vocabulary, rows);
    }
    if (targets?.node.leaf?.kind !== 'input') continue;
    const { name } = targets.node.leaf;
    if (op!.name === 'crossEntropy') classes.set(name, logits!.shape[1] as number);
    if (op!.name === 'segmentCrossEntropy') places.add(name);
  }
  return { vocabulary, positions, classes, places };
}

/** InputError for a part that reads beyond a table; `before` has the tokens that its segments' sequences held before. */
export function refuseBeyond(limits: ObjectiveLimits, part: Part, before: readonly number[]): void {
  const { tokens, ends, rows, inputs } = part;
  refuse(tokens, limits.vocabulary, 'token', "the model's vocabulary");
  refuse(rows, tokens.length, 'row', "the part's tokens");
  // Negative targets do not count.
  for (const [name, count] of limits.classes) refuse(inputs[name]!, count, name, 'the logits', -Infinity);
  for (const [b, end] of ends.entries()) {
    const length = end - (ends[b - 1] ?? 0);
    if (!(length > 0 && end <= tokens.length))
      throw new InputError(
        `segment ${b} ends at ${end}: the part has ${tokens.length} tokens, and segments have some each`,
      );
    if (before[b]! + length > limits.positions) throw beyondPositions(before[b]! + length, limits.positions);
    for (const name of limits.places) {
      const C = inputs[name]!.length / ends.length;
      refuse(Array.prototype.slice.call(inputs[name], b * C, (b + 1) * C), length, name, "the segment's tokens");
    }
  }
}

/** InputError for a number that is no index from `least` on of `count` things. */
function refuse(values: ArrayLike<number>, count: number, what: string, whose: string, least = 0): void {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!(Number.isInteger(value) && value >= least && value < count))
      throw new InputError(`${what} ${value} is out of range: 0 to ${count - 1} are ${whose}`);
  }
}

/** Texts, or examples, as tokens. */
export interface ReadTexts {
  /** Token ids, of one text or of many. */
  readonly tokens: Iterable<ArrayLike<number>>;
  /** The most tokens that are read from one beginning on. */
  readonly longest: number;
}

/** InputError for data that a model has no tokens or no positions for; `known` is how many tokens the tokenizer has. */
export function refuseUnreadable(
  { tokens, longest }: ReadTexts,
  { vocabulary, positions }: PartLimits,
  known: number,
): void {
  for (const ids of tokens)
    for (let i = 0; i < ids.length; i++)
      if (ids[i]! >= vocabulary)
        throw new InputError(
          `the data has token ${ids[i]}, but the model's vocabulary is 0 to ${vocabulary - 1}: its tokenizer, of ${known} tokens, is made for another model`,
        );
  if (longest > positions) throw beyondPositions(longest, positions);
}

const beyondPositions = (tokens: number, positions: number): InputError =>
  new InputError(
    `the data is read in ${tokens} tokens at once, but the model has learned positions for ${positions}: give a length of ${positions} at most`,
  );

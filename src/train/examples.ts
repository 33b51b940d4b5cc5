import { InputError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import type { Batches } from './corpus.ts';
import type { Part } from './learner.ts';

/** A text of which something is to be told: its label at the last token, or the tokens of its answers, each at the one before. */
export interface Example {
  readonly tokens: readonly number[];
  /** Where in `tokens` something is told. */
  readonly rows: readonly number[];
  /** What: an index of the logits, for every row. */
  readonly targets: readonly number[];
}

export interface ExampleOptions {
  /** Examples of a step. */
  readonly batch: number;
  /** Tokens that run together. InputError for a longer text. */
  readonly together: number;
  /** Examples that run together. Default: all of a step. */
  readonly most?: number | undefined;
  readonly seed: number;
}

/** The examples of each step, in another random order in every epoch. InputError where there are none, or no batch. */
export function inRandomOrder<T>(examples: readonly T[], batch: number, seed: number): (step: number) => T[] {
  if (examples.length === 0) throw new InputError('there are no examples');
  if (!Number.isSafeInteger(batch) || batch < 1)
    throw new InputError(`batch is ${batch}: it must be a whole number above 0`);
  const count = examples.length;
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  let made = -1;
  const exampleAt = (index: number): T => {
    const epoch = Math.floor(index / count);
    if (epoch !== made) {
      const random = new Random(seed + 104729 * epoch);
      for (let i = 0; i < count; i++) order[i] = i;
      for (let i = count - 1; i > 0; i--) {
        const j = random.integer(i + 1);
        [order[i], order[j]] = [order[j]!, order[i]!];
      }
      made = epoch;
    }
    return examples[order[index % count]!]!;
  };
  return (step) => Array.from({ length: batch }, (_, i) => exampleAt(step * batch + i));
}

/** Examples in another random order in every epoch; within a step everything that is told counts the same. */
export function exampleBatches(examples: readonly Example[], options: ExampleOptions): Batches {
  const { batch, together, seed } = options;
  const most = mostOf(options);
  const chosen = inRandomOrder(examples, batch, seed);
  return {
    capacity: capacityOf(examples, together, most),
    tokensPerStep: Math.round(batch * meanLength(examples)),
    stepsPerEpoch: Math.ceil(examples.length / batch),
    parts: (step) => exampleParts(chosen(step), together, most),
  };
}

/** How many examples run together at most. InputError for what is no number of them. */
export function mostOf({ batch, most = batch }: Pick<ExampleOptions, 'batch' | 'most'>): number {
  if (!Number.isSafeInteger(most) || most < 1)
    throw new InputError(`together is ${most}: it must be a whole number above 0`);
  return Math.min(batch, most);
}

/** Mean tokens of an example. */
export const meanLength = (examples: readonly Pick<Example, 'tokens'>[]): number =>
  examples.reduce((sum, { tokens }) => sum + tokens.length, 0) / examples.length;

/** The most that parts of these examples have. InputError for an example that is longer than what runs together. */
export function capacityOf(examples: readonly Example[], together: number, batch: number): Batches['capacity'] {
  let [longest, told] = [0, 0];
  for (const { tokens, rows } of examples) {
    longest = Math.max(longest, tokens.length);
    told = Math.max(told, rows.length);
  }
  if (longest > together)
    throw new InputError(
      `an example has ${longest} tokens, but only ${together} run together: raise that, or cut the texts`,
    );
  return { tokens: together, segments: batch, outputs: Math.min(together, batch * told) };
}

/** Examples in order, in parts of at most `together` tokens and `most` examples. */
export function* exampleParts(examples: readonly Example[], together: number, most: number): Generator<Part> {
  const weight = 1 / examples.reduce((sum, { rows }) => sum + rows.length, 0);
  for (const part of inParts(examples, together, most)) yield packed(part, weight);
}

/** Examples in order, as many at a time as have at most `together` tokens, and `most` at most. */
export function* inParts<T extends Pick<Example, 'tokens'>>(
  examples: readonly T[],
  together: number,
  most: number,
): Generator<T[]> {
  let part: T[] = [];
  let count = 0;
  for (const example of examples) {
    if (part.length > 0 && (part.length === most || count + example.tokens.length > together)) {
      yield part;
      part = [];
      count = 0;
    }
    part.push(example);
    count += example.tokens.length;
  }
  if (part.length > 0) yield part;
}

function packed(examples: readonly Example[], weight: number): Part {
  const [tokens, ends, rows, targets]: number[][] = [[], [], [], []];
  for (const example of examples) {
    for (const row of example.rows) rows!.push(tokens!.length + row);
    for (const target of example.targets) targets!.push(target);
    for (const token of example.tokens) tokens!.push(token);
    ends!.push(tokens!.length);
  }
  return {
    tokens: tokens!,
    ends: ends!,
    rows: rows!,
    inputs: { targets: targets!, weights: new Float32Array(rows!.length).fill(weight) },
  };
}

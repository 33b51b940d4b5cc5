import { InputError } from '../core/errors.ts';
import { input } from '../core/trace.ts';
import { expr, sumTo } from '../ops/expr.ts';
import { segmentCrossEntropy } from '../ops/segment-cross-entropy.ts';
import type { ModelGraph } from '../runtime/graph.ts';
import type { Batches } from './corpus.ts';
import { type ExampleOptions, inParts, inRandomOrder, meanLength, mostOf } from './examples.ts';
import type { Objective, Part } from './learner.ts';

/** A question with its context, and which of their tokens are the first and the last of the answer. */
export interface SpanExample {
  readonly tokens: readonly number[];
  readonly first: number;
  readonly last: number;
}

/**
 * Prediction of where answers stand, of logits [tokens, 2]: the mean of −ln p(first) and −ln p(last), each over all tokens of an
 * example, times its weight. Inputs: `targets` i32 [segments, 2], counted from the example's first token, and `weights` [segments].
 */
export function spanPrediction(
  { logits, step, carries, parameters }: ModelGraph,
  learned: Pick<Objective, 'trained' | 'initialStates'>,
): Objective {
  const surprise = segmentCrossEntropy(logits, input('targets', ['segments', 2], 'i32'), step.ends);
  const loss = sumTo(expr`0.5 * ${surprise} * ${input('weights', ['segments', 1])}`, [1]);
  return { loss, carries, parameters, ...learned, outputs: new Map([['logits', logits]]) };
}

/** Examples in another random order in every epoch; all of a step count the same. */
export function spanBatches(examples: readonly SpanExample[], options: ExampleOptions): Batches {
  const { batch, together, seed } = options;
  const most = mostOf(options);
  const chosen = inRandomOrder(examples, batch, seed);
  const longest = examples.reduce((most, { tokens }) => Math.max(most, tokens.length), 0);
  if (longest > together)
    throw new InputError(`an example has ${longest} tokens, but only ${together} run together: cut the contexts`);
  return {
    capacity: { tokens: together, segments: most, outputs: together },
    tokensPerStep: Math.round(batch * meanLength(examples)),
    stepsPerEpoch: Math.ceil(examples.length / batch),
    parts: (step) => spanParts(chosen(step), together, most),
  };
}

/** Examples in order, in parts of at most `together` tokens and `most` examples. */
export function* spanParts(examples: readonly SpanExample[], together: number, most: number): Generator<Part> {
  for (const part of inParts(examples, together, most)) {
    const tokens = part.flatMap((example) => example.tokens);
    let end = 0;
    yield {
      tokens,
      ends: part.map((example) => (end += example.tokens.length)),
      rows: tokens.map((_, i) => i),
      inputs: {
        targets: part.flatMap(({ first, last }) => [first, last]),
        weights: new Float32Array(part.length).fill(1 / examples.length),
      },
    };
  }
}

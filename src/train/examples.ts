import { InputError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import type { Batches } from './corpus.ts';
import type { Part } from './learner.ts';

/** A text with its label. */
export interface Example {
  readonly tokens: readonly number[];
  /** Index of the label. */
  readonly label: number;
}

export interface ExampleOptions {
  /** Examples of a step. */
  readonly batch: number;
  /** Tokens that run together: longer texts are an InputError. */
  readonly together: number;
  readonly seed: number;
}

/** Labelled texts in another random order in every epoch. The label is told at a text's last token. */
export function exampleBatches(examples: readonly Example[], { batch, together, seed }: ExampleOptions): Batches {
  if (examples.length === 0) throw new InputError('there are no examples');
  if (!Number.isSafeInteger(batch) || batch < 1)
    throw new InputError(`batch is ${batch}: it must be a whole number above 0`);
  const longest = Math.max(...examples.map(({ tokens }) => tokens.length));
  if (longest > together)
    throw new InputError(
      `an example has ${longest} tokens, but only ${together} run together: raise that, or cut the texts`,
    );
  const count = examples.length;
  let made = -1;
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  const exampleAt = (index: number): Example => {
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
  const mean = examples.reduce((sum, { tokens }) => sum + tokens.length, 0) / count;
  return {
    capacity: { tokens: together, segments: batch, outputs: batch },
    tokensPerStep: Math.round(batch * mean),
    stepsPerEpoch: Math.ceil(count / batch),
    *parts(step) {
      const chosen = Array.from({ length: batch }, (_, i) => exampleAt(step * batch + i));
      yield* exampleParts(chosen, together, batch);
    },
  };
}

/** Examples in order, in parts of at most `together` tokens and `most` examples, each with the same weight. */
export function* exampleParts(examples: readonly Example[], together: number, most: number): Generator<Part> {
  let part: Example[] = [];
  let tokens = 0;
  for (const example of examples) {
    if (part.length > 0 && (part.length === most || tokens + example.tokens.length > together)) {
      yield packed(part, 1 / examples.length);
      part = [];
      tokens = 0;
    }
    part.push(example);
    tokens += example.tokens.length;
  }
  if (part.length > 0) yield packed(part, 1 / examples.length);
}

function packed(examples: readonly Example[], weight: number): Part {
  let end = 0;
  const ends = examples.map(({ tokens }) => (end += tokens.length));
  return {
    tokens: examples.flatMap(({ tokens }) => tokens),
    ends,
    rows: ends.map((one) => one - 1),
    inputs: { targets: examples.map(({ label }) => label), weights: examples.map(() => weight) },
  };
}

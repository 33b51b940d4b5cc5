import { InputError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import type { Batches } from '../train/corpus.ts';
import { capacityOf, type Example, exampleParts } from '../train/examples.ts';
import type { Learner, Part, Pause } from '../train/learner.ts';
import type { ReadTexts } from '../train/part-limits.ts';
import type { Evaluation } from '../train/trainer.ts';
import type { Contents } from './contents-digest.ts';

/** Examples to learn from, and how well others are told. */
export interface ExampleData {
  readonly batches: Batches;
  readonly contents: Contents;
  /** Tokens of all that is read. */
  readonly texts: ReadTexts;
  /** Loss, and how much of what is to be told is the likeliest, on what is not learned from. */
  evaluate(learner: Learner, pause?: Pause): Promise<Evaluation>;
}

/** Tokens of examples that run together. */
export const TOGETHER = 2048;

/** What is read of examples; of those whose targets are tokens, these too. */
export function textsOf(examples: readonly Pick<Example, 'tokens'>[], targets: readonly Example[] = []): ReadTexts {
  const tokens = [...examples.map((one) => one.tokens), ...targets.map((one) => one.targets)];
  return { tokens, longest: examples.reduce((most, one) => Math.max(most, one.tokens.length), 0) };
}

/** Measures examples with `size` logits each. */
export function measuring(
  examples: readonly Example[],
  { capacity }: Batches,
  size: number,
): (learner: Learner, pause?: Pause) => Promise<Evaluation> {
  // Parts that have room in the plans which the batches made.
  const told = examples.reduce((most, { rows }) => Math.max(most, rows.length), 0);
  capacityOf(examples, capacity.tokens, 1);
  const most = Math.max(1, Math.min(capacity.segments, Math.floor(capacity.outputs / told)));
  if (told > capacity.outputs)
    throw new InputError(
      `an example to be measured tells ${told} tokens, but those learned from ${capacity.outputs} at most`,
    );
  return async (learner, pause) => {
    let [right, all] = [0, 0];
    const read = ({ inputs }: Part, output: (name: string) => ArrayLike<number>) => {
      const logits = output('logits');
      const targets = Array.from(inputs['targets']!);
      for (const [row, target] of targets.entries()) if (isLikeliest(logits, row * size, size, target)) right++;
      all += targets.length;
    };
    const loss = await learner.evaluate(exampleParts(examples, capacity.tokens, most), read, pause);
    return { loss, accuracy: right / all };
  };
}

function isLikeliest(logits: ArrayLike<number>, from: number, count: number, index: number): boolean {
  // Beside what is no number nothing is the likeliest.
  for (let i = 0; i < count; i++) if (!(logits[from + i]! <= logits[from + index]!)) return false;
  return true;
}

/**
 * A tenth of the rows, chosen by the seed, is kept for validation. Where rows are of kinds, of each kind one at least is learned from.
 *
 * @returns what is learned from, and what is kept
 */
export function parted<T>(rows: readonly T[], seed: number, kindOf?: (row: T) => string): [T[], T[]] {
  const random = new Random(seed + 1);
  const taught: T[] = [];
  let held: T[] = [];
  for (const row of rows) (random.uniform() < 0.1 ? held : taught).push(row);
  if (kindOf) {
    const kinds = new Set(taught.map(kindOf));
    held = held.filter((row) => {
      if (kinds.has(kindOf(row))) return true;
      kinds.add(kindOf(row));
      taught.push(row);
      return false;
    });
  }
  if (taught.length === 0 || held.length === 0)
    throw new InputError(
      `${rows.length} examples are too few to keep a tenth of them for validation: name validation data`,
    );
  return [taught, held];
}

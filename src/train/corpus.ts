import { InputError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import type { Part, Stretch } from './learner.ts';
import type { ReadTexts } from './part-limits.ts';

/** Texts as token ids, one after the other; each begins with the token that ends texts, so that the next one's is their end. */
export interface Corpus {
  readonly tokens: Uint16Array | Uint32Array;
  /** Where each text begins, increasing from 0. */
  readonly starts: Uint32Array;
}

/** What is read of corpora in windows of `length` tokens. */
export function textsOf(corpora: readonly Corpus[], length: number): ReadTexts {
  let longest = 0;
  for (const { tokens, starts } of corpora)
    for (const [n, start] of starts.entries()) longest = Math.max(longest, (starts[n + 1] ?? tokens.length) - start);
  return { tokens: corpora.map(({ tokens }) => tokens), longest: Math.min(length, longest) };
}

export interface WindowOptions {
  /** Tokens of a window. */
  readonly length: number;
  /** Windows of a step. */
  readonly batch: number;
  /** Windows that run together; a step has batch / together parts. Default: as many as make 2,048 tokens. */
  readonly together?: number | undefined;
  readonly seed: number;
}

/** Steps' worth of data: a function of the step's number alone, so that a training can be resumed anywhere. */
export interface Batches {
  /** The most that one part has. */
  readonly capacity: { readonly tokens: number; readonly segments: number; readonly outputs: number };
  /** Tokens of a step. */
  readonly tokensPerStep: number;
  /** Steps in which everything is seen once. */
  readonly stepsPerEpoch: number;
  parts(step: number): Iterable<Part>;
}

/** Windows that run together. InputError for numbers that are no counts. */
function togetherOf({ length, batch, ...options }: Omit<WindowOptions, 'seed'>): number {
  const together = options.together ?? Math.max(1, Math.min(batch, Math.floor(2048 / length)));
  for (const [name, value] of Object.entries({ length, batch, together }))
    if (!Number.isSafeInteger(value) || value < 1)
      throw new InputError(`${name} is ${value}: it must be a whole number above 0`);
  return together;
}

const capacityOf = (corpus: Corpus, together: number, length: number): Batches['capacity'] => ({
  tokens: together * length,
  segments: together * mostSegments(corpus, length),
  outputs: together * length,
});

/** The most texts that a window of `length` tokens of a corpus may touch, wherever it begins. */
function mostSegments({ starts }: Corpus, length: number): number {
  let most = 0;
  // Those that begin within a window, after the text in which it begins.
  for (let first = 0, last = 0; last < starts.length; last++) {
    while (starts[last]! - starts[first]! > length - 2 && first < last) first++;
    most = Math.max(most, last - first + 1);
  }
  return Math.min(length, 1 + most);
}

/** The same steps, in whose room windows of `length` tokens of a held-out corpus can be evaluated too. */
export function withRoomFor(batches: Batches, corpus: Corpus, length: number): Batches {
  const { tokens, segments, outputs } = batches.capacity;
  const capacity = {
    tokens: Math.max(tokens, length),
    segments: Math.max(segments, mostSegments(corpus, length)),
    outputs: Math.max(outputs, length),
  };
  return { ...batches, capacity };
}

/**
 * Windows of a corpus in random order, another in every epoch, and shifted by a random number of tokens. Within a window each
 * text is a segment of its own: nothing is carried from one to the next.
 */
export function windows(corpus: Corpus, { length, batch, seed, ...options }: WindowOptions): Batches {
  const together = togetherOf({ length, batch, ...options });
  // One token more than is read is predicted, and an epoch may begin up to a window later.
  const count = Math.floor((corpus.tokens.length - 1) / length) - 1;
  if (count < 1)
    throw new InputError(
      `the data has ${corpus.tokens.length} tokens: a window of ${length} needs at least ${2 * length + 1}`,
    );
  const order = epochs(count, seed);
  const windowAt = (index: number): { start: number; stop: number } => {
    const { offset, position } = order(Math.floor(index / count), index % count, length);
    const start = offset + position * length;
    return { start, stop: start + length };
  };
  return {
    capacity: capacityOf(corpus, together, length),
    tokensPerStep: batch * length,
    stepsPerEpoch: Math.ceil(count / batch),
    *parts(step) {
      for (let first = 0; first < batch; first += together) {
        const chosen = Array.from({ length: Math.min(together, batch - first) }, (_, i) =>
          windowAt(step * batch + first + i),
        );
        yield pack(corpus, chosen, 1 / (batch * length));
      }
    },
  };
}

/**
 * A corpus as `batch` streams side by side, each a stretch of it that is read from its beginning to its end: a step has the next `length` tokens
 * of every stream, which go on in the state that the step before left (truncated back-propagation through time: Williams & Peng 1990).
 * A text begins in no one's state. Epochs after the first begin a random number of tokens later.
 */
export function streams(corpus: Corpus, { length, batch, seed, ...options }: WindowOptions): Batches {
  const together = togetherOf({ length, batch, ...options });
  const stream = Math.floor((corpus.tokens.length - 1) / batch);
  // An epoch may begin up to a window later.
  const count = Math.max(1, Math.floor(stream / length) - 1);
  if (stream < length)
    throw new InputError(
      `the data has ${corpus.tokens.length} tokens: ${batch} streams with windows of ${length} need at least ${batch * length + 1}`,
    );
  return {
    capacity: capacityOf(corpus, together, length),
    tokensPerStep: batch * length,
    stepsPerEpoch: count,
    *parts(step) {
      const epoch = Math.floor(step / count);
      const offset = epoch > 0 && stream >= 2 * length ? new Random(seed + 7919 * epoch).integer(length) : 0;
      for (let first = 0; first < batch; first += together) {
        const chosen = Array.from({ length: Math.min(together, batch - first) }, (_, i) => {
          const start = (first + i) * stream + offset + (step % count) * length;
          return { start, stop: start + length };
        });
        const part = pack(corpus, chosen, 1 / (batch * length));
        yield { ...part, streams: stretches(corpus, chosen, part.ends, first, step % count > 0) };
      }
    },
  };
}

/** Which segments of a part are whose stream's. */
function stretches(
  { starts }: Corpus,
  chosen: readonly { start: number; stop: number }[],
  ends: readonly number[],
  stream: number,
  continues: boolean,
): Stretch[] {
  let [segment, stop] = [0, 0];
  return chosen.map((piece, i) => {
    const first = segment;
    stop += piece.stop - piece.start;
    while (ends[segment]! < stop) segment++;
    const begins = starts[firstAbove(starts, piece.start - 1)] === piece.start;
    return { stream: stream + i, first, last: segment++, continues: continues && !begins };
  });
}

/** The order of windows in each epoch; the last one is kept. */
function epochs(count: number, seed: number) {
  let made = -1;
  let offset = 0;
  const order = new Uint32Array(count);
  return (epoch: number, index: number, length: number): { offset: number; position: number } => {
    if (epoch !== made) {
      const random = new Random(seed + 7919 * epoch);
      for (let i = 0; i < count; i++) order[i] = i;
      for (let i = count - 1; i > 0; i--) {
        const j = random.integer(i + 1);
        [order[i], order[j]] = [order[j]!, order[i]!];
      }
      offset = random.integer(length);
      made = epoch;
    }
    return { offset, position: order[index]! };
  };
}

/**
 * All of a corpus in order, in windows of `length` tokens, each predicted from its own beginning: for a held-out loss. As many run together
 * as have room.
 */
export function* evaluationParts(
  corpus: Corpus,
  length: number,
  { tokens, segments, outputs }: Batches['capacity'],
  most = Infinity,
): Generator<Part> {
  const room = Math.min(
    Math.floor(Math.min(tokens, outputs) / length),
    Math.floor(segments / mostSegments(corpus, length)),
  );
  const together = Math.max(1, room);
  const count = Math.min(most, Math.max(1, Math.floor((corpus.tokens.length - 1) / length)));
  const size = Math.min(length, corpus.tokens.length - 1);
  if (size < 1) throw new InputError('the evaluation data has no two tokens');
  for (let first = 0; first < count; first += together) {
    const chosen = Array.from({ length: Math.min(together, count - first) }, (_, i) => {
      const start = (first + i) * length;
      return { start, stop: start + size };
    });
    yield pack(corpus, chosen, 1 / (count * size));
  }
}

/** Windows side by side, every next token to be predicted with the same weight. */
function pack({ tokens, starts }: Corpus, chosen: readonly { start: number; stop: number }[], weight: number): Part {
  const total = chosen.reduce((sum, { start, stop }) => sum + stop - start, 0);
  const [ids, targets] = [new Int32Array(total), new Int32Array(total)];
  const ends: number[] = [];
  let at = 0;
  for (const { start, stop } of chosen) {
    ids.set(tokens.subarray(start, stop), at);
    targets.set(tokens.subarray(start + 1, stop + 1), at);
    for (let n = firstAbove(starts, start); n < starts.length && starts[n]! < stop; n++)
      ends.push(at + starts[n]! - start);
    at += stop - start;
    ends.push(at);
  }
  const rows = Int32Array.from({ length: total }, (_, i) => i);
  return { tokens: ids, ends, rows, inputs: { targets, weights: new Float32Array(total).fill(weight) } };
}

/** Index of the first start above `position`. */
function firstAbove(starts: Uint32Array, position: number): number {
  let low = 0;
  let high = starts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (starts[middle]! > position) high = middle;
    else low = middle + 1;
  }
  return low;
}

import { expect, test } from 'vitest';
import { input, leaf } from '../core/trace.ts';
import { crossEntropy } from '../ops/cross-entropy.ts';
import { embed } from '../ops/embed.ts';
import { add } from '../ops/expr.ts';
import { segmentCrossEntropy } from '../ops/segment-cross-entropy.ts';
import { tokenPositions } from '../ops/token-positions.ts';
import type { Part } from './learner.ts';
import { limitsOf, refuseBeyond } from './part-limits.ts';

const table = (name: string, rows: number) => leaf({ kind: 'parameter', name, initial: { kind: 'zeros' } }, [rows, 4]);
const indices = (name: string, shape: [string, ...number[]]) => input(name, shape as never, 'i32');

const [tokens, ends] = [indices('tokens', ['tokens']), indices('ends', ['segments'])];
const words = embed(tokens, table('words', 10));
const places = tokenPositions(tokens, indices('positions', ['segments']), ends);
const hidden = add(words, embed(places, table('places', 6)));
const limits = limitsOf([
  crossEntropy(hidden, indices('targets', ['tokens'])),
  segmentCrossEntropy(hidden, indices('spans', ['segments', 4]), ends),
]);

test('are those of the tables that a graph reads, and of what it tells', () => {
  expect(limits).toEqual({
    vocabulary: 10,
    positions: 6,
    classes: new Map([['targets', 4]]),
    places: new Set(['spans']),
  });
  expect(limitsOf([words])).toMatchObject({ vocabulary: 10, positions: Infinity });
});

const part = {
  tokens: [9, 0, 3, 4, 5],
  ends: [2, 5],
  rows: [0, 4],
  inputs: { targets: [0, 3, -1, 1, 2], spans: [0, 1, 1, 0, 2, 2, 0, 1] },
};
const refused = (more: object, before = [0, 3]) => {
  const { inputs, ...rest } = more as Partial<Part>;
  refuseBeyond(limits, { ...part, ...rest, inputs: { ...part.inputs, ...inputs } }, before);
};

test('a part within them is taken', () => expect(() => refused({})).not.toThrow());

test.each([
  ['a token', { tokens: [10, 0, 3, 4, 5] }, 'token 10 is out of range: 0 to 9 are the model'],
  ['a token below 0', { tokens: [9, -1, 3, 4, 5] }, 'token -1 is out of range'],
  ['a token that is no number', { tokens: [9, NaN, 3, 4, 5] }, 'token NaN is out of range'],
  ['a row', { rows: [0, 5] }, "row 5 is out of range: 0 to 4 are the part's tokens"],
  ['a target', { inputs: { targets: [0, 4, 0, 0, 0] } }, 'targets 4 is out of range: 0 to 3 are the logits'],
  ['a place', { inputs: { spans: [0, 1, 2, 0, 2, 2, 0, 1] } }, "spans 2 is out of range: 0 to 1 are the segment's"],
  ['a segment without tokens', { ends: [0, 5] }, 'segment 0 ends at 0'],
  ['a segment beyond the tokens', { ends: [2, 6] }, 'segment 1 ends at 6: the part has 5 tokens'],
] as [string, object, string][])('%s beyond them is refused', (_, more, message) => {
  expect(() => refused(more)).toThrow(message);
});

test('positions count from what the sequences held', () => {
  expect(() => refused({}, [0, 4])).toThrow(/in 7 tokens at once, but the model has learned positions for 6:/);
});

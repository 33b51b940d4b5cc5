import { describe, expect, test } from 'vitest';
import { Random } from '../core/random.ts';
import { type Corpus, evaluationParts, streams, windows, withRoomFor } from './corpus.ts';

/** Texts of the given lengths; every token is its own position. */
const corpusOf = (lengths: readonly number[]): Corpus => {
  const total = lengths.reduce((a, b) => a + b, 0) + 1;
  let at = 0;
  const starts = lengths.map((length) => (at += length) - length);
  return { tokens: Uint16Array.from({ length: total }, (_, i) => i), starts: Uint32Array.from(starts) };
};

describe('windows', () => {
  test('an epoch sees every window once, and the next one in another order', () => {
    const batches = windows(corpusOf([1000]), { length: 10, batch: 7, together: 7, seed: 1 });
    const seen = (epoch: number) => {
      const first: number[] = [];
      for (let step = 0; step < batches.stepsPerEpoch * 2; step++)
        for (const { tokens, ends } of batches.parts(step))
          ends.forEach((end, i) => {
            const start = i > 0 ? ends[i - 1]! : 0;
            if (Math.floor((step * 7 + i) / 99) === epoch) first.push(tokens[start]!);
            expect(end - start).toBe(10);
          });
      return first;
    };
    const [one, two] = [seen(0), seen(1)];
    expect(new Set(one).size).toBe(99);
    expect(new Set(one.map((start) => start % 10)).size).toBe(1);
    expect(two.slice(0, 20)).not.toEqual(one.slice(0, 20));
  });

  test('steps are the same however they are come to', () => {
    const [a, b] = [5, 5].map((seed) => windows(corpusOf([500]), { length: 8, batch: 4, seed }));
    for (let step = 0; step < 40; step++) [...a!.parts(step)];
    expect([...b!.parts(23)]).toEqual([...a!.parts(23)]);
  });

  test('a text is a segment of its own, and what follows a window is predicted', () => {
    const [part] = evaluationParts(corpusOf([4, 3, 9]), 8, { tokens: 16, segments: 8, outputs: 16 });
    expect(part!.ends).toEqual([4, 7, 8, 16]);
    expect(Array.from(part!.inputs['targets']!)).toEqual(Array.from({ length: 16 }, (_, i) => i + 1));
    expect(part!.inputs['weights']![0]).toBeCloseTo(1 / 16);
  });

  test('every text is a segment of its own, however short texts are, and there is room for them', () => {
    const random = new Random(4);
    const lengths = Array.from({ length: 2000 }, () => 3 + random.integer(3));
    const begins = new Set(corpusOf(lengths).starts);
    const most = [windows, streams].map((cut) => {
      const { capacity, parts } = cut(corpusOf(lengths), { length: 512, batch: 2, together: 2, seed: 2 });
      let most = 0;
      for (let step = 0; step < 20; step++)
        for (const { tokens, ends } of parts(step)) {
          most = Math.max(most, ends.length);
          expect(ends.length).toBeLessThanOrEqual(capacity.segments);
          const found = new Set([0, 512, ...ends.slice(0, -1)]);
          expect(Array.from(tokens).filter((token, t) => begins.has(token) && !found.has(t))).toEqual([]);
        }
      expect(most).toBeGreaterThan(0.8 * capacity.segments);
      return most;
    });
    expect(Math.min(...most)).toBeGreaterThan(200);
  });

  test('an evaluation has room, whatever its length and its texts', () => {
    const batches = windows(corpusOf([1000]), { length: 32, batch: 1, seed: 1 });
    for (const length of [8, 32, 64])
      for (const lengths of [[400], Array<number>(200).fill(2), [1, 1, 1, 100, 1, 1]]) {
        const corpus = corpusOf(lengths);
        const { capacity } = withRoomFor(batches, corpus, length);
        for (const { tokens, ends, rows } of evaluationParts(corpus, length, capacity)) {
          expect(tokens.length).toBeLessThanOrEqual(capacity.tokens);
          expect(rows.length).toBeLessThanOrEqual(capacity.outputs);
          expect(ends.length).toBeLessThanOrEqual(capacity.segments);
        }
      }
  });

  test('a window that no data fills is refused', () => {
    expect(() => windows(corpusOf([30]), { length: 32, batch: 1, seed: 0 })).toThrow(/31 tokens.*needs at least 65/);
    expect(() => windows(corpusOf([300]), { length: 0, batch: 1, seed: 0 })).toThrow(/length is 0/);
  });
});

describe('streams', () => {
  test('go on where the step before ended, and begin anew where a text does', () => {
    // Streams of 20 tokens; texts begin at 0, 8, 16, 33.
    const batches = streams(corpusOf([8, 8, 17, 7]), { length: 8, batch: 2, seed: 1 });
    const [one] = batches.parts(0);
    expect(batches.stepsPerEpoch).toBe(1);
    expect(one!.ends).toEqual([8, 16]);
    expect(Array.from(one!.tokens)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22, 23, 24, 25, 26, 27]);
    expect(one!.streams!.map(({ continues }) => continues)).toEqual([false, false]);

    const longer = streams(corpusOf([8, 8, 17, 27]), { length: 8, batch: 2, seed: 1 });
    const [two] = longer.parts(1);
    expect(Array.from(two!.tokens).slice(8)).toEqual([38, 39, 40, 41, 42, 43, 44, 45]);
    expect(two!.streams).toEqual([
      { stream: 0, first: 0, last: 0, continues: false },
      { stream: 1, first: 1, last: 1, continues: true },
    ]);
  });

  test('a text that begins within a window ends the one that goes on', () => {
    const batches = streams(corpusOf([12, 48]), { length: 8, batch: 1, seed: 1 });
    const [part] = batches.parts(1);
    expect(part!.ends).toEqual([4, 8]);
    expect(part!.streams).toEqual([{ stream: 0, first: 0, last: 1, continues: true }]);
  });

  test('more streams than there is data for are refused', () => {
    expect(() => streams(corpusOf([30]), { length: 16, batch: 2, seed: 0 })).toThrow(/2 streams.*at least 33/);
  });
});

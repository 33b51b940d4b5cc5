import { describe, expect, test } from 'vitest';
import { exampleBatches, exampleParts, inRandomOrder } from './examples.ts';

const examples = Array.from({ length: 23 }, (_, i) => i);

describe('examples in random order', () => {
  const steps = (chosen: (step: number) => number[], from: number, count: number) =>
    Array.from({ length: count }, (_, i) => chosen(from + i)).flat();

  test('an epoch has every example once, and the next one in another order', () => {
    const chosen = inRandomOrder(examples, 4, 5);
    const seen = steps(chosen, 0, 18);
    const epochs = [0, 1, 2].map((epoch) => seen.slice(23 * epoch, 23 * (epoch + 1)));
    for (const epoch of epochs) {
      expect([...epoch].sort((a, b) => a - b)).toEqual(examples);
      expect(epoch).not.toEqual(examples);
    }
    expect(epochs[1]).not.toEqual(epochs[0]);
    expect(epochs[2]).not.toEqual(epochs[1]);
    expect(steps(inRandomOrder(examples, 4, 6), 0, 18)).not.toEqual(seen);
  });

  test('steps are the same however they are come to', () => {
    const whole = inRandomOrder(examples, 4, 5);
    const all = Array.from({ length: 30 }, (_, step) => whole(step));
    for (const step of [0, 3, 5, 6, 12, 29]) expect(inRandomOrder(examples, 4, 5)(step)).toEqual(all[step]);
    // Back within an epoch, and to one before.
    for (const step of [29, 13, 12, 0]) expect(whole(step)).toEqual(all[step]);
  });
});

describe('parts of a batch', () => {
  const made = [
    { tokens: [1, 2, 3], rows: [2], targets: [1] },
    { tokens: [4, 5], rows: [0, 1], targets: [2, 3] },
    { tokens: [6], rows: [0], targets: [0] },
  ];

  test('hold whole examples, and all that is told weighs the same', () => {
    const [first, second, ...none] = [...exampleParts(made, 5, 2)];
    expect(none).toEqual([]);
    expect(first).toMatchObject({ tokens: [1, 2, 3, 4, 5], ends: [3, 5], rows: [2, 3, 4] });
    expect(first!.inputs['targets']).toEqual([1, 2, 3]);
    expect(second).toMatchObject({ tokens: [6], ends: [1], rows: [0] });
    for (const { inputs, rows } of [first!, second!])
      expect(Array.from(inputs['weights']!)).toEqual(Array.from(rows, () => Math.fround(1 / 4)));
  });

  test('have the room that the batches say', () => {
    const batches = exampleBatches(made, { batch: 5, together: 5, most: 2, seed: 1 });
    for (let step = 0; step < 6; step++)
      for (const { tokens, ends, rows } of batches.parts(step)) {
        expect(tokens.length).toBeLessThanOrEqual(batches.capacity.tokens);
        expect(ends.length).toBeLessThanOrEqual(batches.capacity.segments);
        expect(rows.length).toBeLessThanOrEqual(batches.capacity.outputs);
      }
    expect(() => exampleBatches(made, { batch: 1, together: 2, seed: 1 })).toThrow(/3 tokens, but only 2 run together/);
  });
});

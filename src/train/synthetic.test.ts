import { describe, expect, test } from 'vitest';
import { Random } from '../core/random.ts';
import { syntheticTasks } from './synthetic.ts';

const example = (name: string, seed = 1, length?: number) => {
  const task = syntheticTasks.find((one) => one.name === name)!;
  return task.make(new Random(seed), length ?? task.lengths[1]);
};

test.each(syntheticTasks)('$name: tokens, rows and targets are in range, and a seed gives the same', (task) => {
  for (const length of task.measured) {
    const { tokens, rows, targets } = task.make(new Random(length), length);
    expect(tokens.every((token) => Number.isInteger(token) && token >= 0 && token < task.vocabulary)).toBe(true);
    expect(targets.every((target) => target >= 0 && target < task.vocabulary)).toBe(true);
    expect(rows).toHaveLength(targets.length);
    expect(Math.max(...rows)).toBeLessThan(tokens.length);
    expect(task.make(new Random(length), length)).toEqual({ tokens, rows, targets });
  }
});

describe('answers are right', () => {
  test('selective copying', () => {
    const { tokens, targets } = example('selective-copying');
    expect(tokens.slice(0, 64).filter((token) => token !== 0)).toEqual(targets);
    expect(tokens.slice(64)).toEqual(new Array(8).fill(15));
  });

  test.each([1, 2, 3, 4, 5, 6, 7, 8])('induction heads, seed %i', (seed) => {
    const { tokens, targets } = example('induction-heads', seed);
    expect(targets).toEqual([tokens[tokens.indexOf(15) + 1]]);
    expect(tokens.filter((token) => token === 15).length).toBe(2);
  });

  test('recall', () => {
    const { tokens, rows, targets } = example('mqar');
    const values = new Map([0, 2, 4, 6].map((i) => [tokens[i]!, tokens[i + 1]!]));
    expect(rows.map((row) => values.get(tokens[row]!))).toEqual(targets);
    expect(rows).toHaveLength(4);
    expect(Math.min(...rows)).toBeGreaterThanOrEqual(8);
  });

  test('parity', () => {
    const { tokens, targets } = example('parity');
    expect(targets.at(-1)).toBe(tokens.reduce((a, b) => a + b, 0) % 2);
  });

  test('the product of permutations is associative and has inverses', () => {
    const { tokens, targets } = example('s3', 3, 200);
    const permutations = ['012', '021', '102', '120', '201', '210'];
    let things = [0, 1, 2];
    for (const [i, token] of tokens.entries()) {
      const q = [...permutations[token]!].map(Number);
      things = things.map((one) => q[one]!);
      expect(permutations[targets[i]!]).toBe(things.join(''));
    }
  });
});

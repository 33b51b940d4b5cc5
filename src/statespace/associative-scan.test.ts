import { describe, expect, it } from 'vitest';
import { associativeScan, associativeScanReverse } from './associative-scan.ts';

const join = (earlier: string, later: string) => earlier + later;

function letters(count: number): string[] {
  return Array.from({ length: count }, (_, i) => String.fromCharCode(97 + (i % 26)));
}

describe('associativeScan', () => {
  it.each([0, 1, 2, 3, 4, 5, 8, 31, 32, 33, 100, 1000])(
    'gives all prefixes and suffixes of %i elements in order',
    (count) => {
      const elements = letters(count);
      const whole = elements.join('');
      expect(associativeScan(elements, join).values).toEqual(elements.map((_, i) => whole.slice(0, i + 1)));
      expect(associativeScanReverse(elements, join).values).toEqual(elements.map((_, i) => whole.slice(i)));
    },
  );

  it('takes at most 2⌈log₂ T⌉ rounds and 2T combinations', () => {
    for (let count = 2; count <= 300; count++) {
      let calls = 0;
      const { depth, combinations } = associativeScan(letters(count), (a, b) => {
        calls++;
        return a + b;
      });
      expect(depth).toBeLessThanOrEqual(2 * Math.ceil(Math.log2(count)));
      expect(calls).toBe(combinations);
      expect(combinations).toBeLessThan(2 * count);
    }
  });

  it('reports as its depth the longest chain of combinations that wait for one another', () => {
    interface Tracked {
      readonly round: number;
    }
    const after = (a: Tracked, b: Tracked) => ({ round: 1 + Math.max(a.round, b.round) });
    for (const count of [2, 3, 7, 16, 100, 1024]) {
      const { values, depth } = associativeScan(Array<Tracked>(count).fill({ round: 0 }), after);
      expect(Math.max(...values.map(({ round }) => round))).toBeLessThanOrEqual(depth);
    }
    expect(associativeScan(letters(1024), join).depth).toBe(19);
  });
});

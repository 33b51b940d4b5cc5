import { expect, test } from 'vitest';
import { exceeds } from './magnitude.ts';

/** The largest finite f32. */
const LARGEST = 3.4028234663852886e38;

test.each([1, 3, 4, 7, 64, 65])('of %i numbers, one too large anywhere is found', (length) => {
  for (let at = 0; at < length; at++) {
    for (const bad of [65505, -65505, Infinity, -Infinity, Number.NaN, LARGEST]) {
      const values = Float32Array.from({ length }, (_, i) => (i % 2 ? -65504 : 1e-40));
      expect(exceeds(values, 65504)).toBe(false);
      values[at] = bad;
      expect(exceeds(values, 65504)).toBe(true);
      expect(exceeds(values, LARGEST)).toBe(!Number.isFinite(bad));
    }
  }
});

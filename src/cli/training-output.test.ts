import { expect, test } from 'vitest';
import { timeLeft } from './training-output.ts';

test('time left is that of the work since it was told of first', () => {
  let now = 1000;
  const left = timeLeft(() => now);
  expect(left()).toBeUndefined();
  expect(left(10, 110)).toBeUndefined();
  now += 2000;
  expect(left(30, 110)).toBe(8);
  // Another work begins.
  expect(left(0, 5)).toBeUndefined();
  now += 500;
  expect(left(1, 5)).toBe(2);
});

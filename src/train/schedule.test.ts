import { expect, test } from 'vitest';
import { makeSchedule } from './schedule.ts';

const rates = (options: Parameters<typeof makeSchedule>[0], steps: number) =>
  Array.from({ length: steps }, (_, step) => makeSchedule(options, steps)(step));

test('the warm-up is linear and reaches the rate', () => {
  expect(rates({ learningRate: 1, warmup: 4, schedule: 'constant' }, 6)).toEqual([0.25, 0.5, 0.75, 1, 1, 1]);
});

test('cosine and linear go down to the final rate', () => {
  for (const schedule of ['cosine', 'linear'] as const) {
    const found = rates({ learningRate: 2, warmup: 0, finalRate: 0.1, schedule }, 101);
    expect(found[0]).toBe(2);
    expect(found[50]).toBeCloseTo(1.1);
    expect(found[100]).toBeCloseTo(0.2);
  }
});

test('wsd is constant, then goes down over its last steps', () => {
  const found = rates({ learningRate: 1, warmup: 0, finalRate: 0, schedule: 'wsd', decaySteps: 4 }, 10);
  expect(found).toEqual([1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0]);
});

test.each([1, 2, 4, 10])('the last of 10 steps has the final rate: wsd with a decay of %i', (decaySteps) => {
  const found = rates({ learningRate: 2, warmup: 0, finalRate: 0.1, schedule: 'wsd', decaySteps }, 10);
  expect(found[9]).toBeCloseTo(0.2, 12);
  expect(found[9 - decaySteps] ?? 2).toBe(2);
});

test.each([
  [{ learningRate: 0 }, /learningRate is 0/],
  [{ learningRate: 1, warmup: -1 }, /warmup/],
  [{ learningRate: 1, finalRate: 2 }, /finalRate/],
  [{ learningRate: 1, schedule: 'steps' as never }, /schedule is steps/],
])('%j is refused', (options, message) => {
  expect(() => makeSchedule(options, 10)).toThrow(message);
});

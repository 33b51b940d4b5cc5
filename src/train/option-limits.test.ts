import { expect, test } from 'vitest';
import { refuseIdle, refuseIdleSchedule, refuseSenselessNumbers } from './option-limits.ts';

const counts = ['batch', 'together', 'length', 'vocabulary', 'evaluateEvery', 'evaluationWindows', 'evaluationLength'];

test.each([
  ...[...counts, 'patience', 'checkpointEvery', 'rank', 'decaySteps'].flatMap((name) =>
    [0, -1, 1.5, NaN, Infinity, '8'].map((value) => [name, value] as const),
  ),
  ...['steps', 'epochs', 'warmup'].flatMap((name) => [-1, 0.5, NaN, Infinity].map((value) => [name, value] as const)),
  ...['learningRate', 'clip', 'alpha'].flatMap((name) => [0, -1, NaN, Infinity].map((value) => [name, value] as const)),
  ...[-0.1, NaN, Infinity].map((value) => ['weightDecay', value] as const),
  ['seed', 0.5] as const,
])('%s of %s is refused by name', (name, value) => {
  expect(() => refuseSenselessNumbers({ [name]: value })).toThrow(`${name} is ${value}: it must be a`);
});

test('what makes sense is taken', () => {
  const zeros = { steps: 0, epochs: 0, warmup: 0, seed: -3, weightDecay: 0 };
  refuseSenselessNumbers({ ...zeros, clip: 1e30, alpha: 0.5, batch: 1, patience: undefined, field: 'text' });
});

test('an option that would say nothing is refused by name', () => {
  const options = { patience: undefined as number | undefined, targets: 'in_proj' };
  refuseIdle(options, ['patience'], 'there is nothing to measure');
  expect(() => refuseIdle(options, ['patience', 'targets'], 'the method is full')).toThrow(
    'targets is given, but the method is full: leave it out',
  );
});

test.each([
  [{ decaySteps: 5 }, 'decaySteps is given, but the schedule is cosine'],
  [{ decaySteps: 5, schedule: 'linear' }, 'decaySteps is given, but the schedule is linear'],
  [{ decaySteps: 5, schedule: 'constant' }, 'decaySteps is given, but the schedule is constant'],
  [{ finalRate: 0.1, schedule: 'constant' }, 'finalRate is given, but the schedule is constant'],
] as const)('%j: what the schedule has not is refused by name', (options, message) => {
  expect(() => refuseIdleSchedule(options)).toThrow(message);
});

test.each(['cosine', 'linear', 'wsd', 'constant'] as const)('%s takes what it has', (schedule) => {
  refuseIdleSchedule({
    schedule,
    ...(schedule === 'wsd' && { decaySteps: 5 }),
    ...(schedule !== 'constant' && { finalRate: 0 }),
  });
});

import { expect, test } from 'vitest';
import { refuseIdle, refuseSenselessNumbers } from './option-limits.ts';

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

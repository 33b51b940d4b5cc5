import { expect, test } from 'vitest';
import type { BenchResult } from '../platform/bench.ts';
import { costBars, costChart } from './cost-chart.ts';

const costsOf = (...milliseconds: number[]) =>
  milliseconds.map((millisecondsPerToken, n) => ({ length: 1024 * 4 ** n, millisecondsPerToken, stateBytes: 512 }));
const ticksOf = (...milliseconds: number[]) => {
  const chart = costChart({ model: 'm', type: 'mamba', costs: costsOf(...milliseconds) } as unknown as BenchResult);
  return [...chart.matchAll(/text-anchor="end">([^<]*)</g)].map(([, tick]) => tick);
};

test.each([
  [
    [0.275, 0.276],
    ['0.000', '0.076', '0.152', '0.228', '0.304'],
  ],
  [[0.018], ['0.0000', '0.0050', '0.0099', '0.0149', '0.0198']],
  [
    [9.1, 8],
    ['0.0', '2.5', '5.0', '7.5', '10.0'],
  ],
  [
    [1000, 250],
    ['0', '275', '550', '825', '1100'],
  ],
])('the ticks of costs of %j ms are told apart, and are where they say', (costs, ticks) => {
  expect(ticksOf(...costs)).toEqual(ticks);
});

test('bars tell costs apart that differ in the third digit', () => {
  const told = (...milliseconds: number[]) =>
    costBars(costsOf(...milliseconds)).map((line) => / ([\d.]+) ms, state 512 bytes$/.exec(line)?.[1]);
  expect(told(0.275, 0.276)).toEqual(['0.275', '0.276']);
  expect(told(0.018, 1.5)).toEqual(['0.0180', '1.5000']);
  expect(told(12.3, 12.4)).toEqual(['12.30', '12.40']);
  expect(costBars(costsOf(1, 2)).map((line) => line.split('█').length - 1)).toEqual([20, 40]);
});

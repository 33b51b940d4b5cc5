import { expect, test } from 'vitest';
import { type LoggedStep, lossChart, lossTable } from './loss-chart.ts';

const steps: LoggedStep[] = [5, 4, 3, 2].map((loss, i) => ({
  step: i + 1,
  tokens: 64 * (i + 1),
  loss,
  learningRate: 0.1,
  gradientNorm: 1,
  ...(i === 3 && { evaluation: { loss: 2.5, accuracy: 0.5 } }),
}));

test('the table has a row a step, and evaluations where there were some', () => {
  const rows = lossTable(steps).trim().split('\n');
  expect(rows).toHaveLength(5);
  expect(rows[1]).toBe('1,64,5,0.1,1,,');
  expect(rows[4]).toBe('4,256,2,0.1,1,2.5,0.5');
});

test('the picture goes down from the first loss to the last, and has a dot for an evaluation', () => {
  const svg = lossChart(steps);
  const points = /class="steps" points="([^"]+)"/
    .exec(svg)![1]!
    .split(' ')
    .map((pair) => pair.split(',').map(Number));
  expect(points).toHaveLength(4);
  for (let i = 1; i < points.length; i++) {
    expect(points[i]![0]).toBeGreaterThan(points[i - 1]![0]!);
    expect(points[i]![1]).toBeGreaterThan(points[i - 1]![1]!);
  }
  expect(svg.match(/<circle/g)).toHaveLength(1);
  expect(svg).not.toContain('NaN');
});

test('the picture of a very long training has its extremes and a thousand stretches, and no more', () => {
  const many = Array.from({ length: 150_000 }, (_, i): LoggedStep => {
    const loss = i === 123_457 ? 9 : 2 + Math.sin(i) / 10;
    return { ...steps[0]!, step: i + 1, loss, evaluation: { loss: i === 77 ? 1 : 3 } };
  });
  const svg = lossChart(many);
  const ys = /class="steps" points="([^"]+)"/
    .exec(svg)![1]!
    .split(' ')
    .map((pair) => Number(pair.split(',')[1]));
  expect(ys).toHaveLength(2000);
  expect(Math.min(...ys)).toBe(28);
  expect(svg.match(/<circle/g)).toHaveLength(1000);
  expect(svg).toContain('step 78: validation 1.0000');
});

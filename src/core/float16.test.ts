import { expect, test } from 'vitest';
import { float16ToNumber, numberToFloat16 } from './float16.ts';

test.each([
  [0x0000, 0],
  [0x3c00, 1],
  [0xc000, -2],
  [0x3555, 0.333251953125],
  [0x7bff, 65504],
  [0x0400, 2 ** -14],
  [0x0001, 2 ** -24],
  [0x83ff, -1023 * 2 ** -24],
  [0x7c00, Infinity],
  [0xfc00, -Infinity],
])('0x%s is %d both ways', (half, value) => {
  expect(float16ToNumber(half)).toBe(value);
  expect(numberToFloat16(value)).toBe(half);
});

test('every half-precision number survives the way to a number and back', () => {
  for (let half = 0; half < 0x10000; half++) {
    const value = float16ToNumber(half);
    if (Number.isNaN(value)) expect(numberToFloat16(value)).toBe(0x7e00);
    else if (numberToFloat16(value) !== half) expect.fail(`0x${half.toString(16)} came back different`);
  }
});

test('rounds to the nearest number, ties to even, overflow to infinity', () => {
  for (let half = 0; half < 0x7bff; half++) {
    const low = float16ToNumber(half);
    const step = float16ToNumber(half + 1) - low;
    const even = half % 2 === 0 ? half : half + 1;
    const rounded = [0.25, 0.5, 0.75].map((part) => numberToFloat16(low + part * step));
    if (rounded.join() !== [half, even, half + 1].join()) expect.fail(`between 0x${half.toString(16)} and the next`);
  }
  expect(numberToFloat16(65519)).toBe(0x7bff);
  expect(numberToFloat16(65520)).toBe(0x7c00);
  expect(numberToFloat16(-1e30)).toBe(0xfc00);
});

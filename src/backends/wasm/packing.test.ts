import { describe, expect, test } from 'vitest';
import type { WeightFormat, WeightLayout } from '../../core/backend.ts';
import { Random } from '../../core/random.ts';
import { packingOf } from './packing.ts';

const random = new Random(3);
/** Numbers that every format holds exactly. */
const exact = (length: number) => Float32Array.from({ length }, () => (random.integer(255) - 127) / 64);

describe.each<[WeightFormat, WeightLayout]>([
  ['f32', 'linear'],
  ['bf16', 'linear'],
  ['f16', 'linear'],
  ['f32', 'linearTransposed'],
  ['bf16', 'linearTransposed'],
])('%s, %s', (format, layout) => {
  test.each([
    [1, 1],
    [3, 7],
    [8, 5],
    [65, 63],
  ])('[%i, %i] comes back, packed whole or row by row', (rows, columns) => {
    const packing = packingOf({ name: 'w', shape: [rows, columns], format, layout });
    const values = exact(rows * columns);
    const whole = new Uint8Array(packing.bytes + 16);
    packing.pack(values, 0, whole, 8);
    expect(packing.unpack(whole, 8)).toEqual(values);
    const pieces = new Uint8Array(packing.bytes + 16);
    for (let row = 0; row < rows; row++)
      packing.pack(values.slice(row * columns, (row + 1) * columns), row * columns, pieces, 8);
    expect(pieces).toEqual(whole);
    expect([...whole.slice(0, 8), ...whole.slice(-8)].every((byte) => byte === 0)).toBe(true);
  });
});

test('bf16 rounds to the nearest, ties to even', () => {
  const packing = packingOf({ name: 'w', shape: [1, 3], format: 'bf16', layout: 'linear' });
  const memory = new Uint8Array(packing.bytes);
  packing.pack(Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -9), 0, memory, 0);
  expect([...packing.unpack(memory, 0)]).toEqual([1, 1 + 2 ** -6, 1]);
});

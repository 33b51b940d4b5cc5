import { describe, expect, test } from 'vitest';
import type { WeightFormat, WeightLayout } from '../../core/backend.ts';
import { float16ToNumber } from '../../core/float16.ts';
import { quantiseMatrix, readGroup } from '../../core/quantise.ts';
import { Random } from '../../core/random.ts';
import { wasmBackend } from './index.ts';

const random = new Random(3);
const backend = await wasmBackend();
/** Numbers that plain formats hold exactly. */
const exact = (length: number) => Float32Array.from({ length }, () => (random.integer(255) - 127) / 64);
const normal = (length: number) => Float32Array.from({ length }, () => random.normal());

/** Zeros without a sign: integers may be mirrored, with a scale below zero. */
const unsigned = (values: Float32Array) => values.map((value) => value + 0);

/** What a matrix is once it is packed, whole or in pieces of `rows` rows. */
function packed(
  format: WeightFormat,
  layout: WeightLayout,
  shape: readonly [number, number],
  values: Float32Array,
  rows = shape[0],
): Float32Array {
  const weights = backend.weights([{ name: 'w', shape, format, layout }]);
  for (let row = 0; row < shape[0]; row += rows)
    weights.write('w', values.slice(row * shape[1], (row + rows) * shape[1]), row * shape[1]);
  const result = weights.read('w');
  weights.dispose();
  return unsigned(result);
}

const layouts: WeightLayout[] = ['linear', 'linearTransposed'];
const shapes: [number, number][] = [
  [1, 1],
  [3, 7],
  [8, 5],
  [65, 63],
  [33, 96],
];

describe.each<WeightFormat>(['f32', 'bf16', 'f16'])('%s', (format) => {
  test.each(shapes)('[%i, %i] comes back, packed whole or in pieces', (...shape) => {
    for (const layout of layouts) {
      const values = exact(shape[0] * shape[1]);
      expect(packed(format, layout, shape, values)).toEqual(values);
      expect(packed(format, layout, shape, values, 1)).toEqual(values);
      expect(packed(format, layout, shape, values, 5)).toEqual(values);
    }
  });
});

describe.each<'q8' | 'q4'>(['q8', 'q4'])('%s', (format) => {
  /** The numbers that `quantiseMatrix` makes of a matrix [O, I]. */
  function quantised(values: Float32Array, O: number, I: number): Float32Array {
    const matrix = quantiseMatrix(values, I, format);
    const groups = Math.ceil(I / 32);
    const group = new Int8Array(32);
    const result = new Float32Array(O * I);
    for (let n = 0; n < O * groups; n++) {
      const [o, g] = [Math.floor(n / groups), n % groups];
      const count = readGroup(matrix, I, o, g, group);
      const scale = float16ToNumber(matrix.scales[n]!);
      for (let k = 0; k < count; k++) result[o * I + g * 32 + k] = group[k]! * scale;
    }
    return unsigned(result);
  }
  const transpose = (values: Float32Array, rows: number, columns: number) =>
    values.map((_, n) => values[(n % rows) * columns + Math.floor(n / rows)]!);

  test.each(shapes)('[%i, %i] is what files have, packed whole or in pieces', (rows, columns) => {
    const values = normal(rows * columns);
    const expected = quantised(values, rows, columns);
    expect(packed(format, 'linear', [rows, columns], values)).toEqual(expected);
    expect(packed(format, 'linear', [rows, columns], values, 1)).toEqual(expected);
    expect(packed(format, 'linear', [rows, columns], expected)).toEqual(expected);
    const turned = transpose(values, rows, columns);
    for (const pieces of [columns, 1, 7])
      expect(packed(format, 'linearTransposed', [columns, rows], turned, pieces)).toEqual(
        transpose(expected, rows, columns),
      );
  });

  test('a number beyond what the scale can be is refused', () => {
    expect(() => packed(format, 'linear', [1, 32], new Float32Array(32).fill(1e9))).toThrow(/magnitude 1000000000/);
  });
});

test('bf16 rounds to the nearest, ties to even', () => {
  const values = Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -9);
  expect([...packed('bf16', 'linear', [1, 3], values)]).toEqual([1, 1 + 2 ** -6, 1]);
});

test('f16 rounds to the nearest, keeps subnormals and refuses what it has no place for', () => {
  const values = Float32Array.of(1 + 2 ** -11, 2 ** -24, 1.5 * 2 ** -24, -65504);
  expect([...packed('f16', 'linear', [1, 4], values)]).toEqual([1, 2 ** -24, 2 ** -23, -65504]);
  expect(() => packed('f16', 'linear', [1, 1], Float32Array.of(7e4))).toThrow(/f16 ends at 65504/);
});

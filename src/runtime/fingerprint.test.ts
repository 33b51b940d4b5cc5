import { describe, expect, test } from 'vitest';
import type { WeightDeclaration, WeightFormat } from '../core/backend.ts';
import { float16ToNumber } from '../core/float16.ts';
import { QUANTISATION_GROUP, quantiseMatrix, readGroup } from '../core/quantise.ts';
import { Random } from '../core/random.ts';
import { difference, FingerprintedWeights } from './fingerprint.ts';

const random = new Random(1);
const [O, I] = [70, 96];
const plain = Float32Array.from({ length: O * I }, () => random.normal());

/** What a matrix stands for after it was quantised. */
function quantised(format: 'q8' | 'q4'): Float32Array {
  const matrix = quantiseMatrix(plain, I, format);
  const integers = new Int8Array(QUANTISATION_GROUP);
  const groups = I / QUANTISATION_GROUP;
  return plain.map((_, n) => {
    const [row, group] = [Math.floor(n / I), Math.floor((n % I) / QUANTISATION_GROUP)];
    readGroup(matrix, I, row, group, integers);
    return integers[n % QUANTISATION_GROUP]! * float16ToNumber(matrix.scales[row * groups + group]!);
  });
}

/** The transpose of a matrix [O, I]. */
const transposed = (values: Float32Array): Float32Array =>
  values.map((_, n) => values[(n % O) * I + Math.floor(n / O)]!);

function fingerprint(values: Float32Array, format: WeightFormat, layout: WeightDeclaration['layout'] = 'linear') {
  const shape = layout === 'linear' ? [O, I] : [I, O];
  const weights = new FingerprintedWeights({ write() {}, takes: () => false, read: () => new Float32Array(0) }, [
    { name: 'w', shape, format, layout },
  ]);
  weights.write('w', values.subarray(0, 32 * shape[1]!));
  weights.write('w', values.subarray(32 * shape[1]!), 32 * shape[1]!);
  return weights.fingerprint('mamba', { D: I, epsilon: 1e-5 }, format);
}

describe('fingerprint', () => {
  const numbers: [WeightFormat, Float32Array][] = [
    ['f32', plain],
    ['bf16', new Float32Array(new Uint32Array(plain.buffer.slice(0)).map((word) => word & 0xffff0000).buffer)],
    ['f16', plain.map((x) => Math.round(x * 64) / 64)],
    ['q8', quantised('q8')],
    ['q4', quantised('q4')],
  ];

  test.each(numbers)('%s that holds the same numbers counts as f32', (format, values) => {
    expect(fingerprint(values, format)).toEqual(fingerprint(values, 'f32'));
    const turned = transposed(values);
    expect(fingerprint(turned, format, 'linearTransposed')).toEqual(fingerprint(turned, 'f32', 'linearTransposed'));
  });

  test.each(numbers.slice(1))('%s that holds other numbers does not', (format) => {
    expect(fingerprint(plain, format)).toEqual({ ...fingerprint(plain, 'f32'), weights: format });
    expect(difference(fingerprint(plain, format), fingerprint(plain, 'f32'))).toMatch(
      `its matrices held as ${format}, and here they are held as f32`,
    );
  });

  test('f16 has small numbers as multiples of 2^-24, and large ones to 65504', () => {
    const small = plain.map((_, n) => (n % 1024) * 2 ** -24);
    expect(fingerprint(small, 'f16').weights).toBe('f32');
    for (const odd of [2 ** -25, 65536, 1 + 2 ** -11]) {
      small[5] = odd;
      expect(fingerprint(small, 'f16').weights).toBe('f16');
    }
  });

  test('every number counts', () => {
    const changed = plain.slice();
    changed[O * I - 1]! += 1e-6;
    expect(fingerprint(changed, 'f32').parameters).not.toBe(fingerprint(plain, 'f32').parameters);
  });
});

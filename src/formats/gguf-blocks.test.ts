import { describe, expect, test } from 'vitest';
import { InputError, WeightError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import { type BlockType, blockFormats, decodeBlocks, encodeBlocks } from './gguf-blocks.ts';

const half = { one: [0x00, 0x3c], minusTwo: [0x00, 0xc0], quarter: [0x00, 0x34] };

const decode = (type: BlockType, bytes: readonly number[]): number[] => {
  const { elements, bytes: size } = blockFormats[type];
  const into = new Float32Array((bytes.length / size) * elements);
  decodeBlocks(type, Uint8Array.from(bytes), into);
  return [...into];
};

const range = (length: number, value: (i: number) => number): number[] => Array.from({ length }, (_, i) => value(i));

describe('blocks of 32, by hand', () => {
  test('q4_0: low halves first, high halves second, zero in the middle', () => {
    const bytes = [...half.quarter, ...range(16, (j) => j | ((15 - j) << 4))];
    expect(decode('q4_0', bytes)).toEqual([...range(16, (j) => (j - 8) / 4), ...range(16, (j) => (7 - j) / 4)]);
  });

  test('q4_1: a minimum instead', () => {
    const bytes = [...half.quarter, ...half.minusTwo, ...range(16, (j) => j | ((15 - j) << 4))];
    expect(decode('q4_1', bytes)).toEqual([...range(16, (j) => j / 4 - 2), ...range(16, (j) => (15 - j) / 4 - 2)]);
  });

  // Numbers 0, 3, 17 and 31 have their fifth bit set.
  const fifth = [0b00001001, 0, 0b00000010, 0b10000000];
  const hasFifth = new Set([0, 3, 17, 31]);

  test('q5_0: fifth bits apart, bit i for number i', () => {
    const bytes = [...half.one, ...fifth, ...range(16, (j) => j | (j << 4))];
    expect(decode('q5_0', bytes)).toEqual(range(32, (i) => (i % 16) + (hasFifth.has(i) ? 0 : -16)));
  });

  test('q5_1: fifth bits and a minimum', () => {
    const bytes = [...half.one, ...half.minusTwo, ...fifth, ...range(16, (j) => j | (j << 4))];
    expect(decode('q5_1', bytes)).toEqual(range(32, (i) => (i % 16) + (hasFifth.has(i) ? 16 : 0) - 2));
  });

  test('q8_0: signed bytes', () => {
    const bytes = [...half.minusTwo, ...range(32, (j) => (j * 8 - 128) & 255)];
    expect(decode('q8_0', bytes)).toEqual(range(32, (j) => (j * 8 - 128) * -2));
  });

  test('a second block follows the first', () => {
    const block = (scale: number[]) => [...scale, ...range(32, () => 3)];
    expect(decode('q8_0', [...block(half.one), ...block(half.minusTwo)])).toEqual([
      ...range(32, () => 3),
      ...range(32, () => -6),
    ]);
  });
});

/** Puts eight 6-bit scales and eight 6-bit minima in 12 bytes, as ggml's quantisers do. */
function packSixBits(scales: number[], minima: number[]): number[] {
  const packed = range(12, () => 0);
  for (let j = 0; j < 8; j++) {
    if (j < 4) {
      packed[j]! |= scales[j]!;
      packed[j + 4]! |= minima[j]!;
    } else {
      packed[j + 4] = (scales[j]! & 15) | ((minima[j]! & 15) << 4);
      packed[j - 4]! |= (scales[j]! >> 4) << 6;
      packed[j]! |= (minima[j]! >> 4) << 6;
    }
  }
  return packed;
}

describe('blocks of 256, packed as the format defines', () => {
  const random = new Random(3);

  test.each([
    ['q4_k', 16],
    ['q5_k', 32],
  ] as const)('%s', (type, limit) => {
    const scales = range(8, () => random.integer(64));
    const minima = range(8, () => random.integer(64));
    const quanta = range(256, () => random.integer(limit));
    const high = range(32, (j) =>
      range(8, (group) => ((quanta[group * 32 + j]! >> 4) & 1) << group).reduce((a, b) => a | b),
    );
    const low = range(128, (i) => {
      const first = (i >> 5) * 64 + (i & 31);
      return (quanta[first]! & 15) | ((quanta[first + 32]! & 15) << 4);
    });
    const bytes = [
      ...half.quarter,
      ...half.minusTwo,
      ...packSixBits(scales, minima),
      ...(limit === 32 ? high : []),
      ...low,
    ];
    expect(bytes).toHaveLength(blockFormats[type].bytes);
    expect(decode(type, bytes)).toEqual(range(256, (i) => quanta[i]! * (scales[i >> 5]! / 4) + 2 * minima[i >> 5]!));
  });

  test('q6_k', () => {
    const scales = range(16, () => random.integer(256) - 128);
    const quanta = range(256, () => random.integer(64));
    const low = range(128, (i) => {
      const first = (i >> 6) * 128 + (i & 63);
      return (quanta[first]! & 15) | ((quanta[first + 64]! & 15) << 4);
    });
    const high = range(64, (i) => {
      const first = (i >> 5) * 128 + (i & 31);
      return range(4, (k) => (quanta[first + 32 * k]! >> 4) << (2 * k)).reduce((a, b) => a | b);
    });
    const bytes = [...low, ...high, ...scales.map((scale) => scale & 255), ...half.quarter];
    expect(bytes).toHaveLength(blockFormats.q6_k.bytes);
    const decoded = decode('q6_k', bytes);
    for (let i = 0; i < 256; i++) expect(decoded[i]).toBeCloseTo((scales[i >> 4]! / 4) * (quanta[i]! - 32), 10);
  });
});

describe('encoding', () => {
  const encode = (type: 'q8_0' | 'q4_0', values: number[]): Uint8Array => {
    const into = new Uint8Array((values.length / 32) * blockFormats[type].bytes);
    encodeBlocks(type, Float32Array.from(values), into);
    return into;
  };

  test('q8_0: halves round away from zero', () => {
    const values = [127, 0.5, -0.5, 1.5, -1.5, 2.49, ...range(26, () => -127)];
    expect([...encode('q8_0', values)].slice(0, 8)).toEqual([0x00, 0x3c, 127, 1, 255, 2, 254, 2]);
  });

  test('q4_0: the extreme becomes -8 whatever its sign, its opposite is clipped to 7', () => {
    const encoded = encode('q4_0', [8, -8, 1, 0.5, ...range(12, () => 0), 0, ...range(15, () => 7)]);
    expect([...encoded].slice(0, 6)).toEqual([0x00, 0xbc, 0x80, 0x1f, 0x17, 0x18]);
    const decoded = decode('q4_0', [...encoded]);
    expect(decoded.slice(0, 4)).toEqual([8, -7, 1, 0]);
  });

  test('zeros stay zeros', () => {
    for (const type of ['q8_0', 'q4_0'] as const)
      expect(
        decode(type, [
          ...encode(
            type,
            range(32, () => 0),
          ),
        ]).every((value) => value === 0),
      ).toBe(true);
  });

  test.each([
    ['q8_0', 1 / 254 + 2 ** -11],
    ['q4_0', 1 / 8 + 2 ** -11],
  ] as const)('%s comes back within its quantum', (type, bound) => {
    const random = new Random(5);
    const values = range(32 * 200, (i) => (random.uniform() - 0.5) * 10 ** ((i >> 5) % 5));
    const decoded = decode(type, [...encode(type, values)]);
    let worst = 0;
    for (let block = 0; block < 200; block++) {
      const part = values.slice(block * 32, block * 32 + 32).map(Math.fround);
      const extreme = Math.max(...part.map(Math.abs));
      for (let j = 0; j < 32; j++) worst = Math.max(worst, Math.abs(part[j]! - decoded[block * 32 + j]!) / extreme);
    }
    expect(worst).toBeLessThanOrEqual(bound);
    expect(worst).toBeGreaterThan(bound / 4);
  });

  test('refuses what has no encoding', () => {
    expect(() => encode('q8_0', [NaN, ...range(31, () => 0)])).toThrow(WeightError);
    expect(() => encode('q4_0', [Infinity, ...range(31, () => 0)])).toThrow(WeightError);
    expect(() =>
      encode(
        'q8_0',
        range(32, () => 1e30),
      ),
    ).toThrow(/too large for float16/);
    expect(() => encodeBlocks('q8_0', new Float32Array(33), new Uint8Array(34))).toThrow(InputError);
    expect(() => decodeBlocks('q6_k', new Uint8Array(209), new Float32Array(256))).toThrow(InputError);
  });
});

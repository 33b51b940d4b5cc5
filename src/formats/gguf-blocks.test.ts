import { createHash } from 'node:crypto';
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

/**
 * Three blocks of random bytes with scales of ordinary size, in base64, and the SHA-256 of the float32 numbers that gguf-py 0.19
 * (`gguf.quants.dequantize`) makes of them, negative zeros as zeros.
 */
const dequantised: readonly (readonly [type: BlockType, blocks: string, numbers: string])[] = [
  [
    'q4_0',
    'mJBAIhD66SBneg3MiqzQf3xkph/ey/uZ0+tQtrApWAeN8Ul8u6TeJVQ3yGbTPJ/tNYo5jDcV',
    '573341d105d5d195ad113b8d85445735b0134ef5b67032f1ad134f43016a939e',
  ],
  [
    'q4_1',
    'QpbBo1ZVdl47OU8l23TqgtWKmHEGHwscEy+a/nejekb/WRDbKOBRI3Wg3p5+9rzJ12RkP1HAnKvCp4B1',
    'cd030f487b6a40f39ad601710ef33b124cc7518c8d85cd8b9e60f2500565fe95',
  ],
  [
    'q5_0',
    'nZ8rg9sF2PuMOHBaQn+m7TLKcpcK7+IblrM8PPVjjpezJ13NiD/+4leSCd5YH6P30GT2IFFKWscTHJJ3PbeJr7n3',
    '7b3e3368063aeb27e959d4cbe41074230b8c4e6ef79b85dcb4e88fbcb968ec72',
  ],
  [
    'q5_1',
    'xp4uFdcYzyVtbIXbtnlhrJZqnxP6bcQzS6BoHeovxOZBwff+NweXN1/8iZwslXcIcKSRnxyYZTNxeidxwu6CWJldHLqKXQp4',
    '382cbb2a377e215df6da07247eb61f81aefddf8b425b18c33da6e5d6582c4ab7',
  ],
  [
    'q8_0',
    '+on+Fkvyr3WDcNTR8P3nsHESS9vfuf4Nd8BIf+KEtwhV4AYbB0GM2LHXuxJNbn+WXrQoBQuaB09DxsnuaZg/UeW9Hk99oNgWKYpSxjETNCxZBbl/b0ZLBkB6pQXV4tDWDlsBAnal',
    'd9af4b2ea2865d3b39d1df5ac37d6a0a87f7dd669cbb94a2b5ea55d56dad00fc',
  ],
  [
    'iq4_nl',
    'eR4qJKM5MJkQ1QbeSGFQ5djecyJuw+UGTJfUamlkHc7GziqHliSuMB/wTa43Y8gXVD+DsvMo',
    'f101eb74f8ad20506c57c3d8b79042b8f235c960ff48051a013d6ca6adff70fa',
  ],
  [
    'q2_k',
    'sw9lSfr2WNpOukLy9CibNycClj4H0a9Qci8fetSEFUJRgXdnfvFx+t9SLF7UxOXwnVnFgI81N1dJZJbvZsudb+gIH8ZNQHdQkH/F/1k1G7/Ol24ddkw+CuKNfRuMrUMROk4TiOABb2eGgKP61Xu+Pu58QSsWqmDYsqNVTeMR572FdylKiSe5i+HMzRSVdVap97J06ho0ObGX4AHhejXzx6LFIZFfo2Yley6seloLVSaqo0SO5hBKoGd1Gi35X8QkZCfZqYQHcXFiCjB7vPVJybgcc68j6grlV1/UKrzGXMIcxWCKFoMQCXbXDRIKbgJciTfLo7IXvinVIh8R',
    '60df23fa994259e68905790bd728cae4e626cd6ae2af97f40fd016523ab77c86',
  ],
  [
    'q3_k',
    'E4Wx/5KNCDe6QuUodj8gADiHjn/IpneFiLMjFPY2UDrdK2mcL09HXQRITjvHhagBuT3kCRFaU6N9NIAdr4dU2PSwJY70w2FATCkRow0hOCmdIiZTXfIhf2VMuaRjQEQjAQEhWgg8hhdh3nIhJiVLOfyesVDrL3joaEwwZT/a/RvcsqLp2jHKkRLrmx3IMx0VNNYOFoyAJOnKmL6PITcerufooPbVDrpmON9B6Ch8MGfPMUOz5byg07GTFhGlIPe74FJwzs96DfiTpfGuGD36fLac2CQw+ZfEUY2/H6wTls7XaKAMS4+TWEa+R818dTicfGn4t1ZXNZduG/zNQvGe1HOZqsKonLmpGP5qRDyPahMybyzKtoXxWb+lyT8VBcsAOB5NI6keHwnrmfBjQejKSyJ3cn+/BMKS6KMrSRqH84ijlhSbJrMhrLAk',
    '1d36b719ff5473896509a92032aa3af2b18105e4903deaf6e7a8382a18c46560',
  ],
  [
    'q4_k',
    '5BrSoBaeFLzo+eRftNRYSjJiDCHluX3McN4xoTOuRGpfHFGx6SahjWyIMYiubGCsaJDYwzJhtIT15HFpm0PzQaWXak1swLj6ActjL08WlxixlN+dsjIuU7LncBiin5KMC1bMvwXqWAe4z9h8TmKoJ4VQAJPKl5zM+VCizTAPqMj86nBL1DoQo3dQOaavV9zmMZUOIFT7acFHZTEZiiN9TDhFUV4A+RWlFDGA3kijD1fOpzt/BM71v3r1ijEr14FimgD5Me70OidQbkix1HVf4EIeMyZRab6wasW8sQ5Eo76tasqzFc9Bj/b1iR2j3G7IVy3oMbbUp3IEpfnzDdDXkETrM0oXLgQQEurfQbb7GI5C+dDZjNyJ0JKLUDamoZ60eB4tndxhm81l7GN/FloAfyXaf2vyLZ/hZMdHhrizuRt6EBeB8Ogt4IqbDNYPpgtf5Pif4QpSSReJqZW/05uMnhm2IgJ+13N0WSxoYa7TqW2ilz1CQ5Me2vfEdNOIS0YjPL5gw41w7518DHIvnIfraUjUmUc89zuHLtJzIQ1L2X9BJP0dd0hWIpTs19mocBOD',
    '8abb738ecd764764b8f6f29f2496be9d182e9b30dfe1c261bc3167cef514d69f',
  ],
  [
    'q5_k',
    'yBZSmHyOrf1YHswnWcY6iaD89+1Kg8Ee8mYYyn9lJWsc7+4NsYwVNTG0httvodK2Z+/P4iakoIoFKd4hUb63ScRwo0y/YGNB5e2vFEQy8t13KAUY8m8oxMhTQLeq0qlv9bcvoI2Vz2ePq8eGPgbLvLuPtnWMEIL4eInl1sUuYBT5OGbnMbS5KKxa4zVOccFcBd0L0cKY+YGzKqnB+NdHEg+Z97/HfrEN6PswP5mtLjhmDwciTT7OYgiGN8V5lEG9CAmDsTFYI5xcmNjdaut5B4geWqpd9oULbJGZoFo4uHONUgv5YDb2388KEg9IQD3qim+LLqKMd13UcbeIxtoq4whfPlg2F9vta7EgTCPbF2g2UOHtlab+vq7E8q11E4ddqDUuArXSUCdJfkBQVixAk2aSGN/MxR8W2+rTDjeD0anSBn89nbknz0+po5Q7C1jqWPpmc/LDsXLN1JvHIe4MHtAcFxYRrwnnCtIlJCeQ0N7z/c6yoU219yCHZUV0/w6YhRa8CuIsZKxaoL0Nbj6PXx3yY1Pa/+EulueqisfVrUq/uKwWbPJ8uMZZ/C+hIDJTLYyiUcDPC7EsYzm5hIGNgL+hWBRqaPFykHChtFN2tvc7Kor1eOiEKl25lD/dkbZ8zni1QQYP4ygkN604GS7978el1bRqKRZ9OnF1joy5+1QaNJGM6gkXKyJElg/C+xaY',
    '57b12fb01f6d60d740227da3bbbeace2d100068fa9403841ffe510d00fdaaf37',
  ],
  [
    'q6_k',
    'dgKLmew3aOarmjaFhtRf6c3JE1dTMLHvo7Gu8VCouMytDFHaGwdFeqBoPfDVbxeGh/Fnl5RwtmWdkMaUgYBIZnMLoJEt96QKFt6gECShf8wUHafb1i/7Pktw+gR6w4IHzTmtx9wwa3ekJKdEh2zFtzrJC4WGx59vnPGTF9DWN10hrUfFNzuVqFJhf3ho2bAplVAwo1+l5gKC78j74Qipl464BLc4m8uHAMICWaBppt0ArWMFMnh2akqInrsu2j7Jzq2xP+PJlgQm9pX6Ya77Bk0jac7MlTuZb82GAJ7X6jkjuKQub084EZ4flJcWMrQgj6Z/VXsp718pvZ8IIZtOVmkldpxftFSQnCYUiwpyOeP7PrgzkQudXYyT3qwV5CQvc3mDTlLK+ZPB4YC2gmmNAAwtHGTadINihe65UclvNlFe3mfX9RIsY60ZFpreSwENCDZBxGgo4Y3ufN5ekXTJn2pnncIJ+Ny/tUCV2yyvG/X93QzDmGnQWgxPmsIMogKojqmCU8etKXEkykEC810NN303SiLq2ajjvZRm7H24876a8vOh+pxa8YPS2zwHlFDSCzrKww0v3+qRn0q8fb/HIPDyBAMp3gUE0UZY+dec1jKl1uLXuQeBaRX/kNtnXwmw54jBEPv9PnClMPuqbKlqgyZDXyUMYdDCbBPVsRkRExJhbZkxRRWlrY4Vlh86e3kM9I3sXR9upz/txvlbHO/muNBoXTq9j92u3OBQlvrawGcOx/ocuyFoS5TEm1/L3v7T0q4zAPQ8VkZ5MjS/h3f9B+jLyJO+6Ew/aMmKd/HtbAVAPKo9d2+Jz5AQ8/V5E00f215r5KCl',
    '47eccb47070bd43afa18fbf270dc391b69afe8041208204beff95cde67416cf2',
  ],
  [
    'iq4_xs',
    'gCI2Jfy55k4erkDxcGcZYUjYj6HuhK0aQ+WJuP4nmmM/ELSZe6p1BrG5FS9v5VU5jRTgICoM0+im55CBjffgR8ccqj4MmFlFO/AfPqwk5K2sa4eL4/IF4iSA+9J2dLxLWpfGUskVV2A7PCvVdsT0tnn4QHIiFMrKDgWvnwuZIZ1mR0i7J8bSLTke5KeBq0QuiQkoGfEvCcJ9SOkJN8vytNqGuTYciXLl3v83CW/6oMfAv3Dq0drUa6dkbfqbRh4ixQyh3Dz69eM/mm86UR0PssWBGr9hVo2TXo36CT77jq5KmVkVs9yYYsxg1kToNOFXAKH2/ZzyT5MJMFNXqVKVex6VwLa+Cn+1JprMzOPMo+9+lA/lcVDo2P9Q3Zw2QzFjiT6BYjyhWl8jpJNzLOFE7fJA5KgC8QVlK+Lwyk923Mw1sxAmDe+9FyfSFXD1zntziq31C6k3KISbhwaZIwUQz6szsZUTD6vgN93ActOsFCceBM65fOz9nVw5W3uYSg+h5kEUOBpXyybPFGlUyvhk1druSNHWyq+N',
    '241a528202920f07abd644959d02c0df8ec8bda45043b4bb6fa4b3c4a601c0f0',
  ],
];

describe('blocks of every format are the numbers that gguf-py makes of them, bit for bit', () => {
  test('there are some of every format', () => {
    expect(dequantised.map(([type]) => type).sort()).toEqual(Object.keys(blockFormats).sort());
  });

  test.each(dequantised)('%s', (type, blocks, numbers) => {
    const bytes = Buffer.from(blocks, 'base64');
    expect(bytes).toHaveLength(3 * blockFormats[type].bytes);
    const values = Float32Array.from(decode(type, [...bytes]), (value) => value + 0);
    expect(createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex')).toBe(numbers);
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

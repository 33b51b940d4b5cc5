import { describe, expect, test } from 'vitest';
import { memoryLimit, mutate } from '../../test/mutate.ts';
import { FormatError, InputError, UnsupportedError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import { bytesSource } from './byte-source.ts';
import type { Checkpoint } from './checkpoint.ts';
import { openGguf } from './gguf.ts';
import { decodeBlocks } from './gguf-blocks.ts';
import { encodeGguf, type GgufTensor, type GgufValue } from './gguf-writer.ts';

async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const piece of pieces) parts.push(piece.slice());
  return Uint8Array.from(Buffer.concat(parts));
}

const open = (bytes: Uint8Array): Promise<Checkpoint> => openGguf(bytesSource(bytes));

const readTensor = async (checkpoint: Checkpoint, name: string): Promise<Uint8Array> => {
  const into = new Uint8Array(checkpoint.tensors.get(name)!.byteLength);
  await checkpoint.read(name, into);
  return into;
};

const readF32 = async (checkpoint: Checkpoint, name: string): Promise<number[]> => [
  ...new Float32Array((await readTensor(checkpoint, name)).buffer),
];

/** Little-endian fields of a file written by hand. */
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: number | bigint): Uint8Array => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
const text = (value: string): Uint8Array => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const magic = Buffer.from('GGUF');
const file = (...fields: Uint8Array[]): Uint8Array => Buffer.concat(fields);
const header = (tensors: number, entries: number): Uint8Array => file(magic, u32(3), u64(tensors), u64(entries));
const padded = (bytes: Uint8Array): Uint8Array => file(bytes, new Uint8Array(-bytes.length & 31));
const tensorInfo = (name: string, dims: (number | bigint)[], type: number, offset: number): Uint8Array =>
  file(text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset));

const metadata: Record<string, GgufValue> = {
  'general.architecture': { type: 'string', value: 'rwkv7' },
  a: { type: 'u8', value: 255 },
  b: { type: 'i8', value: -128 },
  c: { type: 'u16', value: 65535 },
  d: { type: 'i16', value: -32768 },
  e: { type: 'u32', value: 4294967295 },
  f: { type: 'i32', value: -5 },
  g: { type: 'f32', value: 0.5 },
  h: { type: 'bool', value: true },
  i: { type: 'u64', value: 2n ** 64n - 1n },
  j: { type: 'i64', value: -7 },
  k: { type: 'f64', value: Math.PI },
  numbers: { type: 'array', of: 'i32', value: [1, -2, 3] },
  scores: { type: 'array', of: 'f32', value: new Float32Array([0.25, -1]) },
  large: { type: 'array', of: 'u64', value: [1, 2n ** 60n] },
  flags: { type: 'array', of: 'bool', value: [true, false] },
  tokens: { type: 'array', of: 'string', value: ['a', '', 'é', '\ufeff語'] },
  none: { type: 'array', of: 'string', value: [] },
  __proto__x: { type: 'u32', value: 1 },
};

const values = (length: number, seed: number): Float32Array => {
  const random = new Random(seed);
  return Float32Array.from({ length }, () => random.normal());
};

const tensors: GgufTensor[] = [
  { name: 'matrix', type: 'f32', shape: [3, 5], data: () => [values(15, 1).subarray(0, 4), values(15, 1).subarray(4)] },
  { name: 'half', type: 'f16', shape: [4], data: () => [Float32Array.of(1, -2, 0.5, 65504)] },
  {
    name: 'bytes',
    type: 'q8_0',
    shape: [2, 64],
    data: () => [values(128, 2).subarray(0, 50), values(128, 2).subarray(50)],
  },
  { name: 'nibbles', type: 'q4_0', shape: [2, 1, 32], data: () => [new Uint8Array(36).fill(0x88)] },
  { name: 'scalar', type: 'f32', shape: [], data: () => [Float32Array.of(7)] },
];

const written = () => collect(encodeGguf(metadata, tensors));

describe('written and read again', () => {
  test('metadata', async () => {
    const { metadata: read, format } = await open(await written());
    expect(format).toBe('gguf');
    expect(read).toEqual({
      'general.quantization_version': 2,
      'general.architecture': 'rwkv7',
      a: 255,
      b: -128,
      c: 65535,
      d: -32768,
      e: 4294967295,
      f: -5,
      g: 0.5,
      h: true,
      i: 2n ** 64n - 1n,
      j: -7,
      k: Math.PI,
      numbers: Int32Array.of(1, -2, 3),
      scores: Float32Array.of(0.25, -1),
      large: BigUint64Array.of(1n, 2n ** 60n),
      flags: [true, false],
      tokens: ['a', '', 'é', '\ufeff語'],
      none: [],
      __proto__x: 1,
    });
  });

  test('tensors, outermost axis first', async () => {
    const checkpoint = await open(await written());
    expect(
      [...checkpoint.tensors.values()].map(({ name, type, shape, byteLength }) => [name, type, shape, byteLength]),
    ).toEqual([
      ['matrix', 'f32', [3, 5], 60],
      ['half', 'f16', [4], 8],
      ['bytes', 'q8_0', [2, 64], 136],
      ['nibbles', 'q4_0', [2, 1, 32], 36],
      ['scalar', 'f32', [], 4],
    ]);
    expect(await readF32(checkpoint, 'matrix')).toEqual([...values(15, 1)]);
    expect(await readF32(checkpoint, 'scalar')).toEqual([7]);
    expect([...(await readTensor(checkpoint, 'half'))]).toEqual([0, 0x3c, 0, 0xc0, 0, 0x38, 0xff, 0x7b]);
    expect([...(await readTensor(checkpoint, 'nibbles'))]).toEqual([...new Uint8Array(36).fill(0x88)]);
    const decoded = new Float32Array(128);
    decodeBlocks('q8_0', await readTensor(checkpoint, 'bytes'), decoded);
    for (const [i, value] of values(128, 2).entries()) expect(Math.abs(decoded[i]! - value)).toBeLessThan(0.02);
  });

  test('a part of a tensor, and nothing beyond it', async () => {
    const checkpoint = await open(await written());
    const part = new Uint8Array(2);
    await checkpoint.read('half', part, 6);
    expect([...part]).toEqual([0xff, 0x7b]);
    await expect(checkpoint.read('half', part, 7)).rejects.toThrow(InputError);
    await expect(checkpoint.read('half', part, -1)).rejects.toThrow(InputError);
    await expect(checkpoint.read('other', part)).rejects.toThrow('no tensor "other"');
  });

  test('a vocabulary longer than the reading window', async () => {
    const tokens = Array.from({ length: 50_000 }, (_, i) => `token ${i}`);
    const types = Int32Array.from(tokens, (_, i) => i % 3);
    const big = await collect(
      encodeGguf(
        { tokens: { type: 'array', of: 'string', value: tokens }, types: { type: 'array', of: 'i32', value: types } },
        [{ name: 'x', type: 'f32', shape: [1], data: () => [Float32Array.of(1)] }],
      ),
    );
    const checkpoint = await open(big);
    expect(checkpoint.metadata['tokens']).toEqual(tokens);
    expect(checkpoint.metadata['types']).toEqual(types);
    expect(await readF32(checkpoint, 'x')).toEqual([1]);
  });
});

describe('a file written by hand', () => {
  const head = file(magic, u32(2), u64(1), u64(2), text('general.alignment'), u32(4), u32(64), text('nested'), u32(9));
  const nested = file(u32(9), u64(2), u32(0), u64(2), Uint8Array.of(5, 6), u32(8), u64(1), text('z'));
  const start = file(head, nested, tensorInfo('w', [2, 1], 0, 64));

  test('version 2, alignment 64, arrays in arrays', async () => {
    const data = file(new Uint8Array((-start.length & 63) + 64), new Uint8Array(Float32Array.of(1.5, -2).buffer));
    const checkpoint = await open(file(start, data));
    expect(checkpoint.metadata).toEqual({ 'general.alignment': 64, nested: [Uint8Array.of(5, 6), ['z']] });
    expect(checkpoint.tensors.get('w')).toMatchObject({ shape: [1, 2], type: 'f32' });
    expect(await readF32(checkpoint, 'w')).toEqual([1.5, -2]);
  });

  test('text that is not UTF-8 comes as bytes', async () => {
    const checkpoint = await open(file(header(0, 1), text('token'), u32(8), u64(2), Uint8Array.of(0xff, 0x41)));
    expect(checkpoint.metadata['token']).toEqual(Uint8Array.of(0xff, 0x41));
  });

  test('a key that would change a prototype is just a key', async () => {
    const { metadata } = await open(file(header(0, 1), text('__proto__'), u32(4), u32(1)));
    expect(Object.getPrototypeOf(metadata)).toBe(Object.prototype);
    expect(Object.entries(metadata)).toEqual([['__proto__', 1]]);
  });
});

describe('refuses', () => {
  const one = (info: Uint8Array, data = new Uint8Array(1024)): Uint8Array =>
    file(padded(file(header(1, 0), info)), data);
  const entry = (...fields: Uint8Array[]): Uint8Array => file(header(0, 1), text('key'), ...fields);
  const two = (second: Uint8Array): Uint8Array =>
    file(padded(file(header(2, 0), tensorInfo('w', [32], 0, 0), second)), new Uint8Array(1024));

  test.each<[string, Uint8Array, typeof FormatError, RegExp]>([
    ['nothing', new Uint8Array(), FormatError, /magic number/],
    ['another format', new Uint8Array(64), FormatError, /no GGUF file/],
    ['version 1', file(magic, u32(1), new Uint8Array(32)), UnsupportedError, /version 1/],
    ['version 4', file(magic, u32(4), new Uint8Array(32)), UnsupportedError, /version 4/],
    ['big-endian', file(magic, u32(0x03000000), new Uint8Array(32)), UnsupportedError, /big-endian/],
    ['a cut header', file(magic, u32(3), u64(0)), FormatError, /truncated/],
    ['more tensors than bytes', header(2 ** 40, 0), FormatError, /list of 1099511627776 tensors/],
    ['more entries than bytes', header(0, 2 ** 60), FormatError, /metadata entries/],
    ['a key longer than the file', file(header(0, 1), u64(2n ** 63n), u64(0)), FormatError, /metadata key/],
    ['an unknown value type', entry(u32(13), u64(0)), FormatError, /type 13/],
    ['a boolean of 2', entry(u32(7), Uint8Array.of(2)), FormatError, /expected 0 or 1/],
    ['an array longer than the file', entry(u32(9), u32(6), u64(2 ** 50)), FormatError, /"key"/],
    ['strings longer than the file', entry(u32(9), u32(8), u64(2 ** 50)), FormatError, /"key"/],
    ['arrays within arrays within arrays', entry(u32(9), ...Array(8).fill(file(u32(9), u64(1)))), FormatError, /nests/],
    [
      'the same key twice',
      file(header(0, 2), text('k'), u32(4), u32(1), text('k'), u32(4), u32(1)),
      FormatError,
      /two metadata/,
    ],
    [
      'a crooked alignment',
      file(header(0, 1), text('general.alignment'), u32(4), u32(48)),
      FormatError,
      /power of two/,
    ],
    [
      'one part of many',
      file(header(0, 1), text('split.count'), u32(2), Uint8Array.of(3, 0)),
      UnsupportedError,
      /merge/,
    ],
    ['five axes', one(tensorInfo('w', [1, 1, 1, 1, 1], 0, 0)), FormatError, /5 axes/],
    ['an overflow of the size', one(tensorInfo('w', [2n ** 32n, 2n ** 32n], 0, 0)), FormatError, /more elements/],
    ['an axis of 2^63', one(tensorInfo('w', [2n ** 63n], 0, 0)), FormatError, /axis of length/],
    [
      'an overflow hidden by a zero',
      one(tensorInfo('w', [0, 2n ** 52n, 2n ** 52n], 0, 0)),
      FormatError,
      /more elements/,
    ],
    ['rows of half a block', one(tensorInfo('w', [48, 2], 8, 0)), FormatError, /whole blocks of 32/],
    ['a type not supported', one(tensorInfo('w', [256], 16, 0)), UnsupportedError, /IQ2_XXS/],
    ['a type not defined', one(tensorInfo('w', [256], 99, 0)), FormatError, /type 99/],
    ['a tensor beyond the end', one(tensorInfo('w', [257], 0, 0)), FormatError, /truncated/],
    ['an offset off the grid', one(tensorInfo('w', [1], 0, 4)), FormatError, /multiple of 32/],
    ['an offset beyond counting', one(tensorInfo('w', [1], 0, 2 ** 60)), FormatError, /should end at/],
    ['two tensors of one name', two(tensorInfo('w', [32], 0, 128)), FormatError, /two tensors/],
    ['two tensors in one place', two(tensorInfo('v', [32], 0, 96)), FormatError, /overlap/],
    [
      'a name that is not text',
      one(file(u64(1), Uint8Array.of(0xff), u32(1), u64(1), u32(0), u64(0))),
      FormatError,
      /UTF-8/,
    ],
  ])('%s', async (_, bytes, kind, message) => {
    const opened = open(bytes);
    await expect(opened).rejects.toThrow(kind);
    await expect(opened).rejects.toThrow(message);
  });

  test('a header that unpacks to much more than its size', async () => {
    const empty = new Uint8Array(12 * 400_000);
    const bytes = file(entry(u32(9), u32(9), u64(400_000)), empty);
    await expect(open(bytes)).rejects.toThrow(/takes more memory/);
  });
});

describe('the writer refuses', () => {
  const x: GgufTensor = { name: 'x', type: 'q8_0', shape: [32], data: () => [new Float32Array(32)] };
  test.each<[string, Record<string, GgufValue>, GgufTensor[], RegExp]>([
    ['names used twice', {}, [x, x], /two tensors/],
    ['long names', {}, [{ ...x, name: 'x'.repeat(64) }], /at most 63 bytes/],
    ['rows of half a block', {}, [{ ...x, shape: [64, 16] }], /whole blocks/],
    ['five axes', {}, [{ ...x, shape: [1, 1, 1, 1, 32] }], /more than 4 axes/],
    ['too little data', {}, [{ ...x, shape: [64] }], /less data than the 68 bytes/],
    ['half a block of data', {}, [{ ...x, data: () => [new Float32Array(40)] }], /got more data/],
    ['too much data', {}, [{ ...x, data: () => [new Float32Array(64)] }], /more data/],
    ['bytes amid numbers', {}, [{ ...x, data: () => [new Float32Array(8), new Uint8Array(34)] }], /middle of a block/],
    ['numbers out of range', { k: { type: 'u8', value: 256 } }, [], /no u8/],
    ['fractions', { k: { type: 'i32', value: 0.5 } }, [], /no i32/],
    ['another alignment', { 'general.alignment': { type: 'u32', value: 64 } }, [], /aligned to 32/],
  ])('%s', async (_, entries, list, message) => {
    const result = collect(encodeGguf(entries, list));
    await expect(result).rejects.toThrow(InputError);
    await expect(result).rejects.toThrow(message);
  });
});

test('10,000 damaged files are read or refused', async () => {
  const random = new Random(20);
  const base = await written();
  const outcomes = { read: 0, refused: 0 };
  for (let i = 0; i < 10_000; i++) {
    const damaged = mutate(base, random);
    const checkMemory = memoryLimit(damaged.length);
    try {
      const checkpoint = await open(damaged);
      for (const name of checkpoint.tensors.keys()) await readTensor(checkpoint, name);
      outcomes.read++;
    } catch (error) {
      if (!(error instanceof FormatError || error instanceof UnsupportedError)) throw error;
      outcomes.refused++;
    }
    checkMemory();
  }
  expect(outcomes.read).toBeGreaterThan(500);
  expect(outcomes.refused).toBeGreaterThan(3000);
});

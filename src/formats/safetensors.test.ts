import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FormatError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import { bytesSource } from './byte-source.ts';
import type { StoredType } from './checkpoint.ts';
import { readF32 } from './read-f32.ts';
import { openSafetensors, safetensorsTypes } from './safetensors.ts';
import { safetensorsBytes } from './safetensors-writer.ts';
import { tensorBytes } from './tensor-bytes.ts';

const open = (bytes: Uint8Array) => openSafetensors(bytesSource(bytes, 'file'));

/** A file with this header text and as many bytes of data. */
function file(header: string | object, data = 0): Uint8Array {
  const text = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + data);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

const f32 = (shape: number[], begin: number, end: number) => ({ dtype: 'F32', shape, data_offsets: [begin, end] });

describe('openSafetensors', () => {
  test('gives back what was written, for every type', async () => {
    const types = [...new Set(Object.values(safetensorsTypes))];
    const tensor = fc.record({
      type: fc.constantFrom<StoredType>(...types),
      shape: fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 3 }),
      seed: fc.integer(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(fc.string(), tensor, { maxKeys: 6 }),
        fc.dictionary(fc.string(), fc.string()),
        async (wanted, metadata) => {
          const tensors = Object.entries(wanted)
            .filter(([name]) => name !== '__metadata__')
            .map(([name, { type, shape, seed }]) => {
              const random = new Random(seed);
              const data = Uint8Array.from({ length: tensorBytes(type, shape) as number }, () => random.integer(256));
              return { name, type, shape, data };
            });
          const checkpoint = await open(await safetensorsBytes(tensors, metadata));
          expect(new Set(checkpoint.tensors.keys())).toEqual(new Set(tensors.map(({ name }) => name)));
          expect(Object.entries(checkpoint.metadata).sort()).toEqual(Object.entries(metadata).sort());
          for (const { name, type, shape, data } of tensors) {
            expect(checkpoint.tensors.get(name)).toMatchObject({ type, shape });
            const read = new Uint8Array(data.length);
            await checkpoint.read(name, read);
            expect(read).toEqual(data);
          }
        },
      ),
      { numRuns: 200, seed: 1 },
    );
  });

  test('reads part of a tensor, and decodes each type', async () => {
    const data = Float32Array.of(1, -2.5, 3, 1e-40, 65504, 0.1);
    const bytes = await safetensorsBytes([
      { name: 'x', type: 'f32', shape: [2, 3], data: new Uint8Array(data.buffer) },
    ]);
    const checkpoint = await open(bytes);
    expect(await readF32(checkpoint, checkpoint.tensors.get('x')!, 2, 3)).toEqual(data.slice(2, 5));
  });

  test.each<[string, Uint8Array, RegExp]>([
    ['empty', new Uint8Array(0), /too few/],
    ['only a length', new Uint8Array(8), /does not begin with "\{"/],
    ['a header longer than the file', file('{}').slice(0, 9), /would be 2 bytes/],
    ['a huge header', Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 127, 123), /would be 9223372036854775807 bytes/],
    ['no JSON', file('{nonsense}'), /not valid JSON/],
    ['no UTF-8', file('{"\ud800"}').map((byte, i) => (i === 10 ? 0xff : byte)), /UTF-8/],
    ['an array', file('[]'), /does not begin/],
    [
      'a name twice',
      file(
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        4,
      ),
      /names "a" twice/,
    ],
    [
      'a name twice, escaped',
      file(
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\\u0061":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        4,
      ),
      /names "a" twice/,
    ],
    [
      'a field twice',
      file('{"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,4]}}', 4),
      /names "shape" twice/,
    ],
    [
      'an unknown type',
      file({ a: { dtype: 'F8_E4M3', shape: [4], data_offsets: [0, 4] } }, 4),
      /type "F8_E4M3"; known: F64/,
    ],
    [
      'an inherited type',
      file({ a: { dtype: 'constructor', shape: [4], data_offsets: [0, 4] } }, 4),
      /type "constructor"/,
    ],
    ['an unknown field', file({ a: { ...f32([1], 0, 4), extra: 1 } }, 4), /unknown field "extra"/],
    ['a negative axis', file({ a: f32([-1], 0, 4) }, 4), /shape \[-1\]/],
    ['a fractional axis', file({ a: f32([0.5], 0, 4) }, 4), /shape \[0.5\]/],
    ['a shape that overflows', file({ a: f32([2 ** 40, 2 ** 40], 0, 4) }, 4), /more elements/],
    ['offsets that run backwards', file({ a: f32([1], 4, 0) }, 4), /bytes 4 to 0/],
    ['offsets beyond the file', file({ a: f32([2], 0, 8) }, 4), /truncated/],
    ['three offsets', file({ a: { dtype: 'F32', shape: [1], data_offsets: [0, 4, 8] } }, 4), /two byte positions/],
    ['a length that is not its shape', file({ a: f32([2], 0, 4) }, 4), /takes 4 bytes, but F32 \[2\] is 8 bytes/],
    ['tensors that overlap', file({ a: f32([2], 0, 8), b: f32([1], 4, 8) }, 8), /"a" and "b" overlap/],
    ['a gap', file({ a: f32([1], 4, 8) }, 8), /4 bytes between the header and tensor "a"/],
    ['bytes after the last tensor', file({ a: f32([1], 0, 4) }, 8), /4 bytes after "a"/],
    ['metadata that is no text', file({ __metadata__: { a: 1 } }), /__metadata__.a is not a text/],
    ['a tensor that is a number', file({ a: 1 }), /"a" is not described/],
  ])('refuses %s', async (_, bytes, message) => {
    const attempt = open(bytes);
    await expect(attempt).rejects.toThrow(FormatError);
    await expect(attempt).rejects.toThrow(message);
  });

  test('a name that objects inherit is a name like others', async () => {
    const checkpoint = await open(file('{"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4));
    expect([...checkpoint.tensors.keys()]).toEqual(['__proto__']);
  });

  test('10,000 damaged files give a checkpoint or a FormatError, and ask for no more memory than the file has', async () => {
    const random = new Random(7);
    const original = await safetensorsBytes(
      [
        { name: 'w', type: 'f32', shape: [4, 3], data: new Uint8Array(48) },
        { name: 'b', type: 'bf16', shape: [6], data: new Uint8Array(12) },
        { name: 'ids', type: 'i64', shape: [2], data: new Uint8Array(16) },
      ],
      { format: 'pt' },
    );
    let opened = 0;
    for (let round = 0; round < 10_000; round++) {
      const damaged = damage(original, random);
      let largest = 0;
      const source = bytesSource(damaged, 'file');
      const watched = {
        ...source,
        read: (offset: number, into: Uint8Array) => {
          largest = Math.max(largest, into.length);
          return source.read(offset, into);
        },
      };
      try {
        const checkpoint = await openSafetensors(watched);
        for (const stored of checkpoint.tensors.values()) await readF32(checkpoint, stored);
        opened++;
      } catch (error) {
        expect(error, String((error as Error).stack)).toBeInstanceOf(FormatError);
      }
      expect(largest).toBeLessThanOrEqual(Math.max(8, damaged.length));
    }
    expect(opened).toBeGreaterThan(0);
    expect(opened).toBeLessThan(9000);
  });
});

/** Damages a file: bytes flipped, cut, doubled, or numbers in the header replaced by hostile ones. */
function damage(bytes: Uint8Array, random: Random): Uint8Array {
  let result = bytes.slice();
  const kind = random.integer(5);
  if (kind === 0) return result.slice(0, random.integer(result.length));
  if (kind === 1)
    for (let n = 1 + random.integer(4); n > 0; n--) result[random.integer(result.length)] = random.integer(256);
  if (kind === 2) {
    const [from, to, length] = [random.integer(result.length), random.integer(result.length), random.integer(40)];
    result = Uint8Array.from([...result.slice(0, to), ...result.slice(from, from + length), ...result.slice(to)]);
  }
  if (kind === 3)
    new DataView(result.buffer).setBigUint64(0, BigInt(Math.floor(random.uniform() * 2 ** random.integer(63))), true);
  if (kind === 4) {
    const text = new TextDecoder('latin1').decode(result);
    const hostile = [
      '-1',
      '1e308',
      '9007199254740993',
      '4294967296',
      'null',
      '"x"',
      '[]',
      '0.5',
      '18446744073709551616',
    ];
    const numbers = [...text.matchAll(/\d+/g)].filter(({ index }) => index > 8);
    const chosen = numbers[random.integer(numbers.length)]!;
    const spliced =
      text.slice(0, chosen.index) +
      hostile[random.integer(hostile.length)] +
      text.slice(chosen.index + chosen[0].length);
    result = Uint8Array.from(spliced, (character) => character.charCodeAt(0));
    new DataView(result.buffer).setBigUint64(
      0,
      BigInt(Number(new DataView(bytes.buffer).getBigUint64(0, true)) + result.length - bytes.length),
      true,
    );
  }
  return result;
}

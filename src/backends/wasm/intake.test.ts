import { afterAll, describe, expect, test } from 'vitest';
import { watchedReads } from '../../../test/watched-reads.ts';
import type { Backend, StoredRows, StoredRowsType, WeightFormat, WeightLayout } from '../../core/backend.ts';
import { Digest } from '../../core/digest.ts';
import { float16ToNumber, numberToFloat16 } from '../../core/float16.ts';
import { quantiseMatrix } from '../../core/quantise.ts';
import { Random } from '../../core/random.ts';
import { encodeBlocks } from '../../formats/gguf-blocks.ts';
import { decodeRows } from '../../formats/stored-rows.ts';
import { spawnThread } from '../../platform/node.ts';
import { wasmBackend } from './index.ts';

const alone = await wasmBackend({ guards: true, rewrite: watchedReads });
const together = await wasmBackend({ threads: 2, spawn: spawnThread, guards: true });
afterAll(() => {
  alone.dispose();
  together.dispose();
});

const random = new Random(7);
const normal = (length: number) => Float32Array.from({ length }, () => random.normal());
const bytesOf = (array: Uint16Array | Float32Array | Int8Array | Uint8Array) =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/** Random rows as a file may have them; of integers some scales are below zero, and some integers zero. */
function stored(type: StoredRowsType, count: number): StoredRows {
  const values = normal(count);
  if (type === 'f32') return { type, count, bytes: bytesOf(values) };
  if (type === 'bf16')
    return { type, count, bytes: bytesOf(Uint16Array.from(new Uint32Array(values.buffer), (x) => x >>> 16)) };
  if (type === 'f16')
    return { type, count, bytes: bytesOf(Uint16Array.from(values, (x, i) => numberToFloat16(x * 2 ** -(i % 24)))) };
  if (type === 'q8_0' || type === 'q4_0') {
    const size = type === 'q8_0' ? 34 : 18;
    const bytes = new Uint8Array((count / 32) * size);
    encodeBlocks(type, values, bytes);
    for (let at = 0; at < bytes.length; at += 3 * size) bytes[at + 1]! ^= 0x80;
    return { type, count, bytes };
  }
  const { integers, scales } = quantiseMatrix(values, count, type);
  return {
    type,
    count,
    bytes: bytesOf(integers),
    scales: bytesOf(scales.map((scale, i) => (i % 3 ? scale : scale ^ 0x8000))),
  };
}

/** Some of the rows. */
function part({ type, count, bytes, scales }: StoredRows, from: number, to: number): StoredRows {
  const cut = (array: Uint8Array) => array.subarray((array.length * from) / count, (array.length * to) / count);
  return { type, count: to - from, bytes: cut(bytes), scales: scales && cut(scales) };
}

/** What a parameter holds, and what was found, when rows come in pieces of `rows` rows. */
function taken(
  backend: Backend,
  format: WeightFormat,
  layout: WeightLayout,
  shape: readonly number[],
  all: StoredRows,
  rows: number,
  isDigested = true,
) {
  const weights = backend.weights([{ name: 'w', shape, format, layout }]);
  const intake = weights.intake!(4 * all.count);
  const width = shape.at(-1)!;
  const digest = new Digest();
  let largest = 0;
  let fit16 = true;
  for (let start = 0, turn = 0; start < all.count; start += rows * width, turn = 1 - turn) {
    const piece = part(all, start, Math.min(all.count, start + rows * width));
    const room = intake.rooms[turn as 0 | 1];
    room.fill(0xff);
    room.set(piece.bytes);
    const bytes = room.subarray(0, piece.bytes.length);
    const scales = piece.scales && room.subarray(bytes.length, bytes.length + piece.scales.length);
    if (piece.scales) scales!.set(piece.scales);
    const found = intake.store('w', { ...piece, bytes, scales }, start, isDigested ? digest : undefined);
    largest = Math.max(largest, found.largest);
    fit16 &&= found.fit16;
  }
  intake.dispose();
  if (!isDigested) weights.digest!(new Map([['w', digest]]));
  const values = weights.read('w');
  weights.dispose();
  return { values, digest: digest.hex(), largest, fit16 };
}

function written(
  format: WeightFormat,
  layout: WeightLayout,
  shape: readonly number[],
  values: Float32Array,
): Float32Array {
  const weights = alone.weights([{ name: 'w', shape, format, layout }]);
  weights.write('w', values);
  const result = weights.read('w');
  weights.dispose();
  return result;
}

const types: StoredRowsType[] = ['f32', 'bf16', 'f16', 'q8_0', 'q4_0', 'q8', 'q4'];
const isWhole = (type: StoredRowsType) => type.startsWith('q');
const digestOf = (values: Float32Array) =>
  new Digest().words(new Uint32Array(values.buffer, values.byteOffset, values.length)).hex();
const magnitude = (values: Float32Array) => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
const shapesOf = (type: StoredRowsType): [number, number][] =>
  isWhole(type)
    ? [
        [1, 32],
        [9, 96],
        [21, 64],
      ]
    : [
        [1, 1],
        [3, 7],
        [8, 5],
        [65, 63],
        [33, 96],
      ];

describe.each(types)('rows of %s', (type) => {
  const cases = (['linear', 'linearTransposed', 'rows'] as WeightLayout[]).flatMap((layout) =>
    (['f32', 'bf16', 'f16', 'q8', 'q4'] as WeightFormat[])
      .filter(
        (format) =>
          format === 'f32' || (layout !== 'rows' && !(layout === 'linearTransposed' && format.startsWith('q'))),
      )
      .map((format) => [layout, format] as const),
  );

  test.each(cases)('%s in %s: the same as their numbers written, in any pieces, on any threads', (layout, format) => {
    for (const shape of shapesOf(type)) {
      const rows = stored(type, shape[0] * shape[1]);
      const values = decodeRows(rows);
      // Integers that are kept keep the sign of scales; written numbers are quantised again, to the same numbers.
      const expected = written(format, layout, shape, values).map((x) => x + 0);
      for (const backend of [alone, together])
        for (const together of [shape[0], 1, 5]) {
          const found = taken(backend, format, layout, shape, rows, together);
          expect(found.values.map((x) => x + 0)).toEqual(expected);
          expect(found.digest).toBe(digestOf(values));
          expect(found.largest).toBe(magnitude(values));
        }
    }
  });
});

describe('the digest of what is held', () => {
  const held = (backend: Backend, format: WeightFormat, layout: WeightLayout, shape: readonly number[]) => {
    const weights = backend.weights(['v', 'w'].map((name) => ({ name, shape, format, layout })));
    for (const name of ['v', 'w']) weights.write(name, normal(shape[0]! * shape[1]!));
    const digests = new Map(['v', 'w'].map((name) => [name, new Digest().text(name)]));
    weights.digest!(digests);
    for (const [name, digest] of digests) {
      // Zeros of four bits have no sign there, as files of them have none.
      const values = format === 'q4' ? weights.read(name).map((x) => x + 0) : weights.read(name);
      const expected = new Digest().text(name).words(new Uint32Array(values.buffer));
      expect(digest.hex()).toBe(expected.hex());
    }
    weights.dispose();
  };

  test.each<WeightFormat>(['f32', 'bf16', 'f16', 'q8', 'q4'])('in %s', (format) => {
    for (const backend of [alone, together])
      for (const shape of [
        [1, 1],
        [3, 7],
        [65, 63],
        [33, 96],
      ]) {
        held(backend, format, 'linear', shape);
        if (!format.startsWith('q')) held(backend, format, 'linearTransposed', shape);
        if (format === 'f32') held(backend, format, 'rows', shape);
      }
    if (format === 'f32') held(together, format, 'rows', [91, 101]);
  });

  test.each(types)('is that of the rows of %s that were stored, where their format is held', (type) => {
    for (const shape of shapesOf(type))
      for (const layout of ['linear', 'linearTransposed'] as const) {
        const own = type.replace('_0', '') as WeightFormat;
        for (const format of layout === 'linear' || !isWhole(type) ? (['f32', own] as const) : (['f32'] as const)) {
          const rows = stored(type, shape[0] * shape[1]);
          const values = decodeRows(rows);
          const found = taken(together, format, layout, shape, rows, 5, false);
          expect(found.digest).toBe(digestOf(values));
          expect([magnitude(values), isWhole(type) ? 0 : magnitude(values)]).toContain(found.largest);
        }
      }
  });
});

test('a matrix large enough for all threads', () => {
  const shape = [523, 160];
  for (const type of types) {
    const rows = stored(type, shape[0]! * shape[1]!);
    const values = decodeRows(rows);
    const found = taken(together, 'f32', 'linear', shape, rows, 523);
    expect(found.values).toEqual(values);
    expect(found.digest).toBe(digestOf(values));
  }
});

test('whether 16 bits hold the numbers', () => {
  const of = (format: WeightFormat, ...values: number[]) =>
    taken(
      alone,
      format,
      'linear',
      [1, values.length],
      { type: 'f32', count: values.length, bytes: bytesOf(Float32Array.from(values)) },
      1,
    ).fit16;
  const fine = [1, -0.5, 2 ** -14, 3 * 2 ** -24, 0, 65504];
  expect(of('f16', ...fine)).toBe(true);
  for (const odd of [2 ** -25, 1 + 2 ** -11, -(2 ** -14) - 2 ** -26]) expect(of('f16', ...fine, odd)).toBe(false);
  expect(of('bf16', 1, 1.5, -(2 ** 100), 2 ** -130)).toBe(true);
  expect(of('bf16', 1, 1.5, -(2 ** 100), 1 + 2 ** -8)).toBe(false);
});

test('what is not finite is found, and what a format has no place for refused', () => {
  const shape = [1, 64];
  for (const type of types) {
    const rows = stored(type, 64);
    const halves = rows.scales ?? rows.bytes;
    // The highest bits of the first number or scale.
    const [at, top] = type === 'f32' ? [3, 0x7f] : type === 'bf16' ? [1, 0x7f] : [1, 0x7c];
    halves[at]! |= top;
    halves[at - 1]! |= 0x80;
    for (const isDigested of [true, false])
      expect(taken(alone, 'f32', 'linear', shape, rows, 1, isDigested).largest).toBe(Number.POSITIVE_INFINITY);
  }
  const large: StoredRows = { type: 'f32', count: 64, bytes: bytesOf(new Float32Array(64).fill(-7e4, 63)) };
  expect(() => taken(alone, 'f16', 'linear', shape, large, 1)).toThrow(
    /w holds a number of magnitude 70000; f16 ends at 65504/,
  );
  expect(float16ToNumber(numberToFloat16(7e4))).toBe(Number.POSITIVE_INFINITY);
  expect(taken(alone, 'q8', 'linear', shape, large, 1).largest).toBe(70000);
});

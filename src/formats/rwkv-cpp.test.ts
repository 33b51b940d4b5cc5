import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { mutate } from '../../test/mutate.ts';
import { FormatError, UnsupportedError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import { bytesSource } from './byte-source.ts';
import type { Checkpoint } from './checkpoint.ts';
import { decodeBlocks } from './gguf-blocks.ts';
import { openRwkvCpp, rwkvCppMagic } from './rwkv-cpp.ts';

const open = (bytes: Uint8Array): Promise<Checkpoint> => openRwkvCpp(bytesSource(bytes, 'model.bin'));

const i32 = (...values: number[]): Uint8Array => new Uint8Array(Int32Array.from(values).buffer);
const file = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));
const header = (version = 101, type = 0): Uint8Array => i32(rwkvCppMagic, version, 7, 4, 2, type);
const tensor = (name: string, dims: number[], type: number, data: Uint8Array): Uint8Array =>
  file(i32(dims.length, Buffer.byteLength(name), type, ...dims), Buffer.from(name), data);

async function read(checkpoint: Checkpoint, name: string): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(checkpoint.tensors.get(name)!.byteLength);
  await checkpoint.read(name, bytes);
  return bytes;
}

describe.each([100, 101])('version %i', (version) => {
  test('tensors of f32 and f16, outermost axis first', async () => {
    const weight = tensor('emb.weight', [2, 3], 0, new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer));
    const checkpoint = await open(file(header(version, 1), weight, tensor('x', [1, 2, 1], 1, new Uint8Array(4))));
    expect(checkpoint.format).toBe('rwkv.cpp');
    expect(checkpoint.metadata).toEqual({ version, n_vocab: 7, n_embed: 4, n_layer: 2 });
    expect([...checkpoint.tensors.values()].map(({ name, type, shape }) => [name, type, shape])).toEqual([
      ['emb.weight', 'f32', [3, 2]],
      ['x', 'f16', [1, 2, 1]],
    ]);
    expect([...new Float32Array((await read(checkpoint, 'emb.weight')).buffer)]).toEqual([1, 2, 3, 4, 5, 6]);
  });
});

describe('refuses', () => {
  const small = tensor('x', [1], 0, new Uint8Array(4));

  test.each<[string, Uint8Array, typeof FormatError, RegExp]>([
    ['nothing', new Uint8Array(), FormatError, /the header at byte 0 should take 24 bytes/],
    ['another format', new Uint8Array(24), FormatError, /no file of rwkv\.cpp/],
    ['version 102', header(102), UnsupportedError, /version 102/],
    ['no layers', i32(rwkvCppMagic, 101, 7, 4, 0, 0), FormatError, /positive/],
    ['a type not defined', header(101, 4), FormatError, /type 4/],
    ['old blocks', header(100, 8), UnsupportedError, /q5_1.*quantise the model anew/],
    ['an old block tensor', file(header(100), tensor('x', [32], 2, new Uint8Array(18))), UnsupportedError, /q4_0/],
    ['five axes', file(header(), tensor('x', [1, 1, 1, 1, 1], 0, new Uint8Array(4))), FormatError, /5 axes/],
    ['a long name', file(header(), i32(1, 2 ** 30, 0, 1)), FormatError, /name of 1073741824 bytes/],
    ['a negative axis', file(header(), tensor('x', [-1], 0, new Uint8Array(4))), FormatError, /axis of length -1/],
    ['rows of half a block', file(header(), tensor('x', [48], 8, new Uint8Array(36))), FormatError, /whole blocks/],
    ['a cut tensor', file(header(), tensor('x', [2], 0, new Uint8Array(7))), FormatError, /truncated/],
    ['a cut description', file(header(), small.slice(0, 9)), FormatError, /truncated/],
    ['the same name twice', file(header(), small, small), FormatError, /two tensors/],
    [
      'a name that is not text',
      file(header(), i32(1, 1, 0, 1), Uint8Array.of(255), new Uint8Array(4)),
      FormatError,
      /UTF-8/,
    ],
  ])('%s', async (_, bytes, kind, message) => {
    const opened = open(bytes);
    await expect(opened).rejects.toThrow(kind);
    await expect(opened).rejects.toThrow(message);
  });
});

const folder = new URL('../../../shared/models/tiny-rwkv/', import.meta.url);
const skip = !existsSync(folder);

describe('files of rwkv.cpp (skipped without ../shared)', () => {
  const load = (name: string): Promise<Checkpoint> => open(Uint8Array.from(readFileSync(new URL(name, folder))));

  test.skipIf(skip).each([
    ['tiny-rwkv-4v0-660K-FP32.bin', 100, 128, 4, 'f32'],
    ['tiny-rwkv-6v0-1m-FP16.bin', 101, 64, 12, 'f16'],
    ['tiny-rwkv-7v0-834K-FP32.bin', 101, 64, 12, 'f32'],
    ['tiny-rwkv-7v0-834K-Q5_1.bin', 101, 64, 12, 'q5_1'],
  ])('%s', async (name, version, width, layers, type) => {
    const { metadata, tensors } = await load(name);
    expect(metadata).toMatchObject({ version, n_vocab: 256, n_embed: width, n_layer: layers });
    expect(tensors.get('blocks.0.att.key.weight')).toMatchObject({ shape: [width, width], type });
    expect(tensors.get('emb.weight')!.shape).toEqual([256, width]);
    expect(tensors.has(`blocks.${layers - 1}.ffn.value.weight`)).toBe(true);
    expect(tensors.has('head.weight')).toBe(true);
  });

  test.skipIf(skip)('Q5_1 is its FP32 model to within half a quantum', async () => {
    const [exact, quantised] = await Promise.all(
      ['FP32', 'Q5_1'].map((type) => load(`tiny-rwkv-7v0-834K-${type}.bin`)),
    );
    const names = [...quantised!.tensors.values()].filter(({ type }) => type === 'q5_1').map(({ name }) => name);
    expect(names.length).toBeGreaterThan(50);
    for (const name of names) {
      const expected = new Float32Array((await read(exact!, name)).buffer);
      const decoded = new Float32Array(expected.length);
      decodeBlocks('q5_1', await read(quantised!, name), decoded);
      for (let at = 0; at < expected.length; at += 32) {
        const block = expected.subarray(at, at + 32);
        const quantum = (Math.max(...block) - Math.min(...block)) / 31;
        const largest = Math.max(...block.map(Math.abs));
        for (let i = 0; i < 32; i++)
          if (Math.abs(decoded[at + i]! - block[i]!) > 0.51 * quantum + largest * 2 ** -9)
            expect.fail(`${name}[${at + i}] is ${decoded[at + i]}, expected ${block[i]} ± ${quantum / 2}`);
      }
    }
  });
});

test('2,000 damaged files are read or refused', async () => {
  const random = new Random(22);
  const base = file(header(), tensor('a', [32], 8, new Uint8Array(24)), tensor('b', [2, 3], 0, new Uint8Array(24)));
  const outcomes = { read: 0, refused: 0 };
  for (let i = 0; i < 2000; i++) {
    try {
      const checkpoint = await open(mutate(base, random));
      for (const name of checkpoint.tensors.keys()) await read(checkpoint, name);
      outcomes.read++;
    } catch (error) {
      if (!(error instanceof FormatError || error instanceof UnsupportedError)) throw error;
      outcomes.refused++;
    }
  }
  expect(outcomes.read).toBeGreaterThan(100);
  expect(outcomes.refused).toBeGreaterThan(500);
});

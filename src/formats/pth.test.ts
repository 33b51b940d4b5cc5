import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { readTensors } from '../../test/golden.ts';
import { memoryLimit, mutate } from '../../test/mutate.ts';
import { pickled as p } from '../../test/pickled.ts';
import { type ZipOptions, zip } from '../../test/zip.ts';
import { FormatError, InputError, UnsupportedError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import { bytesSource } from './byte-source.ts';
import type { Checkpoint } from './checkpoint.ts';
import { openPth } from './pth.ts';

const open = (bytes: Uint8Array): Promise<Checkpoint> => openPth(bytesSource(bytes, 'model.pth'));

const floats = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
const counting = floats(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
const float = p.global('torch', 'FloatStorage');
/** Twelve floats 0…11 that tensors are views of. */
const storage = p.storage(float, '0', 12);
const matrix = p.tensor(storage, 0, [3, 4], [4, 1]);

/** A file of torch.save with `value` pickled and one storage. */
const archive = (value: Uint8Array, options?: ZipOptions, others: Record<string, Uint8Array> = {}): Uint8Array =>
  zip({ 'archive/data.pkl': p.file(value), 'archive/data/0': counting, ...others }, options);

async function readTensor(checkpoint: Checkpoint, name: string): Promise<number[]> {
  const bytes = new Uint8Array(checkpoint.tensors.get(name)!.byteLength);
  await checkpoint.read(name, bytes);
  return [...new Float32Array(bytes.buffer)];
}

async function refusal(file: Uint8Array): Promise<Error> {
  try {
    await open(file);
  } catch (error) {
    return error as Error;
  }
  throw new Error('it was read');
}

describe.each(['rwkv7/model.pth', 'mamba-original/pytorch_model.bin'])('written by PyTorch: %s', (path) => {
  const file = new URL(`../../../shared/goldens/${path}`, import.meta.url);

  test.skipIf(!existsSync(file))(
    'holds what model.safetensors beside it does (skipped without ../shared)',
    async () => {
      const checkpoint = await open(Uint8Array.from(readFileSync(file)));
      const expected = readTensors(new URL('model.safetensors', file).pathname);
      expect([...checkpoint.tensors.keys()].sort()).toEqual([...expected.keys()].sort());
      for (const [name, { shape, data }] of expected) {
        expect(checkpoint.tensors.get(name)).toMatchObject({ type: 'f32', shape });
        expect(await readTensor(checkpoint, name)).toEqual([...data]);
      }
    },
  );
});

describe('reads', () => {
  test('views of one storage, parameters, empty tensors and scalars', async () => {
    const parameter = p.call(p.global('torch._utils', '_rebuild_parameter'), matrix, p.yes, p.orderedDict());
    const checkpoint = await open(
      archive(
        p.dict({
          matrix,
          parameter,
          row: p.tensor(storage, 4, [4], [1]),
          column: p.tensor(storage, 0, [3, 1], [1, 77]),
          scalar: p.tensor(storage, 11, [], []),
          nothing: p.tensor(storage, 0, [0, 4], [4, 1]),
        }),
      ),
    );
    expect(checkpoint.format).toBe('pth');
    expect(await readTensor(checkpoint, 'parameter')).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    expect(await readTensor(checkpoint, 'row')).toEqual([4, 5, 6, 7]);
    expect(await readTensor(checkpoint, 'column')).toEqual([0, 1, 2]);
    expect(await readTensor(checkpoint, 'scalar')).toEqual([11]);
    expect(await readTensor(checkpoint, 'nothing')).toEqual([]);
    expect([...checkpoint.tensors.values()].map(({ shape }) => shape)).toEqual([
      [3, 4],
      [3, 4],
      [4],
      [3, 1],
      [],
      [0, 4],
    ]);
  });

  test('a part of a tensor, and nothing beyond it', async () => {
    const checkpoint = await open(archive(p.dict({ matrix })));
    const part = new Uint8Array(8);
    await checkpoint.read('matrix', part, 40);
    expect([...new Float32Array(part.buffer)]).toEqual([10, 11]);
    await expect(checkpoint.read('matrix', part, 44)).rejects.toThrow(InputError);
    await expect(checkpoint.read('other', part)).rejects.toThrow('no tensor "other"');
  });

  test.each([
    ['BFloat16Storage', 'bf16', 2],
    ['HalfStorage', 'f16', 2],
    ['DoubleStorage', 'f64', 8],
    ['LongStorage', 'i64', 8],
    ['IntStorage', 'i32', 4],
    ['ShortStorage', 'i16', 2],
    ['CharStorage', 'i8', 1],
    ['ByteStorage', 'u8', 1],
    ['BoolStorage', 'bool', 1],
  ])('%s as %s', async (kind, type, bytes) => {
    const tensor = p.tensor(p.storage(p.global('torch', kind), '0', 4), 1, [3], [1]);
    const checkpoint = await open(archive(p.dict({ tensor })));
    expect(checkpoint.tensors.get('tensor')).toMatchObject({ type, shape: [3], byteLength: 3 * bytes });
  });

  test('untyped storage with an element type', async () => {
    const untyped = p.storage(p.global('torch.storage', 'UntypedStorage'), '0', 48);
    const rest = [p.int(2), p.tuple(p.int(2)), p.tuple(p.int(1)), p.no, p.orderedDict(), p.global('torch', 'float32')];
    const tensor = p.call(p.global('torch._utils', '_rebuild_tensor_v3'), untyped, ...rest);
    expect(await readTensor(await open(archive(p.dict({ tensor }))), 'tensor')).toEqual([2, 3]);
  });

  test('the model within a training checkpoint, and plain values as metadata', async () => {
    const optimizer = p.dict({ state: p.emptyDict, momentum: matrix });
    const saved = p.dict({
      optimizer,
      model: p.dict({ matrix }),
      epoch: p.int(-3),
      loss: p.float(0.25),
      name: p.text('é'),
    });
    const checkpoint = await open(archive(saved));
    expect([...checkpoint.tensors.keys()]).toEqual(['matrix']);
    expect(checkpoint.metadata).toEqual({ epoch: -3, loss: 0.25, name: 'é' });
  });

  test('the one dictionary of tensors, whatever its name', async () => {
    const checkpoint = await open(archive(p.dict({ net: p.dict({ matrix }), list: p.list(p.int(1), p.none) })));
    expect([...checkpoint.tensors.keys()]).toEqual(['matrix']);
  });

  test('an OrderedDict with attributes, memo and protocol 4', async () => {
    const value = p.bytes(
      ...[p.bytes(0x95, new Uint8Array(8)), p.stackGlobal('collections', 'OrderedDict'), p.bytes(')R', 0x94)],
      ...[p.bytes('('), p.shortText('a'), matrix, p.put(300), p.shortText('b'), p.get(300), p.bytes('u')],
      ...[p.dict({ _metadata: p.emptyDict }), p.bytes('b')],
    );
    expect([...(await open(archive(value))).tensors.keys()]).toEqual(['a', 'b']);
  });

  test('64-bit zip fields', async () => {
    expect(await readTensor(await open(archive(p.dict({ matrix }), { zip64: true })), 'matrix')).toHaveLength(12);
  });

  test('transposed and otherwise strided tensors are read from where their strides put them, in pieces too', async () => {
    const views = {
      transposed: p.tensor(storage, 0, [4, 3], [1, 4]),
      column: p.tensor(storage, 1, [3], [4]),
      swapped: p.tensor(storage, 0, [2, 3, 2], [2, 4, 1]),
      part: p.tensor(storage, 5, [2, 2], [4, 2]),
    };
    const checkpoint = await open(archive(p.dict(views)));
    const numbers = await readTensor(await open(archive(p.dict({ matrix }))), 'matrix');
    const at = (...places: number[]) => places.map((place) => numbers[place]);
    expect([...(await readTensor(checkpoint, 'transposed'))]).toEqual(at(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11));
    expect([...(await readTensor(checkpoint, 'column'))]).toEqual(at(1, 5, 9));
    expect([...(await readTensor(checkpoint, 'swapped'))]).toEqual(at(0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11));
    expect([...(await readTensor(checkpoint, 'part'))]).toEqual(at(5, 7, 9, 11));
    const piece = new Uint8Array(12);
    await checkpoint.read('transposed', piece, 16);
    expect([...new Float32Array(piece.buffer)]).toEqual(at(5, 9, 2));
  });

  test('a tensor that tells one number several times is listed but not read', async () => {
    const checkpoint = await open(archive(p.dict({ matrix: p.tensor(storage, 0, [4, 3], [0, 1]) })));
    await expect(checkpoint.read('matrix', new Uint8Array(48))).rejects.toThrow(
      /strides \[0, 1\], which tell the same numbers several times; call .contiguous\(\)/,
    );
  });
});

describe('refuses by name', () => {
  const command = p.text('touch /tmp/pwned');

  test.each<[string, Uint8Array]>([
    ['posix.system', p.call(p.global('posix', 'system'), command)],
    ['os.system', p.bytes("(S'touch /tmp/pwned'\nios\nsystem\n")],
    ['posix.system', p.bytes("(cposix\nsystem\nS'touch /tmp/pwned'\no")],
    ['subprocess.Popen', p.bytes("csubprocess\nPopen\np0\n(S'true'\np1\nI1\nL2L\nVa\ntp2\nRp3\n")],
    ['os.system', p.call(p.stackGlobal('os', 'system'), command)],
    ['builtins.eval', p.call(p.global('builtins', 'eval'), p.text('1'))],
    ['__builtin__.getattr', p.call(p.global('__builtin__', 'getattr'), float, p.text('mro'))],
    ['torch.load', p.call(p.global('torch', 'load'), command)],
    ['torch.storage._load_from_bytes', p.call(p.global('torch.storage', '_load_from_bytes'), command)],
    ['collections.OrderedDict.__class__', p.global('collections', 'OrderedDict.__class__')],
    ['constructor.constructor', p.global('constructor', 'constructor')],
    ['torch.ComplexFloatStorage', p.storage(p.global('torch', 'ComplexFloatStorage'), '0', 1)],
  ])('%s', async (name, value) => {
    for (const nested of [value, p.dict({ matrix, x: value }), p.list(p.tuple(value, matrix))]) {
      const error = await refusal(archive(nested));
      expect(error).toBeInstanceOf(UnsupportedError);
      expect(error.message).toContain(`refuses to load model.pth: its pickle asks for ${name},`);
    }
  });
});

describe('refuses', () => {
  const run = (length: number, code: number): Uint8Array => new Uint8Array(length).fill(code);
  test.each([
    ['0', p.bytes("cos\nsystem\n(S'touch /tmp/pwned'\ntR.")],
    ['2', p.bytes(0x80, 2, 'cos\nsystem\nU', 5, 'touch', 0x85, 'R.')],
  ])('what a pickle of protocol %s without an archive asks for', async (_, file) => {
    await expect(open(file)).rejects.toThrow(/asks for os\.system/);
  });

  test('protocols 0 and 1 are read where they ask for nothing', async () => {
    const lines = p.bytes("(S'a'\nI5\nS'b'\n(lp0\nI01\naF1.5\naS'c'\ng0\n");
    const value = p.bytes(lines, p.text('matrix'), matrix, 'd');
    const { tensors, metadata } = await open(archive(value));
    expect([[...tensors.keys()], metadata]).toEqual([['matrix'], { a: 5 }]);
  });

  const view = (...args: [number, number[], number[]]): Uint8Array =>
    archive(p.dict({ x: p.tensor(storage, ...args) }));

  test.each<[string, Uint8Array, typeof FormatError, RegExp]>([
    ['nothing', new Uint8Array(), FormatError, /not a zip archive/],
    ['another format', p.bytes('GGUF', new Uint8Array(60)), FormatError, /not a zip archive/],
    ['the old format', p.file(p.int(1)), UnsupportedError, /format before 1\.6.*torch\.save\(torch\.load/],
    ['a cut archive', archive(p.dict({ matrix })).slice(0, -30), FormatError, /truncated/],
    ['another zip archive', zip({ 'word/document.xml': counting }), FormatError, /0 data\.pkl/],
    ['compression', archive(p.dict({ matrix }), { method: 8 }), UnsupportedError, /compressed \(zip method 8\)/],
    [
      'big-endian',
      archive(p.dict({ matrix }), {}, { 'archive/byteorder': Buffer.from('big') }),
      UnsupportedError,
      /byte order "big"/,
    ],
    ['no dictionary', archive(matrix), FormatError, /no dictionary of tensors/],
    ['no tensors', archive(p.dict({ a: p.int(1) })), FormatError, /holds no tensors/],
    ['two models', archive(p.dict({ a: p.dict({ matrix }), b: p.dict({ matrix }) })), FormatError, /under "a", "b"/],
    [
      'a missing storage',
      archive(p.dict({ x: p.tensor(p.storage(float, '7', 1), 0, [1], [1]) })),
      FormatError,
      /archive\/data\/7/,
    ],
    [
      'a storage that is too long',
      archive(p.dict({ x: p.tensor(p.storage(float, '0', 13), 0, [1], [1]) })),
      FormatError,
      /file has 48/,
    ],
    ['a view beyond its storage', view(1, [3, 4], [4, 1]), FormatError, /needs 52 bytes/],
    ['strides beyond the storage', view(0, [2], [12]), FormatError, /needs 52 bytes/],
    ['a shape that overflows', view(0, [2 ** 30, 2 ** 30], [1, 1]), FormatError, /more elements/],
    ['negative strides', view(0, [2], [-1]), FormatError, /no counts/],
    ['strides of another length', view(0, [2], []), FormatError, /no shape/],
    ['a call of a tuple', archive(p.bytes(p.tuple(), p.tuple(), 'R')), FormatError, /no function is called/],
    [
      'a call with no tuple',
      archive(p.bytes(p.global('collections', 'OrderedDict'), p.emptyList, 'R')),
      FormatError,
      /no tuple/,
    ],
    [
      'a tensor of nothing',
      archive(p.call(p.global('torch._utils', '_rebuild_tensor_v2'), p.none)),
      FormatError,
      /no storage/,
    ],
    [
      'a call within arguments',
      archive(p.call(p.global('torch', 'Size'), p.call(p.global('torch', 'Size'), p.none))),
      FormatError,
      /torch\.Size/,
    ],
    ['attributes of a tensor', archive(p.bytes(matrix, p.emptyDict, 'b')), FormatError, /attributes/],
    ['a key that is a list', archive(p.bytes('}', p.emptyList, p.none, 's')), FormatError, /no plain value/],
    ['an item of a tuple', archive(p.bytes(')Na')), FormatError, /no list/],
    ['an empty stack', archive(p.bytes('aaa')), FormatError, /stack is empty/],
    ['a pop below the mark', archive(p.bytes('}N(s')), FormatError, /stack is empty/],
    ['no mark', archive(p.bytes('t')), FormatError, /no mark/],
    ['a memo that is empty', archive(p.get(5)), FormatError, /remembered under 5/],
    ['an opcode of classes', archive(p.bytes('}', p.tuple(), 0x81)), FormatError, /0x81/],
    ['protocol 6', archive(p.proto(6)), FormatError, /protocol is 6/],
    ['no end', zip({ 'a/data.pkl': p.proto() }), FormatError, /missing at its end/],
    ['a name with no end', archive(p.bytes('ctorch')), FormatError, /a name has no end/],
    [
      'a text longer than the pickle',
      archive(p.bytes('X', 255, 255, 255, 255)),
      FormatError,
      /4294967295 bytes are missing/,
    ],
    ['a huge integer', archive(p.bytes(0x8b, 255, 255, 255, 127)), FormatError, /integer has 2147483647 bytes/],
    ['text that is not UTF-8', archive(p.bytes(0x8c, 1, 255)), FormatError, /not UTF-8/],
    ['deep nesting', archive(p.bytes(run(200_000, 0x5d), run(199_999, 0x61))), FormatError, /no dictionary/],
    ['a bomb of dictionaries', archive(run(400_000, 0x7d)), FormatError, /takes more memory/],
    ['a bomb of memos', archive(p.bytes(p.none, run(2_000_000, 0x94))), FormatError, /takes more memory/],
    ['a bomb of tuples', archive(p.bytes(p.none, run(2_000_000, 0x85))), FormatError, /takes more memory/],
  ])('%s', async (_, file, kind, message) => {
    const error = await refusal(file);
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toMatch(message);
  });

  test('a tuple that doubles a hundred times costs nothing, as nobody walks it', async () => {
    const doubling = Array.from({ length: 100 }, (_, i) => p.bytes(p.put(i), p.get(i), 0x86));
    const checkpoint = await open(archive(p.dict({ matrix, x: p.bytes(p.none, ...doubling) })));
    expect([...checkpoint.tensors.keys()]).toEqual(['matrix']);
  });

  test('a long integer is a bigint', async () => {
    const checkpoint = await open(
      archive(p.dict({ matrix, seed: p.long(9, 255, 255, 255, 255, 255, 255, 255, 255, 0) })),
    );
    expect(checkpoint.metadata).toEqual({ seed: 2n ** 64n - 1n });
  });
});

test('10,000 damaged files are read or refused', async () => {
  const random = new Random(21);
  const value = p.dict({ matrix, row: p.tensor(storage, 4, [4], [1]), epoch: p.int(3), list: p.list(p.float(1)) });
  const base = archive(value, { zip64: true }, { 'archive/byteorder': Buffer.from('little') });
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

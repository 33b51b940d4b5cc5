import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import { InputError, UnsupportedError } from '../src/core/errors.ts';
import { Random } from '../src/core/random.ts';
import { spawnThread } from '../src/platform/node.ts';
import { sessionFiles } from '../src/platform/session-files.ts';
import type { Source } from '../src/runtime/source.ts';
import { State } from '../src/runtime/state.ts';
import { byteTokenizer } from '../src/tokenizers/bytes.ts';
import { goldenModel } from './assembled.ts';
// @ts-expect-error A program in JavaScript.
import { crash } from './crash.mjs';

const folder = mkdtempSync(join(tmpdir(), 'riverrun-read-'));
const backend = await wasmBackend({ threads: 1, spawn: spawnThread });
const model = await goldenModel('gated_deltanet', backend, { files: sessionFiles, tokenizer: byteTokenizer() });
afterAll(() => {
  model.dispose();
  backend.dispose();
  rmSync(folder, { recursive: true });
});

const random = new Random(8);
/** Some 23,000 characters of one to four bytes. */
const text = Array.from({ length: 9000 }, () => ['riv', 'er é', 'ñ', 'ru n', '\u{1f30a}', '…'][random.integer(6)]).join(
  '',
);
const bytes = new TextEncoder().encode(text);

async function* cut<C extends string | Uint8Array>(whole: C, longest: number): AsyncGenerator<C> {
  const pieces = new Random(longest);
  for (let at = 0; at < whole.length; ) {
    const length = 1 + pieces.integer(longest);
    yield whole.slice(at, at + length) as C;
    at += length;
  }
}

const streamOf = (chunks: AsyncGenerator<string | Uint8Array>): ReadableStream<string | Uint8Array> =>
  new ReadableStream({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });

/** A stream that, like those of some browsers, can't be iterated. */
function withoutIterator(stream: ReadableStream<string | Uint8Array>): Source {
  return { getReader: () => stream.getReader() } as never;
}

async function stateAfter(source: Source): Promise<Uint8Array> {
  const session = model.session();
  await session.read(source);
  const saved = session.state.save();
  session.dispose();
  return saved;
}

const file = join(folder, 'text.txt');
writeFileSync(file, bytes);
const expected = await stateAfter(text);

describe('read', () => {
  test.each<[string, () => Source]>([
    ['tokens', () => Array.from(bytes)],
    ['bytes', () => bytes],
    ['strings', () => [text.slice(0, 1001), text.slice(1001)]],
    ['a stream of strings, cut within characters', () => cut(text, 3)],
    ['a stream of bytes, cut within characters', () => cut(bytes, 5)],
    ['a stream of long pieces', () => cut(bytes, 30_000)],
    ['a ReadableStream of bytes', () => streamOf(cut(bytes, 1000))],
    ['a ReadableStream that has no iterator', () => withoutIterator(streamOf(cut(text, 1000)))],
    ['a file', () => ({ file })],
  ])('%s give the same state as the text at once, bit for bit', async (_, source) => {
    expect(await stateAfter(source())).toEqual(expected);
  });

  test('a byte order mark is no text, at the beginning of bytes and files', async () => {
    const marked = new Uint8Array([0xef, 0xbb, 0xbf, ...bytes]);
    const path = join(folder, 'marked.txt');
    writeFileSync(path, marked);
    expect(await stateAfter(marked)).toEqual(expected);
    expect(await stateAfter({ file: path })).toEqual(expected);
  });

  test.each<[string, () => Source, RegExp]>([
    [
      'bytes that are not UTF-8',
      () => cut(Uint8Array.of(0x61, 0x62, 0xff, 0x63), 1),
      /the source is not UTF-8 text \(after about 2/,
    ],
    ['a character that is cut off', () => Uint8Array.of(0x61, 0xc3), /not UTF-8/],
    ['a stream of something else', () => [{}] as never, /gave object in a stream of text/],
    ['a file that is missing', () => ({ file: join(folder, 'none.txt') }), /none\.txt: there is no such file/],
    ['a folder', () => ({ file: folder }), /is a folder/],
  ])('%s is an error', async (_, source, message) => {
    await expect(model.session().read(source())).rejects.toThrow(InputError);
    await expect(model.session().read(source())).rejects.toThrow(message);
  });

  test('a tokenizer of another model is found out', async () => {
    const small = await goldenModel('rwkv7', backend, { tokenizer: byteTokenizer() });
    await expect(small.session().read('\u{1f30a}')).rejects.toThrow(
      /token 240 is out of range: the model's vocabulary is 0 to 199/,
    );
    small.dispose();
  });

  test('unknown options are refused, and files where there are none', async () => {
    await expect(model.session().read('x', { checkpointfile: 'x' } as never)).rejects.toThrow(
      /did you mean checkpointFile/,
    );
    await expect(model.session().read('x', { checkpointFile: 'x', checkpointEvery: 0 })).rejects.toThrow(/is 0/);
    const plain = await goldenModel('gated_deltanet', backend, { tokenizer: byteTokenizer() });
    await expect(plain.session().read({ file })).rejects.toThrow(UnsupportedError);
    await expect(plain.session().read('x', { checkpointFile: 'x' })).rejects.toThrow(UnsupportedError);
    plain.dispose();
  });

  test('an abort ends the waiting for a stream that gives nothing, and keeps what was read', async () => {
    const controller = new AbortController();
    const session = model.session();
    async function* stalling() {
      yield text.slice(0, 18_000);
      await new Promise(() => {});
    }
    const onProgress = (tokens: number) => {
      if (tokens >= 8192) setTimeout(() => controller.abort(new Error('enough')), 5);
    };
    await expect(session.read(stalling(), { signal: controller.signal, onProgress })).rejects.toThrow('enough');
    expect(session.position).toBeGreaterThanOrEqual(8192);
    expect(session.position % 128).toBe(0);
    const same = model.session();
    await same.read(Array.from(bytes.subarray(0, session.position)));
    expect(same.state.save()).toEqual(session.state.save());
  });
});

describe('a checkpoint file', () => {
  let names = 0;
  const newPath = () => join(folder, `${names++}.state`);

  /** Reads until so many tokens have passed. */
  async function readPart(source: Source, checkpointFile: string, tokens: number): Promise<void> {
    const controller = new AbortController();
    const onProgress = (read: number) => {
      if (read >= tokens) controller.abort(new Error('cut off'));
    };
    const session = model.session();
    const options = { checkpointFile, checkpointEvery: 1000, signal: controller.signal, onProgress };
    await expect(session.read(source, options)).rejects.toThrow('cut off');
    session.dispose();
  }

  test.each<[string, () => Source]>([
    ['a file', () => ({ file })],
    ['tokens', () => Array.from(bytes)],
    ['text', () => text],
    ['a stream of text', () => cut(text, 700)],
    ['a stream of bytes', () => cut(bytes, 300)],
  ])('reading %s in parts gives the same state, bit for bit', async (_, source) => {
    const checkpointFile = newPath();
    for (const tokens of [1, 3000, 3100, 12_000, 20_000]) await readPart(source(), checkpointFile, tokens);
    const session = model.session();
    const seen: number[] = [];
    await session.read(source(), { checkpointFile, onProgress: (tokens) => seen.push(tokens) });
    expect(seen[0]).toBeGreaterThan(20_000);
    expect(seen.at(-1)).toBe(bytes.length);
    expect(session.state.save()).toEqual(expected);
    // Once more, there is nothing left to read: only the place is told.
    const again = model.session();
    const told: number[] = [];
    await again.read(source(), { checkpointFile, onProgress: (tokens) => told.push(tokens) });
    expect(told).toEqual([bytes.length]);
    expect(again.state.save()).toEqual(expected);
  });

  test('of a file that has grown is gone on from', async () => {
    const [path, checkpointFile] = [join(folder, 'log.txt'), newPath()];
    writeFileSync(path, 'first line\n');
    await model.session().read({ file: path }, { checkpointFile });
    writeFileSync(path, 'first line\nsecond line\n');
    const session = model.session();
    await session.read({ file: path }, { checkpointFile });
    expect(session.position).toBe(23);
    const state = await State.load(readFileSync(checkpointFile));
    expect(state.notes).toMatchObject({ 'source.offset': '23', 'source.tokens': '23' });
  });

  test('of another source, another start, another model or none at all is refused', async () => {
    const checkpointFile = newPath();
    await readPart({ file }, checkpointFile, 5000);
    const other = join(folder, 'other.txt');
    writeFileSync(other, bytes.slice().fill(0x61));
    const session = model.session();
    await expect(session.read({ file: other }, { checkpointFile })).rejects.toThrow(/not the one that was read before/);
    const short = join(folder, 'short.txt');
    writeFileSync(short, 'a');
    await expect(model.session().read({ file: short }, { checkpointFile })).rejects.toThrow(InputError);
    await expect(model.session().read(text, { checkpointFile })).rejects.toThrow(
      /read in bytes, and this one is read in characters/,
    );
    const later = model.session();
    await later.read('x');
    await expect(later.read({ file }, { checkpointFile })).rejects.toThrow(
      /of a reading begun after 0 tokens, and this session has read 1/,
    );
    const stranger = await goldenModel('mamba2', backend, { files: sessionFiles, tokenizer: byteTokenizer() });
    await expect(stranger.session().read({ file }, { checkpointFile })).rejects.toThrow(
      /of a model of type gated_deltanet/,
    );
    stranger.dispose();
    const plain = newPath();
    writeFileSync(plain, later.state.save());
    await expect(model.session().read({ file }, { checkpointFile: plain })).rejects.toThrow(/no checkpoint of reading/);
    writeFileSync(plain, 'something');
    await expect(model.session().read({ file }, { checkpointFile: plain })).rejects.toThrow(/\.state: /);
  });

  test('of a document that was read to its end is refused for another, shorter or longer', async () => {
    const [first, second] = [join(folder, 'first.txt'), join(folder, 'second.txt')];
    const document = 'The old king had three sons.';
    writeFileSync(first, document);
    for (const other of [
      'Another.',
      'Another document altogether, and a longer one than the first.',
      document.slice(0, 9),
    ]) {
      const [ofFile, ofText, ofTokens] = [newPath(), newPath(), newPath()];
      writeFileSync(second, other);
      const [ids, otherIds] = [document, other].map((one) => [...Buffer.from(one)]) as [number[], number[]];
      await model.session().read({ file: first }, { checkpointFile: ofFile });
      await model.session().read(document, { checkpointFile: ofText });
      await model.session().read(ids, { checkpointFile: ofTokens });
      for (const [source, checkpointFile] of [
        [{ file: second }, ofFile],
        [other, ofText],
        [otherIds, ofTokens],
      ] as const) {
        const session = model.session();
        await expect(session.read(source, { checkpointFile })).rejects.toThrow(/another/);
        expect(session.position).toBe(0);
      }
    }
  });

  test('of a text that was changed anywhere before the place is refused', async () => {
    const path = join(folder, 'changing.txt');
    const [ofFile, ofText, ofBytes] = [newPath(), newPath(), newPath()];
    writeFileSync(path, bytes);
    await model.session().read(bytes, { checkpointFile: ofBytes, checkpointEvery: 5000 });
    await model.session().read({ file: path }, { checkpointFile: ofFile, checkpointEvery: 5000 });
    await model.session().read(text, { checkpointFile: ofText, checkpointEvery: 5000 });
    const changed = text.slice(0, 6000) + (text[6000] === 'x' ? 'y' : 'x') + text.slice(6001);
    writeFileSync(path, changed);
    const session = model.session();
    await expect(session.read({ file: path }, { checkpointFile: ofFile })).rejects.toThrow(/is of another source/);
    await expect(session.read(changed, { checkpointFile: ofText })).rejects.toThrow(/is of another source/);
    const changedBytes = new TextEncoder().encode(changed);
    await expect(session.read(changedBytes, { checkpointFile: ofBytes })).rejects.toThrow(/is of another source/);
    expect(session.position).toBe(0);
  });

  test('survives the death of its process at any moment, ten times', { timeout: 120_000 }, async () => {
    const seeded = new Random(77);
    const { whole, digest, killed, left, partial } = await crash(10, 60_000, () => seeded.uniform());
    expect(digest).toBe(whole);
    expect(killed).toBeGreaterThan(5);
    expect([...left].sort((a, b) => a - b)).toEqual(left);
    expect(new Set(left).size).toBeGreaterThan(3);
    expect(partial).toEqual([]);
  });
});

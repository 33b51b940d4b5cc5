import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import { Random } from '../src/core/random.ts';
import { diskStates } from '../src/platform/disk-states.ts';
import { spawnThread } from '../src/platform/node.ts';
import type { Model } from '../src/runtime/model.ts';
import { PrefixCache } from '../src/runtime/prefix-cache.ts';
import { Runner } from '../src/runtime/runner.ts';
import type { Session } from '../src/runtime/session.ts';
import { byteTokenizer } from '../src/tokenizers/bytes.ts';
import { goldenModel } from './assembled.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const backend = await wasmBackend({ threads: 1, spawn: spawnThread });
const model = await goldenModel('mamba', backend, { tokenizer: byteTokenizer() });
const folders: string[] = [];
afterAll(() => {
  model.dispose();
  backend.dispose();
  for (const folder of folders) rmSync(folder, { recursive: true });
});

function newFolder(): string {
  folders.push(mkdtempSync(join(tmpdir(), 'riverrun-states-')));
  return folders.at(-1)!;
}

const random = new Random(6);
const text = (length: number): number[] => Array.from({ length }, () => random.integer(256));
const system = text(300);
const [first, second, third] = [text(50), text(60), text(70)].map((rest) => [...system, ...rest]) as [
  number[],
  number[],
  number[],
];

const running = vi.spyOn(Runner.prototype, 'run');
afterAll(() => running.mockRestore());

/** Reads a text; returns the session, and how many of its tokens were not read but known. */
async function read(
  cache: PrefixCache,
  tokens: number[],
  of: Model = model,
): Promise<{ session: Session; known: number }> {
  const session = of.session();
  running.mockClear();
  await session.read(tokens, { cache });
  expect(session.position).toBe(tokens.length);
  const counts = running.mock.calls.map(([segments]) => segments[0]!.tokens.length);
  return { session, known: tokens.length - counts.reduce((sum, count) => sum + count, 0) };
}

async function alone(tokens: number[], of: Model = model): Promise<Session> {
  const session = of.session();
  await session.read(tokens);
  return session;
}

describe('prefix cache', () => {
  test('what texts begin with is read once; where they part, from the third on', async () => {
    const cache = new PrefixCache();
    expect((await read(cache, first)).known).toBe(0);
    const again = await read(cache, first);
    expect(again.known).toBe(first.length);
    expect(again.session.state.save()).toEqual((await alone(first)).state.save());
    expect((await read(cache, second)).known).toBe(0);
    const { session, known } = await read(cache, third);
    expect(known).toBe(system.length);
    expect(errorRatio(session.logits, (await alone(third)).logits)).toBeLessThan(tolerance.model);
    expect((await read(cache, [...third, 1, 2, 3])).known).toBe(third.length);
  });

  test('long texts are kept every so many tokens', async () => {
    const cache = new PrefixCache({ every: 128 });
    const long = text(1000);
    await read(cache, long);
    expect(cache.size).toBe(8);
    expect((await read(cache, [...long.slice(0, 800), ...text(9)])).known).toBe(768);
  });

  test('text is found by its tokens, and generation goes on from it', async () => {
    const cache = new PrefixCache();
    const prompt = 'Once upon a time there was a cache, and it knew this text already.';
    const texts = new Set<string>();
    for (let round = 0; round < 2; round++) {
      const session = model.session();
      await session.read(prompt, { cache });
      let generated = '';
      for await (const piece of session.generate(undefined, { seed: 4, maxTokens: 20 })) generated += piece;
      texts.add(generated);
    }
    expect(texts.size).toBe(1);
    expect(cache.size).toBe(1);
  });

  test('never gives a state of another model', async () => {
    const cache = new PrefixCache();
    const other = await goldenModel('mamba', backend, { weights: 'bf16' });
    await read(cache, first);
    const { session, known } = await read(cache, first, other);
    expect(known).toBe(0);
    expect(session.state.save()).toEqual((await alone(first, other)).state.save());
    expect(cache.size).toBe(2);
    other.dispose();
  });

  test('keeps to its limit, and the longest unused go first', async () => {
    const { size } = (await alone(first)).state.copy();
    const cache = new PrefixCache({ maxBytes: 3 * size });
    const texts = Array.from({ length: 3 }, () => text(100));
    for (const tokens of texts) await read(cache, tokens);
    await read(cache, texts[0]!);
    await read(cache, text(100));
    expect(cache.bytes).toBeLessThanOrEqual(cache.maxBytes);
    expect(cache.size).toBe(3);
    expect((await read(cache, texts[0]!)).known).toBe(100);
    expect((await read(cache, texts[1]!)).known).toBe(0);
    const none = new PrefixCache({ maxBytes: 0 });
    await read(none, first);
    expect((await read(none, first)).known).toBe(0);
    expect(none.size).toBe(0);
    cache.clear();
    expect(cache.bytes).toBe(0);
  });

  test('concurrent sessions share it', async () => {
    const cache = new PrefixCache({ every: 64 });
    const texts = Array.from({ length: 30 }, (_, i) => [...system, ...text(1 + i)]);
    const results = await Promise.all(texts.map((tokens) => read(cache, tokens)));
    for (const [i, { session }] of results.entries())
      expect(errorRatio(session.logits, (await alone(texts[i]!)).logits)).toBeLessThan(tolerance.model);
    for (const tokens of texts) expect((await read(cache, tokens)).known).toBe(tokens.length);
  });

  test('an abort keeps what was read', async () => {
    const cache = new PrefixCache({ every: 64 });
    const controller = new AbortController();
    const session = model.session();
    const onProgress = (tokens: number) => {
      if (tokens >= 128) controller.abort(new Error('enough'));
    };
    await expect(session.read(first, { cache, onProgress, signal: controller.signal })).rejects.toThrow('enough');
    expect(session.position).toBe(128);
    expect((await read(cache, first)).known).toBe(128);
  });

  test('refuses streams, sessions that have begun, and options that make no sense', async () => {
    const cache = new PrefixCache();
    const session = model.session();
    await expect(session.read(['a', 'b'], { cache })).rejects.toThrow(/must be text or tokens/);
    await expect(session.read('a', { cache, checkpointFile: 'x' })).rejects.toThrow(/not both/);
    await session.read([1]);
    await expect(session.read([1], { cache })).rejects.toThrow(/begin with a new session/);
    const restored = model.session();
    await restored.state.restore(model.session().state.save());
    await expect(restored.read([1], { cache })).rejects.toThrow(/begin with a new session/);
    expect(() => new PrefixCache({ every: 1 })).toThrow(/every is 1/);
    expect(() => new PrefixCache({ maxBytes: -1 })).toThrow(/maxBytes is -1/);
    expect(() => new PrefixCache({ maxbytes: 1 } as never)).toThrow(/did you mean maxBytes/);
  });
});

describe('states on disk', () => {
  const files = (folder: string) => readdirSync(folder).map((name) => join(folder, name));

  test('outlive the cache', async () => {
    const folder = newFolder();
    await read(new PrefixCache({ store: diskStates(join(folder, 'new')) }), first);
    const later = new PrefixCache({ store: diskStates(join(folder, 'new')) });
    const { session, known } = await read(later, first);
    expect(known).toBe(first.length);
    expect(session.state.save()).toEqual((await alone(first)).state.save());
    expect((await read(later, [...first, ...text(10)])).known).toBe(first.length);
  });

  test('keep to their limit, and the longest unused go first', async () => {
    const folder = newFolder();
    const texts = Array.from({ length: 4 }, () => text(100));
    await read(new PrefixCache({ store: diskStates(folder) }), texts[0]!);
    const { size } = statSync(files(folder)[0]!);
    const store = diskStates(folder, { maxBytes: 3.5 * size });
    for (const tokens of texts.slice(1)) {
      // File times have a resolution.
      await new Promise((resolve) => setTimeout(resolve, 15));
      await read(new PrefixCache({ store }), texts[0]!);
      await new Promise((resolve) => setTimeout(resolve, 15));
      await read(new PrefixCache({ store }), tokens);
    }
    expect(files(folder)).toHaveLength(3);
    expect((await read(new PrefixCache({ store }), texts[0]!)).known).toBe(100);
    expect((await read(new PrefixCache({ store }), texts[1]!)).known).toBe(0);
  });

  test('keep to their limit when many are saved at once', async () => {
    const folder = newFolder();
    const [one, two] = [diskStates(folder, { maxBytes: 10_000 }), diskStates(folder, { maxBytes: 10_000 })];
    const hex = (n: number) => n.toString(16).padStart(32, '0');
    const saving = Array.from({ length: 20 }, (_, i) =>
      (i % 2 ? one : two).save({ model: hex(1), length: 9, text: hex(i) }, new Uint8Array(2000)),
    );
    await Promise.all(saving);
    const bytes = files(folder).reduce((sum, path) => sum + statSync(path).size, 0);
    expect(bytes).toBeLessThanOrEqual(10_000);
    expect(bytes).toBeGreaterThan(0);
  });

  test('that are damaged, or of another text or model, are as good as none', async () => {
    const folder = newFolder();
    const store = diskStates(folder);
    await read(new PrefixCache({ store }), first);
    const [path] = files(folder);
    const other = await goldenModel('mamba2', backend, { tokenizer: byteTokenizer() });
    const foreign = other.session();
    await foreign.read(first);
    const strangers = [
      new Uint8Array(100),
      (await alone(first)).state.save({ notes: { tokens: '1 2 3' } }),
      foreign.state.save({ notes: { tokens: first.join(' ') } }),
    ];
    other.dispose();
    for (const bytes of strangers) {
      writeFileSync(path!, bytes);
      const { session, known } = await read(new PrefixCache({ store }), first);
      expect(known).toBe(0);
      expect(session.state.save()).toEqual((await alone(first)).state.save());
    }
    writeFileSync(join(folder, 'something else'), '');
    expect((await read(new PrefixCache({ store }), first)).known).toBe(first.length);
  });

  test('refuse options that there are not', () => {
    expect(() => diskStates('states', { maxbytes: 1 } as never)).toThrow(
      /unknown option maxbytes: did you mean maxBytes/,
    );
  });

  test('say so when the folder can not be made', async () => {
    const folder = newFolder();
    writeFileSync(join(folder, 'file'), '');
    const cache = new PrefixCache({ store: diskStates(join(folder, 'file', 'states')) });
    await expect(model.session().read(first, { cache })).rejects.toThrow(/a part of the path is not a folder/);
  });
});

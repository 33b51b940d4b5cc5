import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Backend } from '../src/core/backend.ts';
import { FormatError, InputError } from '../src/core/errors.ts';
import { Random } from '../src/core/random.ts';
import { bytesSource } from '../src/formats/byte-source.ts';
import { openSafetensors } from '../src/formats/safetensors.ts';
import { load } from '../src/index.ts';
import { architectures } from '../src/models/index.ts';
import { spawnThread } from '../src/platform/node.ts';
import { assemble, type Model } from '../src/runtime/model.ts';
import type { Session } from '../src/runtime/session.ts';
import { State } from '../src/runtime/state.ts';
import { goldenModel, goldenNames } from './assembled.ts';
import { goldenFolder } from './golden.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const backends: [string, () => Backend][] = [];
const wasm = await wasmBackend({ threads: 1, spawn: spawnThread });
const reference = referenceBackend('f32');
for (const backend of [wasm, reference]) backends.push([backend.name, () => backend]);
afterAll(() => wasm.dispose());

const tokensOf = (count: number, below: number, seed = 3): number[] => {
  const random = new Random(seed);
  return Array.from({ length: count }, () => random.integer(below));
};

/** The likeliest tokens, one after another. */
async function greedy(session: Session, count: number): Promise<number[]> {
  const tokens: number[] = [];
  for (let i = 0; i < count; i++) {
    const { logits } = session;
    tokens.push(logits.indexOf(Math.max(...logits)));
    await session.step(tokens.at(-1)!);
  }
  return tokens;
}

describe.each(goldenNames)('%s', (name) => {
  test.each(backends)('a saved state goes on in a new model as if nothing had been: %s', async (_, backend) => {
    const model = await goldenModel(name, backend());
    const session = model.session();
    await session.read(tokensOf(40, model.vocabularySize));
    const saved = session.state.save();
    const expected = await greedy(session, 12);
    const logits = session.logits.slice();
    const end = session.state.save();
    model.dispose();

    const fresh = await goldenModel(name, backend());
    const restored = fresh.session();
    await restored.state.restore(saved);
    expect(restored.position).toBe(40);
    expect(restored.state.save()).toEqual(saved);
    expect(await greedy(restored, 12)).toEqual(expected);
    expect(restored.logits).toEqual(logits);
    expect(restored.state.save()).toEqual(end);
    fresh.dispose();
  });

  test('the same bytes go on on the other backend', async () => {
    const models = [await goldenModel(name, wasm), await goldenModel(name, reference)] as const;
    for (const [from, to] of [models, [...models].reverse() as unknown as typeof models]) {
      const session = from.session();
      await session.read(tokensOf(20, from.vocabularySize));
      const saved = session.state.save();
      const other = to.session();
      await other.state.restore(saved);
      expect(other.state.save()).toEqual(saved);
      const next = tokensOf(5, from.vocabularySize, 4);
      expect(errorRatio(await other.logitsOf(next), await session.logitsOf(next))).toBeLessThan(tolerance.model);
    }
    for (const model of models) model.dispose();
  });
});

/** A model of the same sizes whose parameters differ in one number. */
async function fineTuned(name: string): Promise<Model> {
  const bytes = readFileSync(`${goldenFolder(name)}model.safetensors`);
  // The last byte but two of an f32: a small change of the last number.
  bytes[bytes.length - 2]! ^= 1;
  const config = JSON.parse(readFileSync(`${goldenFolder(name)}config.json`, 'utf8'));
  return await assemble({ config, checkpoint: await openSafetensors(bytesSource(bytes, name)) }, wasm);
}

/** The state of a mamba that has read ten tokens, as a file whose header is changed, its digest left out or kept. */
async function changed(
  change: (header: Record<string, Record<string, string>>) => void,
  { keepsDigest = false } = {},
): Promise<Uint8Array> {
  const session = mamba.session();
  await session.read(tokensOf(10, mamba.vocabularySize));
  const bytes = session.state.save();
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  change(header);
  if (!keepsDigest) delete header['__metadata__']?.digest;
  const text = new TextEncoder().encode(JSON.stringify(header));
  const result = new Uint8Array(8 + text.length + bytes.length - 8 - length);
  new DataView(result.buffer).setBigUint64(0, BigInt(text.length), true);
  result.set(text, 8);
  result.set(bytes.subarray(8 + length), 8 + text.length);
  return result;
}

const mamba = await goldenModel('mamba', wasm);
afterAll(() => mamba.dispose());

describe('refused is', () => {
  const restore = async (model: Model, bytes: Uint8Array) => await model.session().state.restore(bytes);
  const savedBy = async (model: Model) => {
    const session = model.session();
    await session.read([1, 2, 3]);
    return session.state.save();
  };

  test('a state of another architecture', async () => {
    const other = await goldenModel('rwkv7', wasm);
    await expect(restore(mamba, await savedBy(other))).rejects.toThrow(
      /the state is of a model of type rwkv7, and this one is mamba/,
    );
  });

  test('a state of other sizes', async () => {
    const other = await goldenModel('mamba-original', wasm);
    await expect(restore(mamba, await savedBy(other))).rejects.toThrow(/another mamba/);
  });

  test('a state of another training of the same sizes', async () => {
    const other = await fineTuned('mamba');
    await expect(restore(mamba, await savedBy(other))).rejects.toThrow(/another training or fine-tune/);
    await expect(restore(other, await savedBy(mamba))).rejects.toThrow(InputError);
  });

  test('a state of weights in another precision', async () => {
    const rounded = await goldenModel('mamba', wasm, { weights: 'bf16' });
    await expect(restore(mamba, await savedBy(rounded))).rejects.toThrow(
      /matrices held as bf16, and here they are held as f32: load the model with weights: 'bf16'/,
    );
    rounded.dispose();
  });

  test.each<[string, (header: Record<string, Record<string, string>>) => void, RegExp]>([
    ['a newer version', (h) => (h['__metadata__']!['version'] = '2'), /format version 2; this riverrun reads up to 1/],
    ['a file that is no state', (h) => delete h['__metadata__'], /is a safetensors file, but no state/],
    ['a state without a position', (h) => delete h['__metadata__']!['position'], /its metadata has no position/],
    ['a position that is none', (h) => (h['__metadata__']!['position'] = '-1'), /position is "-1"/],
    ['an empty text with logits', (h) => (h['__metadata__']!['position'] = '0'), /has logits of a next token/],
  ])('%s', async (_, change, message) => {
    await expect(State.load(await changed(change))).rejects.toThrow(message);
  });

  test("a state whose tensors are not the model's", async () => {
    const carry = mamba.session().state.names[0]!;
    const renamed = await changed((header) => {
      Object.assign(header, { other: header[carry] });
      delete header[carry];
    });
    await expect(restore(mamba, renamed)).rejects.toThrow(`the state lacks ${carry}`);
  });

  test('numbers that are not finite, and files cut off', async () => {
    const bytes = await savedBy(mamba);
    new DataView(bytes.buffer).setFloat32(bytes.length - 4, Number.NaN, true);
    await expect(State.load(bytes)).rejects.toThrow(/holds NaN at element \d+: the file is damaged/);
    for (const length of [0, 7, 100, bytes.length - 1])
      await expect(State.load(bytes.subarray(0, length))).rejects.toThrow(FormatError);
  });

  test.each(['f32', 'f16'] as const)('numbers that changed, anywhere, saved as %s', async (precision) => {
    const session = mamba.session();
    await session.read([1, 2, 3, 4]);
    const bytes = session.state.save({ precision });
    const header = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const random = new Random(5);
    for (let i = 0; i < 50; i++) {
      const damaged = bytes.slice();
      damaged[header + random.integer(bytes.length - header)]! ^= 1 << random.integer(8);
      await expect(State.load(damaged)).rejects.toThrow(/damaged/);
    }
  });

  test('a position that changed, unless who changed it left out the digest', async () => {
    const change = (header: Record<string, Record<string, string>>) => (header['__metadata__']!['position'] = '5');
    await expect(State.load(await changed(change, { keepsDigest: true }))).rejects.toThrow(/damaged/);
    expect((await State.load(await changed(change))).position).toBe(5);
  });

  test('and the session that refused is as it was', async () => {
    const session = mamba.session();
    await session.read([5, 6]);
    const before = session.state.save();
    await expect(session.state.restore(await savedBy(await fineTuned('mamba')))).rejects.toThrow(InputError);
    expect(session.state.save()).toEqual(before);
  });

  test('a precision that is none, and an unknown option', () => {
    expect(() => mamba.session().state.save({ precision: 'f8' as never })).toThrow(/precision is f8; known: f32, f16/);
    expect(() => mamba.session().state.save({ precison: 'f16' } as never)).toThrow(/did you mean precision/);
  });
});

describe('state', () => {
  test.each(['mamba', 'rwkv4', 'llama'])('f16 takes half the bytes and goes on closely: %s', async (name) => {
    const model = await goldenModel(name, wasm);
    const session = model.session();
    await session.read(tokensOf(30, model.vocabularySize));
    const [full, half] = [session.state.save(), session.state.save({ precision: 'f16' })];
    expect(full.length - half.length).toBeGreaterThan(0.45 * (await State.load(full)).size);
    const restored = model.session();
    await restored.state.restore(half);
    await restored.read([1, 2, 3]);
    await session.read([1, 2, 3]);
    expect(errorRatio(restored.logits, session.logits)).toBeLessThan(tolerance.halves);
    model.dispose();
  });

  test('numbers that f16 has not stay f32', async () => {
    const empty = (await goldenModel('rwkv4', wasm)).session();
    const saved = await State.load(empty.state.save({ precision: 'f16' }));
    expect([...saved.tensors].some(([, { values }]) => values.includes(Math.fround(-1e38)))).toBe(true);
    expect(saved.position).toBe(0);
  });

  test('keeps notes, and says what it is', async () => {
    const session = mamba.session();
    await session.read([1, 2, 3]);
    const state = await State.load(session.state.save({ notes: { title: 'Ulysses' } }));
    expect(state.notes).toEqual({ title: 'Ulysses' });
    expect(state.model).toEqual(mamba.fingerprint);
    expect(state.position).toBe(3);
    expect(state.size).toBe(session.state.size + 4 * mamba.vocabularySize);
    expect(state.save()).toEqual(session.state.save({ notes: { title: 'Ulysses' } }));
  });

  test('of constant size where time is linear, and honestly growing for attention', async () => {
    const llama = await goldenModel('llama', wasm);
    for (const [model, grows] of [
      [mamba, false],
      [llama, true],
    ] as const) {
      const session = model.session();
      await session.read(tokensOf(64, model.vocabularySize));
      const before = session.state.size;
      await session.read(tokensOf(256, model.vocabularySize));
      expect(session.state.size > before).toBe(grows);
    }
    llama.dispose();
  });

  test('reset forgets all', async () => {
    const session = mamba.session();
    const empty = session.state.save();
    await session.read([1, 2, 3]);
    session.state.reset();
    expect(session.state.save()).toEqual(empty);
    expect(session.position).toBe(0);
  });

  test('100 forks go their own ways and cost 100 × size', async () => {
    for (const name of ['mamba', 'rwkv7', 'gated_deltanet', 'bamba', 'llama']) {
      const model = await goldenModel(name, wasm);
      const session = model.session();
      await session.read(tokensOf(20, model.vocabularySize));
      const before = model.bytes.states;
      const forks = Array.from({ length: 100 }, () => session.fork());
      expect(model.bytes.states - before).toBe(100 * session.state.size);
      await Promise.all(forks.map((fork, i) => fork.step(i)));
      const states = new Set(forks.map((fork) => Buffer.from(fork.state.save()).toString('base64')));
      expect(states.size).toBe(100);
      for (const [i, fork] of forks.entries()) {
        if (i % 20 !== 0) continue;
        const alone = model.session();
        await alone.read(tokensOf(20, model.vocabularySize));
        await alone.step(i);
        expect(fork.state.save()).toEqual(alone.state.save());
      }
      for (const fork of forks) fork.dispose();
      model.dispose();
    }
  });
});

test('a new process goes on as if nothing had been: every architecture, both backends', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'riverrun-continue-'));
  const expected: Record<string, { tokens: number[]; digest: string }> = {};
  const types = new Set<string>();
  for (const name of goldenNames) {
    for (const [kind, backend] of [
      ['wasm', wasm],
      ['reference', reference],
    ] as const) {
      const model = await goldenModel(name, backend);
      const session = model.session();
      await session.read(tokensOf(33, model.vocabularySize));
      types.add(model.type);
      const file = `${name}@${kind}.state`;
      writeFileSync(join(folder, file), session.state.save());
      const tokens = await greedy(session, 10);
      expected[file] = { tokens, digest: createHash('sha256').update(session.state.save()).digest('hex') };
      model.dispose();
    }
  }
  const program = new URL('./continuing.mjs', import.meta.url).pathname;
  const out = execFileSync(process.execPath, [program, folder, '10'], { encoding: 'utf8' });
  expect(JSON.parse(out)).toEqual(expected);
  // The fixtures are of every architecture that there is.
  for (const { type } of Object.values(architectures)) expect([...types]).toContain(type);
  rmSync(folder, { recursive: true });
});

test('a new process goes on with the same text', async () => {
  const program = `
    import { readFileSync } from 'node:fs';
    import { load } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
    const model = await load(undefined, { threads: 1 });
    const session = model.session();
    await session.state.restore(readFileSync(0));
    for await (const piece of session.generate(undefined, { temperature: 0, maxTokens: 20 })) process.stdout.write(piece);
    model.dispose();`;
  const model = await load(undefined, { threads: 1 });
  const session = model.session();
  await session.read('Once upon a time there was a king who');
  const saved = session.state.save();
  let expected = '';
  for await (const piece of session.generate(undefined, { temperature: 0, maxTokens: 20 })) expected += piece;
  const out = execFileSync(process.execPath, ['--input-type=module', '-e', program], {
    input: saved,
    encoding: 'utf8',
  });
  expect(out).toBe(expected);
  model.dispose();
});

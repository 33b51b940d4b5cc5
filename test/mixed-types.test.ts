import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bytesSource } from '../src/formats/byte-source.ts';
import type { Checkpoint } from '../src/formats/checkpoint.ts';
import { openGguf } from '../src/formats/gguf.ts';
import { openSafetensors } from '../src/formats/safetensors.ts';
import { safetensorsOf, type WrittenTensor } from '../src/formats/safetensors-writer.ts';
import { convert, inspect, load, type Model } from '../src/index.ts';
import { goldenFolder, readTensors } from './golden.ts';
import { errorRatio } from './tolerance.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'riverrun-mixed-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const open = (path: string): Promise<Checkpoint> =>
  (path.endsWith('.gguf') ? openGguf : openSafetensors)(bytesSource(readFileSync(path), path));

/** Types and bytes of a file's tensors, by name. */
async function contents(path: string): Promise<Map<string, { type: string; bytes: Buffer }>> {
  const file = await open(path);
  const found = new Map<string, { type: string; bytes: Buffer }>();
  for (const { name, type, byteLength } of file.tensors.values()) {
    const bytes = new Uint8Array(byteLength);
    await file.read(name, bytes);
    found.set(name, { type, bytes: Buffer.from(bytes) });
  }
  return found;
}

const typesOf = async (path: string): Promise<Map<string, string>> =>
  new Map((await inspect(path)).tensors.map(({ name, type }) => [name, type]));

const tokensOf = (name: string) => readTensors(`${goldenFolder(name)}golden.safetensors`).get('tokens')!.data;

/** What becomes of a model whose matrices are held as `weights` says. */
async function using<Result>(
  path: string,
  weights: 'auto' | 'f32' | 'q8' | 'q4',
  use: (model: Model) => Result | Promise<Result>,
): Promise<Result> {
  const model = await load(path, { weights, threads: 1 });
  try {
    return await use(model);
  } finally {
    model.dispose();
  }
}

const formatsOf = (model: Model) => ({
  token: [...model.multiplyAdds.token.keys()].sort(),
  head: [...model.multiplyAdds.head.keys()],
});

/** A GGUF file of a golden's in 4 bits, with embedding and head in 8. */
async function mixed(name: string): Promise<string> {
  const path = join(folder, `${name}.gguf`);
  await convert(goldenFolder(name), path, { type: 'q4_0' });
  return path;
}

// Those whose matrices lie as rows of outputs in checkpoints, as in GGUF files.
describe.each(['llama', 'qwen2', 'mamba', 'mamba2', 'rwkv6', 'rwkv7', 'gpt_neox'])(
  '%s in 4 bits, the embedding in 8',
  (name) => {
    test('goes to a folder and back with the same integers and scales', async () => {
      const [path, between, again] = [
        await mixed(name),
        join(folder, `${name}-between`),
        join(folder, `${name}-2.gguf`),
      ];
      await convert(path, between);
      const own = new Set([...(await typesOf(between)).values()]);
      expect(own.has('i8') && own.has('u8')).toBe(true);
      await convert(between, again);
      const [before, after] = [await contents(path), await contents(again)];
      expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
      const types = [...before.values()].map(({ type }) => type);
      expect(types).toEqual(expect.arrayContaining(['q8_0', 'q4_0']));
      for (const [tensor, { type, bytes }] of before) {
        expect(after.get(tensor)!.type, tensor).toBe(type);
        if (type.includes('_')) expect(after.get(tensor)!.bytes.equals(bytes), tensor).toBe(true);
      }
    });

    test('loads without loss, each matrix in its own format', async () => {
      const path = await mixed(name);
      const tokens = tokensOf(name);
      const [formats, fingerprint, logits] = await using(path, 'auto', async (model) => [
        formatsOf(model),
        model.fingerprint,
        await model.session().logitsOf(tokens),
      ]);
      expect(formats.head).toEqual(['q8']);
      expect(formats.token).toContain('q4');
      // All numbers are held exactly.
      expect(fingerprint.weights).toBe('f32');
      const exact = await using(path, 'f32', async (model) => [
        model.fingerprint,
        await model.session().logitsOf(tokens),
      ]);
      expect(fingerprint).toEqual(exact[0]);
      expect(errorRatio(logits, exact[1] as Float32Array)).toBeLessThan(0.05);
      const between = join(folder, `${name}-loaded`);
      await convert(path, between);
      expect(await using(between, 'auto', formatsOf)).toEqual(formats);
      expect(await using(between, 'auto', (model) => model.session().logitsOf(tokens))).toEqual(logits);
    });
  },
);

test('a format that is named holds for all wide matrices', async () => {
  const path = await mixed('llama');
  for (const weights of ['q8', 'q4'] as const)
    expect(await using(path, weights, formatsOf)).toEqual({ token: ['bf16', weights], head: [weights] });
});

test('plain matrices beside those in blocks stay as they are', async () => {
  for (const embedding of ['f16', 'f32'] as const) {
    const [path, between] = [join(folder, `plain-${embedding}.gguf`), join(folder, `plain-${embedding}`)];
    await convert(goldenFolder('llama'), path, { type: 'q4_0', embedding });
    await convert(path, between);
    expect((await typesOf(between)).get('lm_head.weight')).toBe(embedding);
    const again = join(folder, `plain-${embedding}-2.gguf`);
    await convert(between, again);
    expect((await typesOf(again)).get('output.weight')).toBe(embedding);
    for (const one of [path, between]) expect((await using(one, 'auto', formatsOf)).head).toEqual([embedding]);
  }
});

describe('an embedding and a head of different formats', () => {
  /** A folder of the golden llama in a format, with the head in another; in two files, scales apart from their integers, if asked. */
  async function folderOf(format: 'q8' | 'q4', head: 'q8' | 'q4', isSharded = false): Promise<string> {
    const parts = new Map<string, Checkpoint>();
    for (const type of [format, head]) {
      const path = join(folder, `llama-${type}`);
      await convert(goldenFolder('llama'), path, { type });
      parts.set(type, await open(join(path, 'model.safetensors')));
    }
    const path = join(folder, `llama-${format}-head-${head}${isSharded ? '-sharded' : ''}`);
    mkdirSync(path, { recursive: true });
    copyFileSync(join(folder, `llama-${format}`, 'config.json'), join(path, 'config.json'));
    const files: (WrittenTensor & { data: Uint8Array })[][] = [[], []];
    for (const name of parts.get(format)!.tensors.keys()) {
      const file = parts.get(name.startsWith('lm_head') ? head : format)!;
      const { type, shape, byteLength } = file.tensors.get(name)!;
      const data = new Uint8Array(byteLength);
      await file.read(name, data);
      files[isSharded && name.endsWith('.scales') ? 1 : 0]!.push({ name, type, shape, data });
    }
    if (!isSharded) writeFileSync(join(path, 'model.safetensors'), safetensorsOf(files[0]!));
    else {
      const names = files.map((_, i) => `model-0000${i + 1}-of-00002.safetensors`);
      for (const [i, file] of files.entries()) writeFileSync(join(path, names[i]!), safetensorsOf(file));
      const weight_map = Object.fromEntries(files.flatMap((file, i) => file.map(({ name }) => [name, names[i]])));
      writeFileSync(join(path, 'model.safetensors.index.json'), JSON.stringify({ weight_map }));
    }
    return path;
  }

  test.each([
    ['q8', 'q4'],
    ['q4', 'q8'],
  ] as const)('%s and %s', async (format, head) => {
    const path = await folderOf(format, head);
    const formats = await using(path, 'auto', formatsOf);
    expect(formats.head).toEqual([head]);
    expect(formats.token).toContain(format);
    const file = join(folder, `${format}-${head}.gguf`);
    const { type } = await convert(path, file);
    expect(type).toBe(`${format}_0`);
    const types = await typesOf(file);
    expect([types.get('token_embd.weight'), types.get('output.weight')]).toEqual([`${format}_0`, `${head}_0`]);
    const tokens = tokensOf('llama');
    const [own, written] = await Promise.all(
      [path, file].map((one) => using(one, 'auto', (model) => model.session().logitsOf(tokens))),
    );
    // Integers whose rows are not whole blocks are plain numbers in GGUF.
    expect(errorRatio(written!, own!)).toBeLessThan(0.05);
  });

  test('in several files', async () => {
    const [whole, sharded] = [await folderOf('q4', 'q8'), await folderOf('q4', 'q8', true)];
    const tokens = tokensOf('llama');
    const of = (path: string) =>
      using(path, 'auto', async (model) => ({
        formats: formatsOf(model),
        fingerprint: model.fingerprint,
        logits: await model.session().logitsOf(tokens),
      }));
    expect(await of(sharded)).toEqual(await of(whole));
    const again = join(folder, 'from-sharded');
    await convert(sharded, again);
    expect(await typesOf(again)).toEqual(await typesOf(whole));
  });

  test('are counted each by its own', async () => {
    const path = await folderOf('q4', 'q8');
    const { vocab_size: V, hidden_size: D } = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
    expect(await using(path, 'auto', (model) => [...model.multiplyAdds.head])).toEqual([['q8', V * D]]);
    const q4 = await using(path, 'q4', (model) => model.bytesPerToken.weights);
    const own = await using(path, 'auto', (model) => model.bytesPerToken.weights);
    const narrow = 2 * 2 * 32 * D;
    // The head takes half a byte more of each number; narrow matrices are f32 in the file, and bf16 by the format's name.
    expect(own - q4).toBe((V * D) / 2 + 2 * narrow);
    const { weightBytes } = await inspect(path);
    expect(weightBytes.auto).toBeGreaterThan(weightBytes.q4);
    expect(weightBytes.auto).toBeLessThan(weightBytes.f32);
  });
});

test('other blocks of GGUF are held in 8 bits beside those that are held as they are', async () => {
  const path = await mixed('llama');
  const content = readFileSync(path);
  // IQ4_NL's blocks are as long as Q4_0's: the type, after the name, the number of axes and their lengths, is all that tells them apart.
  for (let layer = 0; layer < 2; layer++) {
    const name = Buffer.from(`blk.${layer}.ffn_gate.weight`);
    const at = content.indexOf(name) + name.length + 4 + 2 * 8;
    expect(content.readUInt32LE(at)).toBe(2);
    content.writeUInt32LE(20, at);
  }
  const file = join(folder, 'iq4.gguf');
  writeFileSync(file, content);
  expect([...(await typesOf(file)).values()].filter((type) => type === 'iq4_nl')).toHaveLength(2);
  const { F, D } = { F: 144, D: 64 };
  const [before, after] = await Promise.all(
    [path, file].map((one) => using(one, 'auto', (model) => Object.fromEntries(model.multiplyAdds.token))),
  );
  expect(after!.q8! - (before!.q8 ?? 0)).toBe(2 * F * D);
  expect(before!.q4! - after!.q4!).toBe(2 * F * D);
});

import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { safetensorsBytes } from '../src/formats/safetensors-writer.ts';
import { convert, type LoadOptions, load } from '../src/index.ts';
import { goldenFolder, readTensors } from './golden.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const shared = new URL('../../shared/', import.meta.url).pathname;
const available = existsSync(shared);
if (!available) console.warn('skipped: the original checkpoints of ../shared are not here');

const backends: LoadOptions[] = [{ threads: 1 }, { backend: 'reference' }];

describe.runIf(available)('rwkv.cpp files', () => {
  test.each([
    ['tiny-rwkv-4v0-660K-FP32', 'expected-logits-4v0-660K', tolerance.trained],
    ['tiny-rwkv-7v0-834K-FP32', 'expected-logits-7v0-834K', tolerance.trained],
    ['tiny-rwkv-6v0-1m-FP16', 'expected-logits-6v0-1m', tolerance.halves],
    ['tiny-rwkv-7v0-834K-Q5_1', 'expected-logits-7v0-834K', tolerance.fiveBits],
  ])('%s gives the logits published with it', async (file, answers, limit) => {
    const bytes = readFileSync(`${shared}models/tiny-rwkv/${answers}.bin`);
    const expected = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    for (const options of backends) {
      const model = await load(`${shared}models/tiny-rwkv/${file}.bin`, options);
      const session = model.session();
      await session.read(Array.from('"in', (character) => character.charCodeAt(0)));
      expect(errorRatio(session.logits, expected), model.backend).toBeLessThan(limit);
      model.dispose();
    }
  });
});

describe.runIf(available)('PyTorch files', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'riverrun-pth-'));
    // Alone in its folder: no configuration.
    copyFileSync(`${shared}goldens/rwkv7/model.pth`, join(folder, 'rwkv7.pth'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each([
    ['rwkv7', () => join(folder, 'rwkv7.pth')],
    ['mamba-original', () => `${shared}goldens/mamba-original/pytorch_model.bin`],
  ])('%s is the model of its safetensors file', async (name, path) => {
    const golden = readTensors(`${goldenFolder(name)}golden.safetensors`);
    for (const options of backends) {
      const model = await load(path(), options);
      const logits = await model.session().logitsOf(golden.get('tokens')!.data);
      expect(errorRatio(logits, golden.get('logits')!.data), model.backend).toBeLessThan(tolerance.model);
      model.dispose();
    }
  });
});

test.each(['rwkv5', 'rwkv6'])('%s under the names of Hugging Face’s code is the same model', async (name) => {
  const folder = mkdtempSync(join(tmpdir(), 'riverrun-names-'));
  const mixing: Readonly<Record<string, string>> = { k: 'key', v: 'value', r: 'receptance', g: 'gate' };
  const tensors = [...readTensors(`${goldenFolder(name)}model.safetensors`)].map(([own, { shape, data }]) => ({
    name: own
      .replace(/^(blocks|ln_out)/, 'rwkv.$1')
      .replace(/^emb\./, 'rwkv.embeddings.')
      .replace('.ln0.', '.pre_ln.')
      .replace('.att.', '.attention.')
      .replace('.ffn.', '.feed_forward.')
      .replace(/time_mix_(\w)$/, (_, letter: string) => `time_mix_${mixing[letter]}`),
    type: 'f32' as const,
    shape,
    data: new Uint8Array(data.buffer),
  }));
  writeFileSync(join(folder, 'model.safetensors'), await safetensorsBytes(tensors));
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ model_type: name }));
  const golden = readTensors(`${goldenFolder(name)}golden.safetensors`);
  const model = await load(folder, { backend: 'reference' });
  expect(model.type).toBe(name);
  const logits = await model.session().logitsOf(golden.get('tokens')!.data);
  expect(errorRatio(logits, golden.get('logits')!.data)).toBeLessThan(tolerance.model);
  model.dispose();
  rmSync(folder, { recursive: true });
});

describe.each([
  ['mamba2-groups', { n_groups: 2 }],
  ['mamba2', {}],
])('%s as Mistral publishes Codestral Mamba: consolidated.safetensors and params.json', (name, groups) => {
  const folder = mkdtempSync(join(tmpdir(), 'riverrun-params-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const golden = readTensors(`${goldenFolder(name)}golden.safetensors`);

  beforeAll(async () => {
    const tensors = [...readTensors(`${goldenFolder(name)}model.safetensors`)].map(([key, { shape, data }]) => ({
      name: `model.${key.replace('embeddings', 'embedding')}`,
      type: 'f32' as const,
      shape,
      data: new Uint8Array(data.buffer),
    }));
    writeFileSync(join(folder, 'consolidated.safetensors'), await safetensorsBytes(tensors));
    const { hidden_size, num_hidden_layers, vocab_size, layer_norm_epsilon, tie_word_embeddings } = JSON.parse(
      readFileSync(`${goldenFolder(name)}config.json`, 'utf8'),
    );
    // Sizes of the mixer are not in it: they come from the tensors.
    const params = {
      dim: hidden_size,
      n_layers: num_hidden_layers,
      vocab_size,
      ...groups,
      residual_in_fp32: true,
      fused_add_norm: true,
      rms_norm: true,
      tie_embeddings: tie_word_embeddings,
      pad_vocab_size_multiple: 1,
      model_type: 'mamba',
      ...(layer_norm_epsilon !== 1e-5 && { norm_epsilon: layer_norm_epsilon }),
    };
    writeFileSync(join(folder, 'params.json'), JSON.stringify(params));
    writeFileSync(join(folder, 'tokenizer.model.v3'), 'not read');
  });

  test('is the same model, and goes to a folder and to GGUF', async () => {
    const copies = [join(folder, 'copy'), join(folder, 'copy.gguf')];
    for (const copy of copies) await convert(folder, copy);
    for (const path of [folder, ...copies]) {
      const model = await load(path, { backend: 'reference' });
      expect(model.type).toBe('mamba2');
      const logits = await model.session().logitsOf(golden.get('tokens')!.data);
      expect(errorRatio(logits, golden.get('logits')!.data), path).toBeLessThan(tolerance.model);
      model.dispose();
    }
  });

  test('what tokenizer it has and why it is not read is told where texts come', async () => {
    const model = await load(folder, { backend: 'reference' });
    expect(() => model.tokenizer).toThrow(/tokenizer\.model\.v3 is in SentencePiece's own format, which is not read/);
    model.dispose();
  });
});

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { floatFields } from '../src/formats/float-json.ts';
import { convert, finetune, load, trainModel } from '../src/index.ts';
import { goldenNames } from './assembled.ts';
import { goldenFolder, readTensors } from './golden.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'riverrun-written-'));
  writeFileSync(at('text.txt'), 'the river runs and runs, past Eve and Adam. '.repeat(6));
});
afterAll(() => rmSync(folder, { recursive: true }));

const at = (name: string): string => join(folder, name);
const json = (path: string) => JSON.parse(readFileSync(path, 'utf8'));

/** Writes a model as fine-tuning does before its first step. */
async function untaught(model: string, output: string, more: object = {}): Promise<string> {
  const sizes = { steps: 0, batch: 1, length: 32, threads: 1 };
  for await (const _ of finetune({ model, data: [at('text.txt')], ...sizes, output, ...more }));
  return output;
}

async function logitsOf(path: string): Promise<Float32Array> {
  const model = await load(path, { threads: 1, weights: 'f32' });
  try {
    return await model.session().logitsOf([10, 20, 30, 40, 50, 7]);
  } finally {
    model.dispose();
  }
}

/** Tensors of a checkpoint by name, for models that have each once and in f32. */
const tensorsOf = (path: string) => readTensors(join(path, 'model.safetensors'));

test.each(goldenNames)(
  '%s: fine-tuning and converting write the base, and what its configuration has as floats',
  async (name) => {
    const base = goldenFolder(name);
    const before = await logitsOf(base);
    const outputs = [
      await untaught(base, at(`${name}-full`), { tokenizer: 'bytes' }),
      await untaught(base, at(`${name}-lora`), { tokenizer: 'bytes', method: 'lora', rank: 2 }),
      (await convert(base, at(`${name}-converted`))).output,
    ];
    for (const output of outputs) {
      expect(await logitsOf(output), output).toEqual(before);
      const [own, written] = [base, output].map((path) => readFileSync(join(path, 'config.json'), 'utf8'));
      const config = JSON.parse(written!);
      expect(config.model_type, output).toBeTypeOf('string');
      // State-spaces' own names and configuration become those that Hugging Face has for them.
      if (name === 'mamba-original') {
        expect(config).toMatchObject({
          model_type: 'mamba',
          hidden_size: 64,
          vocab_size: 256,
          tie_word_embeddings: true,
        });
        expect([...tensorsOf(output).keys()]).toContain('backbone.embeddings.weight');
        continue;
      }
      const [had, has] = [floatFields(own!), floatFields(written!)];
      for (const field of had) if (field !== 'version') expect([...has], output).toContain(field);
      expect(written).toMatch(/"model_type"/);
      // Names and layouts of the base, whichever of an architecture's dialects it is in.
      const [stored, kept] = [tensorsOf(base), tensorsOf(output)];
      for (const [tensor, { shape, data }] of kept) expect(stored.get(tensor), tensor).toEqual({ shape, data });
    }
  },
);

test.each(['llama', 'mamba', 'rwkv7'])('%s from GGUF has a folder of the same logits', async (name) => {
  const file = at(`${name}.gguf`);
  await convert(goldenFolder(name), file);
  const output = await untaught(file, at(`${name}-of-gguf`), { tokenizer: 'bytes' });
  expect(await logitsOf(output)).toEqual(await logitsOf(file));
  expect(json(join(output, 'config.json')).model_type).toBe(name);
});

const tiny = new URL('../../shared/models/tiny-rwkv/', import.meta.url).pathname;
test.skipIf(!existsSync(tiny)).each(['4v0-660K-FP32', '6v0-1m-FP16', '7v0-834K-FP32', '7v0-834K-Q5_1'])(
  'rwkv.cpp %s has a folder of the same logits (reads ../shared/models)',
  async (name) => {
    const file = `${tiny}tiny-rwkv-${name}.bin`;
    const output = await untaught(file, at(name), { tokenizer: 'bytes' });
    expect(await logitsOf(output)).toEqual(await logitsOf(file));
    expect(json(join(output, 'config.json')).model_type).toBe(name[0] === '4' ? 'rwkv' : `rwkv${name[0]}`);
  },
);

/** Characters as tokens, with marks of beginning and end. */
const characters = ['<end>', '<begin>', ...'abcdefghijklmnopqrstuvwxyz ,.E'];
const tokenizer = {
  version: '1.0',
  added_tokens: ['<end>', '<begin>'].map((content, id) => ({ id, content, special: true })),
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: { type: 'Fuse' },
  model: {
    type: 'BPE',
    unk_token: 'E',
    vocab: Object.fromEntries(characters.map((token, id) => [token, id])),
    merges: [],
  },
};
const settings = {
  add_bos_token: true,
  add_eos_token: true,
  bos_token: '<begin>',
  eos_token: '<end>',
  unk_token: 'E',
  chat_template: '{% for m in messages %}{{ m.content }}{% endfor %}',
};

async function baseWith(name: string, files: Record<string, object>): Promise<string> {
  await cp(goldenFolder('mamba'), at(name), { recursive: true });
  for (const [file, value] of Object.entries(files)) writeFileSync(join(at(name), file), JSON.stringify(value));
  return at(name);
}

test('settings, chat template and generation_config.json of the base are carried over, and texts are the same tokens', async () => {
  const base = await baseWith('settings', {
    'tokenizer.json': tokenizer,
    'tokenizer_config.json': settings,
    'generation_config.json': { eos_token_id: [0, 5], max_new_tokens: 7 },
  });
  const outputs = [
    await untaught(base, at('settings-full')),
    await untaught(base, at('settings-lora'), { method: 'lora', rank: 2 }),
    (await convert(base, at('settings-converted'))).output,
  ];
  for (const output of outputs) {
    expect(json(join(output, 'tokenizer_config.json')), output).toMatchObject(settings);
    expect(json(join(output, 'tokenizer_config.json')).tokenizer_class).toBe('PreTrainedTokenizerFast');
    expect(json(join(output, 'generation_config.json'))).toEqual({ eos_token_id: [0, 5], max_new_tokens: 7 });
    // Transformers has these marks of the file alone.
    const { type, single } = json(join(output, 'tokenizer.json')).post_processor;
    expect([type, single.length, single[0].SpecialToken.id]).toEqual(['TemplateProcessing', 3, '<begin>']);
    const model = await load(output, { threads: 1 });
    expect(model.tokenizer.encode('abc')).toEqual([1, 2, 3, 4, 0]);
    expect(model.chatTemplate.render([{ role: 'user', content: 'ab' }])).toBe('ab');
    expect([...model.endTokens].sort()).toEqual([0, 5]);
    model.dispose();
  }
});

test('another tokenizer leaves out what was of the base’s tokens, and keeps the rest', async () => {
  const base = await baseWith('other', {
    'tokenizer.json': tokenizer,
    'tokenizer_config.json': settings,
    'generation_config.json': { eos_token_id: 5, suppress_tokens: [3], max_new_tokens: 7 },
  });
  const named = { ...tokenizer, added_tokens: [{ id: 1, content: '<begin>', special: true }] };
  writeFileSync(at('named.json'), JSON.stringify(named));
  writeFileSync(at('tokenizer_config.json'), JSON.stringify({ eos_token: '<begin>' }));
  const output = await untaught(base, at('other-out'), { tokenizer: at('named.json') });
  expect(json(join(output, 'config.json')).eos_token_id).toBe(1);
  expect(json(join(output, 'generation_config.json'))).toMatchObject({ eos_token_id: 1, max_new_tokens: 7 });
  expect(json(join(output, 'generation_config.json'))).not.toHaveProperty('suppress_tokens');
  expect(json(join(output, 'tokenizer_config.json'))).toEqual({
    tokenizer_class: 'PreTrainedTokenizerFast',
    clean_up_tokenization_spaces: false,
    bos_token: '<begin>',
    eos_token: '<begin>',
    pad_token: '<begin>',
  });
});

test('settings that name a class stay as they are', async () => {
  const own = { ...settings, tokenizer_class: 'LlamaTokenizer' };
  const base = await baseWith('class', { 'tokenizer.json': tokenizer, 'tokenizer_config.json': own });
  expect(json(join(await untaught(base, at('class-out')), 'tokenizer_config.json'))).toEqual(own);
});

/** A byte-level tokenizer without a token that ends texts. */
const endless = {
  ...tokenizer,
  added_tokens: [],
  model: { ...tokenizer.model, vocab: { ...tokenizer.model.vocab, '<unknown>': 32 }, unk_token: '<unknown>' },
};

const sizes = { architecture: 'llama', width: 32, headWidth: 16, layers: 1 };
async function trained(name: string, tokenizer: string, more: object = {}): Promise<string[]> {
  const told: string[] = [];
  const options = { ...sizes, data: [at('text.txt')], tokenizer, steps: 0, batch: 1, length: 32, threads: 1, ...more };
  for await (const _ of trainModel({ ...options, output: at(name), onNotice: (what) => told.push(what) }));
  return told;
}

test('a new model is written with the marks of its tokenizer', async () => {
  const tokens = join(at('tokens'), 'tokenizer.json');
  await cp(goldenFolder('mamba'), at('tokens'), { recursive: true });
  writeFileSync(tokens, JSON.stringify(tokenizer));
  writeFileSync(join(at('tokens'), 'tokenizer_config.json'), JSON.stringify({ eos_token: '<begin>' }));
  expect(await trained('marks', tokens)).toEqual([]);
  const ids = { bos_token_id: 1, eos_token_id: 1, pad_token_id: 1 };
  expect(json(join(at('marks'), 'config.json'))).toMatchObject(ids);
  const marks = { bos_token: '<begin>', eos_token: '<begin>', pad_token: '<begin>' };
  expect(json(join(at('marks'), 'tokenizer_config.json'))).toMatchObject(marks);
});

test('a tokenizer without a token that ends texts is told of, and gets none', async () => {
  writeFileSync(at('endless.json'), JSON.stringify(endless));
  writeFileSync(at('tokenizer_config.json'), '{}');
  const notice = /no token that ends texts: its token 0, "<end>", stands between them/;
  expect((await trained('endless', at('endless.json'))).join()).toMatch(notice);
  expect(json(join(at('endless'), 'tokenizer_config.json'))).toEqual({
    tokenizer_class: 'PreTrainedTokenizerFast',
    clean_up_tokenization_spaces: false,
  });
  const told: string[] = [];
  await untaught(at('endless'), at('endless-taught'), { onNotice: (what: string) => told.push(what) });
  expect(told.join()).toMatch(notice);
});

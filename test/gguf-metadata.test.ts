import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { GgufValue } from '../src/formats/gguf-header.ts';
import { encodeGguf } from '../src/formats/gguf-writer.ts';
import { ggufExport } from '../src/gguf/export.ts';
import { defaultsOf } from '../src/gguf/pre-tokenizers.ts';
import { convert, inspect, load } from '../src/index.ts';
import { openModelFiles } from '../src/platform/model-files.ts';
import { conversion } from '../src/runtime/conversion.ts';
import { goldenFolder } from './golden.ts';

const folder = mkdtempSync(join(tmpdir(), 'riverrun-metadata-'));
afterAll(() => rmSync(folder, { recursive: true }));

const u32 = (value: number): GgufValue => ({ type: 'u32', value });
const f32 = (value: number): GgufValue => ({ type: 'f32', value });
const bool = (value: boolean): GgufValue => ({ type: 'bool', value });
const string = (value: string): GgufValue => ({ type: 'string', value });
const strings = (value: string[]): GgufValue => ({ type: 'array', of: 'string', value });
const list = (...value: number[]): GgufValue => ({ type: 'array', of: 'u32', value });

let files = 0;
/** A fixture as a GGUF file with other metadata. */
async function written(golden: string, entries: Readonly<Record<string, GgufValue>>): Promise<string> {
  const { config, checkpoint } = await openModelFiles(goldenFolder(golden));
  const model = conversion(config, checkpoint);
  const { metadata, tensors } = ggufExport(
    {
      type: model.type,
      parsed: model.parsed,
      config,
      parameters: new Map([...model.parameters].map(([name, { shape }]) => [name, shape])),
      pieces: (name) => model.parameters.get(name)!.pieces(),
    },
    { type: 'f32' },
  );
  const parts: Uint8Array[] = [];
  for await (const piece of encodeGguf({ ...metadata, ...entries }, tensors)) parts.push(piece.slice());
  await checkpoint.close();
  const path = join(folder, `${files++}.gguf`);
  writeFileSync(path, Buffer.concat(parts));
  return path;
}

describe('metadata that contradict the tensors or ask for what is not built are refused by name', () => {
  test.each<[string, Record<string, GgufValue>, RegExp]>([
    ['llama', { 'llama.rope.dimension_count': u32(8) }, /"llama\.rope\.dimension_count" is 8, but .* it is 16/],
    ['llama', { 'llama.attention.value_length': u32(8) }, /"llama\.attention\.value_length" is 8, but .* it is 16/],
    ['qwen2', { 'qwen2.rope.dimension_count': u32(8) }, /"qwen2\.rope\.dimension_count" is 8/],
    ['gpt_neox', { 'gptneox.attention.head_count': u32(3) }, /head_dim is missing, and the other sizes make it 21\.3/],
    ['gpt2', { 'gpt2.attention.head_count': u32(3) }, /head_dim is missing, and the other sizes make it/],
    ['rwkv6', { 'rwkv6.wkv.head_size': u32(16) }, /"rwkv6\.wkv\.head_size" is 16, but .* it is 32/],
    ['rwkv7', { 'rwkv7.attention.decay_lora_rank': u32(5) }, /decay_lora_rank" is 5, but .* it is 16/],
    ['rwkv6', { 'rwkv6.block_count': u32(7) }, /"rwkv6\.block_count" is 7/],
    ['mamba2', { 'mamba2.ssm.group_count': u32(2) }, /group_count|state_size|shape|makes it/],
    ['llama', { 'llama.attention.causal': bool(false) }, /llama\.attention\.causal is false: .* not built/],
    ['llama', { 'llama.attn_logit_softcapping': f32(50) }, /llama\.attn_logit_softcapping is 50: .* not built/],
    ['llama', { 'llama.logit_scale': f32(4) }, /llama\.logit_scale is 4: .* not built/],
    ['llama', { 'llama.expert_count': u32(8) }, /llama\.expert_count is 8: .* not built/],
    ['llama', { 'llama.vocab_size': u32(300) }, /"llama\.vocab_size" is 300, but by its tensors it is \d+/],
    ['llama', { 'llama.attention.sliding_window_pattern': u32(2) }, /sliding_window_pattern is 2: .* not built/],
    ['llama', { 'llama.rope.scaling.alpha': f32(4) }, /rope\.scaling\.alpha is 4: .* not built/],
    ['rwkv7', { 'rwkv7.token_shift_count': u32(1) }, /token_shift_count is 1: .* not built/],
    ['qwen2', { 'qwen2.attention.sliding_window': u32(3) }, /sliding_window is 3: a window is of no effect/],
    ['llama', { 'llama.attention.head_count_kv': list(2, 2, 2) }, /head_count_kv" has 3 numbers .* the model 2 layers/],
    [
      'llama',
      { 'llama.attention.head_count_kv': list(2, 1) },
      /head_count_kv" differs from layer to layer \(\[2,1\]\)/,
    ],
  ])('%s %j', async (golden, entries, message) => {
    const path = await written(golden, entries);
    await expect(load(path, { backend: 'reference' })).rejects.toThrow(message);
    await expect(inspect(path)).rejects.toThrow(message);
  });

  test('a number for each layer is as good as one number where all are the same', async () => {
    const json = JSON.parse(readFileSync(`${goldenFolder('llama')}config.json`, 'utf8'));
    const [heads, width] = [json.num_key_value_heads, json.intermediate_size];
    const entries = {
      'llama.attention.head_count_kv': list(heads, heads),
      'llama.feed_forward_length': list(width, width),
    };
    expect(await inspect(await written('llama', entries))).toEqual(await inspect(await written('llama', {})));
  });
});

describe('byte-level tokenizers', () => {
  const tokenizer = (pre: string, more: Record<string, GgufValue> = {}) => ({
    'tokenizer.ggml.model': string('gpt2'),
    'tokenizer.ggml.pre': string(pre),
    'tokenizer.ggml.tokens': strings(['<s>', 'a', 'b', 'ab']),
    'tokenizer.ggml.token_type': { type: 'array', of: 'i32', value: [3, 1, 1, 1] } as GgufValue,
    'tokenizer.ggml.merges': strings(['a b']),
    'tokenizer.ggml.bos_token_id': u32(0),
    ...more,
  });

  test.each([
    ['llama-bpe', [0, 3]],
    ['falcon3', [0, 3]],
    ['tekken', [0, 3]],
    ['pixtral', [0, 3]],
    ['gpt-2', [3]],
    ['qwen2', [3]],
  ])('%s: a file that does not say whether a beginning of text is added means %j', async (pre, ids) => {
    const model = await load(await written('llama', tokenizer(pre)), { backend: 'reference' });
    expect(model.tokenizer.encode('ab')).toEqual(ids);
    model.dispose();
    const no = await written('llama', tokenizer(pre, { 'tokenizer.ggml.add_bos_token': bool(false) }));
    const without = await load(no, { backend: 'reference' });
    expect(without.tokenizer.encode('ab')).toEqual([3]);
    without.dispose();
  });

  test('of a name that is not known leave the model: token ids are read, and texts refused by that name', async () => {
    for (const pre of ['deepseek-llm', 'strange']) {
      expect(defaultsOf(pre)).toEqual({ beginOfText: false, wholeWords: false });
      const path = await written('llama', tokenizer(pre));
      const model = await load(path, { backend: 'reference' });
      expect(model.hasTokenizer).toBe(false);
      const session = model.session();
      await session.read([1, 2, 3]);
      expect(session.position).toBe(3);
      const message = new RegExp(`splits texts as "${pre}" does; known: .*pass token ids instead of text`);
      await expect(session.read('ab')).rejects.toThrow(message);
      model.dispose();
      const bytes = await load(path, { backend: 'reference', tokenizer: 'bytes' });
      expect(bytes.tokenizer.encode('ab')).toEqual([97, 98]);
      bytes.dispose();
      const { notes } = await convert(path, join(folder, `${pre} back`));
      expect(notes).toEqual([expect.stringMatching(`no tokenizer was written: .*"${pre}"`)]);
    }
  });
});

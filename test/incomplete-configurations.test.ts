import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { bytesSource } from '../src/formats/byte-source.ts';
import { openSafetensors } from '../src/formats/safetensors.ts';
import { safetensorsBytes } from '../src/formats/safetensors-writer.ts';
import { ConfigError, load } from '../src/index.ts';
import { architectureOf } from '../src/models/index.ts';
import { assemble } from '../src/runtime/model.ts';
import { goldenNames } from './assembled.ts';
import { type GoldenTensor, goldenFolder, readTensors } from './golden.ts';
import { errorRatio, tolerance } from './tolerance.ts';

type Fields = Record<string, unknown>;

const configOf = (name: string): Fields => JSON.parse(readFileSync(`${goldenFolder(name)}config.json`, 'utf8'));
const without = (fields: Fields, key: string): Fields =>
  Object.fromEntries(Object.entries(fields).filter(([name]) => name !== key));

/** What shapes tell, whatever a dialect calls it. */
const sizes =
  /^(hidden_size|d_model|n_embd|num_hidden_layers|n_layer|vocab_size|intermediate_size|n_inner|n_positions|state_size|time_step_rank|conv_kernel|conv_size|expand|expand_k|expand_v|num_heads|num_v_heads|head_dim|n_groups|num_key_value_heads|mamba_(d_state|n_heads|d_head|n_groups|d_conv|expand)|attn_layer_indices|tie_word_embeddings|tie_embeddings)$/;

const configured = goldenNames.filter((name) => Object.keys(configOf(name)).some((key) => sizes.test(key)));
const lacking = configured.flatMap((name) =>
  Object.keys(configOf(name))
    .filter((key) => sizes.test(key))
    .map((key) => [name, key] as const),
);

const parsed = (config: Fields, tensors: ReadonlyMap<string, GoldenTensor>): unknown =>
  architectureOf(config, tensors).config(config, tensors);

test.each(lacking)('%s without %s: the tensors’ shapes tell it', (name, key) => {
  const tensors = readTensors(`${goldenFolder(name)}model.safetensors`);
  const config = configOf(name);
  expect(parsed(without(config, key), tensors)).toEqual(parsed(config, tensors));
});

test.each([
  ['llama', 'num_attention_heads'],
  ['gpt_neox', 'num_attention_heads'],
  ['qwen2', 'num_attention_heads'],
  ['bamba', 'num_attention_heads'],
  ['gpt2', 'n_head'],
])('%s without %s: no shape tells it, and the error names it', (name, key) => {
  const tensors = readTensors(`${goldenFolder(name)}model.safetensors`);
  const attempt = () => parsed(without(without(configOf(name), key), 'head_dim'), tensors);
  expect(attempt).toThrow(ConfigError);
  expect(attempt).toThrow(new RegExp(`config: ${key}\\b.* is missing`));
});

test.each([
  ['llama', 'num_attention_heads'],
  ['gpt_neox', 'num_attention_heads'],
  ['gpt2', 'n_head'],
])('%s with a number of heads that does not go into its width says what that makes of them', (name, key) => {
  const tensors = readTensors(`${goldenFolder(name)}model.safetensors`);
  const config = { ...without(configOf(name), 'head_dim'), [key]: 3 };
  expect(() => parsed(config, tensors)).toThrow(/^config: head_dim is missing, and the other sizes make it 21\.3{5,}/);
});

test.each(['mamba', 'llama', 'gla', 'rwkv7-fla'])(
  '%s without any configuration: epsilons and what else no shape tells are not made up',
  async (name) => {
    const folder = mkdtempSync(join(tmpdir(), 'riverrun-no-config-'));
    copyFileSync(`${goldenFolder(name)}model.safetensors`, join(folder, 'model.safetensors'));
    await expect(load(folder)).rejects.toThrow(
      `${folder} has no config.json (nor params.json): without it the model's settings are unknown`,
    );
    rmSync(folder, { recursive: true });
  },
);

test('of Mamba-2’s groups and state size the tensors tell the product alone', () => {
  const tensors = readTensors(`${goldenFolder('mamba2-groups')}model.safetensors`);
  const config = without(without(configOf('mamba2-groups'), 'n_groups'), 'state_size');
  expect(() => parsed(config, tensors)).toThrow(/state_size/);
});

test('the state-spaces dialect needs no more than the kind of layer', () => {
  const tensors = readTensors(`${goldenFolder('mamba2')}model.safetensors`);
  const expected = parsed(configOf('mamba2'), tensors) as Fields;
  const original = { d_model: configOf('mamba2')['hidden_size'], norm_epsilon: 2e-4, ssm_cfg: { layer: 'Mamba2' } };
  expect(parsed(original, tensors)).toEqual({ ...expected, tied: true });
});

test('RetNet’s heads of an odd number of channels, which can not be turned in pairs, are refused', () => {
  const config = { ...configOf('retnet'), num_heads: configOf('retnet')['hidden_size'] };
  const architecture = architectureOf(config, new Map());
  expect(() => architecture.config(config, new Map())).toThrow('heads of 1 channels can not be turned in pairs');
});

describe('heads', () => {
  const backend = referenceBackend();

  const logitsOf = async (config: Fields, tensors: ReadonlyMap<string, GoldenTensor>, tokens: Int32Array) => {
    const list = [...tensors].map(([name, { shape, data }]) => ({
      name,
      type: 'f32' as const,
      shape,
      data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    }));
    const checkpoint = await openSafetensors(bytesSource(await safetensorsBytes(list), 'heads'));
    const model = await assemble({ config, checkpoint }, backend);
    const { parameterCount } = model;
    const logits = await model.session().logitsOf(tokens);
    model.dispose();
    return { logits, parameterCount };
  };

  test.each(
    goldenNames.flatMap((name) => {
      const names = [...readTensors(`${goldenFolder(name)}model.safetensors`).keys()];
      const config = configOf(name);
      const isUntied = config['tie_word_embeddings'] === false && names.includes('lm_head.weight');
      return isUntied ? [[name, undefined] as const, [name, true] as const] : [];
    }),
  )('%s with a head of its own uses it, though tie_word_embeddings is %s', async (name, tied) => {
    const tensors = readTensors(`${goldenFolder(name)}model.safetensors`);
    const golden = readTensors(`${goldenFolder(name)}golden.safetensors`);
    const config = { ...without(configOf(name), 'tie_word_embeddings'), ...(tied && { tie_word_embeddings: tied }) };
    const { logits } = await logitsOf(config, tensors, golden.get('tokens')!.data as Int32Array);
    expect(errorRatio(logits, golden.get('logits')!.data)).toBeLessThan(tolerance.model);
  });

  test('GPT-2 with a head of its own uses it', async () => {
    const tensors = readTensors(`${goldenFolder('gpt2')}model.safetensors`);
    const embedding = tensors.get('transformer.wte.weight') ?? tensors.get('wte.weight')!;
    const tokens = new Int32Array([1, 2, 3]);
    const tied = await logitsOf(configOf('gpt2'), tensors, tokens);
    const double = { shape: embedding.shape, data: embedding.data.map((x) => 2 * x) as Float32Array };
    const own = await logitsOf(configOf('gpt2'), new Map([...tensors, ['lm_head.weight', double]]), tokens);
    expect(
      errorRatio(
        own.logits,
        tied.logits.map((x) => 2 * x),
      ),
    ).toBeLessThan(1e-6);
  });

  test('a head that repeats the embedding is held once', async () => {
    const tensors = readTensors(`${goldenFolder('mamba')}model.safetensors`);
    const tokens = new Int32Array([1, 2, 3]);
    const tied = await logitsOf(configOf('mamba'), tensors, tokens);
    const again = new Map([...tensors, ['lm_head.weight', tensors.get('backbone.embeddings.weight')!]]);
    expect(await logitsOf(configOf('mamba'), again, tokens)).toEqual(tied);
    const apart = await logitsOf({ ...configOf('mamba'), tie_word_embeddings: false }, again, tokens);
    expect(apart.parameterCount).toBeGreaterThan(tied.parameterCount);
    expect(apart.logits).toEqual(tied.logits);
  });
});

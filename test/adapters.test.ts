import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { safetensorsOf } from '../src/formats/safetensors-writer.ts';
import { load } from '../src/index.ts';
import { finetune } from '../src/platform/finetune.ts';
import { tensor } from '../src/train/checkpoint.ts';
import { dataFolder } from './data-folder.ts';
import { readTensors } from './golden.ts';
import { errorRatio, tolerance } from './tolerance.ts';

/**
 * An adapter of GPT-2 as PEFT 0.21 saved it, of random numbers and of several ranks and alphas, and the logits that transformers has with it
 * (`adapt` of bench/peers/hugging_face.py).
 */
const saved = new URL('./adapters/gpt2', import.meta.url).pathname;
const base = new URL('./goldens/gpt2', import.meta.url).pathname;
const published = readTensors(join(saved, 'logits.safetensors'));
const tokens = published.get('tokens')!.data;
const logits = published.get('logits')!.data as Float32Array;

const { at, file } = dataFolder('adapters');

async function logitsOf(model: string, adapter?: string): Promise<Float32Array> {
  const loaded = await load(model, { backend: 'reference-f64', ...(adapter !== undefined && { adapter }) });
  const found = await loaded.session().logitsOf(tokens);
  loaded.dispose();
  return found;
}

/** A copy of PEFT's adapter whose configuration says something else. */
function changed(name: string, change: object): string {
  mkdirSync(at(name));
  cpSync(saved, at(name), { recursive: true });
  const config = JSON.parse(readFileSync(join(saved, 'adapter_config.json'), 'utf8'));
  writeFileSync(join(at(name), 'adapter_config.json'), JSON.stringify({ ...config, ...change }));
  return at(name);
}

describe('an adapter of PEFT', () => {
  test('whose base has matrices as [inputs, outputs] gives the logits of transformers', async () => {
    expect(errorRatio(await logitsOf(base, saved), logits)).toBeLessThan(tolerance.model);
    expect(errorRatio(await logitsOf(base), logits)).toBeGreaterThan(0.01);
  });

  test('fits a checkpoint that leaves out how names begin', async () => {
    mkdirSync(at('short'));
    cpSync(join(base, 'config.json'), join(at('short'), 'config.json'));
    const tensors = [...readTensors(join(base, 'model.safetensors'))].map(([name, { shape, data }]) =>
      tensor(name.replace('transformer.', ''), shape, data as Float32Array),
    );
    writeFileSync(join(at('short'), 'model.safetensors'), safetensorsOf(tensors, {}));
    expect(errorRatio(await logitsOf(at('short'), saved), logits)).toBeLessThan(tolerance.model);
  });

  test('of other alphas and of the root of the rank counts otherwise', async () => {
    const changes = { same: { alpha_pattern: {} }, one: { alpha_pattern: { c_proj: 1 } }, root: { use_rslora: true } };
    for (const [name, change] of Object.entries(changes))
      expect(errorRatio(await logitsOf(base, changed(name, change)), logits), name).toBeGreaterThan(1e-3);
  });

  test.each<[string, object, RegExp]>([
    [
      'is made as for rows of outputs',
      { fan_in_fan_out: false },
      /stored as \[inputs, outputs\].*fan_in_fan_out false.*anew/,
    ],
    ['does not say how it is made', { fan_in_fan_out: undefined }, /fan_in_fan_out false/],
    ['has other ranks than it says', { rank_pattern: {} }, /c_fc\.weight has rank 3, but adapter_config\.json says 2/],
    ['has ranks that are no numbers', { rank_pattern: { c_fc: 'x' } }, /rank_pattern: the value of c_fc is no number/],
    ['has a pattern that is none', { alpha_pattern: { '(': 1 } }, /alpha_pattern: /],
    ['scales by magnitude', { use_dora: true }, /adapters with use_dora are not built/],
    ['is of layers that stand several times', { layer_replication: [[0, 2]] }, /layer_replication/],
    ['changed its base', { init_lora_weights: 'pissa_niter_4' }, /"pissa_niter_4" changed the matrices/],
    ['changes biases', { bias: 'all' }, /change biases/],
  ])('that %s is refused', async (name, change, message) => {
    await expect(load(base, { threads: 1, adapter: changed(name, change) })).rejects.toThrow(message);
  });

  test('of a model with matrices the other way round is refused with both shapes', async () => {
    const swapped = changed('swapped', {});
    const tensors = [...readTensors(join(saved, 'adapter_model.safetensors'))].map(([name, { shape, data }]) =>
      tensor(
        name.replace(/lora_([AB])/, (_, part) => `lora_${part === 'A' ? 'B' : 'A'}`),
        [...shape].reverse(),
        data as Float32Array,
      ),
    );
    writeFileSync(join(swapped, 'adapter_model.safetensors'), safetensorsOf(tensors, {}));
    await expect(load(base, { threads: 1, adapter: swapped })).rejects.toThrow(
      /c_attn\.weight is \[64, 192\], \[inputs, outputs\], but its additions are \[64, 2\] · \[2, 192\]/,
    );
  });
});

test('additions to matrices of [inputs, outputs] are written as PEFT has them, and are those of the merged model', async () => {
  const data = [file('text.txt', 'the river runs under the stone, and a bird sings over it. '.repeat(8))];
  const options = {
    model: base,
    tokenizer: 'bytes',
    data,
    method: 'lora',
    rank: 3,
    steps: 8,
    batch: 2,
    length: 32,
  } as const;
  for await (const _ of finetune({ ...options, learningRate: 0.05, threads: 1, output: at('taught') }));
  const config = JSON.parse(readFileSync(at('taught/adapter/adapter_config.json'), 'utf8'));
  expect(config).toMatchObject({ fan_in_fan_out: true, target_modules: ['c_attn', 'c_fc', 'c_proj'], r: 3 });
  const own = readTensors(at('taught/adapter/adapter_model.safetensors'));
  const theirs = readTensors(join(saved, 'adapter_model.safetensors'));
  expect([...own.keys()].sort()).toEqual([...theirs.keys()].sort());
  for (const [name, { shape }] of own) {
    const [rows, columns] = theirs.get(name)!.shape;
    expect(shape, name).toEqual(name.includes('lora_A') ? [3, columns] : [rows, 3]);
  }
  const [merged, added] = [await logitsOf(at('taught')), await logitsOf(base, at('taught'))];
  expect(errorRatio(added, merged)).toBeLessThan(tolerance.model);
  expect(errorRatio(await logitsOf(base), merged)).toBeGreaterThan(0.01);
});

import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import { bytesSource } from '../src/formats/byte-source.ts';
import { openSafetensors } from '../src/formats/safetensors.ts';
import { safetensorsBytes, type WrittenTensor } from '../src/formats/safetensors-writer.ts';
import { load, RiverrunError } from '../src/index.ts';
import { goldenModel } from './assembled.ts';
import { goldenFolder, readTensors } from './golden.ts';
import { errorRatio, tolerance } from './tolerance.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'riverrun-load-'));
  cpSync(goldenFolder('mamba'), folder, { recursive: true });
});
afterEach(() => {
  vi.unstubAllGlobals();
  rmSync(folder, { recursive: true });
});

const path = (name: string) => join(folder, name);

/** Rewrites the checkpoint with its tensors changed. */
async function rewrite(change: (tensors: WrittenTensor[]) => WrittenTensor[]): Promise<void> {
  await writeTensors('model.safetensors', change(await tensors()));
}

async function tensors(): Promise<WrittenTensor[]> {
  const checkpoint = await openSafetensors(bytesSource(readFileSync(path('model.safetensors'))));
  return await Promise.all(
    [...checkpoint.tensors.values()].map(async ({ name, type, shape, byteLength }) => {
      const data = new Uint8Array(byteLength);
      await checkpoint.read(name, data);
      return { name, type, shape, data };
    }),
  );
}

const writeTensors = async (file: string, list: WrittenTensor[]) =>
  writeFileSync(path(file), await safetensorsBytes(list));

const editConfig = (edit: (json: Record<string, unknown>) => void) => {
  const json = JSON.parse(readFileSync(path('config.json'), 'utf8'));
  edit(json);
  writeFileSync(path('config.json'), JSON.stringify(json));
};

async function expectRefusal(message: RegExp): Promise<void> {
  const attempt = load(folder, { threads: 1 });
  await expect(attempt).rejects.toThrow(message);
  await expect(attempt).rejects.toBeInstanceOf(RiverrunError);
}

test('without SharedArrayBuffer a model reads, steps and goes on in batches on one thread, with the same results', async () => {
  const tell = async (weights: 'f32' | 'q8' | 'q4') => {
    const model = await load(folder, { weights });
    const [a, b] = [model.session(), model.session()];
    const read = Array.from(await a.logitsOf([1, 2, 3, 4, 5]));
    await b.step(7);
    const together = (await model.readTogether([a, b], [[6], [8, 9]])).map((logits) => Array.from(logits));
    const { threads } = model;
    model.dispose();
    return { threads, results: [read, ...together] };
  };
  for (const weights of ['f32', 'q8', 'q4'] as const) {
    const shared = await tell(weights);
    vi.stubGlobal('SharedArrayBuffer', undefined);
    const alone = await tell(weights);
    vi.unstubAllGlobals();
    expect(alone.threads).toBe(1);
    expect(alone.results).toEqual(shared.results);
  }
});

test('a sharded checkpoint is the same model', async () => {
  const all = await tensors();
  const [a, b] = [all.slice(0, 9), all.slice(9)];
  await writeTensors('model-00001-of-00002.safetensors', a);
  await writeTensors('model-00002-of-00002.safetensors', b);
  const map = Object.fromEntries([
    ...a.map(({ name }) => [name, 'model-00001-of-00002.safetensors']),
    ...b.map(({ name }) => [name, 'model-00002-of-00002.safetensors']),
  ]);
  writeFileSync(path('model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map: map }));
  rmSync(path('model.safetensors'));
  const model = await load(folder, { threads: 1 });
  const golden = readTensors(`${goldenFolder('mamba')}golden.safetensors`);
  const logits = await model.session().logitsOf(golden.get('tokens')!.data);
  expect(errorRatio(logits, golden.get('logits')!.data)).toBeLessThan(tolerance.model);
  model.dispose();

  for (const [edit, message] of [
    [{ ...map, [a[0]!.name]: '../model-00001-of-00002.safetensors' }, /no plain file name/],
    [{ ...map, [a[0]!.name]: 'missing.safetensors' }, /missing\.safetensors: there is no such file/],
    [{ ...map, [a[0]!.name]: 'model-00002-of-00002.safetensors' }, /should be in model-00002/],
    [Object.fromEntries(Object.entries(map).slice(1)), /which the index does not place there/],
    ['none', /no weight_map/],
  ] as const) {
    writeFileSync(path('model.safetensors.index.json'), JSON.stringify({ weight_map: edit }));
    await expectRefusal(message);
  }
});

test('weights stored in 16 bits load, and are held as stored', async () => {
  await rewrite((list) =>
    list.map(({ name, shape, data }) => {
      const words = new Uint16Array((data as Uint8Array).slice().buffer);
      return { name, shape, type: 'bf16', data: new Uint8Array(words.filter((_, i) => i % 2 === 1).buffer) };
    }),
  );
  const wide = await load(folder, { threads: 1, weights: 'f32' });
  const narrow = await load(folder, { threads: 1 });
  expect(narrow.bytes.weights).toBeLessThan(0.75 * wide.bytes.weights);
  const ids = Array.from({ length: 20 }, (_, i) => i);
  expect(errorRatio(await narrow.session().logitsOf(ids), await wide.session().logitsOf(ids))).toBeLessThan(
    tolerance.model,
  );
  wide.dispose();
  narrow.dispose();
});

test('a truncated checkpoint', async () => {
  truncateSync(path('model.safetensors'), 200_000);
  await expectRefusal(/model\.safetensors: tensor ".*" lies at bytes .* truncated/);
});

test('a missing tensor is named, with what is like it', async () => {
  await rewrite((list) =>
    list.map((one) => (one.name === 'backbone.layers.1.mixer.D' ? { ...one, name: 'backbone.layers.1.mixer.d' } : one)),
  );
  await expectRefusal(
    /missing backbone\.layers\.1\.mixer\.D \(it has backbone\.layers\.1\.mixer\.d\); unexpected backbone\.layers\.1\.mixer\.d/,
  );
});

test('an unexpected tensor is named', async () => {
  await rewrite((list) => [...list, { name: 'extra.weight', type: 'f32', shape: [1], data: new Uint8Array(4) }]);
  await expectRefusal(/unexpected extra\.weight/);
});

test('a wrong shape names both', async () => {
  editConfig((json) => {
    json['hidden_size'] = 32;
    json['intermediate_size'] = 64;
  });
  await expectRefusal(/backbone\.embeddings\.weight is \[256, 64\], but the configuration makes it \[256, 32\]/);
});

test('NaN and infinity in weights are named with their place', async () => {
  await rewrite((list) =>
    list.map((one) => {
      if (one.name !== 'backbone.norm_f.weight') return one;
      const values = new Float32Array((one.data as Uint8Array).slice().buffer);
      values[5] = Number.NaN;
      return { ...one, data: new Uint8Array(values.buffer) };
    }),
  );
  await expectRefusal(/backbone\.norm_f\.weight holds NaN at element 5/);
});

describe.each(['f32', 'bf16'] as const)('%s', (type) => {
  test.each(['backbone.norm_f.weight', 'backbone.layers.0.mixer.in_proj.weight', 'backbone.embeddings.weight'])(
    'a number in %s that makes logits NaN is named with its place, a large one that does not is taken',
    async (name) => {
      const original = await tensors();
      const withNumber = (value: number) =>
        original.map((one) => {
          if (one.name !== name) return one;
          const values = new Float32Array((one.data as Uint8Array).slice().buffer);
          values[5] = value;
          const halves = Uint16Array.from(new Uint32Array(values.buffer), (word) => word >>> 16);
          return { ...one, type, data: new Uint8Array(type === 'f32' ? values.buffer : halves.buffer) };
        });
      for (const weights of ['auto', 'f32', 'bf16', 'q8'] as const) {
        await writeTensors('model.safetensors', withNumber(-3.39e38));
        const attempt = load(folder, { threads: 1, weights });
        await expect(attempt, weights).rejects.toBeInstanceOf(RiverrunError);
        await expect(attempt, weights).rejects.toThrow(
          new RegExp(`${name} holds .*(-3\\.3\\d*e\\+38 at element 5 |q8 ends at)`),
        );
      }
      await writeTensors('model.safetensors', withNumber(1e4));
      const model = await load(folder, { threads: 1 });
      expect((await model.session().logitsOf([1, 2, 3])).every(Number.isFinite)).toBe(true);
      model.dispose();
    },
  );
});

test.each<[string, (json: Record<string, unknown>) => void, RegExp]>([
  [
    'an unknown model_type is an error only where the tensors fit none',
    (json) => void (json['hidden_size'] = 'big'),
    /hidden_size is "big", not a whole number/,
  ],
  [
    'a convolution of one tap',
    (json) => void (json['conv_kernel'] = 1),
    /conv_kernel is 1, not a whole number of at least 2/,
  ],
  ['a negative size', (json) => void (json['state_size'] = -1), /state_size is -1/],
  ['another activation', (json) => void (json['hidden_act'] = 'gelu'), /hidden_act is "gelu"/],
])('a configuration with %s', async (_, edit, message) => {
  editConfig(edit);
  await expectRefusal(message);
});

test('an unknown architecture lists the known ones', async () => {
  editConfig((json) => void (json['model_type'] = 'hyena'));
  await writeTensors('model.safetensors', [{ name: 'a', type: 'f32', shape: [1], data: new Uint8Array(4) }]);
  await expectRefusal(/unknown model_type "hyena".*known: mamba, falcon_mamba/);
});

test('a configuration that is no JSON, or not there', async () => {
  writeFileSync(path('config.json'), '{');
  await expectRefusal(/config\.json is not valid JSON/);
  rmSync(path('config.json'));
  await expectRefusal(/has no config\.json/);
});

test('a configuration with the bare word Infinity, as some versions of transformers write', async () => {
  const text = readFileSync(path('config.json'), 'utf8').replace('{', '{"time_step_limit": [0.0, Infinity],');
  writeFileSync(path('config.json'), text);
  (await load(folder, { threads: 1 })).dispose();
});

test('a folder without weights, and a broken tokenizer', async () => {
  writeFileSync(path('tokenizer.json'), '{"model": {"type": "Magic", "vocab": {}}}');
  await expectRefusal(/tokenizer\.json: model\.type is "Magic"; known: BPE/);
  rmSync(path('model.safetensors'));
  rmSync(path('golden.safetensors'));
  await expectRefusal(/no model\.safetensors/);
});

test('a model without a tokenizer says what to do about text', async () => {
  const model = await load(folder, { threads: 1 });
  await expect(model.session().read('text')).rejects.toThrow(/no tokenizer.*pass token ids/);
  model.dispose();
});

test('options: unknown ones are refused, loading can be aborted and reports progress', async () => {
  await expect(load(folder, { thread: 1 } as never)).rejects.toThrow(/unknown option thread: did you mean threads/);
  await expect(load(folder, { weights: 'q1' as never })).rejects.toThrow(/weights is q1; known/);
  await expect(load(folder, { signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no');
  const seen: number[] = [];
  const model = await load(folder, { threads: 1, onProgress: ({ loaded, total }) => seen.push(loaded / total) });
  expect(seen.at(-1)).toBe(1);
  model.dispose();
});

test('a model that borrows Llama’s names for something else is not taken for Llama', async () => {
  cpSync(goldenFolder('llama'), folder, { recursive: true });
  editConfig((json) => void (json['model_type'] = 'gemma'));
  await expectRefusal(/model_type "gemma" is not known: its tensors are named like those of Llama/);
});

test('Mistral is Llama with a sliding window, which counts', async () => {
  cpSync(goldenFolder('llama'), folder, { recursive: true });
  const tokens = readTensors(`${goldenFolder('llama')}golden.safetensors`).get('tokens')!.data;
  const logits = async (window: number | null) => {
    editConfig((json) => void Object.assign(json, { model_type: 'mistral', sliding_window: window }));
    const model = await load(folder, { threads: 1 });
    const result = await model.session().logitsOf(tokens);
    const V = model.vocabularySize;
    model.dispose();
    return { early: result.subarray(0, 4 * V), late: result.subarray(-V) };
  };
  const [all, wide, narrow] = [await logits(null), await logits(tokens.length), await logits(4)];
  expect(wide).toEqual(all);
  expect(narrow.early).toEqual(all.early);
  expect(errorRatio(narrow.late, all.late)).toBeGreaterThan(1e-3);
});

test('a tokenizer that is named takes the place of the model’s own', async () => {
  const model = await load(folder, { backend: 'reference', tokenizer: 'bytes' });
  expect(model.tokenizer.encode('hi')).toEqual([104, 105]);
  model.dispose();
  await expect(load(folder, { backend: 'reference', tokenizer: 'nowhere.json' })).rejects.toThrow(
    /no tokenizer nowhere/,
  );
});

test('places that fill up a vocabulary are never generated, and texts end where the files say', async () => {
  const names = ['<end>', 'a', 'b', 'c'];
  writeFileSync(
    path('tokenizer.json'),
    JSON.stringify({
      version: '1.0',
      added_tokens: [{ id: 0, content: '<end>', special: true }],
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true },
      decoder: { type: 'ByteLevel' },
      model: { type: 'BPE', vocab: Object.fromEntries(names.map((name, id) => [name, id])), merges: [] },
    }),
  );
  const model = await load(folder, { backend: 'reference' });
  expect(model.vocabularySize).toBe(256);
  const tokens: number[] = [];
  const onToken = (token: number) => tokens.push(token);
  for await (const _ of model.session().generate('abc', { maxTokens: 40, temperature: 5, seed: 1, onToken }));
  expect(Math.max(...tokens)).toBeLessThan(4);
  model.dispose();

  writeFileSync(path('generation_config.json'), JSON.stringify({ eos_token_id: [2, 3] }));
  const ending = await load(folder, { backend: 'reference' });
  expect(ending.endTokens).toEqual(expect.arrayContaining([2, 3]));
  tokens.length = 0;
  for await (const _ of ending.session().generate('abc', { maxTokens: 40, temperature: 5, seed: 1, onToken }));
  expect(tokens.every((token) => token === 1)).toBe(true);
  ending.dispose();
});

test('RWKV in safetensors needs no configuration: its tensors tell the sizes', async () => {
  const golden = readTensors(`${goldenFolder('rwkv7')}golden.safetensors`);
  cpSync(`${goldenFolder('rwkv7')}model.safetensors`, path('model.safetensors'));
  rmSync(path('config.json'));
  const stored = readTensors(`${goldenFolder('rwkv7')}model.safetensors`);
  const isAuthors = [...stored.keys()].some((name) => name.startsWith('blocks.0.att.'));
  expect(isAuthors).toBe(true);
  const model = await load(folder, { backend: 'reference-f64' });
  const logits = await model.session().logitsOf(golden.get('tokens')!.data);
  expect(errorRatio(logits, golden.get('logits')!.data)).toBeLessThan(tolerance.model);
  model.dispose();
});

test('the original’s configuration: an automatic rank, and a vocabulary that is padded unsaid', async () => {
  editConfig((json) => {
    const { hidden_size, num_hidden_layers, vocab_size } = json as Record<string, number>;
    for (const name of Object.keys(json)) delete json[name];
    const ssm_cfg = { dt_rank: 'auto' };
    Object.assign(json, { d_model: hidden_size, n_layer: num_hidden_layers, vocab_size: vocab_size! - 5, ssm_cfg });
  });
  const model = await load(folder, { backend: 'reference' });
  expect(model.vocabularySize).toBe(256);
  model.dispose();
});

test.each([
  ['llama', { rope_parameters: null, rope_theta: -5 }, /rope_theta is -5, not a number above 0/],
  ['llama', { rms_norm_eps: -1 }, /rms_norm_eps is -1/],
  ['llama', { rope_scaling: { type: 'linear', factor: 0 }, rope_parameters: null }, /factor is 0/],
  ['llama', { num_attention_heads: 3, head_dim: null }, /head_dim is missing, and the other sizes make it 21\.3/],
])('%s: numbers that make no model are refused: %j', async (golden, changes, message) => {
  cpSync(goldenFolder(golden), folder, { recursive: true });
  editConfig((json) => void Object.assign(json, changes));
  await expectRefusal(message);
});

test('threads start while a model is traced: nothing is read before they are there, and all memory is given back where they do not come', async () => {
  const backend = await wasmBackend();
  let start = () => {};
  const ready = new Promise<void>((resolve) => {
    start = resolve;
  });
  const onProgress = vi.fn();
  const loading = goldenModel('mamba', backend, { ready, onProgress });
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(onProgress).not.toHaveBeenCalled();
  start();
  const model = await loading;
  expect(onProgress).toHaveBeenCalled();
  model.dispose();
  const dispose = vi.fn();
  const watched = {
    ...backend,
    weights: (...given: Parameters<typeof backend.weights>) => {
      const weights = backend.weights(...given);
      const { dispose: free } = weights;
      weights.dispose = () => {
        dispose();
        free.call(weights);
      };
      return weights;
    },
  };
  const refused = Promise.reject(new RiverrunError('a thread did not start'));
  await expect(goldenModel('mamba', watched, { ready: refused })).rejects.toThrow('a thread did not start');
  expect(dispose).toHaveBeenCalledTimes(1);
  backend.dispose();
});

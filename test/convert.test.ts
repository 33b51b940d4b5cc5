import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Random } from '../src/core/random.ts';
import { bytesSource } from '../src/formats/byte-source.ts';
import { openGguf } from '../src/formats/gguf.ts';
import { encodeGguf } from '../src/formats/gguf-writer.ts';
import { safetensorsOf } from '../src/formats/safetensors-writer.ts';
import { ggufExport } from '../src/gguf/export.ts';
import { dialects, ggufModel } from '../src/gguf/index.ts';
import { Metadata } from '../src/gguf/metadata.ts';
import { patternOf } from '../src/gguf/pre-tokenizers.ts';
import { embeddedTokenizer } from '../src/gguf/tokenizer.ts';
import { tokenizerMetadata } from '../src/gguf/tokenizer-export.ts';
import { convert, inspect, load, RiverrunError, State } from '../src/index.ts';
import { openModelFiles } from '../src/platform/model-files.ts';
import { conversion } from '../src/runtime/conversion.ts';
import { worldVocabularyFile } from '../src/tokenizers/rwkv-world.ts';
import { goldenNames } from './assembled.ts';
import { goldenFolder, readTensors } from './golden.ts';
import { spacesAsMarks } from './spaces-as-marks.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const written = dialects.flatMap(({ types }) => types);
const types = new Map<string, string>();
for (const name of goldenNames) types.set(name, (await inspect(goldenFolder(name))).type);
const ggufNames = goldenNames.filter((name) => written.includes(types.get(name)!));
const otherNames = goldenNames.filter((name) => !ggufNames.includes(name));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'riverrun-convert-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Logits of the fixture's tokens by the model at `path`. */
async function logitsOf(path: string, name: string): Promise<Float32Array> {
  const tokens = readTensors(`${goldenFolder(name)}golden.safetensors`).get('tokens')!.data;
  const model = await load(path, { backend: 'reference-f64' });
  const logits = await model.session().logitsOf(tokens);
  model.dispose();
  return logits;
}

/** Zeros without a sign: those of groups whose scale is below zero have one in 8 bits only. */
async function numbersOf(pieces: AsyncIterable<Float32Array>): Promise<Float32Array> {
  const parts: Float32Array[] = [];
  for await (const piece of pieces) parts.push(piece.slice());
  return Float32Array.from(
    parts.flatMap((part) => [...part]),
    (value) => value + 0,
  );
}

const bytes = async (pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> => {
  const parts: Uint8Array[] = [];
  for await (const piece of pieces) parts.push(piece.slice());
  return Uint8Array.from(Buffer.concat(parts));
};

describe('GGUF', () => {
  test('there is a fixture of every architecture that can be written', () => {
    expect(new Set(ggufNames.map((name) => types.get(name)))).toEqual(new Set(written));
  });

  test.each(ggufNames)('%s written and read gives the published logits', async (name) => {
    const path = join(folder, `${name}.gguf`);
    await convert(goldenFolder(name), path, { type: 'f32' });
    const expected = readTensors(`${goldenFolder(name)}golden.safetensors`).get('logits')!.data;
    expect(errorRatio(await logitsOf(path, name), expected)).toBeLessThan(tolerance.model);
  });

  test.each(ggufNames)('%s goes to a folder and back to the same file', async (name) => {
    const [first, second] = [join(folder, `${name}-1.gguf`), join(folder, `${name}-2.gguf`)];
    const between = join(folder, `${name}-between`);
    await convert(goldenFolder(name), first, { type: 'f32' });
    await convert(first, between, { type: 'f32' });
    await convert(between, second, { type: 'f32' });
    const [a, b] = [await inspect(first), await inspect(second)];
    expect(b.tensors).toEqual(a.tensors);
    expect(errorRatio(await logitsOf(between, name), await logitsOf(first, name))).toBeLessThan(1e-6);
  });

  test.each(ggufNames)('%s in fewer bits is the model of the numbers that were written', async (name) => {
    for (const type of ['f16', 'q8_0', 'q4_0'] as const) {
      const path = join(folder, `${name}-${type}.gguf`);
      const plain = join(folder, `${name}-${type}-plain`);
      const { type: reported } = await convert(goldenFolder(name), path, { type });
      expect(reported).toBe(type);
      await convert(path, plain, { type: 'f32' });
      expect(errorRatio(await logitsOf(plain, name), await logitsOf(path, name))).toBeLessThan(1e-6);
      const again = join(folder, `${name}-${type}-again.gguf`);
      await convert(path, again);
      expect((await inspect(again)).tensors).toEqual((await inspect(path)).tensors);
    }
  });

  test.each(otherNames)('%s is refused by name', async (name) => {
    const path = join(folder, `${name}.gguf`);
    await expect(convert(goldenFolder(name), path)).rejects.toThrow(
      name === 'bamba' ? /llama\.cpp runs bamba as its architecture granitehybrid/ : /llama\.cpp has no/,
    );
    expect(existsSync(path)).toBe(false);
  });

  test('every tensor of a file says which parameter it holds', async () => {
    for (const name of ggufNames) {
      const path = join(folder, `${name}.gguf`);
      await convert(goldenFolder(name), path, { type: 'f32' });
      const unused = (await inspect(path)).tensors.filter(({ parameter }) => parameter === null);
      expect(
        unused.map((tensor) => tensor.name).filter((tensor) => !/^blk\.0\.time_mix_v|rope_freqs/.test(tensor)),
      ).toEqual([]);
    }
  });

  test('matrices of RWKV-6 that are divided for a residual that is halved are multiplied again', async () => {
    const files = await openModelFiles(goldenFolder('rwkv6'));
    const model = conversion(files.config, files.checkpoint);
    const { metadata, tensors } = ggufExport(
      {
        type: model.type,
        parsed: model.parsed,
        config: files.config,
        parameters: new Map([...model.parameters].map(([name, { shape }]) => [name, shape])),
        pieces: (name) => model.parameters.get(name)!.pieces(),
      },
      { type: 'f32' },
    );
    const halved = tensors.map((tensor) => {
      const [, layer] = /^blk\.(\d+)\.(?:time_mix_output|channel_mix_value)\.weight$/.exec(tensor.name) ?? [];
      return {
        ...tensor,
        async *data() {
          for await (const values of tensor.data())
            yield (values as Float32Array).map((value) => value / 2 ** Number(layer ?? 0));
        },
      };
    });
    const path = join(folder, 'rescaled.gguf');
    writeFileSync(
      path,
      await bytes(encodeGguf({ ...metadata, 'rwkv6.rescale_every_n_layers': { type: 'u32', value: 1 } }, halved)),
    );
    await files.checkpoint.close();
    const expected = readTensors(`${goldenFolder('rwkv6')}golden.safetensors`).get('logits')!.data;
    expect(errorRatio(await logitsOf(path, 'rwkv6'), expected)).toBeLessThan(tolerance.model);
  });
});

/** A fixture with other values in its configuration. */
function variant(golden: string, name: string, changes: object): string {
  const path = join(folder, name);
  cpSync(goldenFolder(golden), path, { recursive: true });
  const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
  writeFileSync(join(path, 'config.json'), JSON.stringify({ ...config, ...changes }));
  return path;
}

const linear = { rope_parameters: null, rope_scaling: { type: 'linear', factor: 4 } };
const yarn = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 16, rope_theta: 10000 };
const llama3 = { rope_type: 'llama3', factor: 8, original_max_position_embeddings: 32, rope_theta: 10000 };

describe('what a configuration changes goes through GGUF', () => {
  test.each([
    ['mamba2', 'bounds of Δ', { time_step_limit: [0.3, 0.9] }],
    ['gpt_neox', 'linear rope scaling', { ...linear, rotary_pct: 0.25 }],
    ['gpt_neox', 'tied embeddings', {}],
    ['llama', 'linear rope scaling', linear],
    ['llama', 'rope scaling of Llama 3', { rope_parameters: llama3 }],
    ['llama', 'a window', { sliding_window: 5 }],
    ['llama', 'yarn', { rope_parameters: yarn }],
    ['qwen2', 'yarn', { rope_parameters: { ...yarn, attention_factor: 1.5 } }],
    ['qwen2', 'yarn with a ramp of its own', { rope_parameters: { ...yarn, beta_fast: 4, beta_slow: 0.5 } }],
    ['llama', 'yarn with a ramp between pairs', { rope_parameters: { ...yarn, truncate: false } }],
    ['gpt_neox', 'yarn', { rope_parameters: { ...yarn, partial_rotary_factor: 0.5 } }],
    ['qwen2', 'linear rope scaling', linear],
    ['falcon_mamba', 'an epsilon of its own', { mixer_rms_eps: 0.01 }],
  ])('%s: %s', async (golden, what, changes) => {
    const name = `${golden} ${what}`;
    const source = variant(golden, name, changes);
    const [file, back] = [join(folder, `${name}.gguf`), join(folder, `${name} back`)];
    const { notes } = await convert(source, file, { type: 'f32' });
    expect(notes.length).toBe(/bounds|window|epsilon|ramp/.test(what) ? 1 : 0);
    await convert(file, back, { type: 'f32' });
    const logits = await logitsOf(source, golden);
    expect(errorRatio(await logitsOf(file, golden), logits)).toBeLessThan(1e-6);
    expect(errorRatio(await logitsOf(back, golden), logits)).toBeLessThan(1e-6);
    if (Object.keys(changes).length > 0)
      expect(errorRatio(logits, await logitsOf(goldenFolder(golden), golden))).toBeGreaterThan(1e-4);
  });

  test('biases of Llama’s MLP', async () => {
    const source = variant('llama', 'llama biases', { mlp_bias: true });
    const path = join(source, 'model.safetensors');
    const random = new Random(5);
    const tensors = [...readTensors(path)].map(([name, { shape, data }]) => ({ name, shape, data }));
    const biases = tensors
      .filter(({ name }) => name.includes('.mlp.'))
      .map(({ name, shape: [rows] }) => ({
        name: name.replace('.weight', '.bias'),
        shape: [rows!],
        data: Float32Array.from({ length: rows! }, () => random.normal()),
      }));
    const stored = [...tensors, ...biases].map(({ name, shape, data }) => ({
      name,
      type: 'f32' as const,
      shape,
      data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    }));
    writeFileSync(path, safetensorsOf(stored, {}));
    const [file, back] = [join(folder, 'llama biases.gguf'), join(folder, 'llama biases back')];
    await convert(source, file, { type: 'f32' });
    expect((await inspect(file)).tensors.map(({ name }) => name)).toContain('blk.1.ffn_down.bias');
    await convert(file, back, { type: 'f32' });
    const logits = await logitsOf(source, 'llama');
    expect(errorRatio(await logitsOf(file, 'llama'), logits)).toBeLessThan(1e-6);
    expect(errorRatio(await logitsOf(back, 'llama'), logits)).toBeLessThan(1e-6);
    expect(errorRatio(logits, await logitsOf(goldenFolder('llama'), 'llama'))).toBeGreaterThan(1e-2);
  });

  test.each([
    [
      'llama',
      { rope_parameters: { rope_type: 'default', rope_theta: 10000, partial_rotary_factor: 0.5 } },
      /turns 8 of 16/,
    ],
    ['qwen2', { rope_parameters: llama3 }, /no place for a rotary embedding/],
  ])('%s: what has no place is refused by name', async (golden, changes, message) => {
    const source = variant(golden, `${golden} refused`, changes);
    await expect(convert(source, join(folder, 'refused.gguf'))).rejects.toThrow(message);
  });

  test.each([
    [{ 'rope.scaling.factor': 4 }, 'a factor without a kind'],
    [{ 'rope.scale_linear': 4 }, 'the older key'],
  ] as [Record<string, number>, string][])('%j: %s is applied', async (keys, _what) => {
    const json = JSON.parse(readFileSync(`${goldenFolder('llama')}config.json`, 'utf8'));
    const { checkpoint } = await openModelFiles(goldenFolder('llama'));
    const model = conversion(json, checkpoint);
    const { metadata, tensors } = ggufExport(
      {
        type: 'llama',
        parsed: model.parsed,
        config: json,
        parameters: new Map([...model.parameters].map(([name, { shape }]) => [name, shape])),
        pieces: (name) => model.parameters.get(name)!.pieces(),
      },
      { type: 'f32' },
    );
    const more = Object.fromEntries(
      Object.entries(keys).map(([key, value]) => [`llama.${key}`, { type: 'f32', value } as const]),
    );
    const path = join(folder, `${Object.keys(keys)[0]}.gguf`);
    writeFileSync(path, await bytes(encodeGguf({ ...metadata, ...more }, tensors)));
    await checkpoint.close();
    const scaled = variant('llama', `scaled ${Object.keys(keys)[0]}`, linear);
    expect(errorRatio(await logitsOf(path, 'llama'), await logitsOf(scaled, 'llama'))).toBeLessThan(1e-6);
  });
});

describe('folders', () => {
  test.each(goldenNames)('%s saved and loaded gives the same logits', async (name) => {
    const path = join(folder, `${name}-folder`);
    await convert(goldenFolder(name), path);
    expect(readdirSync(path).sort()).toContain('model.safetensors');
    expect(await logitsOf(path, name)).toEqual(await logitsOf(goldenFolder(name), name));
  });

  test.each(['bf16', 'f16'] as const)('%s rounds matrices once', async (type) => {
    const [once, twice] = [join(folder, `once-${type}`), join(folder, `twice-${type}`)];
    await convert(goldenFolder('mamba'), once, { type });
    await convert(once, twice);
    expect((await inspect(twice)).tensors).toEqual((await inspect(once)).tensors);
    expect(await logitsOf(twice, 'mamba')).toEqual(await logitsOf(once, 'mamba'));
    expect(await logitsOf(once, 'mamba')).not.toEqual(await logitsOf(goldenFolder('mamba'), 'mamba'));
  });
});

describe('the state that texts begin with', () => {
  const stateFile = (path: string) => join(path, 'initial.state');

  /** A copy of a fixture's folder with a state that texts begin with: drawn at random, or one after some tokens. */
  async function withState(name: string, copy: string, read: readonly number[] = []): Promise<string> {
    const path = join(folder, copy);
    cpSync(goldenFolder(name), path, { recursive: true });
    const model = await load(path, { threads: 1 });
    const session = model.session();
    if (read.length > 0) await session.read(read);
    const made = session.state.copy();
    const random = new Random(7);
    const drawn = [...made.tensors].map(([key, { shape, values }]) => {
      const numbers = read.length > 0 ? values : values.map(() => random.normal());
      return [key, { shape, values: numbers }] as const;
    });
    writeFileSync(stateFile(path), new State({ ...made, tensors: new Map(drawn) }).save());
    model.dispose();
    return path;
  }

  async function begun(path: string, state?: false): Promise<{ logits: Float32Array; initial: State | undefined }> {
    const model = await load(path, { threads: 1, ...(state === false && { state }) });
    const logits = await model.session().logitsOf([3, 1, 4, 1, 5]);
    const initial = model.initialState;
    model.dispose();
    return { logits, initial };
  }

  test.each(['rwkv7', 'mamba', 'gated_deltanet'])(
    'goes to a folder with %s, in any format of its matrices',
    async (name) => {
      const path = await withState(name, `${name}-tuned`);
      const before = await begun(path);
      expect(before.logits).not.toEqual((await begun(path, false)).logits);
      for (const type of ['auto', 'f16', 'q8'] as const) {
        const output = join(folder, `${name}-tuned-${type}`);
        expect((await convert(path, output, { type })).notes).toEqual([]);
        const after = await begun(output);
        expect(after.initial!.tensors).toEqual(before.initial!.tensors);
        if (type === 'auto') expect(after.logits).toEqual(before.logits);
        else
          expect(errorRatio(after.logits, before.logits)).toBeLessThan(
            errorRatio((await begun(output, false)).logits, before.logits),
          );
      }
    },
  );

  test('is told of where GGUF has no place for it', async () => {
    const path = await withState('mamba', 'tuned-gguf');
    const output = join(folder, 'tuned.gguf');
    const { notes } = await convert(path, output);
    expect(notes).toContain(
      'initial.state was not written: GGUF has no place for it, and texts begin with the empty state there',
    );
    expect((await begun(output)).initial).toBeUndefined();
    expect((await convert(goldenFolder('mamba'), output)).notes).toEqual([]);
  });

  test('goes with the same numbers only where a text made it', async () => {
    const path = await withState('mamba', 'read', [5, 6, 7]);
    const [same, other] = [join(folder, 'read-same'), join(folder, 'read-f16')];
    expect((await convert(path, same)).notes).toEqual([]);
    expect((await begun(same)).logits).toEqual((await begun(path)).logits);
    expect((await convert(path, other, { type: 'f16' })).notes).toEqual([
      expect.stringMatching(/^initial\.state was not written: it is of a text of 3 tokens that other numbers read/),
    ]);
    expect((await begun(other)).initial).toBeUndefined();
  });

  test('of another model is refused by its path, and nothing is written', async () => {
    const path = await withState('mamba', 'mixed');
    writeFileSync(stateFile(path), readFileSync(stateFile(await withState('mamba2', 'mixed-in'))));
    const output = join(folder, 'mixed-out');
    await expect(convert(path, output)).rejects.toThrow(
      /^the state is of a model of type mamba2.*mixed\/initial\.state\)$/,
    );
    expect(existsSync(output)).toBe(false);
  });

  test('of a model that was in the folder before does not stay', async () => {
    const output = join(folder, 'again');
    await convert(await withState('mamba', 'first'), output);
    expect(existsSync(stateFile(output))).toBe(true);
    await convert(goldenFolder('mamba'), output);
    expect(existsSync(stateFile(output))).toBe(false);
  });
});

/** A Llama of random numbers whose two heads of queries share one of keys and values, 64 wide. */
function sharedValuesModel(path: string): void {
  const golden = JSON.parse(readFileSync(`${goldenFolder('llama')}config.json`, 'utf8'));
  const sizes = {
    hidden_size: 128,
    head_dim: 64,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    num_hidden_layers: 1,
  };
  const layer = 'model.layers.0';
  const shapes: Readonly<Record<string, readonly number[]>> = {
    'model.embed_tokens.weight': [256, 128],
    'lm_head.weight': [256, 128],
    'model.norm.weight': [128],
    [`${layer}.input_layernorm.weight`]: [128],
    [`${layer}.post_attention_layernorm.weight`]: [128],
    [`${layer}.self_attn.q_proj.weight`]: [128, 128],
    [`${layer}.self_attn.k_proj.weight`]: [64, 128],
    [`${layer}.self_attn.v_proj.weight`]: [64, 128],
    [`${layer}.self_attn.o_proj.weight`]: [128, 128],
    [`${layer}.mlp.gate_proj.weight`]: [144, 128],
    [`${layer}.mlp.up_proj.weight`]: [144, 128],
    [`${layer}.mlp.down_proj.weight`]: [128, 144],
  };
  const random = new Random(3);
  const tensors = Object.entries(shapes).map(([name, shape]) => {
    const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal() / 8);
    return { name, type: 'f32' as const, shape, data: new Uint8Array(data.buffer) };
  });
  mkdirSync(path);
  writeFileSync(join(path, 'config.json'), JSON.stringify({ ...golden, ...sizes }));
  writeFileSync(join(path, 'model.safetensors'), safetensorsOf(tensors, {}));
}

describe.each(['q8', 'q4'] as const)('%s', (format) => {
  /** Logits on the Wasm backend. */
  async function fast(path: string, name: string, weights: 'auto' | 'q8' | 'q4'): Promise<Float32Array> {
    const tokens = readTensors(`${goldenFolder(name)}golden.safetensors`).get('tokens')!.data;
    const model = await load(path, { weights, threads: 1 });
    const logits = await model.session().logitsOf(tokens);
    model.dispose();
    return logits;
  }

  test.each(goldenNames)('%s is the same whether it was quantised into a file or at load', async (name) => {
    const [path, again] = [join(folder, `${name}-${format}`), join(folder, `${name}-${format}-again`)];
    const { type } = await convert(goldenFolder(name), path, { type: format });
    expect(type).toBe(format);
    // transformers refuses to take integers for the weights.
    const { dtype } = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
    expect(dtype).toBe(format === 'q8' ? 'int8' : 'uint8');
    const logits = await fast(path, name, format);
    expect(logits).toEqual(await fast(goldenFolder(name), name, format));
    await convert(path, again, { type: format });
    expect(await fast(again, name, format)).toEqual(logits);
    // Where rows are whole groups, integers and scales are copied; what remains of a group of 4 bits may be mirrored, with its scale.
    const isWhole = (await inspect(path)).tensors.every(({ type, shape }) => type !== 'u8' || shape[1]! % 16 === 0);
    expect(isWhole).toBe(format === 'q8' || !['llama', 'qwen2', 'rwkv7'].includes(name));
    const [first, second] = [path, again].map((one) => readFileSync(join(one, 'model.safetensors')));
    if (isWhole) expect(second!.equals(first!)).toBe(true);
  });

  test('a file in these bits is held in them, and is smaller', async () => {
    const path = join(folder, `embedded-${format}`);
    const { bytes } = await convert('tiny-books-mamba-13m', path, { type: format });
    expect(bytes).toBeLessThan(13.2e6 * (format === 'q8' ? 1.2 : 0.7));
    const [auto, named] = [await load(path, { threads: 1 }), await load(path, { weights: format, threads: 1 })];
    expect(auto.bytes.weights).toBe(named.bytes.weights);
    auto.dispose();
    named.dispose();
  });

  test('values that two heads share are in 8 bits, from a folder as at load', async () => {
    const [source, output] = ['', '-converted'].map((end) => join(folder, `shared-${format}${end}`)) as [
      string,
      string,
    ];
    sharedValuesModel(source);
    await convert(source, output, { type: format });
    const { tensors } = await inspect(output);
    const typeOf = (name: string) => tensors.find((tensor) => tensor.name.endsWith(`.${name}_proj.weight`))!.type;
    const own = format === 'q8' ? 'i8' : 'u8';
    expect(['q', 'k', 'v'].map(typeOf)).toEqual([own, own, 'i8']);
    const again = `${output}-again`;
    await convert(output, again, { type: format });
    const models = [
      await load(source, { weights: format }),
      await load(output),
      await load(again, { weights: format }),
    ];
    const logits = await Promise.all(models.map(async (model) => [...(await model.session().logitsOf([1, 2, 3]))]));
    expect(logits[1]).toEqual(logits[0]);
    expect(logits[2]).toEqual(logits[0]);
    for (const model of models) model.dispose();
  });

  test.each(ggufNames)('%s becomes a GGUF file of the same numbers', async (name) => {
    const [path, file] = [join(folder, `${name}-${format}-blocks`), join(folder, `${name}-${format}-blocks.gguf`)];
    await convert(goldenFolder(name), path, { type: format });
    await convert(path, file);
    const [own, written] = [await openModelFiles(path), await openModelFiles(file)];
    const theirs = conversion(written.config, written.checkpoint).parameters;
    for (const [parameter, { shape, pieces }] of conversion(own.config, own.checkpoint).parameters) {
      // Files have −exp(A_log), which rounds.
      if (shape.length !== 2 || parameter.endsWith('A_log')) continue;
      const [before, after] = [await numbersOf(pieces()), await numbersOf(theirs.get(parameter)!.pieces())];
      expect(after, parameter).toEqual(before);
    }
    await own.checkpoint.close();
    await written.checkpoint.close();
    expect(errorRatio(await logitsOf(file, name), await logitsOf(path, name))).toBeLessThan(1e-6);
  });

  test('a model of this package becomes a GGUF file with the same logits, to the last bit', async () => {
    const path = join(folder, `embedded-${format}`);
    await convert('tiny-books-mamba-13m', path, { type: format });
    const logits = async (name: string) => {
      const model = await load(name, { threads: 1 });
      const session = model.session();
      await session.read('The river was');
      const result = session.logits.slice();
      model.dispose();
      return result;
    };
    const expected = await logits(path);
    for (const embedding of [undefined, 'q8_0'] as const) {
      const file = join(folder, `embedded-${format}-${embedding}.gguf`);
      const { type } = await convert(path, file, embedding && { embedding });
      expect(type).toBe(`${format}_0`);
      const { tensors } = await inspect(file);
      expect(tensors.find(({ name }) => name === 'token_embd.weight')!.type).toBe(embedding ?? `${format}_0`);
      // A head in 8 bits has the integers and scales of 4 bits, and products with it more bits of the other side.
      const isWidened = format === 'q4' && embedding === 'q8_0';
      if (isWidened) expect(errorRatio(await logits(file), expected)).toBeLessThan(0.02);
      else expect(await logits(file)).toEqual(expected);
    }
  });

  test('a scale that is no number is refused by the name of its matrix', async () => {
    const path = join(folder, `damaged-${format}`);
    await convert('tiny-books-mamba-13m', path, { type: format });
    const file = join(path, 'model.safetensors');
    const content = readFileSync(file);
    const start = 8 + Number(content.readBigUInt64LE());
    const header = JSON.parse(content.subarray(8, start).toString());
    const [name, { data_offsets }] = Object.entries(header).find(
      ([key]) => key.includes('in_proj') && key.endsWith('.scales'),
    ) as [string, { data_offsets: [number, number] }];
    content.writeUInt16LE(0x7c00, start + data_offsets[0]);
    writeFileSync(file, content);
    for (const output of [`${path}.gguf`, `${path}-again`])
      await expect(convert(path, output)).rejects.toThrow(`${name.replace('.scales', '')} holds a scale of Infinity`);
  });
});

/** The matches, and what lies between them. */
function splitIsolated(text: string, regex: RegExp): string[] {
  const pieces: string[] = [];
  let at = 0;
  for (const match of text.matchAll(regex)) {
    pieces.push(text.slice(at, match.index), match[0]);
    at = match.index + match[0].length;
  }
  return [...pieces, text.slice(at)].filter((piece) => piece !== '');
}

describe('tokenizers in GGUF files', () => {
  /** A tokenizer's metadata, written and read again. */
  async function through(source: Omit<Parameters<typeof tokenizerMetadata>[0], 'config'>) {
    const metadata = { 'general.architecture': { type: 'string', value: 'mamba' } as const };
    const file = await bytes(encodeGguf({ ...metadata, ...tokenizerMetadata({ ...source, config: {} }) }, []));
    return embeddedTokenizer(new Metadata(await openGguf(bytesSource(file, 'a.gguf'))), 'a.gguf');
  }
  const texts = ['', 'Hello, world!', "it's 12345 o'clock…", ' two  spaces\n\n\tand a tab', 'Ünïcödé 漢字 🙂'];

  test('byte-level BPE', async () => {
    const [json, settings] = ['tokenizer.json', 'tokenizer_config.json'].map((name) =>
      JSON.parse(readFileSync(new URL(`../models/tiny-books-mamba-13m/${name}`, import.meta.url), 'utf8')),
    );
    const { tokenizer } = (await through({ json, settings, vocabularySize: 4100 }))!;
    const model = await load();
    for (const text of texts) {
      expect(tokenizer.encode(text)).toEqual(model.tokenizer.encode(text));
      expect(tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: true })).toBe(text);
    }
    expect(tokenizer.vocabularySize).toBe(4100);
    expect(tokenizer.endOfText).toBe(model.tokenizer.endOfText);
    model.dispose();
  });

  test('RWKV World, with bytes that are no UTF-8 and a backslash', async () => {
    const single = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
    const more = ['the', '\\n', "'", 'é', '\n\n'].map((text) => new TextEncoder().encode(text));
    const world = [undefined, ...single, ...more];
    const { tokenizer, world: read } = (await through({ world, vocabularySize: 300 }))!;
    expect(read!.slice(0, world.length)).toEqual(world);
    for (const text of texts) expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    expect(tokenizer.encode('the\\n')).toEqual([257, 258]);
    expect(worldVocabularyFile(read!)).toBe(worldVocabularyFile(world));
  });

  test('SentencePiece-like BPE, with spaces as ▁ and bytes for what no token has', async () => {
    const byteTokens = Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`);
    const tokens = [
      '<unk>',
      '<s>',
      '</s>',
      ...byteTokens,
      '▁',
      'h',
      'e',
      'l',
      'o',
      'he',
      'll',
      'hell',
      'hello',
      '▁hello',
    ];
    const json = {
      added_tokens: [0, 1, 2].map((id) => ({ id, content: tokens[id], special: true })),
      normalizer: spacesAsMarks,
      pre_tokenizer: null,
      post_processor: null,
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 1, stop: 0 },
        ],
      },
      model: {
        type: 'BPE',
        byte_fallback: true,
        unk_token: '<unk>',
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges: ['h e', 'l l', 'he ll', 'hell o', '▁ hello'],
      },
    };
    const { tokenizer } = (await through({ json, vocabularySize: tokens.length }))!;
    expect(tokenizer.encode('hello hell', { addSpecialTokens: false })).toEqual(
      ['▁hello', '▁', 'hell'].map((token) => tokens.indexOf(token)),
    );
    for (const text of texts) expect(tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: true })).toBe(text);
  });

  test('a kind that is not built, and a pattern without a name, are refused by name', async () => {
    const kind = (entries: Parameters<typeof encodeGguf>[0]) =>
      bytes(encodeGguf({ 'general.architecture': { type: 'string', value: 'mamba' }, ...entries }, []));
    const open = async (file: Promise<Uint8Array>) =>
      embeddedTokenizer(new Metadata(await openGguf(bytesSource(await file, 'a.gguf'))), 'a.gguf');
    const string = (value: string) => ({ type: 'string', value }) as const;
    await expect(open(kind({ 'tokenizer.ggml.model': string('bert') }))).rejects.toThrow(/its tokenizer is "bert"/);
    const tokens = { type: 'array', of: 'string', value: ['a'] } as const;
    await expect(
      open(
        kind({
          'tokenizer.ggml.model': string('gpt2'),
          'tokenizer.ggml.pre': string('strange'),
          'tokenizer.ggml.tokens': tokens,
          'tokenizer.ggml.merges': { type: 'array', of: 'string', value: [] },
        }),
      ),
    ).rejects.toThrow(/splits texts as "strange"/);
  });

  test.each([
    ['falcon', 'ab12345 (c)', ['ab', '123', '45', ' ', '(', 'c', ')']],
    ['falcon3', "it's 12345", ['it', "'s", ' ', '123', '45']],
    ['tekken', 'helloWorld 12', ['hello', 'World', ' ', '1', '2']],
    ['gpt-4o', "HelloWorld's 1234", ['Hello', "World's", ' ', '123', '4']],
  ])('a text is split as %s does', (name, text, pieces) => {
    const split = patternOf(name, 'x.gguf') as string[];
    const cut = (parts: string[], regex: string) =>
      parts.flatMap((part) => splitIsolated(part, new RegExp(regex.replace(/\(\?i:('s[^)]*)\)/g, '(?:$1)'), 'gu')));
    const found = split.reduce(cut, [text]);
    expect(found.join('')).toBe(text);
    expect(
      found.flatMap((piece) => (piece.length > 1 && piece.startsWith(' ') ? [' ', piece.slice(1)] : [piece])),
    ).toEqual(pieces);
  });
});

test('a damaged GGUF file is a result or an error of ours, soon', async () => {
  const path = join(folder, 'damaged.gguf');
  const numbers = new Random(7);
  const random = () => numbers.uniform();
  for (const name of ['mamba', 'rwkv7', 'llama']) {
    await convert(goldenFolder(name), path, { type: 'f32' });
    const whole = readFileSync(path);
    for (let n = 0; n < 100; n++) {
      const file = Buffer.from(whole);
      for (let k = 0; k < 3; k++) file[Math.floor(random() * 9000)] = Math.floor(random() * 256);
      writeFileSync(path, file.subarray(0, n % 10 === 0 ? Math.floor(random() * file.length) : file.length));
      try {
        const model = await openModelFiles(path);
        await model.file.close();
        conversion(model.config, model.checkpoint);
      } catch (error) {
        expect(error).toBeInstanceOf(RiverrunError);
      }
    }
  }
});

describe('what a tokenizer adds', () => {
  const vocabulary = ['<bos>', '<eos>', ...'abcdefghijklmnopqrstuvwxyzĠ', 'ab', 'cd'];
  const tokenizer = {
    version: '1.0',
    added_tokens: [0, 1].map((id) => ({
      id,
      content: vocabulary[id],
      special: true,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    })),
    normalizer: { type: 'NFC' },
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<bos>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }],
      special_tokens: { '<bos>': { id: '<bos>', ids: [0], tokens: ['<bos>'] } },
    },
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      ignore_merges: true,
      vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
      merges: ['a b'],
    },
  };
  const template = '{% for m in messages %}<bos>{{ m.content }}{% endfor %}';

  test('a beginning by the post-processor, words taken whole, and templates of every place survive', async () => {
    for (const place of ['jinja', 'json', 'list'] as const) {
      const source = variant('llama', `tokens ${place}`, {});
      writeFileSync(join(source, 'tokenizer.json'), JSON.stringify(tokenizer));
      if (place === 'jinja') writeFileSync(join(source, 'chat_template.jinja'), template);
      if (place === 'json')
        writeFileSync(join(source, 'chat_template.json'), JSON.stringify({ chat_template: template }));
      const list = place === 'list' ? { chat_template: [{ name: 'default', template }] } : {};
      writeFileSync(join(source, 'tokenizer_config.json'), JSON.stringify({ eos_token: '<eos>', ...list }));
      const [file, back] = [join(folder, `tokens ${place}.gguf`), join(folder, `tokens ${place} back`)];
      await convert(source, file);
      await convert(file, back);
      const files = [source, file, back];
      for (const path of files) {
        const model = await load(path, { backend: 'reference' });
        // "cd" is a token but no merge makes it.
        expect(model.tokenizer.encode('ab'), path).toEqual([0, 29]);
        expect(model.tokenizer.encode('cd'), path).toEqual([0, 30]);
        const rendered = model.chatTemplate.render([{ role: 'user', content: 'abc' }]);
        expect(rendered).toBe('<bos>abc');
        expect(model.tokenizer.encode(rendered), path).toEqual([0, 29, 4]);
        model.dispose();
      }
    }
  });
});

test('Falcon’s steps of splitting are written by its name, and read as llama.cpp splits', async () => {
  const characters = [...'abcdefghijklmnopqrstuvwxyz0123456789().,Ġ', '12', '123', '()'];
  const tokenizer = {
    version: '1.0',
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Punctuation', behavior: 'Contiguous' },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
        { type: 'Digits', individual_digits: false },
        { type: 'Split', pattern: { Regex: '[0-9][0-9][0-9]' }, behavior: 'Isolated', invert: false },
      ],
    },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(characters.map((token, id) => [token, id])),
      merges: ['1 2', '12 3', '( )'],
    },
  };
  const source = variant('llama', 'falcon tokens', {});
  writeFileSync(join(source, 'tokenizer.json'), JSON.stringify(tokenizer));
  const file = join(folder, 'falcon tokens.gguf');
  await convert(source, file);
  const { metadata, close } = await openGguf(bytesSource(readFileSync(file), file));
  expect(metadata['tokenizer.ggml.pre']).toBe('falcon');
  await close();
  const [own, written] = [await load(source, { backend: 'reference' }), await load(file, { backend: 'reference' })];
  for (const text of ['ab12312 (c)', 'it is 12345.', '12(), 123'])
    expect(written.tokenizer.encode(text), text).toEqual(own.tokenizer.encode(text));
  own.dispose();
  written.dispose();
});

test('a chat template goes into a GGUF file and comes back', async () => {
  const path = join(folder, 'chat');
  cpSync(new URL('../models/tiny-books-mamba-13m/', import.meta.url), path, { recursive: true });
  const settings = JSON.parse(readFileSync(join(path, 'tokenizer_config.json'), 'utf8'));
  const template = '{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}';
  writeFileSync(join(path, 'tokenizer_config.json'), JSON.stringify({ ...settings, chat_template: template }));
  const file = join(folder, 'chat.gguf');
  await convert(path, file);
  for (const name of [path, file]) {
    const model = await load(name, { threads: 1 });
    expect(model.chatTemplate.render([{ role: 'user', content: 'hello' }]), name).toBe('user: hello<|endoftext|>');
    model.dispose();
  }
  const plain = await load();
  expect(plain.hasChatTemplate).toBe(false);
  expect(() => plain.chatTemplate).toThrow(/no chat template/);
  plain.dispose();
});

test('an architecture that is not built is refused by name', async () => {
  const file = await bytes(encodeGguf({ 'general.architecture': { type: 'string', value: 'qwen3next' } }, []));
  await expect(ggufModel(await openGguf(bytesSource(file, 'a.gguf')))).rejects.toThrow(/"qwen3next"; known: mamba/);
});

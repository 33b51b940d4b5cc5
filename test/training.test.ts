import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { Random } from '../src/core/random.ts';
import { readF32 } from '../src/formats/read-f32.ts';
import { openSafetensors } from '../src/formats/safetensors.ts';
import { type FinetuneOptions, finetune } from '../src/platform/finetune.ts';
import { openFile } from '../src/platform/node-file.ts';
import { embeddedModel, load } from '../src/platform/node-load.ts';
import { loadState } from '../src/platform/state-files.ts';
import { type TrainOptions, trainModel } from '../src/platform/train.ts';
import type { Trained } from '../src/platform/training-run.ts';
import type { TrainRecord } from '../src/train/trainer.ts';
import { dataFolder } from './data-folder.ts';
import { smallTraining } from './small-training.ts';
import { errorRatio } from './tolerance.ts';

const { folder, at, file } = dataFolder('training');

const random = new Random(3);
const words = ['river', 'stone', 'bird', 'green', 'runs', 'sings', 'over', 'the', 'a', 'under'];
const sentence = () => `${Array.from({ length: 6 }, () => words[random.integer(words.length)]).join(' ')}.`;
const texts = Array.from({ length: 60 }, sentence);
const text = file('text.txt', texts.join('<|endoftext|>'));

async function run(
  running: AsyncGenerator<TrainRecord, Trained>,
): Promise<{ records: TrainRecord[]; result: Trained }> {
  const records: TrainRecord[] = [];
  for (;;) {
    const next = await running.next();
    if (next.done) return { records, result: next.value };
    records.push(next.value);
  }
}

const small = (output: string, more: Partial<TrainOptions> = {}): TrainOptions => smallTraining(text, at(output), more);

/** A tensor of a folder that a training wrote. */
async function tensorOf(output: string, name: string): Promise<Float32Array> {
  const checkpoint = await openSafetensors(await openFile(at(`${output}/model.safetensors`)));
  try {
    return await readF32(checkpoint, checkpoint.tensors.get(name)!);
  } finally {
    await checkpoint.close();
  }
}

const losses = (records: readonly TrainRecord[]) => records.map(({ loss }) => loss);

describe('train', () => {
  test('a signal that is raised from outside ends it after the step in hand', async () => {
    const controller = new AbortController();
    const running = trainModel(small('ended', { steps: 300, checkpointEvery: 1000, signal: controller.signal }));
    await running.next();
    setTimeout(() => controller.abort(), 1);
    const { records, result } = await run(running);
    expect(result.interrupted).toBe(true);
    expect(records.length).toBeLessThan(200);
  });

  test('a folder that has no model yet says what it has', async () => {
    const controller = new AbortController();
    for await (const _ of trainModel(small('unwritten', { signal: controller.signal }))) controller.abort();
    const [folder, checkpoint] = [at('unwritten'), at('unwritten/training.safetensors')];
    await expect(load(folder)).rejects.toThrow(
      `${folder} has the checkpoint of a training, which has not written its model yet: go on with it (--resume)`,
    );
    await expect(load(checkpoint)).rejects.toThrow(
      `${checkpoint} is the checkpoint of a training, and no model: name the folder that it writes`,
    );
  });

  test('learns, writes a folder that loads, and logs every step', async () => {
    const { records, result } = await run(
      trainModel(small('first', { validation: [text], evaluateEvery: 4, steps: 40 })),
    );
    expect(records).toHaveLength(40);
    expect(records[39]!.loss).toBeLessThan(0.8 * records[0]!.loss);
    expect(result).toMatchObject({ step: 40, steps: 40, interrupted: false, tokens: 40 * 64 });
    expect(result.best!.loss).toBe(Math.min(...records.flatMap(({ evaluation }) => evaluation?.loss ?? [])));
    const lines = readFileSync(at('first/log.jsonl'), 'utf8').trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).loss)).toEqual(losses(records));
    expect(readFileSync(at('first/loss.csv'), 'utf8').trim().split('\n')).toHaveLength(41);
    expect(readFileSync(at('first/loss.svg'), 'utf8').match(/<circle/g)).toHaveLength(10);
    const model = await load(at('first'), { threads: 1 });
    const session = model.session();
    await session.read([...new TextEncoder().encode('the ')]);
    expect(session.logits.every(Number.isFinite)).toBe(true);
    model.dispose();
  });

  test('a training that is ended and resumed has the same losses, to the last bit', async () => {
    const whole = await run(trainModel(small('whole')));
    const controller = new AbortController();
    const first: TrainRecord[] = [];
    const running = trainModel(small('parts', { signal: controller.signal }));
    let next = await running.next();
    for (; !next.done; next = await running.next()) {
      first.push(next.value);
      if (next.value.step === 5) controller.abort();
    }
    expect(next.value).toMatchObject({ step: 5, interrupted: true });
    const rest = await run(trainModel(small('parts', { resume: true })));
    expect([...losses(first), ...losses(rest.records)]).toEqual(losses(whole.records));
    expect(readFileSync(at('parts/model.safetensors'))).toEqual(readFileSync(at('whole/model.safetensors')));
    expect(readFileSync(at('parts/log.jsonl'), 'utf8').split('\n')).toHaveLength(13);
  });

  test('a signal that is raised during an evaluation ends it; the resumed training makes it first', async () => {
    const settings = { validation: [text], evaluateEvery: 4, evaluationWindows: 20 };
    const whole = await run(trainModel(small('evaluated', settings)));
    const controller = new AbortController();
    const running = trainModel(small('unevaluated', { ...settings, signal: controller.signal }));
    const first: TrainRecord[] = [];
    for (let step = 1; step <= 3; step++) first.push((await running.next()).value as TrainRecord);
    // A step lets nothing else have its turn; evaluations do, before each part.
    const pending = running.next();
    setImmediate(() => controller.abort());
    expect(await pending).toMatchObject({ done: true, value: { step: 4, interrupted: true } });
    expect(readFileSync(at('unevaluated/log.jsonl'), 'utf8').trim().split('\n')).toHaveLength(3);
    const { records, result } = await run(trainModel(small('unevaluated', { ...settings, resume: true })));
    const told = (all: readonly TrainRecord[]) => all.map(({ step, loss, evaluation }) => ({ step, loss, evaluation }));
    expect(told([...first, ...records])).toEqual(told(whole.records));
    expect(result.best).toEqual(whole.result.best);
  });

  test('the model is written before the curves, which may fail', async () => {
    const running = trainModel(small('curveless', { steps: 3 }));
    await running.next();
    mkdirSync(at('curveless/loss.svg'));
    await expect(run(running)).rejects.toThrow(/loss\.svg/);
    (await load(at('curveless'), { threads: 1 })).dispose();
  });

  test('evaluations have windows and texts of their own size', async () => {
    const short = file('short.jsonl', texts.map((text) => JSON.stringify({ text: text.slice(0, 3) })).join('\n'));
    const settings = { batch: 1, length: 256, validation: [short], steps: 2 };
    const { result } = await run(trainModel(small('short-windows', { ...settings, evaluationLength: 16 })));
    const long = await run(trainModel(small('long-windows', { ...settings, evaluationLength: 64 })));
    expect(result.best!.loss).toBeCloseTo(long.result.best!.loss, 2);
  });

  test.each([
    [{ batch: 0 }, /batch is 0/],
    [{ length: -8 }, /length is -8/],
    [{ together: 0 }, /together is 0/],
    [{ clip: 0 }, /clip is 0: it must be a number above 0/],
    [{ weightDecay: -0.1 }, /weightDecay is -0.1/],
    [{ checkpointEvery: 0 }, /checkpointEvery is 0/],
    [{ evaluateEvery: 0 }, /evaluateEvery is 0/],
    [{ evaluationWindows: 0 }, /evaluationWindows is 0/],
    [{ patience: 0 }, /patience is 0/],
    [{ patience: 3 }, /patience is given, but there is no validation data/],
    [{ evaluationLength: 8 }, /evaluationLength is given, but there is no validation data/],
    [{ decaySteps: 3 }, /decaySteps is given, but the schedule is cosine/],
    [{ schedule: 'constant', finalRate: 0.5 }, /finalRate is given, but the schedule is constant/],
    [{ vocabulary: 300 }, /vocabulary is given, but the tokenizer is not learned/],
    [{ inner: 64 }, /inner is given, but beside width and layers a new mamba has only state/],
    [{ architecture: 'mamba2', inner: 64 }, /inner is given, but .* a new mamba2 has only headWidth and state/],
    [{ architecture: 'rwkv7', state: 16 }, /state is given, but .* a new rwkv7 has only headWidth and inner/],
    [{ negativeEigenvalues: true }, /negativeEigenvalues is given, but .* a new mamba has only state/],
    [{ state: 0 }, /state is 0/],
    [{ width: 0 }, /width is 0/],
  ] as [Partial<TrainOptions>, RegExp][])('%j is refused, and nothing is written', async (options, message) => {
    await expect(run(trainModel(small('senseless', options)))).rejects.toThrow(message);
    expect(existsSync(at('senseless'))).toBe(false);
  });

  test('no steps at all write the model as it begins, with its tokenizer', async () => {
    const options = { ...small('untaught', { vocabulary: 280, steps: 0, validation: [text] }), tokenizer: undefined };
    const { records, result } = await run(trainModel(options));
    expect(records).toEqual([]);
    expect(result).toMatchObject({ step: 0, tokens: 0, interrupted: false });
    const model = await load(at('untaught'), { threads: 1 });
    expect(model.tokenizer.decode(model.tokenizer.encode('the river'))).toBe('the river');
    // Norms begin as ones, which a step would change.
    expect(await tensorOf('untaught', 'backbone.norm_f.weight')).toEqual(new Float32Array(32).fill(1));
    model.dispose();
    await expect(run(trainModel(small('negative', { steps: -1 })))).rejects.toThrow(/steps is -1/);
  });

  test('a rate of 0 leaves parameters as they begin, and others learn', async () => {
    const grouped = { rates: { '\\.embeddings\\.': 0, 'layers\\.1\\.': 0 }, steps: 3 };
    await run(trainModel(small('begun', { steps: 0 })));
    await run(trainModel(small('grouped', grouped)));
    for (const name of ['backbone.embeddings.weight', 'backbone.layers.1.mixer.in_proj.weight'])
      expect(await tensorOf('grouped', name)).toEqual(await tensorOf('begun', name));
    const learned = 'backbone.layers.0.mixer.in_proj.weight';
    expect(await tensorOf('grouped', learned)).not.toEqual(await tensorOf('begun', learned));
  });

  const heads = (architecture: string) => (architecture === 'mamba' ? {} : { headWidth: 16 });
  test.each(['rwkv7', 'mamba', 'gated_deltanet'])(
    'a training with carried states that is ended and resumed has the same losses, to the last bit: %s',
    async (architecture) => {
      const one = (name: string, more: Partial<TrainOptions>) =>
        small(`${name}-${architecture}`, { architecture, ...heads(architecture), carryState: true, ...more });
      const whole = await run(trainModel(one('carried', {})));
      const apart = await run(trainModel(one('forgotten', { carryState: false })));
      expect(losses(whole.records)).not.toEqual(losses(apart.records));
      const controller = new AbortController();
      const first: TrainRecord[] = [];
      for await (const record of trainModel(one('halves', { signal: controller.signal }))) {
        first.push(record);
        if (record.step === 5) controller.abort();
      }
      const rest = await run(trainModel(one('halves', { resume: true })));
      expect([...losses(first), ...losses(rest.records)]).toEqual(losses(whole.records));
    },
  );

  test('states are not carried where they grow', async () => {
    const options = small('growing', { architecture: 'llama', headWidth: 16, carryState: true });
    await expect(run(trainModel(options))).rejects.toThrow(/carryState: llama attends to keys and values/);
  });

  test('parts of a batch that run one after the other give the losses of the whole', async () => {
    const together = await run(trainModel(small('together', { together: 2 })));
    const apart = await run(trainModel(small('apart', { together: 1 })));
    for (const [i, loss] of losses(together.records).entries()) expect(apart.records[i]!.loss).toBeCloseTo(loss, 4);
  });

  test('learns a tokenizer from the data, and keeps it with the model', async () => {
    await run(trainModel({ ...small('learned', { vocabulary: 290, steps: 2 }), tokenizer: undefined }));
    const json = JSON.parse(readFileSync(at('learned/tokenizer.json'), 'utf8'));
    expect(Object.keys(json.model.vocab)).toHaveLength(290);
    const model = await load(at('learned'), { threads: 1 });
    expect(model.tokenizer.decode(model.tokenizer.encode(texts[0]!))).toBe(texts[0]);
    expect(model.tokenizer.encode(texts[0]!).length).toBeLessThan(texts[0]!.length / 2);
    model.dispose();
  });

  test('other settings than the checkpoint has are refused by name', async () => {
    await run(trainModel(small('settings', { steps: 2 })));
    await expect(run(trainModel(small('settings', { steps: 2, resume: true, batch: 4 })))).rejects.toThrow(
      /batch was 2, is 4/,
    );
    await expect(run(trainModel(small('settings')))).rejects.toThrow(/not empty/);
  });

  test('other contents of data, validation data and tokenizer than a training began with are refused by name', async () => {
    const [data, validation, tokenizer] = ['resumed.txt', 'held.txt', 'tokenizer.json'].map(at) as [
      string,
      string,
      string,
    ];
    const write = (learned: string, held: string, token: string) => {
      writeFileSync(data, learned);
      writeFileSync(validation, held);
      const vocab = Object.fromEntries([...new Set(`${texts.join('')}${token}`)].map((letter, id) => [letter, id]));
      writeFileSync(
        tokenizer,
        JSON.stringify({ added_tokens: [], model: { type: 'BPE', vocab, merges: [], unk_token: null } }),
      );
    };
    const [learned, held] = [texts.join(' '), texts.slice(0, 9).join(' ')];
    // As many tokens of other letters.
    const turned = (text: string) => [...text].reverse().join('');
    write(learned, held, 'x');
    const options = small('contents', { data: [data], validation: [validation], tokenizer, steps: 2 });
    await run(trainModel(options));
    const resumed = () => run(trainModel({ ...options, resume: true }));
    write(turned(learned), held, 'x');
    await expect(resumed()).rejects.toThrow(
      /other settings \(data was "\d+ tokens \(\w+\)", is "\d+ tokens \(\w+\)"\)/,
    );
    write(learned, turned(held), 'x');
    await expect(resumed()).rejects.toThrow(/other settings \(validation was "\d+ tokens/);
    write(learned, held, 'y');
    await expect(resumed()).rejects.toThrow(/other settings \(tokenizer was "\w+", is "\w+"\)/);
    write(learned, held, 'x');
    expect((await resumed()).result.step).toBe(2);
  });

  test('a training goes on for longer, and decays, where the steps made keep their learning rates', async () => {
    const stable = { schedule: 'wsd', warmup: 2, decaySteps: 4 } as const;
    const whole = await run(trainModel(small('decayed', { ...stable, steps: 12 })));
    const controller = new AbortController();
    for await (const { step } of trainModel(small('longer', { ...stable, steps: 40, signal: controller.signal })))
      if (step === 6) controller.abort();
    const resumed = small('longer', { ...stable, steps: 12, resume: true });
    const rest = await run(trainModel(resumed));
    expect(losses(rest.records)).toEqual(losses(whole.records).slice(6));
    expect(rest.records.map((record) => record.learningRate)).toEqual(
      whole.records.slice(6).map((record) => record.learningRate),
    );
    await expect(run(trainModel({ ...resumed, steps: 14 }))).rejects.toThrow(
      /made 12 steps, and step 9 would have had another learning rate .*steps was 12, is 14/,
    );
    await run(trainModel(small('constant', { schedule: 'constant', warmup: 0, steps: 3 })));
    const fewer = small('constant', { schedule: 'constant', warmup: 0, steps: 2, resume: true });
    await expect(run(trainModel(fewer))).rejects.toThrow(/made 3 steps, more than the 2 asked for/);
  });
});

test.each([
  ['constant', 40],
  ['wsd', 20],
] as const)('a training goes on for longer with its own warm-up, where none is said: %s', async (schedule, done) => {
  const one = (output: string, more: Partial<TrainOptions>) =>
    small(`${output}-${schedule}`, { schedule, layers: 1, batch: 1, ...more });
  // 5 % of 40 steps: of 60 they would be three.
  const whole = await run(trainModel(one('planned', { steps: 60, warmup: 2 })));
  const controller = new AbortController();
  for await (const { step } of trainModel(one('prolonged', { steps: 40, signal: controller.signal })))
    if (step === done) controller.abort();
  const { records } = await run(trainModel(one('prolonged', { steps: 60, resume: true })));
  expect(losses(records)).toEqual(losses(whole.records).slice(done));
  const learningRates = (all: readonly TrainRecord[]) => all.map(({ learningRate }) => learningRate);
  expect(learningRates(records)).toEqual(learningRates(whole.records).slice(done));
  // What is said counts, and another one is refused.
  await expect(run(trainModel(one('prolonged', { steps: 70, warmup: 3, resume: true })))).rejects.toThrow(
    /step 1 would have had another learning rate .*warmup was 2, is 3/,
  );
});

test('a training that has made no step has the warm-up of its new number of steps', async () => {
  await run(trainModel(small('stepless', { steps: 0 })));
  const { records } = await run(trainModel(small('stepless', { steps: 60, resume: true })));
  expect(records[0]!.learningRate).toBeCloseTo(3e-3 / 3, 9);
});

test('leaving the iterator writes a checkpoint, from which a resumed training has the same losses', async () => {
  const whole = await run(trainModel(small('unleft')));
  const first: TrainRecord[] = [];
  for await (const record of trainModel(small('left'))) {
    first.push(record);
    if (record.step === 5) break;
  }
  expect(readdirSync(at('left')).sort()).toEqual(['log.jsonl', 'loss.csv', 'loss.svg', 'training.safetensors']);
  const { records } = await run(trainModel(small('left', { resume: true })));
  expect([...losses(first), ...losses(records)]).toEqual(losses(whole.records));
});

test.each([
  [{ data: 'a.txt' }, 'data is "a.txt": it must be a list of texts, as ["…"]'],
  [{ data: [] }, 'data is []: it must be a list of texts'],
  [{ data: undefined }, 'data is missing: it must be a list of texts'],
  [{ validation: 'a.txt' }, 'validation is "a.txt": it must be a list'],
  [{ output: undefined }, 'output is missing: it must be a text'],
  [{ output: 3 }, 'output is 3: it must be a text'],
  [{ architecture: undefined }, 'architecture is missing: it must be a text'],
] as [object, string][])('%j is refused by name', async (more, message) => {
  const options = { ...small('nameless'), ...more } as TrainOptions;
  await expect(run(trainModel(options))).rejects.toThrow(message);
  if ('architecture' in more) return;
  const { architecture: _, width: __, layers: ___, ...rest } = options;
  await expect(run(finetune({ ...rest, model: embeddedModel }))).rejects.toThrow(message);
});

describe('data', () => {
  test.each([
    ['an empty file', () => file('empty.txt', ''), /empty.txt is empty/],
    ['NUL bytes', () => file('nul.txt', 'a\0b'), /nul.txt holds a NUL byte/],
    ['bytes that are no text', () => file('latin.txt', Uint8Array.of(0x66, 0xfc, 0x72)), /not UTF-8/],
    [
      'a damaged gzip file',
      () => file('damaged.txt.gz', gzipSync('hello').subarray(0, 12)),
      /damaged gzip|unexpected end/,
    ],
    ['too little', () => file('short.txt', 'too short'), /needs at least 65/],
    [
      'JSONL without the field',
      () => file('fields.jsonl', '{"body":"x"}\n'),
      /line 1 has no text "text" \(it has body\)/,
    ],
    [
      'JSONL with a number for a text',
      () => file('number.jsonl', '{"text":17}\n'),
      /line 1: text is 17: it must be a text$/,
    ],
    [
      'JSONL with null for a text',
      () => file('null.jsonl', '{"text":null}\n'),
      /line 1: text is null: it must be a text$/,
    ],
    ['broken JSONL', () => file('broken.jsonl', '{"text":\n'), /line 1 is not valid JSON/],
    ['a missing file', () => at('missing.txt'), /no such file/],
    ['an unknown architecture', () => text, /no new model of architecture/, { architecture: 'lstm' }],
    ['a width without whole heads', () => text, /not a multiple/, { architecture: 'llama', width: 40, headWidth: 32 }],
    ['an unknown option', () => text, /unknown option/, { stepz: 3 }],
  ] as [string, () => string, RegExp, object?][])('%s is refused', async (_, make, message, more = {}) => {
    await expect(run(trainModel(small('refused', { data: [make()], ...more })))).rejects.toThrow(message);
  });

  test('gzipped text, JSONL and CSV give the same corpus', async () => {
    const rows = texts.map((one) => ({ text: one }));
    const sources = [
      file('same.txt.gz', gzipSync(texts.join('<|endoftext|>'))),
      file('same.jsonl', rows.map((row) => JSON.stringify(row)).join('\n')),
      file('same.csv', `id,text\n${texts.map((one, i) => `${i},"${one}"`).join('\n')}\n`),
    ];
    const found = [];
    for (const [i, source] of sources.entries())
      found.push(losses((await run(trainModel(small(`same${i}`, { data: [source], steps: 3 })))).records));
    expect(found[1]).toEqual(found[0]);
    expect(found[2]).toEqual(found[0]);
  });
});

describe('finetune', () => {
  const labelled = (name: string, count: number) =>
    file(
      name,
      Array.from({ length: count }, (_, i) =>
        JSON.stringify({ text: `${sentence()} ${i % 2 ? 'bird' : 'river'}`, kind: i % 2 ? 'bird' : 'river' }),
      ).join('\n'),
    );
  const base = at('base');
  const taught = (output: string, more: Partial<FinetuneOptions> = {}): FinetuneOptions => ({
    model: base,
    data: [labelled('train.jsonl', 60)],
    validation: [labelled('test.jsonl', 20)],
    label: 'kind',
    batch: 6,
    epochs: 3,
    learningRate: 1e-2,
    threads: 1,
    output: at(output),
    ...more,
  });

  const answers = Array.from({ length: 6 }, () => ({ prompt: sentence(), completion: ' bird' }));

  test('a base model is trained for these tests', async () => {
    await run(trainModel({ ...small('base', { vocabulary: 280, steps: 10 }), tokenizer: undefined }));
  });

  test.each(['full', 'lora', 'head', 'state'] as const)('%s: a classifier tells the labels', async (method) => {
    const { result } = await run(finetune(taught(`labels-${method}`, { method, epochs: method === 'head' ? 20 : 6 })));
    expect(result.best!.accuracy).toBeGreaterThan(0.9);
    if (method === 'state') return;
    const model = await load(at(`labels-${method}`), { threads: 1 });
    expect(model.labels).toEqual(['bird', 'river']);
    const session = model.session();
    await session.read('a stone runs over the bird');
    expect(session.logits[0]).toBeGreaterThan(session.logits[1]!);
    expect(() => session.generate('a')).toThrow(/classifier/);
    model.dispose();
  });

  test('other examples, labels and base models than a training began with are refused by name', async () => {
    const rows = Array.from({ length: 30 }, (_, i) => ({ text: sentence(), kind: i % 2 ? 'bird' : 'river' }));
    const write = (name: string, change: (row: (typeof rows)[0], i: number) => object) =>
      file(name, rows.map((row, i) => JSON.stringify(change(row, i))).join('\n'));
    const same = (row: (typeof rows)[0]) => row;
    const reset = () => [write('again.jsonl', same), write('measure.jsonl', same)];
    const [data, validation] = reset() as [string, string];
    const options = taught('contents-labels', { data: [data], validation: [validation], epochs: 1 });
    await run(finetune(options));
    const resumed = (more: Partial<FinetuneOptions> = {}) => run(finetune({ ...options, ...more, resume: true }));
    const changes = [
      ['data', 'again.jsonl', (row: (typeof rows)[0], i: number) => (i === 7 ? { ...row, kind: 'river' } : row)],
      ['data', 'again.jsonl', (row: (typeof rows)[0], i: number) => (i === 3 ? { ...row, text: sentence() } : row)],
      [
        'validation',
        'measure.jsonl',
        (row: (typeof rows)[0], i: number) => (i === 7 ? { ...row, kind: 'river' } : row),
      ],
    ] as const;
    for (const [name, changed, change] of changes) {
      write(changed, change);
      await expect(resumed()).rejects.toThrow(
        new RegExp(`other settings \\(${name} was "30 examples \\(\\w+\\)", is "30 ex`),
      );
      reset();
    }
    const all = write('again.jsonl', ({ text, kind }) => ({ text, kind: kind.toUpperCase() }));
    await expect(resumed({ validation: [all] })).rejects.toThrow(/data was .*validation was/);
    reset();
    const other = { ...small('other-base', { vocabulary: 280, steps: 1, seed: 5 }), tokenizer: undefined };
    await run(trainModel(other));
    await expect(resumed({ model: at('other-base') })).rejects.toThrow(/other settings \(model was "\w+", is "\w+"\)/);
    expect((await resumed()).result.interrupted).toBe(false);
  });

  test('ends after its steps or its epochs, which are fewer', async () => {
    const ending = async (output: string, more: Partial<FinetuneOptions>) =>
      (await run(finetune(taught(output, more)))).result.steps;
    // Sixty examples, six a step.
    expect(await ending('few-steps', { epochs: 1, steps: 3 })).toBe(3);
    expect(await ending('few-epochs', { epochs: 1, steps: 99 })).toBe(10);
    expect(await ending('only-steps', { epochs: undefined, steps: 31 })).toBe(31);
  });

  test('examples run one after the other, and layers once more, in less memory with the same losses', async () => {
    const [data, validation] = [[labelled('together.jsonl', 60)], [labelled('measured.jsonl', 20)]];
    const settings = { data, validation, steps: 3, batch: 12, length: 128, learningRate: 1e-4 };
    const all = await run(finetune(taught('all-together', settings)));
    const apart = await run(finetune(taught('apart-labels', { ...settings, together: 2 })));
    const again = await run(finetune(taught('recomputed', { ...settings, recompute: true })));
    for (const { records } of [apart, again])
      for (const [i, loss] of losses(records).entries()) expect(loss).toBeCloseTo(all.records[i]!.loss, 5);
    expect(again.result.bytes).toBeLessThan(all.result.bytes);
    expect(apart.result.bytes).toBeLessThan(all.result.bytes);
    await expect(run(finetune(taught('none', { together: 0 })))).rejects.toThrow(/together is 0/);
  });

  test('answers beyond the length, and empty ones, are left out and told of', async () => {
    const long = { prompt: 'river '.repeat(60), completion: 'stone' };
    const empty = { prompt: 'a stone', completion: '' };
    const data = [file('long.jsonl', [long, empty, ...answers].map((row) => JSON.stringify(row)).join('\n'))];
    const notices: string[] = [];
    const options = { model: base, data, validation: [file('short.jsonl', JSON.stringify(answers[0]))] };
    const settings = { steps: 1, length: 40, threads: 1, onNotice: (what: string) => notices.push(what) };
    await run(finetune({ ...options, ...settings, output: at('left-out') }));
    expect(notices).toEqual([
      `1 of 8 examples have an empty answer (${data[0]}: line 2): they are left out`,
      `1 of 8 examples have no answer within their first 40 tokens (${data[0]}: line 1): they are left out`,
    ]);
    const useless = { ...options, ...settings, data: [file('useless.jsonl', JSON.stringify(long))] };
    await expect(run(finetune({ ...useless, output: at('left-all') }))).rejects.toThrow(
      /1 of 1 examples have no answer .*: raise the length/,
    );
    const silent = { messages: [{ role: 'user', content: 'a stone' }] };
    const nothing = {
      ...useless,
      data: [file('nothing.jsonl', [empty, silent].map((row) => JSON.stringify(row)).join('\n'))],
    };
    await expect(run(finetune({ ...nothing, output: at('left-nothing') }))).rejects.toThrow(
      /^2 of 2 examples have an empty answer \(.*line 1\): there is nothing to learn$/,
    );
  });

  test('lora: the additions alone are as PEFT has them, and merged they are the model that was learned', async () => {
    const { records, result } = await run(
      finetune(taught('lora', { method: 'lora', label: undefined, data: [text], validation: [text], length: 32 })),
    );
    const config = JSON.parse(readFileSync(at('lora/adapter/adapter_config.json'), 'utf8'));
    expect(config).toMatchObject({
      peft_type: 'LORA',
      r: 8,
      lora_alpha: 16,
      target_modules: ['in_proj', 'x_proj'],
    });
    const header = readFileSync(at('lora/adapter/adapter_model.safetensors')).toString('latin1');
    expect(header).toContain('base_model.model.backbone.layers.0.mixer.in_proj.lora_A.weight');
    // The base with the additions merged at load is the model that was written.
    const [written, loaded] = [
      await load(at('lora'), { threads: 1 }),
      await load(base, { threads: 1, adapter: at('lora/adapter') }),
    ];
    // Where transformers finds an adapter beside a model, it adds it to the model.
    expect(readdirSync(at('lora')).filter((name) => /^adapter_/.test(name))).toEqual([]);
    const read = written.tokenizer.encode(texts[1]!);
    const [a, b] = [await written.session().logitsOf(read), await loaded.session().logitsOf(read)];
    expect(errorRatio(b, a)).toBeLessThan(1e-5);
    written.dispose();
    loaded.dispose();
    await expect(load(embeddedModel, { threads: 1, adapter: at('lora') })).rejects.toThrow(
      /for another model|but its additions/,
    );
    await expect(load(base, { threads: 1, adapter: folder })).rejects.toThrow(/no adapter_config/);
    // The merged model has the validation loss that was measured with the additions apart.
    const again = await run(
      finetune(
        taught('again', {
          model: at('lora'),
          label: undefined,
          data: [text],
          validation: [text],
          length: 32,
          steps: 1,
          learningRate: 1e-12,
        }),
      ),
    );
    expect(again.records[0]!.evaluation!.loss).toBeCloseTo(result.best!.loss, 4);
    expect(result.best!.loss).toBeLessThan(records[0]!.loss);
  });

  test('lora: modules are named in full where others of their names have no additions', async () => {
    const text = { label: undefined, data: [file('layer.txt', texts.join(' '))], validation: undefined, length: 32 };
    const settings = { ...text, method: 'lora', steps: 1, epochs: undefined } as const;
    const modules = async (output: string, targets: string) => {
      await run(finetune(taught(output, { ...settings, targets })));
      return JSON.parse(readFileSync(at(`${output}/adapter/adapter_config.json`), 'utf8')).target_modules;
    };
    expect(await modules('one-layer', 'layers\\.1\\..*(in|x)_proj')).toEqual([
      'backbone.layers.1.mixer.in_proj',
      'backbone.layers.1.mixer.x_proj',
    ]);
    expect(await modules('all-layers', 'in_proj|1.*out_proj')).toEqual(['backbone.layers.1.mixer.out_proj', 'in_proj']);
    // The folder of the merged model stands for the adapter in it.
    const [whole, within] = ['one-layer', 'one-layer/adapter'].map((adapter) =>
      load(base, { threads: 1, adapter: at(adapter) }),
    );
    const logits = async (model: Awaited<NonNullable<typeof whole>>) => await model.session().logitsOf([1, 2, 3]);
    expect(await logits(await whole!)).toEqual(await logits(await within!));
    for (const model of [whole, within]) (await model!).dispose();
  });

  test('lora: a head of labels is learned whole, and saved with the additions as PEFT has it', async () => {
    await run(finetune(taught('lora-head', { method: 'lora', steps: 2 })));
    const config = JSON.parse(readFileSync(at('lora-head/adapter/adapter_config.json'), 'utf8'));
    expect(config).toMatchObject({ task_type: 'SEQ_CLS', modules_to_save: ['score'] });
    const adapter = await openSafetensors(await openFile(at('lora-head/adapter/adapter_model.safetensors')));
    const saved = [...adapter.tensors.keys()].filter((name) => name.includes('score'));
    expect(saved).toEqual(['base_model.model.score.weight']);
    expect(await readF32(adapter, adapter.tensors.get(saved[0]!)!)).toEqual(
      await tensorOf('lora-head', 'score.weight'),
    );
    await adapter.close();
    await expect(load(base, { threads: 1, adapter: at('lora-head') })).rejects.toThrow(
      /brings a head of its own, score/,
    );
  });

  test('state: sessions go on from what was learned, and the model is as it was', async () => {
    const { result } = await run(
      finetune(
        taught('state', {
          method: 'state',
          label: undefined,
          data: [text],
          validation: [text],
          length: 32,
          learningRate: 0.1,
        }),
      ),
    );
    await expect(load(at('state'))).rejects.toThrow(
      `${at('state')} has a tuned state, and no model: name the model that it is for, with --load ${at('state/initial.state')}`,
    );
    const model = await load(base, { threads: 1 });
    const session = model.session();
    await session.state.restore(await loadState(at('state/initial.state'), model));
    expect(session.position).toBe(0);
    const read = model.tokenizer.encode(texts[0]!);
    const plain = model.session();
    const surprise = (logits: Float32Array) =>
      read.slice(1).reduce((sum, token, i) => {
        const row = logits.subarray(i * model.outputSize, (i + 1) * model.outputSize);
        return sum + Math.log(row.reduce((a, x) => a + Math.exp(x), 0)) - row[token]!;
      }, 0);
    expect(surprise(await session.logitsOf(read))).toBeLessThan(surprise(await plain.logitsOf(read)));
    expect(result.best!.loss).toBeGreaterThan(0);
    model.dispose();
  });

  test.each([
    [
      'one label only',
      { data: [file('one.jsonl', '{"text":"a","kind":"x"}\n{"text":"b","kind":"x"}\n')] },
      /all 2 examples are labelled "x"/,
    ],
    ['a label that is missing', { data: [file('none.jsonl', '{"text":"a"}\n')] }, /has no "kind"/],
    ['a label that is empty', { data: [file('blank.jsonl', '{"text":"a","kind":""}\n')] }, /line 1: kind is empty/],
    [
      'a label only in the validation data',
      { validation: [file('new.jsonl', '{"text":"a","kind":"new"}\n')] },
      /in the validation data only/,
    ],
    [
      'a head without labels',
      { label: undefined, data: [text], validation: undefined, method: 'head' },
      /needs a task with a head/,
    ],
    ['targets that fit nothing', { method: 'lora', targets: 'nothing' }, /fits no matrix/],
    ['a rank without additions', { rank: 4 }, /rank is given, but the method is full/],
    ['targets without additions', { method: 'head', targets: 'in_proj' }, /targets is given, but the method is head/],
    ['additions that do not count', { method: 'lora', alpha: 0 }, /alpha is 0/],
    ['no clipping at all', { clip: -1 }, /clip is -1/],
    ['a length of nothing', { length: 0 }, /length is 0/],
    ['half an epoch', { epochs: 0.5 }, /epochs is 0.5/],
    ['a decay of a schedule without one', { decaySteps: 5 }, /decaySteps is given, but the schedule is cosine/],
    [
      'patience where nothing is measured',
      { label: undefined, data: [text], validation: undefined, patience: 2 },
      /patience is given, but there is no validation data/,
    ],
    ['targets that are no pattern', { method: 'lora', targets: '(' }, /targets/],
  ] as const)('%s is refused', async (_, more, message) => {
    await expect(run(finetune(taught('refused-tuning', more as object)))).rejects.toThrow(message);
  });
});

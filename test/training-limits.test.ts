import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import { architectureOf } from '../src/models/index.ts';
import { readCorpus } from '../src/platform/corpus-files.ts';
import { type FinetuneOptions, finetune } from '../src/platform/finetune.ts';
import { spawnThread } from '../src/platform/node.ts';
import { type TrainOptions, trainModel } from '../src/platform/train.ts';
import { traceModel } from '../src/runtime/graph.ts';
import { trainBpe } from '../src/tokenizers/bpe-trainer.ts';
import { byteTokenizer } from '../src/tokenizers/bytes.ts';
import { newModel } from '../src/train/configurations.ts';
import { Learner } from '../src/train/learner.ts';
import { learnedBy } from '../src/train/method.ts';
import { prediction } from '../src/train/objective.ts';
import { dataFolder } from './data-folder.ts';
import { goldenFolder } from './golden.ts';

const { at, file } = dataFolder('limits');

const sentence = 'The king had a daughter, and one day she went to the river. ';
const text = file('text.txt', sentence.repeat(60));
const jsonl = (name: string, row: (i: number) => object) =>
  file(name, Array.from({ length: 20 }, (_, i) => JSON.stringify(row(i))).join('\n'));
const labels = jsonl('labels.jsonl', (i) => ({ text: `${sentence}${i % 2}`, kind: i % 2 ? 'a' : 'b' }));
const answers = jsonl('answers.jsonl', () => ({ prompt: 'one', completion: sentence }));
const spans = jsonl('spans.jsonl', () => ({
  question: 'who?',
  context: sentence,
  answers: { text: ['king'], answer_start: [4] },
}));

const kinds: [string, Partial<FinetuneOptions>][] = [
  ['texts', { data: [text] }],
  ['labels', { data: [labels], label: 'kind' }],
  ['answers', { data: [answers] }],
  ['spans', { data: [spans] }],
];

async function run(running: AsyncGenerator<unknown>): Promise<void> {
  for await (const _ of running);
}

beforeAll(async () => {
  const base: TrainOptions = {
    architecture: 'mamba',
    width: 16,
    layers: 1,
    data: [text],
    tokenizer: 'bytes',
    steps: 0,
    length: 32,
    threads: 1,
    output: at('base'),
  };
  await run(trainModel(base));
  // Byte pairs of the data: all it is told in has tokens beyond the model's bytes.
  writeFileSync(at('tokenizer.json'), JSON.stringify(await trainBpe([sentence.repeat(9)], 280)));
});

describe('tokens beyond the vocabulary', () => {
  test.each(kinds)('are refused before anything is learned: %s', async (kind, data) => {
    const options = { model: at('base'), tokenizer: at('tokenizer.json'), length: 32, steps: 1, threads: 1 };
    const output = at(`beyond-${kind}`);
    await expect(run(finetune({ ...options, ...data, output } as FinetuneOptions))).rejects.toThrow(
      /^the data has token 2\d\d, but the model's vocabulary is 0 to 255: its tokenizer, of 280 tokens, is made for another model$/,
    );
    expect(existsSync(output)).toBe(false);
  });

  test('are refused by the learner too', async () => {
    const { config, tensors } = newModel('mamba', { width: 16, layers: 1, vocabulary: 20 });
    const architecture = architectureOf(config, tensors);
    const graph = traceModel(architecture, architecture.config(config, tensors));
    const backend = await wasmBackend({ threads: 1, spawn: spawnThread });
    const learner = new Learner(backend, prediction(graph, learnedBy(graph, {})), {
      tokens: 2,
      segments: 1,
      outputs: 2,
    });
    const part = { tokens: [3, 20], ends: [2], rows: [0, 1], inputs: { targets: [1, 2], weights: [1, 1] } };
    await expect(learner.step([part], 1e-3, 1)).rejects.toThrow('token 20 is out of range: 0 to 19 are the model');
    await expect(learner.evaluate([part])).rejects.toThrow('token 20 is out of range');
    const targets = { ...part, tokens: [3, 19], inputs: { ...part.inputs, targets: [20, 0] } };
    await expect(learner.gradients(targets)).rejects.toThrow('targets 20 is out of range: 0 to 19 are the logits');
    learner.dispose();
    backend.dispose();
  });
});

describe('texts beyond the table of positions', () => {
  const positions = JSON.parse(readFileSync(`${goldenFolder('gpt2')}config.json`, 'utf8')).n_positions as number;
  const options = { model: goldenFolder('gpt2'), tokenizer: 'bytes', steps: 1, batch: 2, threads: 1 };

  // Of labels and spans, examples that are shorter need no shorter length.
  test.each([
    ['texts', { data: [text], length: positions + 1 }],
    ['labels', { data: [jsonl('long.jsonl', (i) => ({ text: sentence.repeat(3), kind: `${i % 2}` }))], label: 'kind' }],
    ['answers', { data: [jsonl('long-answers.jsonl', () => ({ prompt: 'one', completion: sentence.repeat(3) }))] }],
    ['texts', { data: [text], validation: [text], length: 300 }],
  ] as [string, Partial<FinetuneOptions>][])('are refused before anything is learned: %s', async (_, data) => {
    await expect(run(finetune({ ...options, ...data, output: at('long') } as FinetuneOptions))).rejects.toThrow(
      new RegExp(
        `^the data is read in \\d+ tokens at once, but the model has learned positions for ${positions}: give a length of ${positions} at most$`,
      ),
    );
    expect(existsSync(at('long'))).toBe(false);
  });

  test('are taken up to its end', async () => {
    await run(finetune({ ...options, data: [text], length: positions, output: at('whole') }));
    expect(existsSync(at('whole/model.safetensors'))).toBe(true);
    await run(finetune({ ...options, data: [labels], label: 'kind', length: 300, output: at('short') }));
    expect(existsSync(at('short/model.safetensors'))).toBe(true);
  });
});

test('a cache of tokens that is none of its texts is read anew', async () => {
  const read = () => readCorpus([text], byteTokenizer(), { tokenizerKey: 'limits' });
  const { starts, tokens } = await read();
  const folder = join(process.env['XDG_CACHE_HOME']!, 'riverrun/tokens');
  for (const name of readdirSync(folder)) {
    const bytes = readFileSync(join(folder, name));
    // The beginning of the first text, after four numbers.
    bytes.writeUInt32LE(7, 16);
    writeFileSync(join(folder, name), bytes);
  }
  expect(await read()).toEqual({ starts, tokens });
});

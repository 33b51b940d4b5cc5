import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { UnsupportedError } from '../src/core/errors.ts';
import { encodeSafetensors } from '../src/formats/safetensors-writer.ts';
import { load } from '../src/platform/node-load.ts';
import { pipeline } from '../src/platform/pipeline.ts';
import { beamSearch } from '../src/tasks/beam-search.ts';
import { classify } from '../src/tasks/classify.ts';
import { LabelClassifier } from '../src/tasks/label-classifier.ts';
import { goldenFolder, readTensors } from './golden.ts';

const folder = mkdtempSync(join(tmpdir(), 'riverrun-classifier-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A little random model with a head of three labels. */
async function writeClassifier(): Promise<{ D: number; score: Float32Array }> {
  const source = goldenFolder('mamba');
  const config = JSON.parse(readFileSync(`${source}config.json`, 'utf8'));
  const id2label = { 0: 'praise', 1: 'question', 2: 'complaint' };
  writeFileSync(
    join(folder, 'config.json'),
    JSON.stringify({ ...config, architectures: ['MambaForSequenceClassification'], id2label }),
  );
  const D: number = config.hidden_size;
  const score = Float32Array.from({ length: 3 * D }, (_, i) => Math.sin(7 * i));
  const tensors = [...readTensors(`${source}model.safetensors`)].filter(([name]) => name !== 'lm_head.weight');
  const all = [
    ...tensors.map(([name, { shape, data }]) => ({ name, shape, values: Float32Array.from(data) })),
    { name: 'score.weight', shape: [3, D], values: score },
  ];
  const pieces: Uint8Array[] = [];
  const entries = all.map(({ name, shape, values }) => ({
    name,
    type: 'f32' as const,
    shape,
    *data() {
      yield new Uint8Array(values.buffer);
    },
  }));
  for await (const piece of encodeSafetensors(entries)) pieces.push(piece);
  writeFileSync(join(folder, 'model.safetensors'), Buffer.concat(pieces));
  return { D, score };
}

test('a model with a trained head of labels classifies texts', async () => {
  const { D, score } = await writeClassifier();
  const model = await load(folder, { threads: 1, tokenizer: 'bytes' });
  const text = 'Is it?';
  const tokens = [...Buffer.from(text)];
  const found = await classify(model, tokens);
  // The head is a product with the last hidden state.
  let hidden = new Float32Array(0);
  const session = model.session();
  await session.read(tokens, { onHidden: (all) => void (hidden = all.slice(-D)) });
  const logits = [0, 1, 2].map((c) => hidden.reduce((sum, x, d) => sum + x * score[c * D + d]!, 0));
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
  for (const [c, { probability }] of found.entries()) expect(probability).toBeCloseTo(Math.exp(logits[c]!) / total, 4);

  const run = await pipeline('text-classification', model);
  const byProbability = found.toSorted((a, b) => b.probability - a.probability);
  const expected = byProbability.map(({ label, probability }) => ({ label, score: probability }));
  expect(await run([text, text])).toEqual([expected[0], expected[0]]);
  expect(await run([text], { top_k: Infinity })).toEqual([expected]);
  expect(await (await pipeline('sentiment-analysis', model))([text], { top_k: null })).toEqual([expected]);
  await expect(run([text], { top_k: 0 })).rejects.toThrow(/top_k is 0/);
  expect(() => model.session().generate([1])).toThrow(/is a classifier/);
  await expect(beamSearch(model.session(), [1])).rejects.toThrow(/is a classifier/);
  expect(() => new LabelClassifier(model, ['a', 'b'])).toThrow(/labels of its own/);
  model.dispose();
});

test('one without is refused', async () => {
  const model = await load(undefined, { threads: 1 });
  await expect(classify(model, 'x')).rejects.toThrow(UnsupportedError);
  await expect(classify(model, 'x')).rejects.toThrow(/no trained head of labels/);
  model.dispose();
});

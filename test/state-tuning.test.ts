import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { Random } from '../src/core/random.ts';
import { architectureOf } from '../src/models/index.ts';
import { finetune } from '../src/platform/finetune.ts';
import { load } from '../src/platform/node-load.ts';
import { loadState } from '../src/platform/state-files.ts';
import { drawInitial } from '../src/platform/train.ts';
import { traceModel } from '../src/runtime/graph.ts';
import { Learner, type Part } from '../src/train/learner.ts';
import { learnedBy } from '../src/train/method.ts';
import { prediction } from '../src/train/objective.ts';
import type { TrainRecord } from '../src/train/trainer.ts';
import { dataFolder } from './data-folder.ts';
import { goldenFolder, readTensors } from './golden.ts';

const { at, file } = dataFolder('state-tuning');

/** A learner of the state that texts of RWKV-4 begin with, of the golden's size, and a text of 12 tokens. */
function tuned(): { learner: Learner; part: Part } {
  const json = JSON.parse(readFileSync(`${goldenFolder('rwkv4')}config.json`, 'utf8'));
  const stored = readTensors(`${goldenFolder('rwkv4')}model.safetensors`);
  const architecture = architectureOf(json, stored);
  const graph = traceModel(architecture, architecture.config(json, stored));
  const objective = prediction(graph, learnedBy(graph, { method: 'state' }));
  const learner = new Learner(referenceBackend('f64'), objective, { tokens: 12, segments: 1, outputs: 12 });
  drawInitial(learner, 3);
  const random = new Random(5);
  const ids = Int32Array.from({ length: 13 }, () => random.integer(40));
  const part = {
    tokens: ids.subarray(0, 12),
    ends: [12],
    rows: Int32Array.from({ length: 12 }, (_, i) => i),
    inputs: { targets: ids.subarray(1), weights: new Float32Array(12).fill(1 / 12) },
  };
  return { learner, part };
}

test('the state of RWKV-4 has a gradient where it begins, that of a central difference', async () => {
  const { learner, part } = tuned();
  const gradients = await learner.gradients(part);
  const names = [...gradients.keys()].filter((name) => /\.(num|max)$/.test(name));
  expect(names.length).toBe(learner.trained.filter((name) => name.startsWith('state:')).length * (2 / 3));
  for (const name of names) {
    const gradient = gradients.get(name)!;
    const values = learner.read(name);
    const largest = gradient.reduce((best, x, i) => (Math.abs(x) > Math.abs(gradient[best]!) ? i : best), 0);
    expect(Math.abs(gradient[largest]!), name).toBeGreaterThan(1e-8);
    const lossAt = async (shift: number) => {
      learner.write(
        name,
        values.map((x, i) => (i === largest ? x + shift : x)),
      );
      return await learner.evaluate([part]);
    };
    const slope = ((await lossAt(2 ** -8)) - (await lossAt(-(2 ** -8)))) / 2 ** -7;
    learner.write(name, values);
    expect(Math.abs(slope / gradient[largest]! - 1), name).toBeLessThan(0.01);
  }
  learner.dispose();
});

test('a state of RWKV-4 is learned, keeps weights above 0, and is what texts begin with', async () => {
  const sentence = 'The king had a daughter. ';
  const text = file('text.jsonl', Array.from({ length: 40 }, () => JSON.stringify({ text: sentence })).join('\n'));
  const model = goldenFolder('rwkv4');
  const records: TrainRecord[] = [];
  const options = { model, tokenizer: 'bytes', method: 'state', data: [text], validation: [text], length: 26 } as const;
  for await (const record of finetune({ ...options, batch: 4, steps: 30, threads: 1, output: at('tuned') }))
    records.push(record);
  const { best } = records.at(-1)!;
  expect(best!.loss).toBeLessThan(records[0]!.loss - 0.05);

  const loaded = await load(model, { threads: 1 });
  const state = await loadState(at('tuned/initial.state'), loaded);
  for (const [name, { values }] of state.tensors) {
    if (name.endsWith('.den')) expect(values.every((x) => x === 1)).toBe(true);
    if (name.endsWith('.num')) expect(values.some((x) => x !== 0)).toBe(true);
    if (name.endsWith('.max')) expect(values.every((x) => Math.abs(x) < 10) && values.some((x) => x !== 0)).toBe(true);
  }
  // What ends texts is token 0 where the tokenizer has no such token.
  const tokens = [0, ...new TextEncoder().encode(sentence)];
  const surprise = async (isTuned: boolean) => {
    const session = loaded.session();
    if (isTuned) await session.state.restore(state);
    const logits = await session.logitsOf(tokens);
    const V = loaded.outputSize;
    return (
      tokens.reduce((sum, _, i) => {
        const row = logits.subarray(i * V, (i + 1) * V);
        return sum + Math.log(row.reduce((a, x) => a + Math.exp(x), 0)) - row[tokens[i + 1] ?? 0]!;
      }, 0) / tokens.length
    );
  };
  expect(await surprise(true)).toBeCloseTo(best!.loss, 4);
  expect(await surprise(false)).toBeGreaterThan(best!.loss + 0.05);
  loaded.dispose();
});

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { measuring } from '../src/platform/example-data.ts';
import { finetune } from '../src/platform/finetune.ts';
import { type TrainOptions, trainModel } from '../src/platform/train.ts';
import type { Trained } from '../src/platform/training-run.ts';
import type { Part } from '../src/train/learner.ts';
import type { TrainRecord } from '../src/train/trainer.ts';
import { dataFolder } from './data-folder.ts';
import { smallTraining } from './small-training.ts';

const { at, file } = dataFolder('divergence');

const text = file('text.txt', 'The king had a daughter, and one day she went to the river. '.repeat(60));

const small = (output: string, more: Partial<TrainOptions> = {}): TrainOptions =>
  smallTraining(text, at(output), { layers: 1, ...more });

/** The records of a training that ends with an error, and the error. */
async function ended(
  running: AsyncGenerator<TrainRecord, Trained>,
): Promise<{ records: TrainRecord[]; error: Error | undefined }> {
  const records: TrainRecord[] = [];
  try {
    for await (const record of running) records.push(record);
    return { records, error: undefined };
  } catch (error) {
    return { records, error: error as Error };
  }
}

const logged = (output: string) =>
  readFileSync(at(`${output}/log.jsonl`), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as TrainRecord);

const losses = (records: readonly TrainRecord[]) => records.map(({ loss }) => loss);

// Single precision has no such number: the first step makes every parameter infinite.
const HUGE = 1e39;

test('at the last step is told, with its evaluation and without one, and no model is written', async () => {
  const evaluated = { validation: [text], evaluateEvery: 1 };
  const measured = await ended(trainModel(small('measured', { steps: 1, learningRate: HUGE, ...evaluated })));
  expect(measured.error).toMatchObject({ name: 'TrainingError' });
  expect(measured.error!.message).toMatch(
    /^the evaluation after step 1 is not finite: the training diverged at a learning rate of 1e\+39\. Begin anew .* There is no checkpoint$/,
  );
  const alone = await ended(trainModel(small('alone', { steps: 1, learningRate: HUGE })));
  expect(alone.error!.message).toMatch(/^after step 1 backbone\.\S+ is not finite: the training diverged/);
  for (const output of ['measured', 'alone']) {
    expect(readdirSync(at(output)).sort()).toEqual(['log.jsonl', 'loss.csv', 'loss.svg', 'training.json']);
    expect(logged(output).map(({ loss, evaluation }) => [Number.isFinite(loss), evaluation])).toEqual([
      [true, undefined],
    ]);
  }
});

test('is told of labels too, whatever their accuracy', async () => {
  await ended(trainModel(small('base', { steps: 1 })));
  const rows = Array.from({ length: 20 }, (_, i) => JSON.stringify({ text: `${i} river`, kind: i % 2 ? 'a' : 'b' }));
  const data = [file('labels.jsonl', rows.join('\n'))];
  const options = { model: at('base'), data, validation: data, label: 'kind', length: 32, threads: 1 };
  const { records, error } = await ended(
    finetune({ ...options, steps: 2, evaluateEvery: 1, learningRate: HUGE, output: at('labels') }),
  );
  expect(records).toEqual([]);
  expect(error!.message).toMatch(/^the evaluation after step 1 is not finite/);
  expect(existsSync(at('labels/model.safetensors'))).toBe(false);
});

test.each([1, 4])(
  'leaves the model of the best evaluation, and the checkpoint before it: resumed, it has the losses of before (one every %i steps)',
  async (checkpointEvery) => {
    const kept = (more: Partial<TrainOptions> = {}) =>
      small(`kept-${checkpointEvery}`, {
        ...{ steps: 1000, warmup: 1000, learningRate: 3000, checkpointEvery },
        ...{ validation: [text], evaluateEvery: 1, evaluationWindows: 4, ...more },
      });
    const { output } = kept();
    const { records, error } = await ended(trainModel(kept()));
    const last = records.at(-1)!;
    const step = last.step - (last.step % checkpointEvery);
    expect(step).toBeGreaterThan(4);
    expect(error!.message).toContain(`the evaluation after step ${last.step + 1} is not finite: the training diverged`);
    expect(error!.message).toContain(`The folder has the model of step ${last.best!.step}, the best evaluation.`);
    expect(error!.message).toContain(`training.safetensors is the checkpoint of step ${step}, from which`);
    expect(last.best!.loss).toBe(Math.min(...records.map(({ evaluation }) => evaluation!.loss)));
    expect(readFileSync(`${output}/loss.csv`, 'utf8').trim().split('\n')).toHaveLength(last.step + 2);

    const model = readFileSync(`${output}/model.safetensors`);
    const again = await ended(trainModel(kept({ resume: true })));
    expect(losses(again.records)).toEqual(losses(records).slice(step));
    expect(again.error!.message).toBe(error!.message);
    expect(readFileSync(`${output}/model.safetensors`)).toEqual(model);
  },
);

test.each([
  // After the first step all parameters are numbers, and what they compute is none.
  ['loss', { warmup: 30 }],
  ['gradient', { warmup: 600 }],
])('is seen before the checkpoint from which the next step would have no %s', async (what, { warmup }) => {
  const options = small(`next-${what}`, { steps: 600, warmup, learningRate: 1000, checkpointEvery: 1 });
  const { records, error } = await ended(trainModel(options));
  const step = records.length;
  expect(error!.message).toMatch(new RegExp(`^after step ${step + 1} the next ${what} is not finite: `));
  expect(error!.message).toMatch(
    step > 0 ? new RegExp(`is the checkpoint of step ${step}, `) : /There is no checkpoint$/,
  );
  expect(existsSync(`${options.output}/training.safetensors`)).toBe(step > 0);
});

test('what is no number is never the likeliest', async () => {
  const example = { tokens: [1, 2], rows: [1], targets: [1] };
  const batches = {
    capacity: { tokens: 2, segments: 1, outputs: 1 },
    tokensPerStep: 2,
    stepsPerEpoch: 1,
    parts: () => [],
  };
  const accuracyOf = async (logits: number[]) => {
    const learner = {
      evaluate: async (parts: Iterable<Part>, read: (part: Part, output: () => number[]) => void) => {
        for (const part of parts) read(part, () => logits);
        return 0;
      },
    };
    return (await measuring([example], batches, 3)(learner as never)).accuracy;
  };
  expect(await accuracyOf([0, 1, 0])).toBe(1);
  expect(await accuracyOf([0, 1, 2])).toBe(0);
  expect(await accuracyOf([NaN, NaN, NaN])).toBe(0);
  expect(await accuracyOf([0, 1, NaN])).toBe(0);
});

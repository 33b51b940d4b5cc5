import { expect, test } from 'vitest';
import type { Batches } from './corpus.ts';
import type { Learner } from './learner.ts';
import { type TrainerOptions, type TrainRecord, train } from './trainer.ts';

const learner = { step: async () => ({ loss: 1, gradientNorm: 1 }) } as unknown as Learner;
const batches = { tokensPerStep: 1, parts: () => [] } as unknown as Batches;

/** Losses of evaluations after steps 2, 4, 6 …: the second is the best. */
const losses = [3, 1, 2, 2, 2, 2];

async function run(options: Partial<TrainerOptions>, from = 0): Promise<TrainRecord[]> {
  let evaluations = Math.floor(from / 2);
  const records: TrainRecord[] = [];
  const evaluate = async () => ({ loss: losses[evaluations++]!, tokens: 1 });
  const all = { steps: 12, learningRate: 1, evaluateEvery: 2, patience: 3, evaluate, ...options };
  for await (const record of train(learner, batches, all as TrainerOptions)) records.push(record);
  return records;
}

test('a training ends after as many evaluations that are no better, however often it was ended and resumed', async () => {
  const whole = await run({});
  expect(whole.at(-1)!.step).toBe(10);
  for (let done = 1; done <= 10; done++) {
    const { best } = whole[done - 1]!;
    const rest = await run({ done, ...(best && { best }) }, done);
    expect([...whole.slice(0, done), ...rest].map(({ step }) => step)).toEqual(whole.map(({ step }) => step));
  }
});

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

test('a step whose evaluation is ended is evaluated first when the training goes on', async () => {
  const controller = new AbortController();
  const evaluate = async () => {
    controller.abort();
    throw controller.signal.reason;
  };
  const options: TrainerOptions = { steps: 5, learningRate: 1, evaluateEvery: 3 };
  const ended = train(learner, batches, { ...options, evaluate, signal: controller.signal });
  const steps: number[] = [];
  let next = await ended.next();
  for (; !next.done; next = await ended.next()) steps.push(next.value.step);
  expect(steps).toEqual([1, 2]);
  expect(next.value).toEqual({ step: 3, loss: 1, gradientNorm: 1 });

  const { step: done, ...unevaluated } = next.value!;
  const rest: TrainRecord[] = [];
  const found = async () => ({ loss: 7 });
  for await (const record of train(learner, batches, { ...options, done, unevaluated, evaluate: found }))
    rest.push(record);
  expect(rest.map(({ step, evaluation }) => [step, evaluation?.loss])).toEqual([
    [3, 7],
    [4, undefined],
    [5, 7],
  ]);
});

test('an evaluation that fails is no end by signal', async () => {
  const controller = new AbortController();
  const evaluate = async () => {
    controller.abort();
    throw new Error('no memory');
  };
  const failing = train(learner, batches, {
    ...{ steps: 1, learningRate: 1, evaluate, signal: controller.signal },
  });
  await expect(failing.next()).rejects.toThrow('no memory');
});

test('a training ends after as many evaluations that are no better, however often it was ended and resumed', async () => {
  const whole = await run({});
  expect(whole.at(-1)!.step).toBe(10);
  for (let done = 1; done <= 10; done++) {
    const { best } = whole[done - 1]!;
    const rest = await run({ done, ...(best && { best }) }, done);
    expect([...whole.slice(0, done), ...rest].map(({ step }) => step)).toEqual(whole.map(({ step }) => step));
  }
});

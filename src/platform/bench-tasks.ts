import { setImmediate } from 'node:timers/promises';
import type { Backend } from '../core/backend.ts';
import { InputError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import { architectureOf } from '../models/index.ts';
import { traceModel } from '../runtime/graph.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import { architecturesWith, newArchitectures, newModel } from '../train/configurations.ts';
import { exampleParts } from '../train/examples.ts';
import { Learner } from '../train/learner.ts';
import { learnedBy } from '../train/method.ts';
import { prediction } from '../train/objective.ts';
import { refuseSenselessNumbers } from '../train/option-limits.ts';
import { makeSchedule } from '../train/schedule.ts';
import { type SyntheticTask, syntheticTasks } from '../train/synthetic.ts';
import { notFinite } from '../train/trainer.ts';
import { measuring } from './example-data.ts';
import { makeBackend } from './node-load.ts';
import { drawInitial } from './train.ts';

export interface BenchTasksOptions {
  /** Names of tasks. Default: all. */
  readonly tasks?: readonly string[] | undefined;
  /**
   * Architectures by `model_type`; one with `-negative` after it has eigenvalues from −1 to 1. Default: all, the delta rules in both
   * forms.
   */
  readonly architectures?: readonly string[] | undefined;
  /** Steps at most; a task that is solved ends before. Default 1000. */
  readonly steps?: number | undefined;
  /** Examples of a step. Default 64. */
  readonly batch?: number | undefined;
  /** Default 0.01. */
  readonly learningRate?: number | undefined;
  readonly seed?: number | undefined;
  readonly threads?: number | undefined;
  /** Ends the training in hand, which then has no row: the signal's reason is thrown. */
  readonly signal?: AbortSignal | undefined;
  readonly onStep?: ((row: { task: string; architecture: string; step: number; loss: number }) => void) | undefined;
}

const optionNames: readonly (keyof BenchTasksOptions)[] = [
  ...(['tasks', 'architectures', 'steps', 'batch', 'learningRate', 'seed', 'threads', 'signal', 'onStep'] as const),
];

/** One architecture is to learn one task. */
export interface TaskTraining {
  readonly task: SyntheticTask;
  readonly architecture: string;
}

/** What one architecture made of one task. */
export interface TaskResult {
  readonly task: string;
  readonly architecture: string;
  readonly parameters: number;
  /** Steps that were made. */
  readonly steps: number;
  readonly seconds: number;
  readonly learningRate: number;
  readonly seed: number;
  /** How much of what is asked is told right, by the examples' length in tokens. Empty where the training diverged. */
  readonly accuracy: readonly { readonly length: number; readonly accuracy: number }[];
  /** Where the training diverged: what was no number any more. */
  readonly diverged?: string;
}

/** Every architecture that is compared. */
export const comparedArchitectures: readonly string[] = newArchitectures.flatMap((name) =>
  architecturesWith('negativeEigenvalues').includes(name) ? [name, `${name}-negative`] : [name],
);

/** The trainings that the options name, in the order in which they are made. */
export function taskTrainings({
  tasks,
  architectures = comparedArchitectures,
}: Pick<BenchTasksOptions, 'tasks' | 'architectures'>): TaskTraining[] {
  const unknown = architectures.find((name) => !comparedArchitectures.includes(name));
  if (unknown !== undefined)
    throw new InputError(
      `there is no architecture ${unknown} to compare; there are ${comparedArchitectures.join(', ')}`,
    );
  const named = tasks?.map(taskNamed) ?? syntheticTasks;
  return named.flatMap((task) => architectures.map((architecture) => ({ task, architecture })));
}

/**
 * Trains a small model (width 64, two layers) of every architecture on every task, and measures it at the trained length and beyond. A training that diverges
 * has a row that says so, and the next one follows.
 */
export async function* benchTasks(options: BenchTasksOptions = {}): AsyncGenerator<TaskResult> {
  refuseUnknownOptions(options, optionNames);
  refuseSenselessNumbers(options);
  const trainings = taskTrainings(options);
  const { threads, signal } = options;
  signal?.throwIfAborted();
  const backend = await makeBackend(threads === undefined ? {} : { threads });
  try {
    for (const { task, architecture } of trainings) yield await solve(backend, task, architecture, options);
  } finally {
    backend.dispose();
  }
}

function taskNamed(name: string): SyntheticTask {
  const task = syntheticTasks.find((one) => one.name === name);
  if (!task)
    throw new InputError(`there is no task ${name}; there are ${syntheticTasks.map((one) => one.name).join(', ')}`);
  return task;
}

/** Examples that an evaluation has of every length. */
const MEASURED = 64;
/** Steps between looks at whether the task is solved, and what counts as that. */
const [LOOK, SOLVED] = [100, 0.9995];

/** Trains a small model on one task, and measures it; throws the signal's reason when it is raised. */
export async function solve(
  backend: Backend,
  task: SyntheticTask,
  name: string,
  { steps = 1000, batch = 64, learningRate = 1e-2, seed = 0, signal, onStep }: BenchTasksOptions,
): Promise<TaskResult> {
  const type = name.replace('-negative', '');
  const sizes = { width: 64, layers: 2, vocabulary: Math.max(8, task.vocabulary) };
  const own = {
    ...(architecturesWith('headWidth').includes(type) && { headWidth: 32 }),
    ...(architecturesWith('inner').includes(type) && { inner: 128 }),
    ...(name !== type && { negativeEigenvalues: true }),
  };
  const { config, tensors } = newModel(type, { ...sizes, ...own });
  const architecture = architectureOf(config, tensors);
  const graph = traceModel(architecture, architecture.config(config, tensors));
  const longest = Math.max(...task.measured) + 8;
  const together = Math.max(2048, longest);
  const capacity = { tokens: together, segments: batch, outputs: together };
  const learner = new Learner(backend, prediction(graph, learnedBy(graph, { weightDecay: 0 })), capacity);
  const pause = async () => {
    await setImmediate();
    signal?.throwIfAborted();
  };
  try {
    drawInitial(learner, seed);
    const rate = makeSchedule({ learningRate, warmup: Math.min(50, steps) }, steps);
    const accuracyAt = async (length: number) => {
      const random = new Random(length + 1);
      const examples = Array.from({ length: MEASURED }, () => task.make(random, length));
      const batches = { capacity, tokensPerStep: 0, stepsPerEpoch: 0, parts: () => [] };
      return (await measuring(examples, batches, sizes.vocabulary)(learner, pause)).accuracy!;
    };
    const partsOf = (step: number) => {
      const random = new Random(1e6 * (seed + 1) + step);
      const [least, most] = task.lengths;
      const examples = Array.from({ length: batch }, () => task.make(random, least + random.integer(most - least + 1)));
      return exampleParts(examples, together, batch);
    };
    const parameters = [...graph.parameters.values()].reduce(
      (sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1),
      0,
    );
    const start = performance.now();
    const row = () => {
      const seconds = (performance.now() - start) / 1000;
      return { task: task.name, architecture: name, parameters, steps: step, seconds, learningRate, seed };
    };
    const diverged = (what: string): TaskResult => ({
      ...row(),
      accuracy: [],
      diverged: notFinite(what, rate(Math.max(0, step - 1))).message,
    });
    let step = 0;
    while (step < steps) {
      await pause();
      const { loss, gradientNorm } = await learner.step(partsOf(step), rate(step), ++step);
      onStep?.({ task: task.name, architecture: name, step, loss });
      if (!Number.isFinite(loss)) return diverged(`the loss of step ${step}`);
      if (!Number.isFinite(gradientNorm)) return diverged(`the gradient of step ${step}`);
      const last = task.measured.at(-1)!;
      if (step % LOOK === 0 && (await accuracyAt(task.measured[0]!)) >= SOLVED && (await accuracyAt(last)) >= SOLVED)
        break;
    }
    const made = row();
    const unsound = step > 0 ? await learner.unsound(partsOf(step)) : undefined;
    if (unsound !== undefined) return diverged(`after step ${step} ${unsound}`);
    const accuracy = [];
    for (const length of task.measured) accuracy.push({ length, accuracy: await accuracyAt(length) });
    return { ...made, accuracy };
  } finally {
    learner.dispose();
  }
}

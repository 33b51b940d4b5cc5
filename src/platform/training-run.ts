import { appendFileSync, existsSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { InputError, TrainingError } from '../core/errors.ts';
import { openSafetensors } from '../formats/safetensors.ts';
import {
  type Progress,
  refuseOtherSettings,
  restoreTraining,
  trainingCheckpoint,
  warmupBefore,
} from '../train/checkpoint.ts';
import type { Batches } from '../train/corpus.ts';
import type { Learner, Pause } from '../train/learner.ts';
import { type LoggedStep, lossChart, lossTable } from '../train/loss-chart.ts';
import { defaultWarmup, makeSchedule, type ScheduleOptions, scheduleNames } from '../train/schedule.ts';
import { type Evaluation, notFinite, type TrainRecord, train } from '../train/trainer.ts';
import { CHECKPOINT } from './model-files.ts';
import { explain, openFile, removeLeftovers, writeFileAtomically } from './node-file.ts';
import { BEGUN, canResume, LOG } from './training-folder.ts';

/** What all trainings have to say about their steps. */
export interface RunOptions extends Omit<ScheduleOptions, 'learningRate'> {
  /** Default 0.003. */
  readonly learningRate?: number | undefined;
  /** Steps between evaluations. Default: a tenth of all. */
  readonly evaluateEvery?: number | undefined;
  /** Evaluations in a row without a better one after which the training ends. */
  readonly patience?: number | undefined;
  /** Steps between checkpoints. Default 100. */
  readonly checkpointEvery?: number | undefined;
  /**
   * Goes on from the folder's checkpoint, if there is one. Settings must be the same; only the schedule and the number of steps may be others, if
   * every step made so far would have had the same learning rate.
   */
  readonly resume?: boolean | undefined;
  /** Ends the training after the step in hand, with a checkpoint. */
  readonly signal?: AbortSignal | undefined;
}

export const runOptionNames = [
  ...scheduleNames,
  ...(['evaluateEvery', 'patience', 'checkpointEvery', 'resume', 'signal'] as const),
];

/** What is trained, and where it goes. */
export interface Run {
  readonly learner: Learner;
  readonly batches: Batches;
  readonly steps: number;
  readonly evaluate?: ((pause: Pause) => Promise<Evaluation>) | undefined;
  /** The folder. */
  readonly output: string;
  /** All that makes this training what it is: one with other settings is another. */
  readonly settings: object;
  /** Gives the learner its first values, where it has none. */
  begin?(): void | Promise<void>;
  /** Writes what was learned so far. */
  save(): Promise<void>;
}

/** How a training ended. */
export interface Trained {
  readonly output: string;
  /** The last step that was made. */
  readonly step: number;
  readonly steps: number;
  /** Tokens seen. */
  readonly tokens: number;
  /** Loss of the last step. */
  readonly loss: number | undefined;
  readonly best: TrainRecord['best'];
  /** Bytes that parameters, gradients, means and working memory took. */
  readonly bytes: number;
  /** Whether there is more to do: it was interrupted, and `resume` goes on. */
  readonly interrupted: boolean;
}

/**
 * Runs a training in a folder: `log.jsonl` gets one line a step, `loss.csv` and `loss.svg` the whole of it, `training.safetensors` what is needed to go on exactly, and what
 * was learned is saved at the best evaluation, or at the end where nothing is evaluated. One that is left (`break`) ends as one whose signal is raised.
 */
export async function* runTraining(run: Run, options: RunOptions): AsyncGenerator<TrainRecord, Trained> {
  const { learner, batches, steps, evaluate, output } = run;
  const { learningRate = 3e-3, resume = false, signal, patience, checkpointEvery = 100 } = options;
  const { evaluateEvery = Math.max(1, Math.round(steps / 10)) } = options;
  const file = join(output, CHECKPOINT);
  await removeLeftovers(output);
  const before = resume && canResume(output) ? await openSafetensors(await openFile(file)) : undefined;
  const warmup = options.warmup ?? (before && warmupBefore(before)) ?? defaultWarmup(steps);
  const settings = JSON.stringify({ ...run.settings, learningRate, steps, warmup });
  let progress: Progress = { step: 0 };
  try {
    if (before) progress = await restoreTraining(learner, before, settings);
    else await beginAnew(run, settings, resume);
  } finally {
    await before?.close();
  }
  let kept = canResume(output) ? progress.step : undefined;
  let written = progress.best;
  let sound = 0;
  // Before the first step everything is as it was given.
  const refuseUnsound = async () => {
    const { step } = progress;
    if (step === sound) return;
    const found = await learner.unsound(batches.parts(step));
    if (found !== undefined) throw await diverged(notFinite(`after step ${step} ${found}`, rate(step - 1)));
    sound = step;
  };
  const checkpoint = async () => {
    await refuseUnsound();
    await writeFileAtomically(file, [trainingCheckpoint(learner, progress, settings)]).catch((cause) => {
      throw unwritten(cause, 'checkpoint', progress.step, output);
    });
    rmSync(join(output, BEGUN), { force: true });
    kept = progress.step;
  };
  const save = async () => {
    await refuseUnsound();
    await run.save().catch((cause) => {
      throw unwritten(cause, 'model', progress.step, output);
    });
    written = progress.best;
  };
  const log = new Log(join(output, LOG), progress.unevaluated ? progress.step - 1 : progress.step);
  const { schedule, finalRate, decaySteps } = options;
  const rates = defined({ schedule, warmup, finalRate, decaySteps });
  const { step: done, best, unevaluated } = progress;
  let loss: number | undefined;
  const evaluated = evaluate && (() => evaluate(() => paused(signal)));
  const training = train(learner, batches, {
    ...rates,
    ...{ learningRate, steps, done, best, unevaluated, evaluate: evaluated, evaluateEvery, patience, signal },
  });
  const rate = makeSchedule({ ...rates, learningRate }, steps);
  const diverged = async (cause: unknown): Promise<unknown> => {
    if (!(cause instanceof TrainingError)) return cause;
    // What the training came to says more than what its curves did.
    await writeCurves(output).catch(() => undefined);
    return divergence(cause, { file, step: kept, best: written });
  };
  const following = () =>
    training.next().catch(async (cause) => {
      throw await diverged(cause);
    });
  let next = await following();
  let isLeft = false;
  try {
    for (; !next.done; next = await following()) {
      const record = next.value;
      if (record.evaluation && !Number.isFinite(record.evaluation.loss)) {
        log.add({ ...record, evaluation: undefined });
        continue;
      }
      progress = { step: record.step, best: record.best };
      loss = record.loss;
      log.add(record);
      if (record.evaluation?.isBest) await save();
      if (record.step % checkpointEvery === 0) await checkpoint();
      isLeft = true;
      yield record;
      isLeft = false;
      // On one thread nothing else lets signals and timers through: Ctrl-C would wait for the next checkpoint.
      await setImmediate();
    }
  } finally {
    if (isLeft) {
      await checkpoint();
      await writeCurves(output);
    }
  }
  if (next.value) {
    const { step, ...result } = next.value;
    loss = result.loss;
    progress = { step, best: progress.best, unevaluated: result };
  }
  await checkpoint();
  const interrupted = signal?.aborted === true && (progress.step < steps || progress.unevaluated !== undefined);
  if ((!evaluate || steps === 0) && !interrupted) await save();
  await writeCurves(output);
  const { step } = progress;
  return {
    output,
    step,
    steps,
    tokens: step * batches.tokensPerStep,
    loss,
    best: progress.best,
    bytes: learner.bytes,
    interrupted,
  };
}

/** Begins a training; InputError where it is to go on with one that has other settings, though it ended before its first checkpoint. */
async function beginAnew(run: Run, settings: string, resume: boolean): Promise<void> {
  const path = join(run.output, BEGUN);
  if (resume && existsSync(path)) refuseOtherSettings(path, readFileSync(path, 'utf8'), settings);
  await writeFileAtomically(path, [settings]);
  await run.begin?.();
}

/** The error for what could not be written: what is left, and how to go on. */
function unwritten(cause: unknown, what: string, step: number, output: string): unknown {
  if (!(cause instanceof InputError)) return cause;
  const left = canResume(output)
    ? 'the checkpoint before it is as it was, and a resumed training goes on from it'
    : 'there is no checkpoint before it';
  return new InputError(`${cause.message}. The ${what} of step ${step} is not written; ${left}`, { cause });
}

/** The error of a training that diverged: what can be done, and what there is. */
function divergence(
  cause: TrainingError,
  {
    file,
    step,
    best,
  }: { readonly file: string; readonly step: number | undefined; readonly best: TrainRecord['best'] },
): TrainingError {
  const model = best ? `The folder has the model of step ${best.step}, the best evaluation. ` : '';
  const left =
    step === undefined
      ? 'There is no checkpoint'
      : `${file} is the checkpoint of step ${step}, from which the same settings come to the same end`;
  return new TrainingError(
    `${cause.message}. Begin anew in another folder, with a lower learning rate or a longer warm-up. ${model}${left}`,
    { cause },
  );
}

/** Lets signals and timers through; throws when the signal is raised. */
async function paused(signal: AbortSignal | undefined): Promise<void> {
  await setImmediate();
  signal?.throwIfAborted();
}

/** The steps in a folder's log; none where there is no log. */
export function loggedSteps(output: string): LoggedStep[] {
  if (!existsSync(join(output, LOG))) return [];
  // What follows the last line's end is nothing, or a line that a full disk cut off.
  const lines = readFileSync(join(output, LOG), 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as LoggedStep);
}

/** The log as a table and as a picture. */
async function writeCurves(output: string): Promise<void> {
  const steps = loggedSteps(output);
  if (steps.length === 0) return;
  await writeFileAtomically(join(output, 'loss.csv'), [lossTable(steps)]);
  await writeFileAtomically(join(output, 'loss.svg'), [lossChart(steps)]);
}

/** The same object without what is undefined. */
export const defined = <T extends object>(values: T): { [K in keyof T]: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as never;

/** One line of JSON for every step; of a resumed training, those after its checkpoint are made anew. */
class Log {
  readonly #path: string;

  constructor(path: string, done: number) {
    this.#path = path;
    if (done === 0) rmSync(path, { force: true });
    else if (existsSync(path)) this.#keep(done);
  }

  #keep(done: number): void {
    const bytes = readFileSync(this.#path);
    let lines = 0;
    let end = 0;
    for (; lines < done && end < bytes.length; lines++) {
      const next = bytes.indexOf(10, end);
      if (next < 0) break;
      end = next + 1;
    }
    truncateSync(this.#path, end);
  }

  add({ step, tokens, loss, learningRate, gradientNorm, tokensPerSecond, evaluation }: TrainRecord): void {
    const line = {
      step,
      tokens,
      loss,
      learningRate,
      gradientNorm,
      tokensPerSecond: Math.round(tokensPerSecond),
      evaluation,
    };
    try {
      appendFileSync(this.#path, `${JSON.stringify(line)}\n`);
    } catch (cause) {
      throw new InputError(explain(cause as NodeJS.ErrnoException, this.#path), { cause });
    }
  }
}

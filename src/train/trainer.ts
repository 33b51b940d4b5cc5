import { InputError, TrainingError } from '../core/errors.ts';
import type { Batches } from './corpus.ts';
import type { Learner, StepResult } from './learner.ts';
import { makeSchedule, type ScheduleOptions } from './schedule.ts';

export interface TrainerOptions extends ScheduleOptions {
  /** Steps in all. */
  readonly steps: number;
  /** Steps made before, when a training is resumed. */
  readonly done?: number | undefined;
  /** Measures what is not learned from; may throw the signal's reason when it is raised. */
  readonly evaluate?: (() => Promise<Evaluation>) | undefined;
  /** The last of the steps made before, if the signal was raised while it was evaluated. */
  readonly unevaluated?: StepResult | undefined;
  /** Steps between evaluations; the last step is followed by one too. Default: only after the last. */
  readonly evaluateEvery?: number | undefined;
  /** Ends the training when this many evaluations in a row were no better than the best. Default: never. */
  readonly patience?: number | undefined;
  /** The best evaluation before, when a training is resumed. */
  readonly best?: Best | undefined;
  /** Ends the training after the step in hand; what was learned stays. */
  readonly signal?: AbortSignal | undefined;
}

export interface Evaluation {
  /** Mean surprise in nats: per token, or per label. */
  readonly loss: number;
  /** Labels that are right, as a fraction; where there are labels it tells which evaluation is best. */
  readonly accuracy?: number;
}

export interface Best extends Evaluation {
  readonly step: number;
}

/** What is told of every step. */
export interface TrainRecord {
  /** From 1. */
  readonly step: number;
  readonly steps: number;
  /** Tokens seen in all. */
  readonly tokens: number;
  /** Mean surprise per token in nats, before the step. */
  readonly loss: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  readonly tokensPerSecond: number;
  readonly secondsLeft: number;
  /** Where the step was followed by an evaluation: what it found, and whether it is the best so far. A loss that is no number is none. */
  readonly evaluation?: Evaluation & { readonly isBest: boolean };
  /** The best evaluation so far. */
  readonly best?: Best | undefined;
}

/** A step that is made, but whose evaluation was ended by the signal. */
export interface UnevaluatedStep extends StepResult {
  readonly step: number;
}

/**
 * Trains: one record per step. It ends after the last step, when the signal is raised, or when evaluations no longer get better.
 * A step whose evaluation was ended by the signal has no record yet: it is returned, and a training that goes on begins with it.
 * TrainingError when the loss or the gradient is not finite: the step is not made then; and after the record of an evaluation whose loss is not.
 */
export async function* train(
  learner: Learner,
  batches: Batches,
  options: TrainerOptions,
): AsyncGenerator<TrainRecord, UnevaluatedStep | undefined> {
  const { steps, done = 0, evaluate, patience = Infinity, signal } = options;
  const evaluateEvery = options.evaluateEvery ?? Infinity;
  if (!Number.isSafeInteger(steps) || steps < 0)
    throw new InputError(`steps is ${steps}: it must be a whole number, 0 for none`);
  const rate = makeSchedule(options, steps);
  let best = options.best;
  // A training that goes on has had as many evaluations since its best as one that never ended.
  const evaluations = options.unevaluated ? done - 1 : done;
  let worse = best ? Math.floor(evaluations / evaluateEvery) - Math.floor(best.step / evaluateEvery) : 0;
  let speed = 0;
  let made = options.unevaluated;
  for (let step = made ? done - 1 : done; step < steps; step++) {
    if (signal?.aborted || worse >= patience) return made && { step: done, ...made };
    const start = performance.now();
    const { loss, gradientNorm } = made ?? (await learner.step(batches.parts(step), rate(step), step + 1));
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm))
      throw notFinite(`the ${Number.isFinite(loss) ? 'gradient' : 'loss'} of step ${step + 1}`, rate(step));
    const seconds = (performance.now() - start) / 1000;
    if (!made)
      speed = speed === 0 ? batches.tokensPerStep / seconds : 0.9 * speed + (0.1 * batches.tokensPerStep) / seconds;
    let evaluated: TrainRecord['evaluation'];
    if (evaluate && ((step + 1) % evaluateEvery === 0 || step + 1 === steps)) {
      const found = await evaluate().catch((error: unknown) => {
        if (!signal?.aborted || error !== signal.reason) throw error;
      });
      if (!found) return { step: step + 1, loss, gradientNorm };
      const isBest = Number.isFinite(found.loss) && (best === undefined || isBetter(found, best));
      if (isBest) best = { step: step + 1, ...found };
      worse = isBest ? 0 : worse + 1;
      evaluated = { ...found, isBest };
    }
    made = undefined;
    yield {
      step: step + 1,
      steps,
      tokens: (step + 1) * batches.tokensPerStep,
      loss,
      learningRate: rate(step),
      gradientNorm,
      tokensPerSecond: speed,
      secondsLeft: speed > 0 ? ((steps - step - 1) * batches.tokensPerStep) / speed : 0,
      ...(evaluated && { evaluation: evaluated }),
      best,
    };
    if (evaluated && !Number.isFinite(evaluated.loss))
      throw notFinite(`the evaluation after step ${step + 1}`, rate(step));
  }
  return undefined;
}

/** The error of a training in which something is no number any more. */
export const notFinite = (what: string, learningRate: number): TrainingError =>
  new TrainingError(
    `${what} is not finite: the training diverged at a learning rate of ${Number(learningRate.toPrecision(3))}`,
  );

const isBetter = (a: Evaluation, b: Evaluation): boolean =>
  a.accuracy !== undefined && b.accuracy !== undefined && a.accuracy !== b.accuracy
    ? a.accuracy > b.accuracy
    : a.loss < b.loss;

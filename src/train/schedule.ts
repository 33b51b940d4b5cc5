import { InputError } from '../core/errors.ts';

/** How the learning rate goes over a training. */
export interface ScheduleOptions {
  /**
   * After the warm-up: `constant`; `cosine`, half a cosine down to `finalRate`; `linear` down to it; `wsd` (warm-up, stable,
   * decay: Hu et al. 2024), constant and then linear down over the last `decaySteps`.
   */
  readonly schedule?: 'constant' | 'cosine' | 'linear' | 'wsd';
  /** The highest learning rate. */
  readonly learningRate: number;
  /** Steps in which the rate rises linearly from 0. Default: 5 % of all, at most 200; of a training that goes on, those that it had. */
  readonly warmup?: number;
  /** What is left of the rate at the end, as a fraction. Default 0.1. */
  readonly finalRate?: number;
  /** `wsd` only: steps of the decay. Default: 20 % of all. */
  readonly decaySteps?: number;
}

export const scheduleNames = ['schedule', 'learningRate', 'warmup', 'finalRate', 'decaySteps'] as const;

/** Steps of the warm-up where none are said. */
export const defaultWarmup = (steps: number): number => Math.min(200, Math.round(steps / 20));

/** The learning rate of step `step` (from 0) of `steps`. */
export type Schedule = (step: number) => number;

/** InputError for numbers that make no schedule. */
export function makeSchedule(options: ScheduleOptions, steps: number): Schedule {
  const { schedule = 'cosine', learningRate, finalRate = 0.1 } = options;
  const { warmup = defaultWarmup(steps), decaySteps = Math.max(1, Math.round(steps / 5)) } = options;
  if (!(learningRate > 0)) throw new InputError(`learningRate is ${learningRate}: it must be above 0`);
  if (!(warmup >= 0)) throw new InputError(`warmup is ${warmup}: it must be a number of steps`);
  if (!(finalRate >= 0 && finalRate <= 1)) throw new InputError(`finalRate is ${finalRate}: it must be from 0 to 1`);
  if (!(decaySteps >= 1)) throw new InputError(`decaySteps is ${decaySteps}: it must be at least 1`);
  const shapes: Readonly<Record<string, (progress: number, step: number) => number>> = {
    constant: () => 1,
    cosine: (progress) => finalRate + (1 - finalRate) * 0.5 * (1 + Math.cos(Math.PI * progress)),
    linear: (progress) => 1 - (1 - finalRate) * progress,
    // The last step has the final rate, as that of the others.
    wsd: (_, step) => 1 - (1 - finalRate) * clamp((step - (steps - 1 - decaySteps)) / decaySteps),
  };
  const shape = shapes[schedule];
  if (!shape) throw new InputError(`schedule is ${schedule}: it must be one of ${Object.keys(shapes).join(', ')}`);
  return (step) => {
    if (step < warmup) return (learningRate * (step + 1)) / warmup;
    return learningRate * shape(clamp((step - warmup) / Math.max(1, steps - 1 - warmup)), step);
  };
}

const clamp = (x: number): number => Math.min(1, Math.max(0, x));

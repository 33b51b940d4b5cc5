import { InputError } from '../core/errors.ts';
import type { ScheduleOptions } from './schedule.ts';

const limits = {
  'a whole number above 0': (value: number) => Number.isSafeInteger(value) && value > 0,
  'a whole number, 0 or above': (value: number) => Number.isSafeInteger(value) && value >= 0,
  'a whole number': (value: number) => Number.isSafeInteger(value),
  'a number above 0': (value: number) => Number.isFinite(value) && value > 0,
  'a number, 0 or above': (value: number) => Number.isFinite(value) && value >= 0,
} as const;

/** What the numbers among the options of trainings must be. */
const optionLimits: Readonly<Record<string, keyof typeof limits>> = {
  batch: 'a whole number above 0',
  together: 'a whole number above 0',
  length: 'a whole number above 0',
  vocabulary: 'a whole number above 0',
  evaluateEvery: 'a whole number above 0',
  evaluationWindows: 'a whole number above 0',
  evaluationLength: 'a whole number above 0',
  patience: 'a whole number above 0',
  checkpointEvery: 'a whole number above 0',
  rank: 'a whole number above 0',
  decaySteps: 'a whole number above 0',
  steps: 'a whole number, 0 or above',
  epochs: 'a whole number, 0 or above',
  warmup: 'a whole number, 0 or above',
  seed: 'a whole number',
  learningRate: 'a number above 0',
  clip: 'a number above 0',
  alpha: 'a number above 0',
  weightDecay: 'a number, 0 or above',
};

/** InputError for a number that makes no training, by its option's name. */
export function refuseSenselessNumbers(options: object): void {
  for (const [name, value] of Object.entries(options)) {
    const limit = optionLimits[name];
    if (limit !== undefined && value !== undefined && !(typeof value === 'number' && limits[limit](value)))
      throw new InputError(`${name} is ${String(value)}: it must be ${limit}`);
  }
}

const lists = ['data', 'validation', 'undecayed', 'columns'];
const texts = ['architecture', 'model', 'output', 'field', 'label', 'tokenizer', 'targets'];

/** InputError for options that are missing, that are no text, or no list of some, where one is wanted. */
export function refuseOtherKinds<T extends object>(options: T, wanted: readonly (keyof T & string)[]): void {
  const isText = (value: unknown) => typeof value === 'string' && value !== '';
  for (const name of wanted)
    if (options[name] === undefined) throw new InputError(`${name} is missing: it must be ${kindOf(name)}`);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    const isOther =
      (texts.includes(name) && !isText(value)) ||
      (lists.includes(name) && !(Array.isArray(value) && value.length > 0 && value.every(isText)));
    if (isOther) throw new InputError(`${name} is ${JSON.stringify(value)}: it must be ${kindOf(name)}`);
  }
}

const kindOf = (name: string): string => (lists.includes(name) ? 'a list of texts, as ["…"]' : 'a text');

/** InputError for options that say nothing where `reason` holds. */
export function refuseIdle<T extends object>(options: T, names: readonly (keyof T & string)[], reason: string): void {
  const idle = names.find((name) => options[name] !== undefined);
  if (idle !== undefined) throw new InputError(`${idle} is given, but ${reason}: leave it out`);
}

/** InputError for options that the schedule has not. */
export function refuseIdleSchedule(
  options: Pick<Partial<ScheduleOptions>, 'schedule' | 'finalRate' | 'decaySteps'>,
): void {
  const { schedule = 'cosine' } = options;
  if (schedule !== 'wsd') refuseIdle(options, ['decaySteps'], `the schedule is ${schedule}`);
  if (schedule === 'constant') refuseIdle(options, ['finalRate'], `the schedule is ${schedule}`);
}

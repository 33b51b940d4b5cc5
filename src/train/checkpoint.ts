import { FormatError, InputError } from '../core/errors.ts';
import type { Checkpoint } from '../formats/checkpoint.ts';
import { readF32 } from '../formats/read-f32.ts';
import { safetensorsOf, type WrittenTensor } from '../formats/safetensors-writer.ts';
import type { Learner, StepResult } from './learner.ts';
import { makeSchedule, type ScheduleOptions, scheduleNames } from './schedule.ts';
import type { Best } from './trainer.ts';

/** Where a training is. */
export interface Progress {
  /** Steps made. */
  readonly step: number;
  readonly best?: Best | undefined;
  /** The last step's result, where its evaluation is still to be made. */
  readonly unevaluated?: StepResult | undefined;
  /** Where texts have been read to whose states are carried from step to step: tokens before, by stream. */
  readonly streams?: Readonly<Record<string, number>>;
}

/** The bytes of a safetensors file from which a training goes on exactly: parameters, AdamW's means, carried states, and where it is. */
export function trainingCheckpoint(learner: Learner, progress: Progress, settings: string): Uint8Array<ArrayBuffer> {
  const tensors = learner.trained.flatMap((name) =>
    [name, `mean:${name}`, `square:${name}`].map((key) =>
      tensor(key, learner.parameters.get(name)!.shape, learner.read(key)),
    ),
  );
  const { streams } = learner;
  const states = [...streams].flatMap(([stream, { states }]) =>
    learner.carries.map(({ name, shape }) => tensor(streamKey(stream, name), shape, states.get(name)!)),
  );
  const positions = Object.fromEntries([...streams].map(([stream, { position }]) => [stream, position]));
  return safetensorsOf([...tensors, ...states], {
    format: 'riverrun-training',
    progress: JSON.stringify(streams.size > 0 ? { ...progress, streams: positions } : progress),
    settings,
  }) as Uint8Array<ArrayBuffer>;
}

/** The tensor of what a stream carries under a name. */
const streamKey = (stream: number, name: string): string => `stream:${stream}:${name}`;

export function tensor(
  name: string,
  shape: readonly number[],
  values: Float32Array,
): WrittenTensor & { data: Uint8Array } {
  return { name, type: 'f32', shape, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}

/**
 * Puts a learner where a checkpoint left off. InputError when it is of another training: one with other settings, but for a schedule that would have given
 * the same learning rate to every step that was made. So a training of a constant rate can go on for longer, and decay where one wishes.
 */
export async function restoreTraining(learner: Learner, checkpoint: Checkpoint, settings: string): Promise<Progress> {
  const { progress, settings: stored } = checkpoint.metadata as Record<string, string>;
  if (progress === undefined) throw new FormatError(`${checkpoint.name} is no checkpoint of a training`);
  const { streams = {}, ...reached } = JSON.parse(progress) as Progress;
  refuseOtherSettings(checkpoint.name, stored ?? '', settings, reached.step);
  const read = async (key: string, shape: readonly number[]) => {
    const found = checkpoint.tensors.get(key);
    if (!found) throw new FormatError(`${checkpoint.name} has no tensor ${key}`);
    if (found.shape.join() !== shape.join())
      throw new FormatError(`${checkpoint.name}: ${key} is [${found.shape.join(', ')}], not [${shape.join(', ')}]`);
    return await readF32(checkpoint, found);
  };
  for (const name of learner.trained)
    for (const key of [name, `mean:${name}`, `square:${name}`])
      learner.write(key, await read(key, learner.parameters.get(name)!.shape));
  for (const [stream, position] of Object.entries(streams)) {
    const states = new Map<string, Float32Array>();
    for (const { name, shape } of learner.carries) states.set(name, await read(streamKey(Number(stream), name), shape));
    learner.resumeStream(Number(stream), position, states);
  }
  return reached;
}

/** The steps of the warm-up that a checkpoint's training had, if it has made a step: a default for other numbers of steps would be another. */
export function warmupBefore({ metadata }: Checkpoint): number | undefined {
  const { progress, settings = '' } = metadata as Record<string, string>;
  const { warmup } = parsed(settings);
  return progress !== undefined && (JSON.parse(progress) as Progress).step > 0 ? (warmup as number) : undefined;
}

type Settings = Readonly<Record<string, unknown>>;

/** InputError where a training that has made `done` steps, as a file tells of it, had other settings than those that are given now. */
export function refuseOtherSettings(file: string, stored: string, given: string, done = 0): void {
  const [before, now] = [parsed(stored), parsed(given)];
  const changed = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter(
    (name) => shown(before[name]) !== shown(now[name]),
  );
  const difference = changed.map((name) => `${name} was ${shown(before[name])}, is ${shown(now[name])}`).join('; ');
  const otherwise = 'give the same ones, or begin anew in another folder';
  if (!changed.every((name) => ['steps', ...scheduleNames].includes(name)))
    throw new InputError(`${file} is of a training with other settings (${difference}): ${otherwise}`);
  if (changed.length === 0) return;
  const other = firstOtherRate(before, now, done);
  if (other !== undefined)
    throw new InputError(
      `${file} has made ${done} steps, and step ${other + 1} would have had another learning rate with these settings (${difference}): ${otherwise}`,
    );
  if ((now['steps'] as number) < done)
    throw new InputError(`${file} has made ${done} steps, more than the ${shown(now['steps'])} asked for`);
}

/** The first of the steps made (from 0) to which two schedules give different rates. */
function firstOtherRate(before: Settings, now: Settings, done: number): number | undefined {
  const [a, b] = [before, now].map((settings) =>
    makeSchedule(settings as unknown as ScheduleOptions, settings['steps'] as number),
  );
  for (let step = 0; step < done; step++) if (a!(step) !== b!(step)) return step;
  return undefined;
}

const shown = (value: unknown): string => JSON.stringify(value) ?? 'none';

function parsed(text: string): Settings {
  try {
    return JSON.parse(text) as Settings;
  } catch {
    return {};
  }
}

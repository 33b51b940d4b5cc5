import { existsSync, readdirSync, rmdirSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { InputError } from '../core/errors.ts';
import { type Holder, type Release, tryLockFile } from './lock-file.ts';
import { CHECKPOINT } from './model-files.ts';
import { explain, makeFolder } from './node-file.ts';

/** The file with a line for every step of a training. */
export const LOG = 'log.jsonl';

/** The file that tells what a training was begun with, until its first checkpoint does. */
export const BEGUN = 'training.json';

const LOCK = 'training.lock';

/** A training touches its lock between steps: one that takes longer than this is none. */
const LONGEST_STEP = 300_000;

/** Whether there is a training in the folder to go on with. */
export const canResume = (output: string): boolean => existsSync(join(output, CHECKPOINT));

/** Whether a training in the folder has a checkpoint to go on with, or came as far as its first step. */
const hasBegun = (output: string): boolean => canResume(output) || existsSync(join(output, LOG));

/** Whether the folder has the tokenizer of a training that can be told from others: there is a checkpoint, or what it was begun with. */
export const hasTokenizer = (output: string): boolean =>
  existsSync(join(output, 'tokenizer.json')) && (canResume(output) || existsSync(join(output, BEGUN)));

/**
 * Takes a folder for a training, so that no other has it until it is released; it is made if need be, and is gone again if nothing was written. InputError for a
 * folder that another training has, or that has something in it, but for a training that is to go on, or ended before its first checkpoint.
 */
export async function takeFolder(output: string, resume = false): Promise<Release> {
  refuseFile(output);
  const made = makeFolder(output);
  const lock = join(output, LOCK);
  const taken = await tryLockFile(lock, LONGEST_STEP).catch((cause: NodeJS.ErrnoException) => {
    removeEmpty(output, made);
    throw new InputError(explain(cause, lock), { cause });
  });
  if (typeof taken !== 'function') throw new InputError(inUse(output, taken));
  const release = async () => {
    await taken();
    removeEmpty(output, made);
  };
  if ((resume && hasBegun(output)) || isUnbegun(output)) return release;
  await release();
  throw new InputError(`${output} is not empty: name another folder, or resume the training that is in it`);
}

function inUse(output: string, { pid, host }: Holder): string {
  const process = `process ${pid}${host === hostname() ? '' : ` of ${host}`}`;
  return `${output} is in use: ${pid === undefined ? 'another process' : process} trains into it. Wait until that has ended, or name another folder; if it is no training, remove ${join(output, LOCK)}`;
}

/** InputError for a folder that can't be made, since there is a file at its place or above. */
function refuseFile(output: string): void {
  for (let path = resolve(output); ; path = dirname(path)) {
    // Below a file there is nothing.
    const there = existsSync(path) ? statSync(path) : undefined;
    if (there && !there.isDirectory())
      throw new InputError(`${output} can not be made a folder: ${path === resolve(output) ? 'it' : path} is a file`);
    if (there || path === dirname(path)) return;
  }
}

/** Removes the folders that were made, from `output` up to `made`, as far as there is nothing in them. */
function removeEmpty(output: string, made: string | undefined): void {
  if (made === undefined) return;
  try {
    for (let path = resolve(output); ; path = dirname(path)) {
      rmdirSync(path);
      if (path === resolve(made)) return;
    }
  } catch {
    // What has something in it stays.
  }
}

/** A tokenizer may be there before anything is learned, or what was written of one, and what a training was to begin with. */
const isUnbegun = (folder: string): boolean =>
  readdirSync(folder).every((name) => ['tokenizer.json', BEGUN, LOCK].some((known) => name.startsWith(known)));

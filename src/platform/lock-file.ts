import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { makeFolder } from './node-file.ts';

const pollInterval = 100;
const heartbeat = 5_000;
/** Twelve heartbeats missed: whoever held the lock is gone. */
const stale = 60_000;

export type Release = () => Promise<void>;

/**
 * Waits until no other process holds the lock file at `path`, and takes it; `release` gives it back. The file names its
 * holder, so that the lock of a process that has ended on this machine is taken over at once; elsewhere when it has not been
 * touched for a minute.
 */
export async function lockFile(path: string, signal: AbortSignal): Promise<Release> {
  makeFolder(dirname(path));
  const owner = newOwner();
  while (!(await create(path, owner))) {
    await removeIfStale(path, stale);
    await pause(pollInterval, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
  return held(path, owner);
}

/** Who holds a lock; nothing where that is not written yet. */
export interface Holder {
  readonly pid?: number;
  readonly host?: string;
}

/** Takes the lock file at `path` as `lockFile` does, or tells who holds it: one that has not been touched for `limit` milliseconds is of no one. */
export async function tryLockFile(path: string, limit: number): Promise<Release | Holder> {
  const owner = newOwner();
  // A lock that is given back, or left by a process that has ended, makes room once.
  for (let tries = 0; tries < 3; tries++) {
    if (await create(path, owner)) return held(path, owner);
    await removeIfStale(path, limit);
  }
  const { pid, host } = ownerOf((await read(path)) ?? '');
  return { ...(pid !== undefined && { pid }), ...(host !== undefined && { host }) };
}

const newOwner = (): string =>
  JSON.stringify({ host: hostname(), pid: process.pid, id: randomUUID(), since: Date.now() });

/** Touches a lock that was taken until it is released. */
function held(path: string, owner: string): Release {
  const beat = setInterval(() => {
    utimes(path, new Date(), new Date()).catch(() => {});
  }, heartbeat);
  beat.unref();
  return async () => {
    clearInterval(beat);
    if ((await read(path)) === owner) await rm(path, { force: true });
  };
}

async function create(path: string, owner: string): Promise<boolean> {
  const handle = await open(path, 'wx').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  if (!handle) return false;
  try {
    await handle.writeFile(owner);
    return true;
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
}

async function removeIfStale(path: string, limit: number): Promise<void> {
  const owner = await read(path);
  if (owner === undefined || !(await isStale(path, owner, limit))) return;
  // Renamed first: of several that wait, only one removes this lock, and none one that was made since.
  const aside = `${path}.${randomUUID()}`;
  await rename(path, aside).catch(ignoreMissing);
  const taken = await read(aside);
  if (taken !== undefined && taken !== owner) await rename(aside, path).catch(ignoreMissing);
  await rm(aside, { force: true });
}

async function isStale(path: string, owner: string, limit: number): Promise<boolean> {
  const info = await stat(path).catch(ignoreMissing);
  if (info === undefined) return false;
  if (Date.now() - info.mtimeMs > limit) return true;
  const { host, pid, since = Infinity } = ownerOf(owner);
  if (host !== hostname() || pid === undefined) return false;
  // In a container that is started anew processes have the ids that they had.
  return !isRunning(pid) || (pid === process.pid && since < Date.now() - 1000 * process.uptime());
}

/** Whom a lock file names; nothing where it is not written yet. */
function ownerOf(text: string): { host?: string; pid?: number; since?: number } {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  return !hasEnded(pid);
}

/** Whether a process only waits for its parent to take note of its end: Linux tells, others count it as running. */
function hasEnded(pid: number): boolean {
  try {
    return /\) Z [^)]*$/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

const read = (path: string): Promise<string | undefined> => readFile(path, 'utf8').catch(ignoreMissing);

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

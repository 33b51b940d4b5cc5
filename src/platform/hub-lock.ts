import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const pollInterval = 100;
const heartbeat = 5_000;
/** Twelve heartbeats missed: whoever held the lock is gone. */
const stale = 60_000;

/**
 * Waits until no other process holds the lock file at `path`, and takes it; `release` gives it back. The file names its
 * holder, so that the lock of a process that has ended on this machine is taken over at once; elsewhere when it has not been
 * touched for a minute.
 */
export async function lockFile(path: string, signal: AbortSignal): Promise<() => Promise<void>> {
  await mkdir(dirname(path), { recursive: true });
  const owner = JSON.stringify({ host: hostname(), pid: process.pid, id: randomUUID() });
  while (!(await create(path, owner))) {
    await removeIfStale(path);
    await pause(pollInterval, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
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

async function removeIfStale(path: string): Promise<void> {
  const owner = await read(path);
  if (owner === undefined || !(await isStale(path, owner))) return;
  // Renamed first: of several that wait, only one removes this lock, and none one that was made since.
  const aside = `${path}.${randomUUID()}`;
  await rename(path, aside).catch(ignoreMissing);
  const taken = await read(aside);
  if (taken !== undefined && taken !== owner) await rename(aside, path).catch(ignoreMissing);
  await rm(aside, { force: true });
}

async function isStale(path: string, owner: string): Promise<boolean> {
  const info = await stat(path).catch(ignoreMissing);
  if (info === undefined) return false;
  if (Date.now() - info.mtimeMs > stale) return true;
  const [, host, pid] = /^\{"host":"(.*)","pid":(\d+),/.exec(owner) ?? [];
  return host === hostname() && !isRunning(Number(pid));
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

const read = (path: string): Promise<string | undefined> => readFile(path, 'utf8').catch(ignoreMissing);

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

import { createReadStream } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { InputError } from '../core/errors.ts';
import type { Files } from '../runtime/source.ts';
import { explain, openFile, writeFileAtomically } from './node-file.ts';

/** What sessions read and write in Node: texts of any length, and their checkpoint files. */
export const sessionFiles: Files = {
  async *open(path, offset) {
    // Opened once before, for the errors that a stream tells less well.
    await (await openFile(path)).close();
    yield* createReadStream(path, { start: offset, highWaterMark: 1 << 18 });
  },
  async read(path) {
    await removeLeftovers(path);
    try {
      return await readFile(path);
    } catch (error) {
      const cause = error as NodeJS.ErrnoException;
      if (cause.code === 'ENOENT') return undefined;
      throw new InputError(explain(cause, path), { cause });
    }
  },
  write: (path, bytes) => writeFileAtomically(path, [bytes]),
};

/** Removes what processes that were killed while they wrote `path` left of it. */
async function removeLeftovers(path: string): Promise<void> {
  const folder = dirname(path);
  const names = await readdir(folder).catch(() => []);
  for (const name of names) {
    if (!name.startsWith(`${basename(path)}.`) || !name.endsWith('.partial')) continue;
    const pid = Number(name.slice(basename(path).length + 1, -'.partial'.length));
    if (Number.isSafeInteger(pid) && pid > 0 && !isRunning(pid)) await rm(join(folder, name), { force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

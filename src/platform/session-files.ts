import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { InputError } from '../core/errors.ts';
import type { Files } from '../runtime/source.ts';
import { explain, openFile, removeLeftovers, writeFileAtomically } from './node-file.ts';

/** What sessions read and write in Node: texts of any length, and their checkpoint files. */
export const sessionFiles: Files = {
  async *open(path, offset) {
    // Opened once before, for the errors that a stream tells less well.
    await (await openFile(path)).close();
    yield* createReadStream(path, { start: offset, highWaterMark: 1 << 18 });
  },
  async read(path) {
    await removeLeftovers(dirname(path), (name) => name === basename(path));
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

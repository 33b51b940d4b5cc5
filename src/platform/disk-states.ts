import { readdir, readFile, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../core/errors.ts';
import type { StateKey, StateStore } from '../runtime/prefix-cache.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import { makeFolder, writeFileAtomically } from './node-file.ts';

const fileName = ({ model, length, text }: StateKey): string => `${model}-${length}-${text}.state`;
const namePattern = /^([0-9a-f]{32})-(\d+)-[0-9a-f]{32}\.state$/;

/**
 * States in a folder, for a `PrefixCache`: one file each, of `maxBytes` in all (default 1 GB), of which the longest unused
 * go first. Several processes may share it.
 */
export function diskStates(folder: string, options: { maxBytes?: number } = {}): StateStore {
  refuseUnknownOptions(options, ['maxBytes']);
  const { maxBytes = 1e9 } = options;
  if (!(maxBytes >= 0)) throw new InputError(`maxBytes is ${maxBytes}: it must be a number of bytes`);
  const pathOf = (key: StateKey) => join(folder, fileName(key));
  let saved: Promise<void> = Promise.resolve();
  const save = async (key: StateKey, bytes: Uint8Array): Promise<void> => {
    makeFolder(folder);
    const name = fileName(key);
    await makeRoom(folder, maxBytes - bytes.length, name);
    await writeFileAtomically(pathOf(key), [bytes]);
    // Another process may have taken the room meanwhile.
    await makeRoom(folder, maxBytes - bytes.length, name);
  };
  return {
    async lengths(model) {
      const names = await readdir(folder).catch(() => []);
      const parts = names.map((name) => namePattern.exec(name)).filter((part) => part?.[1] === model);
      return new Set(parts.map((part) => Number(part![2])));
    },
    async load(key) {
      const bytes = await readFile(pathOf(key)).catch(() => undefined);
      // The time of the last use, by which the oldest are found.
      if (bytes) await utimes(pathOf(key), new Date(), new Date()).catch(() => {});
      return bytes;
    },
    async save(key, bytes) {
      if (bytes.length > maxBytes) return;
      // One after the other, so that each sees the others' files.
      const mine = saved.then(() => save(key, bytes));
      saved = mine.catch(() => {});
      await mine;
    },
    delete: (key) => rm(pathOf(key), { force: true }),
  };
}

/** Removes the longest unused states until the others take at most `bytes`; that called `name` counts as gone. */
async function makeRoom(folder: string, bytes: number, name: string): Promise<void> {
  const names = (await readdir(folder)).filter((other) => namePattern.test(other) && other !== name);
  const files = await Promise.all(
    names.map(async (other) => {
      const path = join(folder, other);
      // Another process may have removed it since.
      const { size, mtimeMs } = await stat(path).catch(() => ({ size: 0, mtimeMs: 0 }));
      return { path, size, mtimeMs };
    }),
  );
  let total = files.reduce((sum, { size }) => sum + size, 0);
  for (const { path, size } of files.sort((a, b) => a.mtimeMs - b.mtimeMs)) {
    if (total <= bytes) return;
    await rm(path, { force: true });
    total -= size;
  }
}

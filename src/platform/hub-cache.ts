import { randomUUID } from 'node:crypto';
import { copyFile, link, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import { makeFolder } from './node-file.ts';

/**
 * A model's part of the cache that all of Hugging Face's tools share. `blobs` holds contents, named by their hash;
 * `snapshots/<commit>` holds the repository's files as links to blobs; `refs/<branch>` holds the commit that a branch or
 * tag stood for. Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
 */
export interface RepoCache {
  readonly cacheDir: string;
  readonly folder: string;
  blob(etag: string): string;
  /**
   * A download that is not finished. Not the name that Python's library appends to under a lock of the operating system, which
   * Node can't take.
   */
  partial(etag: string): string;
  lock(etag: string): string;
  snapshot(commit: string): string;
}

export function repoCache(cacheDir: string, repo: string): RepoCache {
  const name = `models--${repo.replace('/', '--')}`;
  const folder = join(cacheDir, name);
  return {
    cacheDir,
    folder,
    blob: (etag) => join(folder, 'blobs', etag),
    partial: (etag) => join(folder, 'blobs', `${etag}.riverrun.incomplete`),
    lock: (etag) => join(cacheDir, '.locks', name, `${etag}.riverrun.lock`),
    snapshot: (commit) => join(folder, 'snapshots', commit),
  };
}

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

/** The commit that a branch or tag stood for when it was last asked for. */
export async function readRef({ folder }: RepoCache, revision: string): Promise<string | undefined> {
  if (isCommit(revision)) return revision;
  const text = await readFile(join(folder, 'refs', revision), 'utf8').catch(ignoreMissing);
  return isCommit(text?.trim() ?? '') ? text!.trim() : undefined;
}

export async function writeRef(cache: RepoCache, revision: string, commit: string): Promise<void> {
  if ((await readRef(cache, revision)) === commit) return;
  const path = join(cache.folder, 'refs', revision);
  makeFolder(dirname(path));
  // Beside the folder of refs, not in it, where tools would take it for a branch.
  await replace(path, join(cache.folder, `.${randomUUID()}`), (temporary) => writeFile(temporary, commit));
}

/** The files in a folder whose contents are there, as paths with slashes; none if there is no such folder. */
export async function filesIn(folder: string): Promise<string[]> {
  const names = (await readdir(folder, { recursive: true }).catch(ignoreMissing)) ?? [];
  const found = await Promise.all(
    names.map(async (name) => ((await sizeOf(join(folder, name))) === undefined ? [] : [name])),
  );
  return found
    .flat()
    .map((name) => name.split(sep).join('/'))
    .sort();
}

/** Length of a file in bytes; undefined if there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  const info = await stat(path).catch(ignoreMissing);
  return info?.isFile() ? info.size : undefined;
}

/** Makes the snapshot's file `pointer` show the blob: by a relative link, or what the file system can do instead. */
export async function pointAt(blob: string, pointer: string): Promise<void> {
  makeFolder(dirname(pointer));
  await replace(pointer, `${pointer}.${randomUUID()}`, async (temporary) => {
    // Windows lets only some users make symbolic links, and some disks know no links at all.
    await symlink(relative(dirname(pointer), blob), temporary)
      .catch(() => link(blob, temporary))
      .catch(() => copyFile(blob, temporary));
  });
}

/** Makes a file under a temporary name and gives it its own in one step. */
async function replace(path: string, temporary: string, make: (temporary: string) => Promise<void>): Promise<void> {
  try {
    await make(temporary);
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
}

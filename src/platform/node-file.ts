import { mkdirSync, readSync, statSync } from 'node:fs';
import { access, constants, type FileHandle, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FormatError, InputError } from '../core/errors.ts';
import type { ByteSource } from '../formats/byte-source.ts';

/** Opens a file for reading at any position. InputError when it is missing, a folder or not readable. */
export async function openFile(path: string): Promise<ByteSource> {
  const handle = await open(path, 'r').catch((cause: NodeJS.ErrnoException) => {
    throw new InputError(explain(cause, path), { cause });
  });
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw new InputError(`${path} is ${stat.isDirectory() ? 'a folder' : 'not a file'}`);
  }
  return {
    name: path,
    size: stat.size,
    read: (offset, into) => readFully(handle, path, offset, into),
    close: () => handle.close(),
  };
}

/** Bytes below which reading takes less time than handing it to another thread and being told of its end. */
const SMALL = 1 << 16;

async function readFully(handle: FileHandle, path: string, offset: number, into: Uint8Array): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const length = into.length - done;
    const bytesRead =
      length < SMALL
        ? readSync(handle.fd, into, done, length, offset + done)
        : (await handle.read(into, done, length, offset + done)).bytesRead;
    if (bytesRead === 0)
      throw new FormatError(`${path}: it ends at byte ${offset + done}, before byte ${offset + into.length}`);
    done += bytesRead;
  }
}

/** InputError where a file could not be written: told before long work rather than after it. */
export async function expectWritable(path: string): Promise<void> {
  const there = await stat(path).catch(() => undefined);
  if (there?.isDirectory()) throw new InputError(`${path} is a folder`);
  await access(dirname(path), constants.W_OK).catch((cause: NodeJS.ErrnoException) => {
    throw new InputError(explain(cause, path), { cause });
  });
}

/**
 * Writes a file so that it is either all there or not at all: to a temporary name in the same folder, flushed to disk, and
 * renamed. On failure the old file, if there was one, is as it was.
 */
export async function writeFileAtomically(
  path: string,
  pieces: Iterable<Uint8Array | string> | AsyncIterable<Uint8Array | string>,
): Promise<void> {
  const temporary = `${path}.${process.pid}.partial`;
  try {
    const handle = await open(temporary, 'w');
    try {
      for await (const piece of pieces) await handle.writeFile(piece);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    const { code } = error as NodeJS.ErrnoException;
    // An abort has a code too, a number.
    if (typeof code === 'string') throw new InputError(explain(error as NodeJS.ErrnoException, path), { cause: error });
    throw error;
  }
}

/**
 * Makes a folder, and those it lies in, where they are not there; InputError where it can't. One by one: with `recursive`, Node 24 goes on for
 * ever where a file system makes no folders, as below /proc.
 *
 * @returns the first of those above, or itself, that was not there
 */
export function makeFolder(path: string): string | undefined {
  const found = (folder: string) => statSync(folder, { throwIfNoEntry: false });
  try {
    if (found(path)?.isDirectory()) return undefined;
    const parent = dirname(path);
    const made = found(parent) ? undefined : makeFolder(parent);
    mkdirSync(path);
    return made ?? path;
  } catch (cause) {
    // Another process may have made it meanwhile.
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EEXIST' && found(path)?.isDirectory()) return undefined;
    throw code === undefined ? cause : new InputError(explain(cause as NodeJS.ErrnoException, path), { cause });
  }
}

/** Removes what processes that were killed while they wrote files of a folder left of them: all, or those whose names fit. */
export async function removeLeftovers(folder: string, fits: (name: string) => boolean = () => true): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const [, whole, pid] = /^(.+)\.(\d+)\.partial$/.exec(name) ?? [];
    if (whole !== undefined && fits(whole) && !isRunning(Number(pid))) await rm(join(folder, name), { force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file or folder',
  EACCES: 'this user may not access it',
  EPERM: 'this user may not access it',
  EEXIST: 'it is a file, not a folder',
  EISDIR: 'it is a folder',
  ENOTDIR: 'a part of the path is not a folder',
  ENOSPC: 'the disk is full',
  EDQUOT: "the user's share of the disk is full",
  EFBIG: 'the file would be larger than this process may write (ulimit -f) or the disk can hold',
  EROFS: 'the disk is read-only',
};

/** A file system error in words. */
export const explain = ({ code, message }: NodeJS.ErrnoException, path: string): string =>
  `${path}: ${(code && reasons[code]) || message}`;

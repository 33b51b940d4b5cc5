import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { HubError, type Subject } from './hub-error.ts';
import { type Answer, request, type Transport, withRetries } from './hub-request.ts';
import { makeFolder } from './node-file.ts';

/** A file as the hub lists it. */
export interface RemoteFile {
  /** Its path in the repository. */
  readonly path: string;
  /** Length in bytes. */
  readonly size: number;
  /** SHA-256 of the contents (large files) or the SHA-1 that Git gives them (small ones), in hexadecimal. */
  readonly etag: string;
}

/** Where a download comes from, and what to do with it. */
export interface Download {
  readonly url: string;
  readonly file: RemoteFile;
  /** Where the bytes gather; what is there already is not fetched again. Kept when the download fails or is aborted. */
  readonly partial: string;
  /** The name that the file gets when all is there and right. */
  readonly blob: string;
  readonly subject: Subject;
  /** Told how many bytes are there. */
  readonly onBytes: (loaded: number) => void;
}

/** Downloads a file and checks its hash. Damage is repaired by one fresh download; HubError if that is damaged as well. */
export async function download(job: Download, transport: Transport): Promise<void> {
  const { file, partial, blob, url } = job;
  for (let isSecond = false; ; isSecond = true) {
    const digest = await receive(job, transport);
    if (digest === file.etag) break;
    await rm(partial, { force: true });
    if (!isSecond) continue;
    throw new HubError(
      `${file.path} arrived damaged twice from ${url}: its hash is ${digest}, not ${file.etag}. Is a proxy in between?`,
    );
  }
  await rename(partial, blob);
}

/** Bytes on the disk so far, with their hash. */
interface Received {
  readonly handle: FileHandle;
  hash: Hash;
  position: number;
}

/** Brings the partial file to its full length and gives the hash of all of it. */
async function receive(job: Download, transport: Transport): Promise<string> {
  makeFolder(dirname(job.partial));
  const handle = await open(job.partial, constants.O_RDWR | constants.O_CREAT);
  try {
    const received = await reread(handle, job.file);
    job.onBytes(received.position);
    let before = received.position;
    const progressed = (): boolean => received.position > before && (before = received.position) > 0;
    await withRetries(transport, () => receiveRest(received, job, transport), progressed);
    await handle.sync();
    return received.hash.digest('hex');
  } finally {
    await handle.close();
  }
}

/** Hashes what an earlier download left. */
async function reread(handle: FileHandle, file: RemoteFile): Promise<Received> {
  if ((await handle.stat()).size > file.size) await handle.truncate(0);
  const received = { handle, hash: newHash(file), position: 0 };
  for await (const piece of handle.createReadStream({ start: 0, autoClose: false, highWaterMark: 1 << 20 })) {
    received.hash.update(piece as Buffer);
    received.position += (piece as Buffer).length;
  }
  return received;
}

async function receiveRest(received: Received, job: Download, transport: Transport): Promise<void> {
  const { file, url, subject } = job;
  if (received.position === file.size) return;
  const range = { range: `bytes=${received.position}-` };
  const answer = await request(url, received.position > 0 ? range : {}, subject, transport);
  try {
    startAt(received, answer, file);
    for (
      let piece: Uint8Array | undefined;
      received.position < file.size && (piece = await answer.read()) !== undefined;
    ) {
      const wanted = piece.subarray(0, file.size - received.position);
      await write(received.handle, wanted, received.position);
      received.hash.update(wanted);
      received.position += wanted.length;
      job.onBytes(received.position);
    }
  } finally {
    await answer.close();
  }
  if (received.position < file.size) {
    const message = `${file.path} ended at byte ${received.position} of ${file.size}`;
    throw new HubError(`${message}; what was downloaded is kept, run it again to go on`, { isTransient: true });
  }
}

/** Makes sure that the answer starts where the file on the disk ends. */
function startAt(received: Received, { status, headers }: Answer, file: RemoteFile): void {
  if (received.position === 0 && status === 200) return;
  if (status === 206) {
    const contentRange = headers.get('content-range') ?? 'no range';
    const [, start, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(contentRange) ?? [];
    if (Number(start) === received.position && (total === '*' || Number(total) === file.size)) return;
    const asked = `bytes ${received.position} to ${file.size}`;
    throw new HubError(`${file.path}: asked for ${asked}, got ${contentRange}`, { isTransient: true });
  }
  // A server that knows no ranges sends all from the start; it is written over what is there, which is the same.
  received.hash = newHash(file);
  received.position = 0;
}

async function write(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}

/** Git's hash is that of a header with the length, then the contents. */
const newHash = ({ etag, size }: RemoteFile): Hash =>
  etag.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);

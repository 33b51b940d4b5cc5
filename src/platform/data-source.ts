import { createReadStream } from 'node:fs';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { InputError } from '../core/errors.ts';

/** A longer line is no record of a data set. */
export const LONGEST_LINE = 1 << 26;

/** What messages call a data file. */
export const nameOf = (file: string): string => (file === '-' ? 'standard input' : file);

/** A file's text, or that of standard input for `-`; gzipped where the name ends in .gz, or standard input begins so. InputError for what is not UTF-8, or holds NUL. */
export async function* decoded(file: string, signal?: AbortSignal): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const name = nameOf(file);
  let bytes = 0;
  try {
    for await (const chunk of file === '-' ? standardInput.read(signal) : fileBytes(file)) {
      const text = decoder.decode(chunk, { stream: true });
      if (text.includes('\0')) throw new InputError(`${name} holds a NUL byte (after byte ${bytes}): it is not text`);
      bytes += chunk.length;
      yield text;
    }
    decoder.decode();
  } catch (cause) {
    if (cause instanceof InputError || signal?.aborted) throw cause;
    if (cause instanceof TypeError) throw new InputError(`${name} is not UTF-8 text (near byte ${bytes})`, { cause });
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new InputError(`${name}: ${code?.startsWith('Z') ? `damaged gzip data (${message})` : message}`, { cause });
  }
  if (bytes === 0) throw new InputError(`${name} is empty`);
}

function fileBytes(file: string): AsyncIterable<Buffer> {
  const raw = createReadStream(file, { highWaterMark: 1 << 20 });
  return /\.gz$/i.test(file) ? unzipped(raw) : raw;
}

/** Errors of what is unzipped, and of unzipping. */
function unzipped(raw: Readable): AsyncIterable<Buffer> {
  const gunzip = createGunzip();
  pipeline(raw, gunzip, () => {});
  return gunzip;
}

/** Standard input, of which the first line may be looked at before it is read. */
class StandardInput {
  #bytes: AsyncGenerator<Buffer> | undefined;
  readonly #seen: Buffer[] = [];

  /** Its first line; only the beginning of one that is longer than any record and begins no JSON object. */
  async firstLine(): Promise<string> {
    this.#bytes ??= standardInputBytes();
    let line = Buffer.concat(this.#seen);
    while (
      !line.includes(10) &&
      line.length < (/^\s*\{/.test(line.toString('latin1', 0, 64)) ? LONGEST_LINE : 1 << 16)
    ) {
      const next = await this.#bytes.next();
      if (next.done) break;
      this.#seen.push(next.value);
      line = Buffer.concat([line, next.value]);
    }
    const end = line.indexOf(10);
    return line.toString('utf8', 0, end < 0 ? line.length : end).trim();
  }

  /** All of it, once. The signal ends the waiting for more. */
  async *read(signal?: AbortSignal): AsyncGenerator<Buffer> {
    const stop = () => void process.stdin.destroy(signal!.reason as Error);
    signal?.throwIfAborted();
    signal?.addEventListener('abort', stop, { once: true });
    try {
      this.#bytes ??= standardInputBytes();
      yield* this.#seen.splice(0);
      yield* this.#bytes;
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }
}

export const standardInput = new StandardInput();

async function* standardInputBytes(): AsyncGenerator<Buffer> {
  const chunks = process.stdin[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let first: Buffer = Buffer.alloc(0);
  while (first.length < 2) {
    const next = await chunks.next();
    if (next.done) break;
    first = Buffer.concat([first, next.value]);
  }
  if (first.length === 0) return;
  async function* all(): AsyncGenerator<Buffer> {
    yield first;
    for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value;
  }
  const isGzip = first[0] === 0x1f && first[1] === 0x8b;
  yield* isGzip ? unzipped(Readable.from(all())) : all();
}

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FormatError, InputError, RiverrunError } from '../core/errors.ts';
import { explain } from './node-file.ts';

/** A file of the hub and where it belongs. */
export interface Download {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Where the finished file goes; what is there half lies beside it, ending in `.incomplete`. */
  readonly target: string;
  readonly size: number;
  /** What the content must hash to: SHA-256 of it, or git's SHA-1 of it as a blob. */
  readonly checksum: { readonly algorithm: 'sha256' | 'git-sha1'; readonly hex: string };
  readonly fetch: typeof fetch;
  readonly signal: AbortSignal | undefined;
  /** Told how many bytes of the file are on disk. */
  readonly onProgress: (loaded: number) => void;
}

/** Tries in a row that bring nothing new before giving up. */
const ATTEMPTS = 5;

/** Downloads a file, continuing what an earlier call or a dropped connection left, and checks it. */
export async function download(job: Download): Promise<void> {
  const { target, size, onProgress } = job;
  if (await exists(target)) {
    onProgress(size);
    return;
  }
  try {
    await mkdir(dirname(target), { recursive: true });
    await exclusively(target, job.signal, async () => {
      if (await exists(target)) return;
      await fetchChecked(job);
    });
    onProgress(size);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EACCES' || code === 'EROFS' || code === 'EPERM') {
      throw new InputError(explain(error as NodeJS.ErrnoException, dirname(target)), { cause: error });
    }
    throw error;
  }
}

async function fetchChecked(job: Download): Promise<void> {
  const incomplete = `${job.target}.incomplete`;
  for (let attempt = 1; ; attempt++) {
    await fetchAll(job, incomplete);
    if (await matches(incomplete, job)) break;
    // Damaged on the way or on disk: nothing of it can be trusted.
    await rm(incomplete, { force: true });
    if (attempt === 2)
      throw new FormatError(
        `${job.url}: what arrived is not what the hub says it should be (its checksum differs), twice`,
      );
  }
  await rename(incomplete, job.target);
}

/** Brings the file on disk to its full size, trying again where the connection breaks. */
async function fetchAll(job: Download, incomplete: string): Promise<void> {
  let failures = 0;
  for (;;) {
    const before = await sizeOf(incomplete);
    if (before === job.size) return;
    if (before > job.size) await rm(incomplete, { force: true });
    let cause: unknown;
    try {
      await fetchRest(job, incomplete);
      if ((await sizeOf(incomplete)) === job.size) return;
    } catch (error) {
      job.signal?.throwIfAborted();
      if (error instanceof RiverrunError || isDiskError(error)) throw error;
      cause = error;
    }
    failures = (await sizeOf(incomplete)) > before ? 0 : failures + 1;
    if (failures >= ATTEMPTS)
      throw new InputError(
        `${job.url}: the connection fails again and again (${reason(cause)}); what arrived is kept, try again later`,
        { cause },
      );
    await sleep(Math.min(8000, 100 * 2 ** failures), undefined, { signal: job.signal });
  }
}

async function fetchRest(job: Download, incomplete: string): Promise<void> {
  const start = await sizeOf(incomplete);
  const headers = { ...job.headers, ...(start > 0 && { Range: `bytes=${start}-` }) };
  const response = await fetchPatiently(job.fetch, job.url, { headers, signal: job.signal ?? null });
  const partial = response.status === 206 && response.headers.get('content-range')?.startsWith(`bytes ${start}-`);
  const handle = await open(incomplete, partial ? 'a' : 'w');
  try {
    let loaded = partial ? start : 0;
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      loaded += chunk.length;
      if (loaded > job.size) throw new FormatError(`${job.url}: more than its ${job.size} bytes arrive`);
      await handle.writeFile(chunk);
      job.onProgress(loaded);
    }
  } finally {
    await handle.close();
  }
}

/** Fetches, waiting as asked when the hub is busy (429, 5xx); other refusals are errors with the reason. */
export async function fetchPatiently(fetcher: typeof fetch, url: string, init: RequestInit): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    const response = await fetcher(url, init);
    if (response.ok) return response;
    const busy = response.status === 429 || response.status >= 500;
    if (!busy || attempt === ATTEMPTS) {
      await response.body?.cancel();
      throw new InputError(refusal(response.status, url));
    }
    await response.body?.cancel();
    const seconds = Number(response.headers.get('retry-after'));
    const wait = Number.isFinite(seconds) && seconds > 0 ? 1000 * Math.min(60, seconds) : 200 * 2 ** attempt;
    await sleep(wait, undefined, { signal: init.signal ?? undefined });
  }
}

export function refusal(status: number, what: string): string {
  if (status === 401 || status === 403) {
    return `${what}: the hub refuses access (${status}). If the model is private or gated, accept its licence on its page and set HF_TOKEN to a token of yours`;
  }
  if (status === 404) return `${what}: the hub has no such model, revision or file (404)`;
  return `${what}: the hub answers ${status}; try again later`;
}

async function matches(path: string, { checksum, size }: Download): Promise<boolean> {
  const hash = createHash(checksum.algorithm === 'sha256' ? 'sha256' : 'sha1');
  if (checksum.algorithm === 'git-sha1') hash.update(`blob ${size}\0`);
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex') === checksum.hex;
}

/** Runs `body` while no other process does for the same file; a lock whose owner is gone is taken over. */
async function exclusively(target: string, signal: AbortSignal | undefined, body: () => Promise<void>): Promise<void> {
  const lock = `${target}.lock`;
  for (;;) {
    try {
      const handle = await open(lock, 'wx');
      await handle.writeFile(String(process.pid));
      await handle.close();
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      if (await abandoned(lock)) await rm(lock, { force: true });
      else await sleep(100, undefined, { signal });
    }
  }
  try {
    await body();
  } finally {
    await rm(lock, { force: true });
  }
}

async function abandoned(lock: string): Promise<boolean> {
  const pid = Number(await readFile(lock, 'utf8').catch(() => ''));
  if (!pid) return Date.now() - (await stat(lock).catch(() => ({ mtimeMs: 0 }))).mtimeMs > 10_000;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

const exists = async (path: string): Promise<boolean> => (await stat(path).catch(() => undefined)) !== undefined;
const sizeOf = async (path: string): Promise<number> => (await stat(path).catch(() => undefined))?.size ?? 0;
const isDiskError = (error: unknown): boolean =>
  ['ENOSPC', 'EACCES', 'EROFS', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '');
const reason = (cause: unknown): string =>
  cause instanceof Error ? ((cause.cause as Error | undefined)?.message ?? cause.message) : 'it ends early';

import { join } from 'node:path';
import { InputError } from '../core/errors.ts';
import { filesIn, pointAt, type RepoCache, readRef, repoCache, sizeOf, writeRef } from './hub-cache.ts';
import { download, type RemoteFile } from './hub-download.ts';
import { HubError, inCache, type Subject } from './hub-error.ts';
import { chooseFiles, type FileChoice, filterFiles, withAllShards } from './hub-files.ts';
import { formatModelId, type ModelId, parseModelId } from './hub-id.ts';
import { fileUrl, type Listing, listModel } from './hub-list.ts';
import type { Retry, Transport } from './hub-request.ts';
import { hubSettings } from './hub-settings.ts';
import { lockFile } from './lock-file.ts';

/** How far a download is, in bytes: of one file, and of all that were chosen. What the cache had counts as loaded. */
export interface FetchProgress {
  readonly file: string;
  readonly loaded: number;
  readonly total: number;
  readonly overallLoaded: number;
  readonly overallTotal: number;
}

export interface FetchModelOptions {
  /** Branch, tag or commit. Default `main`. */
  readonly revision?: string;
  /** Which files to bring, by their path in the repository. Default: what loading the model takes (`chooseFiles`). */
  readonly files?: (name: string) => boolean;
  /** Told when bytes arrive, and when a file is there. Damaged bytes that are fetched again make `loaded` fall. */
  readonly onProgress?: (progress: FetchProgress) => void;
  /** Ends the download; it rejects with the signal's reason. What has arrived is kept for the next call. */
  readonly signal?: AbortSignal;
  /** Use the cache only. Default: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE. */
  readonly offline?: boolean;
  /** Access token. Default: HF_TOKEN, or the one that `hf auth login` saved. */
  readonly token?: string;
  /** The folder that holds `models--org--name`. Default: HF_HUB_CACHE, or `hub` in HF_HOME. */
  readonly cacheDir?: string;
  /** The hub's address. Default: HF_ENDPOINT, or https://huggingface.co. */
  readonly endpoint?: string;
  /** What makes requests: for proxies and tests. Default: the platform's. */
  readonly fetch?: typeof fetch;
  readonly retry?: Retry;
}

/** Files that are downloaded at the same time. */
const width = 4;

/**
 * Brings a model from the Hugging Face hub into the cache that it shares with Python's tools, unless it is there, and gives
 * its path: the folder of the snapshot for `org/name`, the file for `org/name/file.gguf`.
 *
 * One request asks for the newest commit; files that are in the cache are not requested. Downloads go on where an
 * earlier one stopped, and every file is checked against its hash. When the hub can't be reached, a snapshot in the cache that
 * has all weights is used as it is.
 *
 * InputError for a name that is none, or that does not say which of several files; HubError for all that goes wrong
 * between here and the hub.
 */
export async function fetchModel(id: string, options: FetchModelOptions = {}): Promise<string> {
  const { signal = new AbortController().signal, retry } = options;
  signal.throwIfAborted();
  const model = parseModelId(id, options.revision);
  if (options.files && model.file !== undefined)
    throw new InputError(`${id} names a file, and the option files chooses others: give one of the two`);
  const { endpoint, cacheDir, token, offline } = await hubSettings(options);
  const fetch = options.fetch ?? globalThis.fetch;
  const transport: Transport = { fetch, token, signal, retry: { attempts: 5, delay: 500, stall: 30_000, ...retry } };
  const subject: Subject = { endpoint, repo: model.repo, revision: model.revision, hasToken: token !== undefined };
  const choose = (names: readonly string[]): FileChoice =>
    options.files ? filterFiles(names, model.repo, options.files) : chooseFiles(names, model.repo, model.file);
  const cache = repoCache(cacheDir, model.repo);

  return await inCache(cacheDir, async () => {
    const cached = await findCached(cache, model, choose);
    if (offline) return cached.path ?? fail(`${cached.problem}. The network may not be used: offline is set`);
    const listing = await listOrUndefined(model, subject, transport, cached);
    if (listing === undefined) return cached.path!;
    const { companions, weights, problem } = choose([...listing.files.keys()]);
    if (problem !== undefined) throw new InputError(problem);
    // Weights come last, so that a snapshot that has them has all.
    const groups = [companions, weights].map((names) => names.map((name) => listed(listing, name, model.repo)));
    const job: Job = {
      cache,
      commit: listing.commit,
      subject,
      report: progressReport(groups.flat(), options.onProgress),
    };
    for (const group of groups) {
      await inParallel(group, signal, (file, signal) => obtain(file, job, { ...transport, signal }));
    }
    await writeRef(cache, model.revision, listing.commit);
    return pathOf(cache, listing.commit, model);
  });
}

const fail = (message: string): never => {
  throw new HubError(message);
};

interface Cached {
  readonly path?: string;
  /** Why there is no path. */
  readonly problem?: string;
}

/** The model as an earlier call left it in the cache, if that has all its weights. */
async function findCached(cache: RepoCache, model: ModelId, choose: (names: string[]) => FileChoice): Promise<Cached> {
  const absent = (reason: string): Cached => ({
    problem: `${formatModelId(model)} is not in the cache: ${reason}. To get it: riverrun pull ${formatModelId(model)}`,
  });
  const commit = await readRef(cache, model.revision);
  if (commit === undefined) return absent(`looked in ${cache.folder}`);
  const folder = cache.snapshot(commit);
  const names = await filesIn(folder);
  if (names.length === 0) return absent(`looked in ${folder}`);
  const { weights, problem } = choose(names);
  if (problem !== undefined) return absent(`looked in ${folder}; ${problem}`);
  const missing = withAllShards(weights).filter((name) => !names.includes(name));
  if (missing.length > 0) return absent(`${missing.join(', ')} is missing in ${folder}`);
  return { path: pathOf(cache, commit, model) };
}

const pathOf = (cache: RepoCache, commit: string, { file = '' }: ModelId): string => join(cache.snapshot(commit), file);

/** What the hub has; undefined if it can't be reached and the cache has the model. */
async function listOrUndefined(
  model: ModelId,
  subject: Subject,
  transport: Transport,
  cached: Cached,
): Promise<Listing | undefined> {
  const { retry } = transport;
  const isCached = cached.path !== undefined;
  const hurried = { ...transport, retry: { ...retry, attempts: 1, stall: Math.min(retry.stall, 10_000) } };
  try {
    return await listModel(model, subject, isCached ? hurried : transport);
  } catch (error) {
    if (!(error instanceof HubError) || !error.isTransient) throw error;
    if (isCached) return undefined;
    const { status, retryAfter } = error;
    throw new HubError(`${error.message}; and ${cached.problem}`, {
      cause: error,
      status,
      isTransient: true,
      retryAfter,
    });
  }
}

function listed({ files, commit }: Listing, name: string, repo: string): RemoteFile {
  return files.get(name) ?? fail(`${repo} at commit ${commit} lacks ${name}, which belongs to the others`);
}

/** What all files of one call have in common. */
interface Job {
  readonly cache: RepoCache;
  readonly commit: string;
  readonly subject: Subject;
  readonly report: (file: RemoteFile, loaded: number) => void;
}

/** Makes sure that a file is in the snapshot: it may be already, or only its contents, or nothing. */
async function obtain(file: RemoteFile, { cache, commit, subject, report }: Job, transport: Transport): Promise<void> {
  const pointer = join(cache.snapshot(commit), file.path);
  const blob = cache.blob(file.etag);
  const has = async (path: string): Promise<boolean> => (await sizeOf(path)) === file.size;
  if (!(await has(pointer))) {
    if (!(await has(blob))) {
      const release = await lockFile(cache.lock(file.etag), transport.signal);
      try {
        // Another process may have finished it in the meantime.
        if (!(await has(blob))) {
          const url = fileUrl(subject.endpoint, subject.repo, commit, file.path);
          const onBytes = (loaded: number): void => report(file, loaded);
          const partial = cache.partial(file.etag);
          await download({ url, file, partial, blob, subject: { ...subject, file: file.path }, onBytes }, transport);
        }
      } finally {
        await release();
      }
    }
    await pointAt(blob, pointer);
  }
  report(file, file.size);
}

function progressReport(files: readonly RemoteFile[], onProgress: FetchModelOptions['onProgress']): Job['report'] {
  const overallTotal = files.reduce((sum, { size }) => sum + size, 0);
  const loadedOf = new Map<string, number>();
  let overallLoaded = 0;
  return ({ path, size }, loaded) => {
    const before = loadedOf.get(path);
    if (before === loaded) return;
    overallLoaded += loaded - (before ?? 0);
    loadedOf.set(path, loaded);
    onProgress?.({ file: path, loaded, total: size, overallLoaded, overallTotal });
  };
}

/** Works on a few items at a time. The first failure ends the others and is the one that is thrown. */
async function inParallel<T>(
  items: readonly T[],
  signal: AbortSignal,
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const queue = items.values();
  const lane = async (): Promise<void> => {
    for (const item of queue) {
      either.throwIfAborted();
      await work(item, either);
    }
  };
  const lanes = Array.from({ length: width }, () => lane().catch((error) => failed.abort(error)));
  await Promise.all(lanes);
  either.throwIfAborted();
}

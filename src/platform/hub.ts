import { existsSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { InputError } from '../core/errors.ts';
import { download, fetchPatiently, refusal } from './hub-download.ts';
import { chooseFiles, parseHubModel } from './hub-files.ts';

/** How a download goes. */
export interface FetchProgress {
  /** The file that is arriving. */
  readonly file: string;
  /** Bytes of all files so far. */
  readonly loaded: number;
  readonly total: number;
}

export interface FetchOptions {
  /** Branch, tag or commit. Default `main`. */
  readonly revision?: string | undefined;
  readonly onProgress?: ((progress: FetchProgress) => void) | undefined;
  /** Stops the download; what arrived is kept for the next time. */
  readonly signal?: AbortSignal | undefined;
  /** Uses the cache only. Default: HF_HUB_OFFLINE. */
  readonly offline?: boolean | undefined;
  /** Default: HF_TOKEN, or the token file that `hf auth login` writes. */
  readonly token?: string | undefined;
  /** Default: HF_HUB_CACHE, or `hub` in HF_HOME. */
  readonly cacheDir?: string | undefined;
  readonly fetch?: typeof fetch | undefined;
}

/** A file of a repository as the hub lists it. */
interface Entry {
  readonly path: string;
  readonly size: number;
  /** Git's SHA-1 of the blob; `lfs` has the SHA-256 of a large file instead. */
  readonly oid: string;
  readonly lfs?: { readonly oid: string };
}

const truthy = (value: string | undefined): boolean => ['1', 'true', 'yes', 'on'].includes((value ?? '').toLowerCase());

/**
 * Brings a model from the Hugging Face hub into its standard cache (the layout that Python's `huggingface_hub` shares) and
 * returns the folder of the snapshot. What is there already is not downloaded again; without a network a cached snapshot
 * is used.
 */
export async function fetchModel(id: string, options: FetchOptions = {}): Promise<string> {
  const { env } = process;
  const model = parseHubModel(id);
  const revision = options.revision ?? model.revision ?? 'main';
  const offline = options.offline ?? (truthy(env['HF_HUB_OFFLINE']) || truthy(env['TRANSFORMERS_OFFLINE']));
  const home = env['HF_HOME'] ?? join(env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'huggingface');
  const cache = options.cacheDir ?? env['HF_HUB_CACHE'] ?? env['HUGGINGFACE_HUB_CACHE'] ?? join(home, 'hub');
  const folder = join(cache, `models--${model.repo.replace('/', '--')}`);
  const cached = cachedSnapshot(folder, revision);
  if (offline) {
    if (cached) return cached;
    throw new InputError(
      `${model.repo} (${revision}) is not in the cache (${cache}), and the hub may not be asked (offline). Where there is a network: riverrun generate --model ${id}, or copy the cache here`,
    );
  }
  const token = options.token ?? env['HF_TOKEN'] ?? env['HUGGING_FACE_HUB_TOKEN'] ?? storedToken(join(home, 'token'));
  const hub = new Hub(env['HF_ENDPOINT'] ?? 'https://huggingface.co', token, options);
  let listing: { commit: string; entries: Entry[] };
  try {
    listing = await hub.list(model.repo, revision);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (cached && !(error instanceof InputError)) return cached;
    if (error instanceof InputError) throw error;
    throw new InputError(
      `${model.repo} is not in the cache (${cache}), and the hub can't be reached (${messageOf(error)}). Check the network, or HF_ENDPOINT`,
      { cause: error },
    );
  }
  return await hub.snapshot(model.repo, revision, listing, folder);
}

class Hub {
  readonly #endpoint: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #options: FetchOptions;
  readonly #fetch: typeof fetch;

  constructor(endpoint: string, token: string | undefined, options: FetchOptions) {
    this.#endpoint = endpoint.replace(/\/$/, '');
    this.#headers = token ? { Authorization: `Bearer ${token}` } : {};
    this.#options = options;
    this.#fetch = options.fetch ?? fetch;
  }

  /** The commit that a revision is now, and the files in it. */
  async list(repo: string, revision: string): Promise<{ commit: string; entries: Entry[] }> {
    // Loaded here: the library takes a while to start, and cached models don't need it.
    const { listFiles, modelInfo } = await import('@huggingface/hub');
    // The token travels in our own fetch: the library takes only those that begin as huggingface.co's do.
    const patient: typeof fetch = (url, init) =>
      fetchPatiently(this.#fetch, String(url), {
        ...init,
        headers: { ...(init?.headers as Record<string, string>), ...this.#headers },
        signal: this.#options.signal ?? null,
      });
    const common = { hubUrl: this.#endpoint, fetch: patient };
    const { sha } = await modelInfo({ name: repo, revision, additionalFields: ['sha'], ...common });
    if (!/^[0-9a-f]{40}$/.test(sha)) throw new InputError(refusal(404, `${repo} (${revision})`));
    const entries: Entry[] = [];
    for await (const { type, path, size, oid, lfs } of listFiles({ repo, revision: sha, ...common })) {
      if (type === 'file' && oid) entries.push({ path, size: lfs?.size ?? size, oid, ...(lfs && { lfs }) });
    }
    return { commit: sha, entries };
  }

  /** Downloads what is missing of a snapshot; the reference is written last, when all is there. */
  async snapshot(
    repo: string,
    revision: string,
    { commit, entries }: { commit: string; entries: Entry[] },
    folder: string,
  ): Promise<string> {
    const snapshot = join(folder, 'snapshots', commit);
    const chosen = new Set(chooseFiles(entries.map(({ path }) => path)));
    const wanted = entries.filter(({ path }) => chosen.has(path));
    const total = wanted.reduce((sum, { size }) => sum + size, 0);
    let before = 0;
    for (const { path, size, oid, lfs } of wanted) {
      const hex = lfs?.oid ?? oid;
      if (!/^[0-9a-f]{40,64}$/.test(hex))
        throw new InputError(`${repo}: the hub gives ${path} the checksum ${JSON.stringify(hex)}, which is none`);
      const blob = join(folder, 'blobs', hex);
      await download({
        url: `${this.#endpoint}/${repo}/resolve/${commit}/${encodeURIComponent(path)}`,
        headers: this.#headers,
        target: blob,
        size,
        checksum: { algorithm: lfs ? 'sha256' : 'git-sha1', hex },
        fetch: this.#fetch,
        signal: this.#options.signal,
        onProgress: (loaded) => this.#options.onProgress?.({ file: path, loaded: before + loaded, total }),
      });
      before += size;
      await place(blob, join(snapshot, path));
    }
    await writeReference(join(folder, 'refs', revision), commit);
    return snapshot;
  }
}

/** Makes `path` show the blob: by a relative link as Python does, or by a copy where links are not allowed. */
async function place(blob: string, path: string): Promise<void> {
  if (existsSync(path)) return;
  await mkdir(dirname(path), { recursive: true });
  try {
    await symlink(relative(dirname(path), blob), path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && existsSync(path)) return;
    if (code === 'EEXIST') await rm(path, { force: true });
    await copyFile(blob, `${path}.partial`);
    await rename(`${path}.partial`, path);
  }
}

async function writeReference(path: string, commit: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}.${process.pid}.partial`, commit);
  await rename(`${path}.${process.pid}.partial`, path);
}

/** The snapshot that the cache has for a revision, if it is complete enough to be a model. */
function cachedSnapshot(folder: string, revision: string): string | undefined {
  const reference = join(folder, 'refs', revision);
  const commit = existsSync(reference) ? readFileSync(reference, 'utf8').trim() : revision;
  const snapshot = join(folder, 'snapshots', commit);
  return existsSync(join(snapshot, 'config.json')) ? snapshot : undefined;
}

const storedToken = (path: string): string | undefined =>
  existsSync(path) ? readFileSync(path, 'utf8').trim() || undefined : undefined;

const messageOf = (error: unknown): string =>
  error instanceof Error ? ((error.cause as Error | undefined)?.message ?? error.message) : String(error);

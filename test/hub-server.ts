import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Random } from '../src/core/random.ts';

const random = new Random(5);

export const randomBytes = (length: number): Uint8Array => Uint8Array.from({ length }, () => random.integer(256));
export const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** A request for a file's contents, as the store behind the hub saw it. */
export interface Sent {
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

/** What the hub does instead of what it should, for one request. */
export interface Mishap {
  /** Answer with this status and nothing else. */
  readonly status?: number;
  readonly headers?: Record<string, string>;
  /** Drop the connection after this many bytes. */
  readonly dropAfter?: number;
  /** Stop sending after this many bytes, and keep the connection. */
  readonly hangAfter?: number;
  /** End as if that were all after this many bytes. */
  readonly endAfter?: number;
  /** Change a byte. */
  readonly corrupt?: boolean;
  /** Send all from the start, whatever was asked for. */
  readonly ignoreRange?: boolean;
  readonly shiftRange?: number;
}

/**
 * Plays the parts of the Hugging Face hub that downloads use: model info with blobs, and `resolve`, which redirects large
 * files to a store on another origin that knows ranges.
 */
export class PlayedHub {
  /** Contents by path; weights are large files, listed by SHA-256. */
  files = new Map<string, Uint8Array>();
  commit = 'a'.repeat(40);
  revisions = ['main', 'v2', 'refs/pr/1'];
  token: string | undefined;
  /** Files need the token; the listing is open. */
  isGated = false;
  endpoint = '';
  listings = 0;
  readonly sent: Sent[] = [];
  /** Used up by requests for the listing, in turn. */
  readonly listingMishaps: Mishap[] = [];
  /** Used up by requests for a file's contents, in turn. */
  readonly mishaps = new Map<string, Mishap[]>();
  readonly #hub = createServer((request, response) => this.#answer(request, response));
  readonly #store = createServer((request, response) => this.#send(request, response));
  #storeAddress = '';

  async start(): Promise<void> {
    this.endpoint = await listen(this.#hub);
    this.#storeAddress = await listen(this.#store);
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#store]) {
      server.closeAllConnections();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    }
  }

  /** The ranges that a file was asked for with. */
  ranges = (path: string): (string | undefined)[] =>
    this.sent.filter((sent) => sent.path === path).map(({ range }) => range);

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(request.url!, this.endpoint);
    const [, revision] = /^\/api\/models\/org\/model\/revision\/(.+)$/.exec(pathname) ?? [];
    const [, commit, path] = /^\/org\/model\/resolve\/(\w+)\/(.+)$/.exec(pathname) ?? [];
    const isAllowed = this.token === undefined || request.headers.authorization === `Bearer ${this.token}`;
    const refuse = (status: number, code: string): void => {
      response.writeHead(status, { 'x-error-code': code }).end();
    };
    if (revision !== undefined) {
      this.listings++;
      const mishap = this.listingMishaps.shift();
      if (mishap) response.writeHead(mishap.status!, mishap.headers).end();
      else if (!isAllowed && !this.isGated) refuse(401, 'RepoNotFound');
      else if (![...this.revisions, this.commit].includes(decodeURIComponent(revision)))
        refuse(404, 'RevisionNotFound');
      else {
        const siblings = [...this.files].map((file) => listing(...file, searchParams.get('blobs') === 'true'));
        response.writeHead(200, { 'content-type': 'application/json' });
        response.end(JSON.stringify({ _id: '1', id: 'org/model', sha: this.commit, gated: this.isGated, siblings }));
      }
    } else if (path === undefined) refuse(404, 'RepoNotFound');
    else if (!isAllowed) refuse(this.isGated && request.headers.authorization ? 403 : 401, 'GatedRepo');
    else if (commit !== this.commit || !this.files.has(decodeURIComponent(path))) refuse(404, 'EntryNotFound');
    else if (isLarge(path)) {
      const { etag } = hashOf(path, this.files.get(decodeURIComponent(path))!);
      const headers = {
        location: `${this.#storeAddress}/${path}`,
        'x-linked-etag': `"${etag}"`,
        'x-repo-commit': commit,
      };
      response.writeHead(302, headers).end('redirected');
    } else this.#send(request, response, path);
  }

  #send(request: IncomingMessage, response: ServerResponse, path = request.url!.slice(1)): void {
    const name = decodeURIComponent(path);
    const data = this.files.get(name)!;
    const { range, authorization } = request.headers;
    this.sent.push({ path: name, range, authorization });
    const mishap = this.mishaps.get(name)?.shift() ?? {};
    if (mishap.status !== undefined) {
      response.writeHead(mishap.status, mishap.headers).end();
      return;
    }
    const asked = mishap.ignoreRange ? undefined : /^bytes=(\d+)-$/.exec(range ?? '')?.[1];
    const start = Number(asked ?? 0) + (mishap.shiftRange ?? 0);
    const body = data.slice(start);
    if (mishap.corrupt) body[7]! ^= 1;
    const stop = mishap.dropAfter ?? mishap.hangAfter ?? mishap.endAfter;
    response.writeHead(asked === undefined ? 200 : 206, {
      ...(mishap.endAfter === undefined && { 'content-length': body.length }),
      ...(asked !== undefined && { 'content-range': `bytes ${start}-${data.length - 1}/${data.length}` }),
    });
    if (stop === undefined) response.end(body);
    else {
      response.write(body.subarray(0, stop), () => {
        if (mishap.endAfter !== undefined) response.end();
        // A little later, so that what was sent has arrived.
        if (mishap.dropAfter !== undefined) setTimeout(() => response.destroy(), 30);
      });
    }
  }
}

const isLarge = (path: string): boolean => /\.(safetensors|bin|gguf|pth)$/.test(path);

/** The name of a file's blob: what the hub gives as its ETag. */
export function hashOf(path: string, data: Uint8Array): { etag: string; git: string } {
  const git = createHash('sha1').update(`blob ${data.length}\0`).update(data).digest('hex');
  return { git, etag: isLarge(path) ? createHash('sha256').update(data).digest('hex') : git };
}

function listing(path: string, data: Uint8Array, withBlobs: boolean): object {
  const { git, etag } = hashOf(path, data);
  if (!withBlobs) return { rfilename: path };
  const lfs = isLarge(path) ? { lfs: { sha256: etag, size: data.length, pointerSize: 134 } } : {};
  return { rfilename: path, size: data.length, blobId: git, ...lfs };
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

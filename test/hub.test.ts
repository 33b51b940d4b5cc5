import { createHash } from 'node:crypto';
import { lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Random } from '../src/core/random.ts';
import { fetchModel } from '../src/platform/hub.ts';
import { chooseFiles, parseHubModel } from '../src/platform/hub-files.ts';

const random = new Random(5);
const bytes = (length: number) => Uint8Array.from({ length }, () => random.integer(256));
const COMMIT = 'a'.repeat(40);

/** A hub of one repository, with ways to misbehave. */
class PlayedHub {
  readonly files = new Map<string, Uint8Array>([
    ['config.json', new TextEncoder().encode('{"model_type":"mamba"}')],
    ['model.safetensors', bytes(300_000)],
    ['README.md', new TextEncoder().encode('not needed')],
  ]);
  /** Requests for file contents: path and Range header. */
  readonly requests: { path: string; range: string | undefined; sent: number }[] = [];
  /** Drops the connection after this many bytes of a body, as many times as there are numbers. */
  readonly drops: number[] = [];
  readonly answers: { status: number; headers?: Record<string, string> }[] = [];
  corrupt = 0;
  token: string | undefined;
  readonly #server = createServer((request, response) => this.#serve(request, response));

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url!, 'http://hub');
    const json = (value: unknown, status = 200) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    const answer = this.answers.shift();
    if (answer) {
      response.writeHead(answer.status, answer.headers);
      response.end();
    } else if (this.token && request.headers.authorization !== `Bearer ${this.token}`) json({ error: 'gated' }, 401);
    else if (url.pathname.startsWith('/api/models/org/model/revision/')) {
      if (!['main', 'v2', COMMIT].includes(decodeURIComponent(url.pathname.split('/').at(-1)!)))
        json({ error: 'no revision' }, 404);
      else
        json({
          _id: '1',
          id: 'org/model',
          modelId: 'org/model',
          sha: COMMIT,
          private: false,
          gated: false,
          downloads: 0,
          likes: 0,
          lastModified: '2026-01-01T00:00:00.000Z',
        });
    } else if (url.pathname === `/api/models/org/model/tree/${COMMIT}`)
      json([...this.files].map(([path, data]) => this.#entry(path, data)));
    else if (url.pathname.startsWith(`/org/model/resolve/${COMMIT}/`))
      this.#send(decodeURIComponent(url.pathname.split('/').at(-1)!), request, response);
    else json({ error: 'not found' }, 404);
  }

  #entry(path: string, data: Uint8Array) {
    const oid = createHash('sha1').update(`blob ${data.length}\0`).update(data).digest('hex');
    const lfs = path.endsWith('.safetensors') && {
      lfs: { oid: createHash('sha256').update(data).digest('hex'), size: data.length, pointerSize: 130 },
    };
    return { type: 'file', path, size: data.length, oid, ...lfs };
  }

  #send(path: string, request: IncomingMessage, response: ServerResponse): void {
    const data = this.files.get(path)!;
    const range = request.headers.range;
    const start = range ? Number(/bytes=(\d+)-/.exec(range)![1]) : 0;
    let body = data.subarray(start);
    if (this.corrupt > 0 && path.endsWith('.safetensors')) {
      this.corrupt--;
      body = Uint8Array.from(body, (value, i) => (i === 7 ? value ^ 1 : value));
    }
    const drop = path.endsWith('.safetensors') ? this.drops.shift() : undefined;
    const record = { path, range, sent: drop ?? body.length };
    this.requests.push(record);
    response.writeHead(range ? 206 : 200, {
      'content-length': body.length,
      ...(range && { 'content-range': `bytes ${start}-${data.length - 1}/${data.length}` }),
    });
    if (drop === undefined) response.end(body);
    else response.write(body.subarray(0, drop), () => setTimeout(() => response.destroy(), 30));
  }
}

let hub: PlayedHub;
let folder: string;
const saved = { ...process.env };

beforeEach(async () => {
  hub = new PlayedHub();
  folder = mkdtempSync(join(tmpdir(), 'riverrun-hub-'));
  process.env['HF_ENDPOINT'] = await hub.start();
  process.env['HF_HOME'] = folder;
  for (const name of [
    'HF_TOKEN',
    'HF_HUB_OFFLINE',
    'HF_HUB_CACHE',
    'HUGGINGFACE_HUB_CACHE',
    'HUGGING_FACE_HUB_TOKEN',
    'TRANSFORMERS_OFFLINE',
  ])
    delete process.env[name];
});

afterEach(async () => {
  await hub.stop();
  process.env = { ...saved };
  rmSync(folder, { recursive: true });
});

const weights = () => hub.files.get('model.safetensors')!;
const blobs = () => readdirSync(join(folder, 'hub/models--org--model/blobs'));

describe('fetchModel', () => {
  test('downloads what a model needs into the standard layout', async () => {
    const progress: number[] = [];
    const snapshot = await fetchModel('org/model', { onProgress: ({ loaded }) => progress.push(loaded) });
    expect(snapshot).toBe(join(folder, 'hub/models--org--model/snapshots', COMMIT));
    expect(readFileSync(join(snapshot, 'model.safetensors'))).toEqual(Buffer.from(weights()));
    expect(lstatSync(join(snapshot, 'config.json')).isSymbolicLink()).toBe(true);
    expect(readlinkSync(join(snapshot, 'config.json'))).toMatch(/^\.\.\/\.\.\/blobs\/[0-9a-f]{40}$/);
    expect(readFileSync(join(folder, 'hub/models--org--model/refs/main'), 'utf8')).toBe(COMMIT);
    expect(readdirSync(snapshot).sort()).toEqual(['config.json', 'model.safetensors']);
    expect(progress.at(-1)).toBe(weights().length + hub.files.get('config.json')!.length);
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
  });

  test('does not download twice, and needs no hub once cached', async () => {
    const first = await fetchModel('org/model');
    hub.requests.length = 0;
    expect(await fetchModel('org/model')).toBe(first);
    expect(hub.requests).toEqual([]);
    await hub.stop();
    expect(await fetchModel('org/model', { offline: true })).toBe(first);
    expect(await fetchModel('org/model'), 'the hub is gone').toBe(first);
    hub = new PlayedHub();
    await hub.start();
  });

  test('continues after dropped connections within one call', async () => {
    hub.drops.push(100_000, 50_000);
    const snapshot = await fetchModel('org/model');
    expect(readFileSync(join(snapshot, 'model.safetensors'))).toEqual(Buffer.from(weights()));
    const ranges = hub.requests.filter(({ path }) => path === 'model.safetensors').map(({ range }) => range);
    expect(ranges[0]).toBeUndefined();
    expect(ranges.slice(1).every((range) => /^bytes=[1-9]\d*-$/.test(range!))).toBe(true);
  });

  test('an aborted download is continued by the next call', async () => {
    hub.drops.push(120_000);
    const controller = new AbortController();
    const reason = new Error('enough');
    const attempt = fetchModel('org/model', {
      signal: controller.signal,
      onProgress: ({ file, loaded }) => file === 'model.safetensors' && loaded > 60_000 && controller.abort(reason),
    });
    await expect(attempt).rejects.toBe(reason);
    expect(blobs().some((name) => name.endsWith('.incomplete'))).toBe(true);
    hub.requests.length = 0;
    hub.drops.length = 0;
    const snapshot = await fetchModel('org/model');
    expect(readFileSync(join(snapshot, 'model.safetensors'))).toEqual(Buffer.from(weights()));
    const [request] = hub.requests.filter(({ path }) => path === 'model.safetensors');
    expect(Number(/bytes=(\d+)-/.exec(request!.range!)![1])).toBeGreaterThan(50_000);
    expect(blobs().some((name) => /incomplete|lock/.test(name))).toBe(false);
  });

  test('a body that differs from its checksum is fetched again, and refused the second time', async () => {
    hub.corrupt = 1;
    const snapshot = await fetchModel('org/model');
    expect(readFileSync(join(snapshot, 'model.safetensors'))).toEqual(Buffer.from(weights()));
    rmSync(join(folder, 'hub'), { recursive: true });
    hub.corrupt = 2;
    await expect(fetchModel('org/model')).rejects.toThrow(/checksum differs/);
    expect(blobs().filter((name) => name.endsWith('.incomplete'))).toEqual([]);
  });

  test('a lock that a dead process left is taken over', async () => {
    await fetchModel('org/model');
    const blob = blobs().find((name) => name.length === 64)!;
    const path = join(folder, 'hub/models--org--model/blobs', blob);
    rmSync(path);
    writeFileSync(`${path}.lock`, '999999999');
    expect(readFileSync(join(await fetchModel('org/model'), 'model.safetensors'))).toEqual(Buffer.from(weights()));
  });

  test('two calls at once give one good file', async () => {
    const [a, b] = await Promise.all([fetchModel('org/model'), fetchModel('org/model')]);
    expect(a).toBe(b);
    expect(hub.requests.filter(({ path }) => path === 'model.safetensors')).toHaveLength(1);
  });

  test('waits when the hub is busy', async () => {
    hub.answers.push({ status: 503 }, { status: 429, headers: { 'retry-after': '1' } });
    await fetchModel('org/model');
  });

  test('sends HF_TOKEN, and says what a refusal means', async () => {
    hub.token = 'secret';
    await expect(fetchModel('org/model')).rejects.toThrow(/HF_TOKEN/);
    process.env['HF_TOKEN'] = 'secret';
    await fetchModel('org/model');
  });

  test.each([
    ['org/other', /no such model, revision or file/],
    ['org/model@v9', /no such model, revision or file/],
    ['../etc', /no hub id/],
    ['org/na me', /no hub id/],
  ])('%s is refused with the reason', async (id, message) => {
    await expect(fetchModel(id)).rejects.toThrow(message);
  });

  test('a revision is fetched by its name', async () => {
    await fetchModel('org/model@v2');
    expect(readFileSync(join(folder, 'hub/models--org--model/refs/v2'), 'utf8')).toBe(COMMIT);
  });

  test('offline and not cached is an error that says where it looked', async () => {
    process.env['HF_HUB_OFFLINE'] = '1';
    await expect(fetchModel('org/model')).rejects.toThrow(`not in the cache (${join(folder, 'hub')})`);
    expect(hub.requests).toEqual([]);
  });

  test('an unreachable hub and nothing cached is an error that says so', async () => {
    process.env['HF_ENDPOINT'] = 'http://127.0.0.1:9';
    await expect(fetchModel('org/model')).rejects.toThrow(/can't be reached/);
  });
});

describe('chooseFiles', () => {
  test.each([
    [
      ['config.json', 'model.safetensors', 'pytorch_model.bin', 'tokenizer.json', 'img.png'],
      ['config.json', 'tokenizer.json', 'model.safetensors'],
    ],
    [
      [
        'config.json',
        'model.safetensors.index.json',
        'model-00001-of-00002.safetensors',
        'model-00002-of-00002.safetensors',
      ],
      [
        'config.json',
        'model.safetensors.index.json',
        'model-00001-of-00002.safetensors',
        'model-00002-of-00002.safetensors',
      ],
    ],
    [
      ['config.json', 'pytorch_model.bin', 'onnx/model.onnx'],
      ['config.json', 'pytorch_model.bin'],
    ],
    [
      ['rwkv.pth', 'rwkv_vocab_v20230424.txt'],
      ['rwkv_vocab_v20230424.txt', 'rwkv.pth'],
    ],
  ])('of %j', (files, chosen) => {
    expect(chooseFiles(files)).toEqual(chosen);
  });

  test('several models need one to be named', () => {
    expect(() => chooseFiles(['a.gguf', 'b.gguf'])).toThrow(/a\.gguf, b\.gguf/);
    expect(() => chooseFiles(['README.md'])).toThrow(/no weights/);
  });
});

test('hub ids', () => {
  expect(parseHubModel('state-spaces/mamba-130m-hf')).toEqual({
    repo: 'state-spaces/mamba-130m-hf',
    revision: undefined,
  });
  expect(parseHubModel('a/b@refs/pr/1')).toEqual({ repo: 'a/b', revision: 'refs/pr/1' });
});

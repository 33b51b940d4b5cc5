import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { InputError } from '../src/core/errors.ts';
import { type FetchModelOptions, type FetchProgress, fetchModel } from '../src/platform/hub.ts';
import { HubError } from '../src/platform/hub-error.ts';
import { hashOf, type Mishap, PlayedHub, randomBytes, text } from './hub-server.ts';

const config = text('{"model_type":"mamba"}');
const weights = randomBytes(300_000);
const retry = { delay: 5, attempts: 4, stall: 10_000 };

let hub: PlayedHub;
let home: string;

beforeEach(async () => {
  hub = new PlayedHub();
  hub.files = new Map([
    ['README.md', text('not needed')],
    ['config.json', config],
    ['model.safetensors', weights],
  ]);
  await hub.start();
  home = mkdtempSync(join(tmpdir(), 'riverrun-hub-'));
  for (const name of Object.keys(process.env)) if (/^(HF|HUGGING|TRANSFORMERS)/.test(name)) vi.stubEnv(name, undefined);
  vi.stubEnv('HF_ENDPOINT', hub.endpoint);
  vi.stubEnv('HF_HOME', home);
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
  rmSync(home, { recursive: true });
});

const fetchIt = (options: FetchModelOptions = {}, id = 'org/model') => fetchModel(id, { retry, ...options });
const inRepo = (...path: string[]) => join(home, 'hub/models--org--model', ...path);
const blobs = () => (existsSync(inRepo('blobs')) ? readdirSync(inRepo('blobs')).sort() : []);
const blobOf = (path: string) => hashOf(path, hub.files.get(path)!).etag;
const partial = () => inRepo('blobs', `${blobOf('model.safetensors')}.riverrun.incomplete`);
const mishaps = (...list: Mishap[]) => hub.mishaps.set('model.safetensors', list);
const isWhole = (folder: string, name = 'model.safetensors') =>
  Buffer.compare(readFileSync(join(folder, name)), hub.files.get(name)!) === 0;

/** Takes the hub's work on other files and earlier calls out of the counts. */
const forget = () => {
  hub.sent.length = 0;
  hub.listings = 0;
};

describe('a download', () => {
  test('has the layout that all tools of the hub read', async () => {
    const snapshot = await fetchIt();
    expect(snapshot).toBe(inRepo('snapshots', hub.commit));
    expect(readdirSync(snapshot).sort()).toEqual(['config.json', 'model.safetensors']);
    for (const name of ['config.json', 'model.safetensors']) {
      expect(lstatSync(join(snapshot, name)).isSymbolicLink()).toBe(true);
      expect(readlinkSync(join(snapshot, name))).toBe(join('../../blobs', blobOf(name)));
      expect(isWhole(snapshot, name)).toBe(true);
    }
    expect(readFileSync(inRepo('refs/main'), 'utf8')).toBe(hub.commit);
    expect(readdirSync(inRepo()).sort()).toEqual(['blobs', 'refs', 'snapshots']);
    expect(blobs()).toEqual([blobOf('config.json'), blobOf('model.safetensors')].sort());
  });

  test('tells its progress, of each file and of all', async () => {
    const seen: FetchProgress[] = [];
    await fetchIt({ onProgress: (progress) => seen.push(progress) });
    const overallTotal = weights.length + config.length;
    const of = (file: string) => seen.filter((progress) => progress.file === file).map(({ loaded }) => loaded);
    for (const loaded of [of('config.json'), of('model.safetensors'), seen.map((progress) => progress.overallLoaded)])
      expect(loaded).toEqual([...loaded].sort((a, b) => a - b));
    expect(seen.at(-1)).toEqual({
      file: 'model.safetensors',
      loaded: weights.length,
      total: weights.length,
      overallLoaded: overallTotal,
      overallTotal,
    });
    expect(of('model.safetensors').length).toBeGreaterThan(2);
  });

  test('shares blobs between commits and requests only what changed', async () => {
    await fetchIt();
    forget();
    hub.commit = 'b'.repeat(40);
    hub.files.set('config.json', text('{"model_type":"mamba2"}'));
    const snapshot = await fetchIt();
    expect(hub.sent.map(({ path }) => path)).toEqual(['config.json']);
    expect(isWhole(snapshot)).toBe(true);
    expect(readdirSync(inRepo('snapshots'))).toEqual(['a'.repeat(40), 'b'.repeat(40)]);
    expect(readFileSync(inRepo('refs/main'), 'utf8')).toBe(hub.commit);
  });

  test.each(['v2', 'refs/pr/1'])('takes the revision %s from the name or the option', async (revision) => {
    const snapshot = await fetchIt({}, `org/model@${revision}`);
    expect(await fetchIt({ revision })).toBe(snapshot);
    expect(readFileSync(inRepo('refs', revision), 'utf8')).toBe(hub.commit);
    expect(existsSync(inRepo('refs/main'))).toBe(false);
  });

  test('takes a commit, which needs no reference', async () => {
    const snapshot = await fetchIt({}, `org/model@${hub.commit}`);
    expect(isWhole(snapshot)).toBe(true);
    expect(existsSync(inRepo('refs'))).toBe(false);
    expect(await fetchIt({ offline: true, revision: hub.commit })).toBe(snapshot);
  });

  test('takes all shards of a model', async () => {
    const shards = [1, 2, 3].map((i) => `model-0000${i}-of-00003.safetensors`);
    hub.files = new Map([
      ['model.safetensors.index.json', text('{}')],
      ...shards.map((name) => [name, randomBytes(5000)] as const),
    ]);
    const snapshot = await fetchIt();
    expect(readdirSync(snapshot).sort()).toEqual([...shards, 'model.safetensors.index.json'].sort());
    for (const name of shards) expect(isWhole(snapshot, name)).toBe(true);
    rmSync(join(snapshot, shards[1]!));
    await expect(fetchIt({ offline: true })).rejects.toThrow(`${shards[1]} is missing in ${snapshot}`);
  });

  test('takes one file that is named, in a folder too, and gives its path', async () => {
    hub.files.set('q8/model file.gguf', randomBytes(2000));
    const path = await fetchIt({}, 'org/model/q8/model file.gguf');
    expect(path).toBe(inRepo('snapshots', hub.commit, 'q8/model file.gguf'));
    expect(isWhole(dirname(dirname(path)), 'q8/model file.gguf')).toBe(true);
    expect(readlinkSync(path)).toMatch(/^\.\.\/\.\.\/\.\.\/blobs\//);
    expect(hub.sent).toHaveLength(1);
    expect(await fetchIt({ offline: true }, 'org/model/q8/model file.gguf')).toBe(path);
  });

  test('takes the files that the caller chooses, an empty one too', async () => {
    hub.files.set('empty.txt', text(''));
    const files = (name: string) => /\.(txt|md)$/.test(name);
    const snapshot = await fetchIt({ files });
    expect(readdirSync(snapshot).sort()).toEqual(['README.md', 'empty.txt']);
    expect(isWhole(snapshot, 'empty.txt')).toBe(true);
    await expect(fetchIt({ files }, 'org/model/model.gguf')).rejects.toThrow(InputError);
  });

  test('goes to the folder of HF_HUB_CACHE, or of the option', async () => {
    vi.stubEnv('HF_HUB_CACHE', join(home, 'elsewhere'));
    expect(await fetchIt()).toBe(join(home, 'elsewhere/models--org--model/snapshots', hub.commit));
    expect(await fetchIt({ cacheDir: join(home, 'third') })).toBe(
      join(home, 'third/models--org--model/snapshots', hub.commit),
    );
    expect(existsSync(inRepo())).toBe(false);
  });

  test('prints nothing', async () => {
    const spies = [vi.spyOn(process.stdout, 'write'), vi.spyOn(process.stderr, 'write')];
    const consoles = (['log', 'debug', 'info', 'warn', 'error'] as const).map((name) => vi.spyOn(console, name));
    await fetchIt();
    for (const spy of [...spies, ...consoles]) {
      expect(spy).not.toHaveBeenCalled();
      spy.mockRestore();
    }
  });
});

describe('the cache', () => {
  test('makes requests for files needless, and offline all requests', async () => {
    const snapshot = await fetchIt();
    forget();
    expect(await fetchIt()).toBe(snapshot);
    expect([hub.listings, hub.sent]).toEqual([1, []]);
    expect(await fetchIt({ offline: true })).toBe(snapshot);
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    expect(await fetchIt()).toBe(snapshot);
    expect([hub.listings, hub.sent]).toEqual([1, []]);
  });

  test.each([
    ['is not there', () => hub.stop()],
    ['fails', () => void hub.listingMishaps.push({ status: 503 })],
    ['is a login page', () => void hub.listingMishaps.push({ status: 200 })],
  ])('serves when the hub %s', async (_, spoil) => {
    const snapshot = await fetchIt();
    await spoil();
    expect(await fetchIt()).toBe(snapshot);
  });

  test('that lacks the model is an error that says where it looked and what to do', async () => {
    const failure = fetchIt({ offline: true });
    await expect(failure).rejects.toThrow(HubError);
    await expect(failure).rejects.toThrow(`org/model is not in the cache: looked in ${inRepo()}`);
    await expect(failure).rejects.toThrow('riverrun pull org/model');
    expect(hub.listings).toBe(0);
    await hub.stop();
    await expect(fetchIt()).rejects.toThrow(/ECONNREFUSED.*is not in the cache/);
  });

  test('with a download that is not finished is not taken for the model', async () => {
    mishaps(...Array.from({ length: 4 }, () => ({ status: 500 })));
    await expect(fetchIt()).rejects.toThrow(/status 500/);
    expect(existsSync(inRepo('snapshots', hub.commit, 'config.json'))).toBe(true);
    await expect(fetchIt({ offline: true })).rejects.toThrow('is not in the cache');
    await expect(fetchIt({ offline: true, revision: hub.commit })).rejects.toThrow(/no weights/);
  });

  test('repairs a blob that was cut, and a link that leads nowhere', async () => {
    const snapshot = await fetchIt();
    truncateSync(inRepo('blobs', blobOf('model.safetensors')), 1000);
    expect(isWhole(await fetchIt())).toBe(true);
    rmSync(inRepo('blobs', blobOf('config.json')));
    await fetchIt();
    expect(isWhole(snapshot, 'config.json')).toBe(true);
  });
});

describe('a connection that breaks', () => {
  test('is taken up where it ended, within a call', async () => {
    mishaps({ dropAfter: 100_000 }, { dropAfter: 60_000 }, { endAfter: 50_000 });
    const snapshot = await fetchIt({ retry: { ...retry, attempts: 2 } });
    expect(isWhole(snapshot)).toBe(true);
    expect(hub.ranges('model.safetensors')).toEqual([undefined, 'bytes=100000-', 'bytes=160000-', 'bytes=210000-']);
  });

  test('is taken up by the next call, and no byte is sent twice', async () => {
    mishaps({ dropAfter: 100_000 }, { status: 502 }, { status: 502 }, { status: 502 });
    await expect(fetchIt()).rejects.toThrow(/status 502/);
    expect(readFileSync(partial())).toHaveLength(100_000);
    forget();
    const seen: FetchProgress[] = [];
    const snapshot = await fetchIt({ onProgress: (progress) => seen.push(progress) });
    expect(isWhole(snapshot)).toBe(true);
    expect(hub.sent.map(({ path, range }) => [path, range])).toEqual([['model.safetensors', 'bytes=100000-']]);
    expect(seen.find(({ file }) => file === 'model.safetensors')!.loaded).toBe(100_000);
    expect(blobs()).toHaveLength(2);
  });

  test('is given up after some failures in a row', async () => {
    mishaps(...Array.from({ length: 9 }, () => ({ dropAfter: 0 })));
    await expect(fetchIt()).rejects.toMatchObject({ name: 'HubError', isTransient: true });
    expect(hub.ranges('model.safetensors')).toHaveLength(4);
  });

  test('is dropped when nothing arrives', async () => {
    mishaps({ hangAfter: 70_000 });
    expect(isWhole(await fetchIt({ retry: { ...retry, stall: 150 } }))).toBe(true);
    expect(hub.ranges('model.safetensors')).toEqual([undefined, 'bytes=70000-']);
  });

  test('starts over with a server that knows no ranges, and refuses a range that was not asked for', async () => {
    mishaps({ dropAfter: 100_000 }, { shiftRange: -5 }, { ignoreRange: true });
    expect(isWhole(await fetchIt())).toBe(true);
    expect(hub.ranges('model.safetensors')).toHaveLength(3);
  });
});

describe('abort', () => {
  test('rejects with the reason, and keeps what has arrived', async () => {
    mishaps({ hangAfter: 120_000 });
    const controller = new AbortController();
    const reason = { why: 'enough' };
    const attempt = fetchIt({
      signal: controller.signal,
      onProgress: ({ loaded }) => loaded === 120_000 && controller.abort(reason),
    });
    await expect(attempt).rejects.toBe(reason);
    expect(readFileSync(partial())).toHaveLength(120_000);
    expect(readdirSync(join(home, 'hub/.locks/models--org--model'))).toEqual([]);
    expect(isWhole(await fetchIt())).toBe(true);
    expect(hub.ranges('model.safetensors').at(-1)).toBe('bytes=120000-');
  });

  test('ends waiting for a busy hub', async () => {
    hub.listingMishaps.push({ status: 429, headers: { 'retry-after': '60' } });
    await expect(fetchIt({ signal: AbortSignal.timeout(100) })).rejects.toMatchObject({ name: 'TimeoutError' });
  });

  test('before the start makes no request', async () => {
    await expect(fetchIt({ signal: AbortSignal.abort('no') })).rejects.toBe('no');
    expect(hub.listings).toBe(0);
  });

  test('an error of the progress callback ends the download', async () => {
    const error = new Error('from the callback');
    const onProgress = () => {
      throw error;
    };
    await expect(fetchIt({ onProgress })).rejects.toBe(error);
  });
});

describe('damage', () => {
  test('on the way is repaired by a second download', async () => {
    mishaps({ corrupt: true });
    expect(isWhole(await fetchIt())).toBe(true);
    expect(hub.ranges('model.safetensors')).toEqual([undefined, undefined]);
  });

  test('in what an earlier download left is found', async () => {
    mkdirSync(dirname(partial()), { recursive: true });
    writeFileSync(partial(), randomBytes(5000));
    expect(isWhole(await fetchIt())).toBe(true);
    expect(hub.ranges('model.safetensors')).toEqual(['bytes=5000-', undefined]);
  });

  test('of a longer rest than the file is undone', async () => {
    mkdirSync(dirname(partial()), { recursive: true });
    writeFileSync(partial(), new Uint8Array(weights.length + 1));
    expect(isWhole(await fetchIt())).toBe(true);
  });

  test.each(['model.safetensors', 'config.json'])('of %s that stays is an error, and leaves nothing', async (name) => {
    hub.mishaps.set(name, [{ corrupt: true }, { corrupt: true }]);
    await expect(fetchIt()).rejects.toThrow(`${name} arrived damaged twice`);
    expect(blobs().filter((blob) => blob.startsWith(blobOf(name)))).toEqual([]);
    expect(existsSync(inRepo('snapshots', hub.commit, name))).toBe(false);
  });
});

describe('several at once', () => {
  test('download a file once', async () => {
    const paths = await Promise.all([fetchIt(), fetchIt(), fetchIt()]);
    expect(new Set(paths).size).toBe(1);
    expect(isWhole(paths[0]!)).toBe(true);
    expect(hub.ranges('model.safetensors')).toHaveLength(1);
    expect(readdirSync(inRepo('refs'))).toEqual(['main']);
  });

  const lock = () => join(home, 'hub/.locks/models--org--model', `${blobOf('model.safetensors')}.riverrun.lock`);
  const writeLock = (owner: object) => {
    mkdirSync(dirname(lock()), { recursive: true });
    writeFileSync(lock(), JSON.stringify(owner));
  };

  test('wait for each other while the other lives', async () => {
    writeLock({ host: hostname(), pid: process.pid, id: 'x' });
    await expect(fetchIt({ signal: AbortSignal.timeout(300) })).rejects.toMatchObject({ name: 'TimeoutError' });
    expect(existsSync(lock())).toBe(true);
    expect(hub.ranges('model.safetensors')).toEqual([]);
  });

  test('take over from a process that is gone', async () => {
    writeLock({ host: hostname(), pid: 999_999_999, id: 'x' });
    expect(isWhole(await fetchIt())).toBe(true);
    expect(existsSync(lock())).toBe(false);
  });

  test('take over from another machine that has long been silent', async () => {
    writeLock({ host: 'another', pid: process.pid, id: 'x' });
    const longAgo = new Date(Date.now() - 120_000);
    utimesSync(lock(), longAgo, longAgo);
    expect(isWhole(await fetchIt())).toBe(true);
  });
});

describe('a refusal', () => {
  test.each([
    ['org/other', /has no model org\/other/, 404],
    ['org/model@v9', /org\/model has no branch, tag or commit v9/, 404],
  ])('%s says what is missing', async (id, message, status) => {
    await expect(fetchIt({}, id)).rejects.toThrow(message);
    await expect(fetchIt({}, id)).rejects.toMatchObject({ name: 'HubError', status, isTransient: false });
  });

  test('of a file that is not there suggests another', async () => {
    await expect(fetchIt({}, 'org/model/model.safetensor')).rejects.toThrow('did you mean model.safetensors?');
  });

  test('of the private asks for a token, which goes to the hub alone', async () => {
    hub.token = 'hf_secret';
    await expect(fetchIt()).rejects.toThrow(/set HF_TOKEN/);
    await expect(fetchIt({ token: 'wrong' })).rejects.toThrow(/refuses the token/);
    vi.stubEnv('HF_TOKEN', 'hf_secret');
    await fetchIt();
    const sent = new Map(hub.sent.map(({ path, authorization }) => [path, authorization]));
    expect(sent.get('config.json')).toBe('Bearer hf_secret');
    expect(sent.get('model.safetensors'), 'the store is another origin').toBeUndefined();
  });

  test('of the gated names the page of the licence', async () => {
    hub.token = 'hf_secret';
    hub.isGated = true;
    await expect(fetchIt()).rejects.toThrow(`accept its licence at ${hub.endpoint}/org/model and set HF_TOKEN`);
    await expect(fetchIt({ token: 'other' })).rejects.toThrow(/this token has no access/);
    writeFileSync(join(home, 'token'), 'hf_secret\n');
    expect(isWhole(await fetchIt())).toBe(true);
  });

  test('for now is waited for as long as the hub asks', async () => {
    hub.listingMishaps.push({ status: 503 }, { status: 429, headers: { 'retry-after': '1' } });
    mishaps({ status: 429 });
    const started = performance.now();
    await fetchIt();
    expect(performance.now() - started).toBeGreaterThan(950);
    expect(hub.listings).toBe(3);
  });

  test('for too long is an error that says how long', async () => {
    hub.listingMishaps.push({ status: 429, headers: { 'retry-after': '3000' } });
    await expect(fetchIt()).rejects.toThrow(/try again in 3000 seconds/);
  });

  test('to leave the cache folder is made of every name that the hub lists', async () => {
    hub.files.set('../../escape.json', config);
    await expect(fetchIt({ files: () => true })).rejects.toThrow(/without a plain path/);
  });

  test.skipIf(process.getuid?.() === 0)('of the disk names the folder', async () => {
    chmodSync(home, 0o500);
    await expect(fetchIt()).rejects.toThrow(`the cache of models in ${join(home, 'hub')} can't be used`);
    chmodSync(home, 0o700);
  });

  test('of a cache folder that is a file names it', async () => {
    writeFileSync(join(home, 'hub'), '');
    await expect(fetchIt()).rejects.toThrow(/a part of the path is not a folder.*HF_HOME can name another/);
  });
});

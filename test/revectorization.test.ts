import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { type KernelName, kernelIds } from '../src/backends/wasm/generated/kernel-ids.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import { Memory } from '../src/backends/wasm/memory.ts';
import { Threads } from '../src/backends/wasm/threads.ts';
import { InputError } from '../src/core/errors.ts';
import { device } from '../src/platform/device.ts';
import { spawnThread } from '../src/platform/node.ts';
import { judgeRevectorization, revectorizationSoFar } from '../src/platform/revectorization.ts';
import { kernelDigests } from '../src/verification/kernel-digests.ts';

const folder = mkdtempSync(join(tmpdir(), 'riverrun-revectorization-'));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
const inFile = (path: string) => () => Promise.resolve(path);
const blocked = () => {
  const path = join(folder, `file-${files++}`);
  writeFileSync(path, '');
  return path;
};
const newPath = () => join(folder, 'kernels', `${files++}.json`);

const FLAG = '--experimental-wasm-revectorize';
/** Kernels of which one may differ with the flag. */
const kernels = (differs: boolean) => async (flags: readonly string[]) =>
  new Map([
    ['linear 0', 'a'],
    ['scan 1', differs && flags.includes(FLAG) ? 'c' : 'b'],
  ]);
const given = (differs = false) => ({
  node: 'v24.0.0',
  arch: 'x64',
  env: {} as Record<string, string>,
  digests: kernels(differs),
  cacheFile: inFile(newPath()),
  startComparing: (): void => {
    throw new Error('compared beside');
  },
});

describe('256-bit kernels are', () => {
  test('on where every kernel computes the same with the flag', async () => {
    expect(await judgeRevectorization(given())).toEqual({
      on: true,
      reason: '2 results of kernels are the same bit for bit',
    });
  });

  test('off where one differs, and it is named', async () => {
    const { on, reason } = await judgeRevectorization(given(true));
    expect(on).toBe(false);
    expect(reason).toMatch(/1 results of kernels differ: scan 1/);
  });

  test('off where one differs only once it was compiled again, as hot kernels are', async () => {
    const digests = async (flags: readonly string[]) => await kernels(flags.includes('--wasm-sync-tier-up'))(flags);
    const { on, reason } = await judgeRevectorization({ ...given(), digests });
    expect(on).toBe(false);
    expect(reason).toMatch(/1 results of kernels differ: scan 1/);
  });

  test.each([
    ['an old Node', { node: 'v22.9.0' }, /Node 24 or newer can, and this is v22.9.0/],
    ['another processor', { arch: 'arm64' }, /for x64 processors only/],
    ['the switch', { env: { RIVERRUN_REVECTORIZE: '0' } }, /RIVERRUN_REVECTORIZE is 0/],
  ])('off by %s, without comparing', async (_, changed, reason) => {
    const digests = () => Promise.reject(new Error('compared'));
    const verdict = await judgeRevectorization({ ...given(), digests, ...changed });
    expect(verdict.on).toBe(false);
    expect(verdict.reason).toMatch(reason);
    expect(await revectorizationSoFar({ ...given(), digests, ...changed })).toEqual(verdict);
  });

  test('refused to be what no word of the switch says', async () => {
    const wish = (value: string) => judgeRevectorization({ ...given(), env: { RIVERRUN_REVECTORIZE: value } });
    await expect(wish('foo')).rejects.toThrow(/^RIVERRUN_REVECTORIZE is foo; known: 0, off, false, no, 1, on,/);
    await expect(wish('2')).rejects.toThrow(InputError);
    for (const on of ['1', 'on', 'TRUE', 'yes', '']) expect((await wish(on)).on).toBe(true);
    for (const off of ['0', 'Off', 'false', 'no']) expect((await wish(off)).on).toBe(false);
  });

  test('off at a first start, which has them compared beside it, once for all that start together', async () => {
    const [path, rest] = [newPath(), given()];
    let started = 0;
    const first = { ...rest, cacheFile: inFile(path), startComparing: () => void started++ };
    for (let n = 0; n < 3; n++)
      expect(await revectorizationSoFar(first)).toEqual({ on: false, reason: expect.stringMatching(/not known yet/) });
    expect(started).toBe(1);
    // What was begun left no verdict.
    const longAgo = new Date(Date.now() - 11 * 60_000);
    utimesSync(`${path}.comparing`, longAgo, longAgo);
    for (let n = 0; n < 2; n++) expect((await revectorizationSoFar(first)).on).toBe(false);
    expect(started).toBe(2);
    expect((await judgeRevectorization(first)).on).toBe(true);
    expect(existsSync(`${path}.comparing`)).toBe(false);
    expect(await revectorizationSoFar({ ...rest, cacheFile: inFile(path) })).toEqual(await judgeRevectorization(first));
  });

  test.each([
    ['a file', () => join(blocked(), 'riverrun', 'kernels', 'x.json')],
    ['a file system without folders', () => '/proc/nowhere/riverrun/kernels/x.json'],
  ])('off, and not compared, where %s keeps no verdicts', async (_, path) => {
    const digests = () => Promise.reject(new Error('compared'));
    const cacheFile = inFile(path());
    const verdict = await judgeRevectorization({ ...given(), digests, cacheFile });
    expect(verdict.on).toBe(false);
    expect(verdict.reason).toMatch(
      /^kernels are not compared, for the verdict can't be kept: .+: .+ \(XDG_CACHE_HOME\)$/,
    );
    expect(await revectorizationSoFar({ ...given(), digests, cacheFile })).toEqual(verdict);
  });

  test('compared once: the verdict is kept, also where it is that they differ', async () => {
    for (const differs of [false, true]) {
      const [path, rest] = [newPath(), given(differs)];
      const cacheFile = inFile(path);
      const first = await judgeRevectorization({ ...rest, cacheFile });
      const digests = () => Promise.reject(new Error('compared again'));
      expect(await judgeRevectorization({ ...rest, digests, cacheFile })).toEqual(first);
      writeFileSync(path, '{"on": "yes"');
      expect((await judgeRevectorization({ ...rest, digests, cacheFile })).reason).toMatch(/compared again/);
    }
  });

  test('off, for now, where they could not be compared', async () => {
    const [path, rest] = [newPath(), given()];
    const cacheFile = inFile(path);
    const digests = () => Promise.reject(new Error('spawn ENOMEM'));
    const verdict = await judgeRevectorization({ ...rest, digests, cacheFile });
    expect(verdict).toEqual({ on: false, reason: 'kernels could not be compared: spawn ENOMEM' });
    expect(existsSync(path)).toBe(false);
    expect((await judgeRevectorization({ ...rest, cacheFile })).on).toBe(true);
    expect(JSON.parse(readFileSync(path, 'utf8')).on).toBe(true);
  });
});

test('digests of kernels are repeatable, and tell builds apart that round differently', async () => {
  const digests: Map<string, string>[] = [];
  for (const relaxed of [true, true, false]) {
    const backend = await wasmBackend({ relaxed });
    digests.push(kernelDigests(backend));
    backend.dispose();
  }
  const [first, again, plain] = digests as [Map<string, string>, Map<string, string>, Map<string, string>];
  expect(again).toEqual(first);
  expect(plain.get('linear 4')).not.toBe(first.get('linear 4'));
  expect(plain.get('q4 [65, 63] × 3')).toBe(first.get('q4 [65, 63] × 3'));
  const stored = [...first].filter(([name]) => name.includes(' stored as '));
  expect(stored).toHaveLength(35);
  for (const [name, digest] of stored) expect(plain.get(name), name).toBe(digest);
});

test('every kernel is compared, those too that only several threads run', async () => {
  const called = new Set<KernelName | undefined>();
  const names = new Map(Object.entries(kernelIds).map(([name, id]) => [id as number, name as KernelName]));
  const { allocate } = Memory.prototype;
  const { walk, walkAlone } = Threads.prototype;
  // Plans lie in the memory that was taken from last.
  let memory: Memory | undefined;
  vi.spyOn(Memory.prototype, 'allocate').mockImplementation(function (this: Memory, ...args) {
    memory = this;
    return allocate.apply(this, args);
  });
  for (const [name, method] of Object.entries({ walk, walkAlone }) as ['walk' | 'walkAlone', typeof walk][])
    vi.spyOn(Threads.prototype, name).mockImplementation(function (this: Threads, plan, steps) {
      for (let n = 0; n < steps; n++) called.add(names.get(memory!.i32[plan / 4 + 2 * n]!));
      method.call(this, plan, steps);
    });
  const [backend, together] = [await wasmBackend(), await wasmBackend({ threads: 2, spawn: spawnThread })];
  kernelDigests(backend, together);
  for (const one of [backend, together]) one.dispose();
  vi.restoreAllMocks();
  expect([...called].sort()).toEqual(Object.keys(kernelIds).sort());
});

const isAble = Number(process.versions.node.split('.')[0]) >= 24 && process.arch === 'x64';
const commandLine = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

test.runIf(isAble)(
  'a first start does not wait for the comparison, and it outlives it',
  { timeout: 90_000 },
  async () => {
    const cache = join(folder, 'first');
    const env = { ...process.env, RIVERRUN_REVECTORIZE: '', XDG_CACHE_HOME: cache };
    const run = (...args: string[]) =>
      execFileSync(process.execPath, [commandLine, ...args], { env, encoding: 'utf8' });
    const generate = () => run('generate', 'Once', '--max-tokens', '4', '--temperature', '0', '-q');
    const first = generate();
    const kernels = join(cache, 'riverrun', 'kernels');
    expect(readdirSync(kernels)).toEqual([expect.stringMatching(/\.json\.comparing$/)]);
    await vi.waitUntil(() => readdirSync(kernels).every((name) => name.endsWith('.json')), { timeout: 70_000 });
    expect(JSON.parse(run('inspect', '--device', '--json')).revectorization).toMatchObject({ on: true });
    expect(generate()).toBe(first);
  },
);

test('here they are what this Node allows', { timeout: 60_000 }, async () => {
  const { revectorization } = await device();
  expect(revectorization.on).toBe(isAble && !process.env['RIVERRUN_REVECTORIZE']);
  expect(revectorization.reason).not.toMatch(/could not be compared/);
});

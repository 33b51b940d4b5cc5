import { lstatSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { pointAt } from './hub-cache.ts';

vi.mock('node:fs/promises', async (original) => {
  const actual = await original<typeof fs>();
  return { ...actual, symlink: vi.fn(actual.symlink), link: vi.fn(actual.link) };
});

const denied = () => Promise.reject(Object.assign(new Error('not permitted'), { code: 'EPERM' }));
let folder: string;
let blob: string;
let pointer: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'riverrun-cache-'));
  [blob, pointer] = [join(folder, 'blob'), join(folder, 'snapshots/abc/config.json')];
  await fs.writeFile(blob, 'contents');
});
afterEach(() => rmSync(folder, { recursive: true }));

test('a snapshot links to its blob, where links are refused by a hard link, and else by a copy', async () => {
  await pointAt(blob, pointer);
  expect(lstatSync(pointer).isSymbolicLink()).toBe(true);

  vi.mocked(fs.symlink).mockImplementationOnce(denied);
  await pointAt(blob, pointer);
  expect(lstatSync(pointer).isFile()).toBe(true);
  expect(statSync(pointer).ino).toBe(statSync(blob).ino);

  rmSync(pointer);
  vi.mocked(fs.symlink).mockImplementationOnce(denied);
  vi.mocked(fs.link).mockImplementationOnce(denied);
  await pointAt(blob, pointer);
  expect(statSync(pointer).ino).not.toBe(statSync(blob).ino);
  expect(readFileSync(pointer, 'utf8')).toBe('contents');
});

import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { InputError } from '../core/errors.ts';
import { makeFolder } from './node-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'riverrun-folders-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('a folder is made with those it lies in, and may be there', () => {
  const path = join(folder, 'a', 'b', 'c');
  expect(makeFolder(path)).toBe(join(folder, 'a'));
  expect(makeFolder(path)).toBeUndefined();
  expect(makeFolder(join(path, 'd'))).toBe(join(path, 'd'));
  expect(statSync(path).isDirectory()).toBe(true);
});

test('a folder that can not be made is told of', () => {
  const file = join(folder, 'file');
  writeFileSync(file, '');
  expect(() => makeFolder(file)).toThrow(new InputError(`${file}: it is a file, not a folder`));
  expect(() => makeFolder(join(file, 'a'))).toThrow(`${join(file, 'a')}: a part of the path is not a folder`);
  expect(() => makeFolder(join(file, 'a', 'b'))).toThrow(InputError);
});

test.runIf(existsSync('/proc/self'))('making a folder ends where a file system makes none', () => {
  expect(() => makeFolder('/proc/nowhere/a/b')).toThrow(
    new InputError('/proc/nowhere: there is no such file or folder'),
  );
});

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const folder = new URL('../bench', import.meta.url).pathname;
const programs = ['.', 'data'].flatMap((below) =>
  readdirSync(join(folder, below))
    .filter((name) => name.endsWith('.mjs'))
    .map((name) => join(below, name)),
);
const needing = programs.filter((name) => /^\s*(if .*)?endWithUsage\(/m.test(readFileSync(join(folder, name), 'utf8')));

test.each(needing)('bench/%s without what it needs says what that is, in a line', (name) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(folder, name)], { encoding: 'utf8' });
  const line = stderr.replace(/\n$/, '');
  expect([status, stdout, line]).toEqual([1, '', expect.stringMatching(/^usage: node .*$/)]);
  expect(line).toContain(`node bench/${name} `);
});

test('programs that read a file or folder that they are given are among them', () => {
  expect(needing.sort()).toEqual(
    expect.arrayContaining(['ask.mjs', 'classification.mjs', 'data/babi.mjs', 'data/snips.mjs', 'data/squad.mjs']),
  );
});

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { State } from '../src/runtime/state.ts';

const main = new URL('../dist/cli/main.js', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'riverrun-interrupt-'));
afterAll(() => rmSync(folder, { recursive: true }));

const text = 'The king had a daughter, and her name was Mary. One day she went to the river. '.repeat(3000);
const book = join(folder, 'book.txt');
writeFileSync(book, text.repeat(20));

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command, waits until `isUnderWay`, presses Ctrl-C. Standard input stays open all the while. */
async function interrupted(
  args: readonly string[],
  input: string,
  isUnderWay: (child: ChildProcess, stdout: string) => boolean,
): Promise<Ended> {
  const child = spawn(process.execPath, [main, ...args, '--model', 'books-mamba', '--threads', '1']);
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (data) => (stdout += data));
  child.stderr.on('data', (data) => (stderr += data));
  child.stdin.on('error', () => {});
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  child.stdin.write(input);
  while (!isUnderWay(child, stdout) && child.exitCode === null) await sleep(20);
  child.kill('SIGINT');
  return { code: await ended, stdout, stderr };
}

const hasPrinted = (_: ChildProcess, stdout: string): boolean => stdout.length > 0;

/** Whether the process has taken so much of its standard input that it is reading it. */
function isReading(): (child: ChildProcess) => boolean {
  let since = 0;
  return (child) => {
    if (child.stdin!.writableLength > 0) return false;
    since ||= performance.now();
    return performance.now() - since > 1000;
  };
}

/** Whether so much time has passed that a file is being read. */
function isWellBegun(): () => boolean {
  const begun = performance.now();
  return () => performance.now() - begun > 3000;
}

const expectPart = async (path: string): Promise<void> => {
  const { position } = await State.load(readFileSync(path));
  expect(position).toBeGreaterThan(0);
};

test('score keeps what it printed, and tells the totals so far', async () => {
  const { code, stdout, stderr } = await interrupted(['score', '--json'], text, hasPrinted);
  expect([code, stderr]).toEqual([130, '']);
  const result = JSON.parse(stdout);
  expect(result.finishReason).toBe('interrupted');
  expect(result.rows).toHaveLength(result.tokens);
});

test('score --logits leaves no half file', async () => {
  const out = join(folder, 'logits.safetensors');
  const { code, stderr } = await interrupted(['score', '--file', book, '--logits', out], '', isWellBegun());
  expect([code, stderr]).toEqual([130, '']);
  expect(existsSync(out)).toBe(false);
});

test('generate saves what was read of a long prompt', async () => {
  const out = join(folder, 'prompt.state');
  const { code, stderr } = await interrupted(['generate', '--save', out], text, isReading());
  expect([code, stderr]).toEqual([130, '']);
  await expectPart(out);
});

test.each([
  ['a text', []],
  ['a file', ['--file', book]],
])('state save keeps what was read of %s, and goes on with it', async (name, from) => {
  const out = join(folder, `${name}.state`);
  const isUnderWay = from.length > 0 ? isWellBegun() : isReading();
  const { code, stdout, stderr } = await interrupted(['state', 'save', out, ...from], text, isUnderWay);
  expect([code, stderr]).toEqual([130, '']);
  expect(stdout).toMatch(/ after [\d,]+ tokens/);
  await expectPart(out);
});

test('ask keeps the document’s state, and answers', async () => {
  const checkpoint = join(folder, 'ask.state');
  const args = ['ask', book, 'Who?', '--checkpoint', checkpoint, '--json'];
  const { code, stdout, stderr } = await interrupted(args, '', isWellBegun());
  expect([code, stderr]).toEqual([130, '']);
  expect(JSON.parse(stdout)).toMatchObject({ answers: [], finishReason: 'interrupted' });
  await expectPart(checkpoint);
});

test.each([
  ['classify', ['--labels', 'king,ship']],
  ['embed', []],
])('%s ends while it waits for more, with what it has told', async (command, args) => {
  const { code, stdout, stderr } = await interrupted([command, ...args], 'The king.\n', hasPrinted);
  expect([code, stderr]).toEqual([130, '']);
  expect(stdout.trimEnd().split('\n')).toHaveLength(1);
});

test('state save and load: a text goes on as if it had not been broken off', () => {
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [main, ...args, '--model', 'books-mamba', '--threads', '1'], {
      encoding: 'utf8',
      input: '',
    });
  const out = join(folder, 'whole.state');
  const whole = run('generate', 'Once upon a time there was', '-t', '0', '-n', '12').stdout;
  expect(run('state', 'save', out, 'Once upon a time there was').stdout).toMatch(/KB after \d+ tokens/);
  expect(`Once upon a time there was${run('state', 'load', out, '-t', '0', '-n', '12').stdout}`).toBe(whole);
  const half = join(folder, 'half.state');
  const empty = join(folder, 'empty.txt');
  writeFileSync(empty, '');
  expect(run('state', 'save', half, 'Once', '--precision', 'f16', '--json').status).toBe(0);
  const refusals: readonly [string[], RegExp][] = [
    [['state', 'save', out, ''], /the text is empty/],
    [['state', 'save', folder, 'x'], /is a folder/],
    [['state', 'save', join(folder, 'none', 'x.state'), 'x'], /there is no such file or folder/],
    [['state', 'save', out, 'x', '--file', book], /a text or --file, not both/],
    [['state', 'save', out, '--file', book], /is a state, but no checkpoint of reading/],
    [['state', 'load', book], /its header would be/],
    [['state', 'save', out], /the text is empty/],
    [['state', 'save', out, '--file', empty], /is empty: there is nothing to read/],
    [['inspect', '--text', ''], /the text is empty/],
    [['classify', '--labels', 'a,b'], /there is no text/],
    [['embed'], /there is no text/],
    [['generate', 'x', '--save', join(folder, 'none', 'x.state')], /there is no such file or folder/],
    [['chat', '--template', 'world', '--session', join(folder, 'none', 'x')], /there is no such file or folder/],
  ];
  for (const [args, message] of refusals) {
    const { status, stdout, stderr } = run(...args);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(message);
  }
});

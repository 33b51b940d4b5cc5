import { spawn, spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { benchCommand } from '../src/cli/bench.ts';
import type { Backend } from '../src/core/backend.ts';
import type { Random } from '../src/core/random.ts';
import { benchTasks, solve, type TaskResult } from '../src/platform/bench-tasks.ts';
import { makeBackend } from '../src/platform/node-load.ts';
import type { SyntheticTask } from '../src/train/synthetic.ts';

const main = new URL('../dist/cli/main.js', import.meta.url).pathname;

/** A task of two symbols, of which every one has an answer. */
const taskOf = (name: string, answer: (bit: number, random: Random) => number): SyntheticTask => ({
  ...{ name, about: name, vocabulary: 2, lengths: [16, 16], measured: [16, 32] },
  make(random, length) {
    const tokens = Array.from({ length }, () => random.integer(2));
    return { tokens, rows: tokens.map((_, i) => i), targets: tokens.map((bit) => answer(bit, random)) };
  },
});

const accuracies = ({ accuracy }: TaskResult): number[] => accuracy.map((one) => one.accuracy);

describe('the accuracy of a task', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await makeBackend({ threads: 1 });
  });
  afterAll(() => backend.dispose());
  const options = { steps: 300, batch: 8 };

  const opposite = taskOf('opposite', (bit) => 1 - bit);

  test('is 1 where the answer is the other symbol; a task that is solved ends before its last step', async () => {
    const { accuracy, steps } = await solve(backend, opposite, 'gla', options);
    expect(accuracy).toEqual([16, 32].map((length) => ({ length, accuracy: 1 })));
    expect(steps).toBe(100);
  });

  test('is no more than chance before the first step', async () => {
    const untaught = await solve(backend, opposite, 'gla', { ...options, steps: 0 });
    expect(untaught.steps).toBe(0);
    for (const accuracy of accuracies(untaught)) expect(accuracy).toBeLessThan(0.6);
  });

  test('is a half where the answers are the toss of a coin, and what is left where a quarter of them is another', async () => {
    const coin = taskOf('coin', (_, random) => random.integer(2));
    const mostly = taskOf('mostly', (bit, random) => (random.integer(4) === 0 ? 1 - bit : bit));
    for (const [task, share] of [
      [coin, 0.5],
      [mostly, 0.75],
    ] as const) {
      const result = await solve(backend, task, 'gla', { ...options, steps: 120 });
      expect(result.steps).toBe(120);
      for (const accuracy of accuracies(result)) expect(Math.abs(accuracy - share)).toBeLessThan(0.06);
    }
  });
});

describe('a training that diverges', () => {
  // Single precision has no such number: the first step makes every parameter infinite.
  const HUGE = 1e39;
  const bench = { tasks: ['parity'], architectures: ['gla', 'llama'], batch: 2, threads: 1 };

  test.each([
    [1, HUGE, /^after step 1 \S+ is not finite: the training diverged at a learning rate of 1e\+39$/],
    [300, 1000, /^the (loss|gradient) of step \d+ is not finite: the training diverged at a learning rate of \d+$/],
  ])('has a row that tells so instead of accuracies, and the next follows: %i steps', async (steps, rate, message) => {
    const results: TaskResult[] = [];
    for await (const one of benchTasks({ ...bench, steps, learningRate: rate })) results.push(one);
    expect(results.map(({ architecture }) => architecture)).toEqual(['gla', 'llama']);
    const [first] = results;
    expect(first).toMatchObject({ task: 'parity', accuracy: [], diverged: expect.stringMatching(message) });
    expect(first!.steps).toBeLessThanOrEqual(steps);
    for (const { accuracy, diverged } of results) expect(accuracy.length > 0).toBe(diverged === undefined);
  });

  test('ends the command with exit code 1, after the rows of the others', () => {
    const args = '--tasks parity --architectures gla,llama --steps 1 --threads 1 --learning-rate 1e39'.split(' ');
    const { status, stdout, stderr } = spawnSync(process.execPath, [main, 'bench', ...args], { encoding: 'utf8' });
    expect(stdout.match(/^(gla|llama) +after step 1 \S+ is not finite: the training diverged .*$/gm)).toHaveLength(2);
    expect(stdout).toMatch(/^\nparity: accuracy in %, by tokens\n +40 +80 +160 +320 /);
    expect([status, stderr]).toEqual([
      1,
      'riverrun: 2 of 2 trainings diverged, and have no accuracy: try a lower --learning-rate\n',
    ]);
  });
});

describe('a signal that is raised', () => {
  const bench = { tasks: ['parity'], architectures: ['gla', 'llama'], batch: 2, threads: 1 };

  test.each([
    ['in the second training', 'llama', 1],
    ['in the first', 'gla', 0],
  ])('%s ends it without a row', async (_, architecture, rows) => {
    const controller = new AbortController();
    const results: TaskResult[] = [];
    const steps: string[] = [];
    const onStep = (row: { architecture: string; step: number }) => {
      steps.push(row.architecture);
      if (row.architecture === architecture && row.step === 2) controller.abort();
    };
    const all = async () => {
      for await (const one of benchTasks({ ...bench, steps: 4, signal: controller.signal, onStep })) results.push(one);
    };
    await expect(all()).rejects.toMatchObject({ name: 'AbortError' });
    expect(results).toHaveLength(rows);
    expect(steps.filter((name) => name === architecture)).toHaveLength(2);
  });

  test('before the first begins none, and while accuracy is measured has no row', async () => {
    await expect(benchTasks({ ...bench, signal: AbortSignal.abort() }).next()).rejects.toMatchObject({
      name: 'AbortError',
    });
    const controller = new AbortController();
    const onStep = () => controller.abort();
    const last = benchTasks({ ...bench, steps: 1, signal: controller.signal, onStep });
    await expect(last.next()).rejects.toMatchObject({ name: 'AbortError' });
  });

  test('by Ctrl-C ends the command with exit code 130, and tells what is not done', async () => {
    const args = '--tasks parity,s3 --architectures gla,llama --steps 20 --threads 1'.split(' ');
    const child = spawn(process.execPath, [main, 'bench', ...args]);
    let [stdout, stderr] = ['', ''];
    // The first row is there: the second training is under way.
    child.stdout.on('data', (data) => {
      stdout += data;
      if (/^gla /m.test(stdout)) child.kill('SIGINT');
    });
    child.stderr.on('data', (data) => (stderr += data));
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect(stdout.match(/^(gla|llama) /gm)).toEqual(['gla ']);
    expect(stderr).toBe(
      'riverrun: stopped; 3 of 4 trainings are not done, nor is anything of them kept:\n  parity: llama\n  s3: gla, llama\n',
    );
    expect(code).toBe(130);
  });
});

describe('tasks by their names', () => {
  const options = { tasks: ['parity'], architectures: ['delta_net', 'delta_net-negative'], threads: 1 };
  const results = async (more: object) => {
    const all: TaskResult[] = [];
    for await (const one of benchTasks({ ...options, batch: 2, steps: 2, ...more })) all.push(one);
    return all;
  };

  test('every architecture has a row, at every length, near chance after two steps; another seed gives others', async () => {
    const losses: number[] = [];
    const onStep = ({ loss }: { loss: number }) => losses.push(loss);
    const [first, second] = await results({ onStep });
    expect(first).toMatchObject({ task: 'parity', architecture: 'delta_net', steps: 2, learningRate: 0.01, seed: 0 });
    expect(second).toMatchObject({ task: 'parity', architecture: 'delta_net-negative', parameters: first!.parameters });
    for (const result of [first!, second!]) {
      expect(result.accuracy.map(({ length }) => length)).toEqual([40, 80, 160, 320]);
      for (const accuracy of accuracies(result)) expect(accuracy).toBeLessThan(0.65);
    }
    // The same initial values, but eigenvalues from −1 to 1: other losses.
    expect(losses).toHaveLength(4);
    expect(losses[0]).not.toBe(losses[2]);
    const [other] = await results({ architectures: ['delta_net'], seed: 1 });
    expect(other!.accuracy).not.toEqual(first!.accuracy);
  });

  test.each([
    [{ tasks: ['party'] }, /there is no task party; there are selective-copying/],
    [{ architectures: ['gla-negative'] }, /there is no architecture gla-negative to compare/],
    [{ steps: -1 }, /steps is -1: it must be a whole number, 0 or above/],
    [{ batches: 2 }, /batches/],
  ])('%j is refused', async (more, message) => {
    await expect(results(more)).rejects.toThrow(message);
  });
});

describe('bench --tasks', () => {
  const riverrun = (args: string) =>
    spawnSync(process.execPath, [main, 'bench', ...args.split(' ')], { encoding: 'utf8' });
  const task = '--tasks parity --architectures gla --steps 1 --threads 1';

  test('prints a table, and with --json the same as a line', () => {
    const table = riverrun(task);
    expect(table.status).toBe(0);
    const [, heading, , row] = /^\n(parity: .*)\n(.*)\n(gla .*)\n$/.exec(table.stdout)!;
    expect(heading).toBe('parity: accuracy in %, by tokens');
    const { accuracy, parameters } = JSON.parse(riverrun(`${task} --json`).stdout) as TaskResult;
    const percents = accuracy.map((one) => (100 * one.accuracy).toFixed(1));
    expect(row!.split(/ +/)).toEqual(['gla', ...percents, String(parameters), '1', expect.any(String), 's']);
  });

  const used = ['tasks', 'architectures', 'steps', 'learningRate', 'seed', 'threads', 'json', 'quiet'];
  const others = benchCommand().options.filter((option) => !used.includes(option.attributeName()));

  test.each(others.map((option) => [option.long!, option] as const))(
    '%s, which says nothing, is refused',
    async (long, option) => {
      const value = option.required ? [option.argChoices?.[0] ?? '8'] : [];
      const args = ['--tasks', 'parity', '--architectures', 'gla', '--steps', '1', long, ...value];
      await expect(benchCommand().parseAsync(args, { from: 'user' })).rejects.toThrow(
        `${long} does not go with --tasks, which trains models of its own and prints a table: leave it out`,
      );
    },
  );

  test('there are such options', () => {
    const names = others.map(({ long }) => long);
    expect(names).toEqual(expect.arrayContaining(['--svg', '--curve', '--model', '--weights', '--batch', '--backend']));
  });
});

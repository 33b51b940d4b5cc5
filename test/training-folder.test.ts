import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { describe, expect, test } from 'vitest';
import { finetune } from '../src/platform/finetune.ts';
import { type TrainOptions, trainModel } from '../src/platform/train.ts';
import type { Trained } from '../src/platform/training-run.ts';
import type { TrainRecord } from '../src/train/trainer.ts';
import { dataFolder } from './data-folder.ts';
import { smallTraining } from './small-training.ts';

const main = new URL('../dist/cli/main.js', import.meta.url).pathname;
const { at, file } = dataFolder('training-folder');
const text = file('text.txt', 'The king had a daughter, and one day she went to the river. '.repeat(60));
const other = file('other.txt', 'Wir gingen an den Fluss, und der Fluss war sehr breit und ruhig. '.repeat(80));

const small = (output: string, more: Partial<TrainOptions> = {}): TrainOptions =>
  smallTraining(text, at(output), { layers: 1, ...more });

async function run(training: AsyncGenerator<TrainRecord, Trained>): Promise<number[]> {
  const losses: number[] = [];
  for await (const { loss } of training) losses.push(loss);
  return losses;
}

const lock = (output: string) => at(`${output}/training.lock`);

describe('a folder that a training has', () => {
  test('is refused to others, and left as it was', async () => {
    const expected = await run(trainModel(small('alone')));
    const first = trainModel(small('shared'));
    const losses = [(await first.next()).value as TrainRecord].map(({ loss }) => loss);
    const refusal = new RegExp(`shared is in use: process ${process.pid} trains into it\\. Wait until that has ended`);
    await expect(run(trainModel(small('shared')))).rejects.toThrow(refusal);
    await expect(run(trainModel(small('shared', { resume: true })))).rejects.toThrow(refusal);
    const taught = { model: at('alone'), data: [text], steps: 1, output: at('shared'), threads: 1 };
    await expect(run(finetune(taught))).rejects.toThrow(refusal);
    losses.push(...(await run(first)));
    expect(losses).toEqual(expected);
    expect(existsSync(lock('shared'))).toBe(false);
  });

  test('is free again after a training is left, and after an error, which leaves no folder', async () => {
    for await (const { step } of trainModel(small('left'))) if (step === 3) break;
    expect(existsSync(lock('left'))).toBe(false);
    expect(await run(trainModel(small('left', { resume: true })))).toHaveLength(9);
    await expect(run(trainModel(small('above/below', { data: [at('none.txt')] })))).rejects.toThrow(/no such file/);
    expect(existsSync(at('above'))).toBe(false);
  });

  const since = Date.now() - 3_600_000;
  test.each([
    ['a process that has ended', { host: hostname(), pid: 999_999_999, id: 'x', since }],
    ['a process before this one that had its id', { host: hostname(), pid: process.pid, id: 'x', since }],
  ])('is taken over from %s', async (name, owner) => {
    mkdirSync(at(name));
    writeFileSync(lock(name), JSON.stringify(owner));
    expect(await run(trainModel(small(name)))).toHaveLength(12);
    expect(existsSync(lock(name))).toBe(false);
  });

  test.each([
    ['another machine', JSON.stringify({ host: 'far', pid: 1, id: 'x', since }), /process 1 of far trains into it/],
    ['one that has yet to write its name', '', /another process trains into it/],
  ])('is not taken from %s, but where it has long been silent', async (name, owner, message) => {
    mkdirSync(at(name));
    writeFileSync(lock(name), owner);
    await expect(run(trainModel(small(name)))).rejects.toThrow(message);
    await expect(run(trainModel(small(name)))).rejects.toThrow(`if it is no training, remove ${lock(name)}`);
    expect(readFileSync(lock(name), 'utf8')).toBe(owner);
    const longAgo = new Date(Date.now() - 600_000);
    utimesSync(lock(name), longAgo, longAgo);
    expect(await run(trainModel(small(name)))).toHaveLength(12);
  });

  test('is told of on the command line; a training that was killed leaves it free for the next', async () => {
    const args = ['train', '--arch', 'gla', '--width', '32', '--head-width', '16', '--layers', '1', '--threads', '1'];
    const sizes = ['--tokenizer', 'bytes', '--batch', '1', '--length', '32', '--checkpoint-every', '20'];
    const all = [main, ...args, ...sizes, '--data', text, '--steps', '3000', '--schedule', 'constant'];
    const killed = spawn(process.execPath, [...all, '--out', at('killed')], { stdio: 'ignore' });
    await until(killed, () => existsSync(at('killed/training.safetensors')));
    const second = spawnSync(process.execPath, [...all, '--out', at('killed')], { encoding: 'utf8' });
    expect([second.status, second.stderr]).toEqual([
      1,
      `riverrun: ${at('killed')} is in use: process ${killed.pid} trains into it. Wait until that has ended, or name another folder; if it is no training, remove ${lock('killed')}\n`,
    ]);
    killed.kill('SIGKILL');
    await new Promise((resolve) => killed.on('close', resolve));
    expect(existsSync(lock('killed'))).toBe(true);
    // As many steps as it has made, and some.
    const steps = String(readFileSync(at('killed/log.jsonl'), 'utf8').split('\n').length + 20);
    const third = spawnSync(process.execPath, [...all, '--steps', steps, '--resume', '--out', at('killed')]);
    expect(third.status).toBe(0);
    expect(existsSync(lock('killed'))).toBe(false);
  });
});

async function until(child: ChildProcess, holds: () => boolean): Promise<void> {
  while (!holds() && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 20));
}

describe('a training that was killed before its first checkpoint', () => {
  const learned = { tokenizer: undefined, vocabulary: 280 };

  /** A folder as it is left after three steps. */
  async function killed(output: string, more: Partial<TrainOptions> = learned): Promise<string> {
    const running = trainModel(small(`${output}-running`, more));
    for (let step = 0; step < 3; step++) await running.next();
    cpSync(at(`${output}-running`), at(output), { recursive: true });
    rmSync(lock(output));
    await running.return(undefined as never);
    expect(readdirSync(at(output)).sort()).toEqual([
      'log.jsonl',
      ...(more.tokenizer === 'bytes' ? [] : ['tokenizer.json']),
      'training.json',
    ]);
    return output;
  }

  test('goes on from its beginning with the tokenizer that it learned', async () => {
    const output = await killed('same');
    const written = readFileSync(at('same/tokenizer.json'), 'utf8');
    const expected = await run(trainModel(small('whole', learned)));
    expect(await run(trainModel(small(output, { ...learned, resume: true })))).toEqual(expected);
    expect(JSON.parse(readFileSync(at('same/tokenizer.json'), 'utf8')).model).toEqual(JSON.parse(written).model);
    expect(existsSync(at('same/training.json'))).toBe(false);
  });

  test.each([
    ['vocabulary', { vocabulary: 300 }, /training\.json is of a training .*\(vocabulary was 280, is 300\)/],
    ['data', { data: [other] }, /training\.json is of a training with other settings \(data was /],
    [
      'tokenizer',
      { tokenizer: 'bytes', vocabulary: undefined },
      /training\.json is of .*; tokenizer was .*, is "bytes"/,
    ],
    ['width', { width: 48 }, /training\.json is of .*\(width was 32, is 48\): give the same ones/],
  ] as [string, Partial<TrainOptions>, RegExp][])('is refused another %s', async (name, more, message) => {
    const output = await killed(`other-${name}`);
    const before = readFileSync(at(`${output}/tokenizer.json`));
    await expect(run(trainModel(small(output, { ...learned, ...more, resume: true })))).rejects.toThrow(message);
    expect(readFileSync(at(`${output}/tokenizer.json`))).toEqual(before);
  });

  test('is refused other data of bytes, too, and takes another rate', async () => {
    const output = await killed('bytes', { tokenizer: 'bytes' });
    const resumed = { resume: true, learningRate: 1e-3 };
    await expect(run(trainModel(small(output, { ...resumed, data: [other] })))).rejects.toThrow(/\(data was /);
    expect(await run(trainModel(small(output, resumed)))).toHaveLength(12);
  });

  test('or before its first step learns its tokenizer anew: the one that is there may be of other data', async () => {
    const output = await killed('unbegun');
    for (const name of ['log.jsonl', 'training.json']) rmSync(at(`${output}/${name}`));
    await run(trainModel(small(output, { ...learned, vocabulary: 290, data: [other], resume: true })));
    await run(trainModel(small('from-other', { ...learned, vocabulary: 290, data: [other] })));
    for (const name of ['tokenizer.json', 'model.safetensors'])
      expect(readFileSync(at(`${output}/${name}`))).toEqual(readFileSync(at(`from-other/${name}`)));
  });
});

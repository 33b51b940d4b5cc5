import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { trainBpe } from '../src/tokenizers/bpe-trainer.ts';
// @ts-expect-error: a program in JavaScript
import { crash } from './training-crash.mjs';

const main = new URL('../dist/cli/main.js', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'riverrun-failures-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => join(folder, name);

const text = at('text.txt');
writeFileSync(text, 'The king had a daughter, and one day she went to the river. '.repeat(60));
const sizes = ['--arch', 'gla', '--width', '32', '--head-width', '16', '--layers', '1', '--tokenizer', 'bytes'];
const common = [...sizes, '--threads', '1', '--batch', '2', '--length', '32'];

/** Runs the command, with files of at most `blocks` × 512 bytes (1,024 in some shells). */
function riverrun(args: readonly string[], blocks = 'unlimited') {
  const command = `ulimit -f ${blocks}; exec "$@"`;
  const env = { ...process.env, XDG_CACHE_HOME: at('cache') };
  return spawnSync('sh', ['-c', command, 'sh', process.execPath, main, ...args], { encoding: 'utf8', env });
}

/** A file of 100 MB. */
function large(name: string, before: string, piece: string, after: string): string {
  const file = openSync(at(name), 'w');
  writeSync(file, before);
  const megabyte = Buffer.alloc(1 << 20, piece);
  for (let i = 0; i < 100; i++) writeSync(file, megabyte);
  writeSync(file, after);
  closeSync(file);
  return at(name);
}

describe('one line of 100 MB', () => {
  test('of JSONL is no example', () => {
    const data = large('line.jsonl', '{"text":"', 'the river ', '"}\n');
    const { status, stderr } = riverrun(['train', '--data', data, ...common, '--steps', '1', '--out', at('jsonl')]);
    expect(stderr).toBe(`riverrun: ${data}: line 1 is longer than 67108864 characters: it is no example\n`);
    expect(status).toBe(1);
    rmSync(data);
  });

  test('of CSV is no example', () => {
    const data = large('line.csv', 'text,label\n"', 'the river ', '",a\n');
    const args = ['finetune', '--model', 'books-mamba', '--data', data, '--label', 'label', '--out', at('csv')];
    const { status, stderr } = riverrun(args);
    expect(stderr).toBe(`riverrun: ${data}: row 1 has a field of more than 67108864 characters: it is no example\n`);
    expect(status).toBe(1);
    rmSync(data);
  });

  test('without a space gives a tokenizer', async () => {
    const json = (await trainBpe(['a'.repeat(100 << 20)], 300)) as { model: { merges: string[] } };
    expect(json.model.merges.slice(0, 2)).toEqual(['a a', 'aa aa']);
  });
});

describe('what can not be written', () => {
  const training = [...common, '--data', text, '--steps', '8', '--checkpoint-every', '2'];
  const losses = (path: string) =>
    readFileSync(join(path, 'log.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).loss);

  const train = (path: string, ...more: string[]) => ['train', ...training, '--out', path, ...more];

  test('is told, with what is left', () => {
    expect(riverrun(train(at('whole'))).status).toBe(0);
    const checkpoint = join(at('whole'), 'training.safetensors');
    const blocks = String(Math.floor(statSync(checkpoint).size / 2048));
    const first = riverrun(train(at('none')), blocks);
    expect(first.stderr).toMatch(/training.safetensors: the file would be larger than this process may write/);
    expect(first.stderr).toContain('The checkpoint of step 2 is not written; there is no checkpoint before it\n');
    expect(first.status).toBe(1);
    expect(readdirSync(at('none')).sort()).toEqual(['log.jsonl', 'training.json']);

    const before = readFileSync(checkpoint);
    const second = riverrun(train(at('whole'), '--resume'), blocks);
    expect(second.stderr).toContain('The checkpoint of step 8 is not written; the checkpoint before it is as it was');
    expect(second.status).toBe(1);
    expect(readFileSync(checkpoint)).toEqual(before);
    // What ended before its first checkpoint begins anew.
    expect(riverrun(train(at('none'), '--resume')).status).toBe(0);
    expect(losses(at('none'))).toEqual(losses(at('whole')));
  });

  test.skipIf(!existsSync('/dev/full'))('on standard output is told, after a checkpoint (needs /dev/full)', () => {
    const full = openSync('/dev/full', 'w');
    const args = [main, ...train(at('unheard')), '--checkpoint-every', '100', '--json'];
    const { status, stderr } = spawnSync(process.execPath, args, { stdio: ['ignore', full, 'pipe'], encoding: 'utf8' });
    closeSync(full);
    expect([status, stderr]).toEqual([1, 'riverrun: standard output: the disk is full\n']);
    expect(losses(at('unheard'))).toHaveLength(1);
    expect(riverrun(train(at('unheard'), '--resume')).status).toBe(0);
    expect(losses(at('unheard'))).toEqual(losses(at('whole')));
  });

  const disk = at('disk');
  mkdirSync(disk);
  const mounted = (size: string) =>
    spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', disk]).status === 0;
  const isMountable = process.platform === 'linux' && mounted('4k') && spawnSync('umount', [disk]).status === 0;

  // Of two checkpoints, of which a disk must hold the last and the next, one has room.
  test.skipIf(!isMountable)(
    'as a full disk has it, leaves a checkpoint from which the training goes on (needs to mount)',
    () => {
      const { size } = statSync(join(at('whole'), 'training.safetensors'));
      expect(mounted(`${Math.ceil((1.5 * size) / 4096) * 4}k`)).toBe(true);
      try {
        const path = join(disk, 'model');
        const { status, stderr } = riverrun(train(path));
        expect(stderr).toMatch(
          /: the disk is full. The checkpoint of step 4 is not written; the checkpoint before it is/,
        );
        expect(status).toBe(1);
        expect(readdirSync(path).filter((name) => name.endsWith('.partial'))).toEqual([]);
        // With more room it goes on from step 2.
        expect(spawnSync('mount', ['-o', 'remount,size=4m', disk]).status).toBe(0);
        expect(riverrun(train(path, '--resume')).status).toBe(0);
        expect(losses(path)).toEqual(losses(at('whole')));
      } finally {
        spawnSync('umount', [disk]);
      }
    },
  );
});

test('a training that is killed at any moment goes on to the same losses and model, to the last bit', async () => {
  const { same, killed, left } = await crash(3, 60);
  expect(left.length).toBe(killed);
  expect(killed).toBeGreaterThan(0);
  expect(same).toBe(true);
}, 120_000);

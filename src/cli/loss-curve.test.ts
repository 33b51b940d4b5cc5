import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { LoggedStep } from '../train/loss-chart.ts';
import { lossCurve } from './loss-curve.ts';
import { printTraining, type TrainingOutputFlags } from './training-output.ts';

const logged = (losses: readonly number[], evaluations: Readonly<Record<number, number>> = {}): LoggedStep[] =>
  losses.map((loss, i) => {
    const [step, found] = [i + 1, evaluations[i + 1]];
    return {
      ...{ step, tokens: 8 * step, loss, learningRate: 0.1, gradientNorm: 1 },
      ...(found !== undefined && { evaluation: { loss: found } }),
    };
  });

const long = (steps: number): LoggedStep[] =>
  logged(Array.from({ length: steps }, (_, i) => 1 + 4 * Math.exp((-9 * i) / steps)));

describe('the curve of losses in characters', () => {
  test('goes from the first loss to the last, with a mark for every evaluation', () => {
    expect(lossCurve(logged([5, 4, 3, 2, 1], { 2: 4.5, 5: 3 }), 40)).toBe(`\
loss in nats: ⠤ training, ● validation
   5.00 ┤⠑⠢⢄
        │   ⠉⠒⢄⡀●
        │      ⠈⠑⠤⣀
        │          ⠑⠢⢄
   3.00 ┤             ⠉⠒⢄⡀            ●
        │                ⠈⠑⠢⣀
        │                    ⠉⠒⢄⡀
        │                       ⠈⠑⠤⣀
   1.00 ┤                           ⠑⠢⢄
        └──────────────────────────────
         1           steps            5
`);
  });

  test('has the mean of every stretch of a long training: noise is gone, and the first and the last mean are at its ends', () => {
    const steps = long(10_000).map((one, i) => ({ ...one, loss: one.loss + (i % 2 === 0 ? 0.5 : -0.5) }));
    const lines = lossCurve(steps, 80).split('\n');
    expect(lines[1]).toMatch(/^ {3}4\.\d\d ┤[\u2801-\u28ff]+$/);
    expect(lines[5]).toMatch(/^ {3}2\.9\d ┤ +[\u2801-\u28ff]+$/);
    expect(lines[9]).toMatch(/^ {3}1\.00 ┤ +[\u2801-\u28ff]+$/);
    expect(lines[11]).toMatch(/^ {9}1 +steps +10000$/);
  });

  test.each([40, 57, 80, 109, 400])('fits a terminal of %i columns', (columns) => {
    const widths = lossCurve(long(500), columns)
      .split('\n')
      .map((line) => line.length);
    expect(Math.max(...widths)).toBe(Math.min(columns - 1, 109));
  });

  test('has a height for equal losses, and digits for close ones', () => {
    expect(lossCurve(logged([2, 2, 2]), 60).split('\n')[1]).toMatch(/^ {3}2\.00 ┤⠉{50}$/);
    expect(lossCurve(logged([0.03, 0.02, 0.01]), 60)).toMatch(/^ 0\.0300 ┤(.*\n){4} 0\.0200 ┤(.*\n){4} 0\.0100 ┤/m);
    expect(lossCurve(logged([1e9, 5, 1]), 60)).toContain('1.0e+9 ┤');
  });

  test('leaves out what is no number', () => {
    const unread = logged([5, Number.NaN, 3, 1], { 3: Number.NaN, 4: 1 });
    const curve = lossCurve(unread, 60);
    expect(curve).not.toContain('NaN');
    expect(curve.match(/●/g)).toHaveLength(2); // in the title, and of step 4
  });

  test('is nothing for two steps, and for a terminal without room', () => {
    expect(lossCurve(logged([5, 4]), 80)).toBe('');
    expect(lossCurve(logged([5, 4, 3]), 39)).toBe('');
  });
});

describe('at its end a training', () => {
  const written = { out: '', err: '' };
  const terminal = { isTTY: process.stderr.isTTY, columns: process.stderr.columns };
  afterEach(() => {
    vi.restoreAllMocks();
    Object.assign(process.stderr, terminal);
    process.exitCode = undefined;
  });

  /** What a training of four steps writes, of which the log has one more from before. */
  async function output(flags: TrainingOutputFlags, { isTTY = true, fails = false, interrupted = false } = {}) {
    Object.assign(written, { out: '', err: '' });
    Object.assign(process.stderr, { isTTY, columns: 60 });
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      written.err += text;
      return true;
    });
    vi.spyOn(process.stdout, 'write').mockImplementation((text, done: unknown) => {
      written.out += text;
      (done as () => void)();
      return true;
    });
    const folder = mkdtempSync(join(tmpdir(), 'riverrun-curve-'));
    const steps = logged([5, 4, 3, 2, 1], { 5: 2 });
    writeFileSync(join(folder, 'log.jsonl'), steps.map((step) => `${JSON.stringify(step)}\n`).join(''));
    const rest = { steps: 5, tokensPerSecond: 1, secondsLeft: 1 };
    const running = printTraining(
      folder,
      async function* () {
        for (const { evaluation, ...step } of steps.slice(1))
          yield { ...step, ...rest, ...(evaluation && { evaluation: { ...evaluation, isBest: true } }) };
        if (fails) throw new Error('the training diverged');
        return { output: folder, step: 5, steps: 5, tokens: 40, loss: 1, best: undefined, bytes: 1, interrupted };
      },
      flags,
    );
    await running.finally(() => rmSync(folder, { recursive: true }));
    return { ...written };
  }

  const curve = lossCurve(logged([5, 4, 3, 2, 1], { 5: 2 }), 60);

  test('draws all steps of the folder on a terminal, before what it says last', async () => {
    const { out, err } = await output({});
    expect(err.endsWith(`\r\x1b[K${curve}`)).toBe(true);
    expect(out).toContain('step 5: loss 1.0000, validation 2.0000 (best)\n');
    expect(out).toMatch(/: 40 tokens seen\n$/);
    expect(out).not.toContain('┤');
  });

  test('draws them when it is interrupted, and when it fails', async () => {
    expect((await output({}, { interrupted: true })).err).toContain(curve);
    await expect(output({}, { fails: true })).rejects.toThrow('diverged');
    expect(written.err).toContain(curve);
  });

  test('draws nothing with --json or --quiet, or where standard error is no terminal', async () => {
    expect((await output({ json: true })).err).not.toContain('┤');
    expect((await output({ quiet: true })).err).toBe('');
    expect((await output({}, { isTTY: false })).err).toBe('');
  });
});

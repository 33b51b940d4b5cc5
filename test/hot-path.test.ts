import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';

interface Held {
  readonly script: number;
  readonly engine: number;
}

test('1,000 steps leave no garbage behind, and 100,000 tokens no more memory than 1,000', { timeout: 240_000 }, () => {
  const program = new URL('./hot-path.mjs', import.meta.url).pathname;
  const output = execFileSync(process.execPath, ['--expose-gc', program], { encoding: 'utf8' });
  const {
    heap,
    position,
    after1000,
    after100000,
  }: { heap: number; position: number; after1000: Held; after100000: Held } = JSON.parse(output);
  expect(heap).toBeLessThan(64 * 1024);
  expect(position).toBeGreaterThanOrEqual(100_000);
  expect(after100000.engine).toBe(after1000.engine);
  expect(after100000.script - after1000.script).toBeLessThan(1024 * 1024);
});

test('threads sleep while nothing is asked of them, and wake', { timeout: 60_000 }, () => {
  const program = new URL('./idle.mjs', import.meta.url).pathname;
  const { milliseconds, position } = JSON.parse(execFileSync(process.execPath, [program], { encoding: 'utf8' }));
  // Three threads that spin would take 2 seconds of two cores.
  expect(milliseconds).toBeLessThan(100);
  expect(position).toBeGreaterThan(8);
});

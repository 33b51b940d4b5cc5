// Everything that is checked without running the engine: types, lint and format, architecture, docs in step.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const node = (...args) => ({ command: process.execPath, args });
const checks = {
  build: node('scripts/build.mjs', '--if-stale', '--kernels'),
  types: node('node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'),
  lint: node('node_modules/@biomejs/biome/bin/biome', 'check', '--error-on-warnings', '.'),
  architecture: node(
    'node_modules/vitest/vitest.mjs',
    'run',
    'test/architecture.test.ts',
    'test/docs.test.ts',
    '--silent',
  ),
};
let failed = false;
for (const [name, { command, args }] of Object.entries(checks)) {
  const started = performance.now();
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8' });
  process.stdout.write(
    `${status === 0 ? 'ok  ' : 'FAIL'} ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)\n`,
  );
  if (status === 0) continue;
  failed = true;
  process.stdout.write(`${stdout}${stderr}\n`);
}
process.exitCode = failed ? 1 : 0;

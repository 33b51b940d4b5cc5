// Runs the command line as a benchmark's user would.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

/** Options as the command line takes them. */
export const flags = (options) => Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);

/** What `riverrun ARGS --json` prints: an object a line. */
export function riverrun(...args) {
  const { status, stdout } = spawnSync(process.execPath, [main, ...args.map(String), '--json'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1e9,
  });
  if (status !== 0) throw new Error(`riverrun ${args.join(' ')} ended with ${status}`);
  return stdout.trim().split('\n').map(JSON.parse);
}

/** Ends a program that was called without what it needs, with a line that says what that is. */
export function endWithUsage(line) {
  process.stderr.write(`usage: node ${line}\n`);
  process.exit(1);
}

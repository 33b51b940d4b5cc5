// Kills a process that reads a text, again and again at random moments, and has the next go on from its checkpoint.
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { State } from '../dist/runtime/state.js';

const program = fileURLToPath(new URL('./reading.mjs', import.meta.url));

/** Reads until killed `after` milliseconds into the text; resolves to the digest if it came to the end, and its time. */
function read(args, after) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    let printed = '';
    let timer;
    let started;
    child.stdout.on('data', (data) => {
      printed += data;
      started ??= performance.now();
      if (after !== undefined) timer ??= setTimeout(() => child.kill('SIGKILL'), after);
    });
    child.on('close', () => {
      clearTimeout(timer);
      resolve({ digest: printed.split('\n')[1] || undefined, milliseconds: performance.now() - started });
    });
  });
}

/**
 * Kills at most `kills` readings of a text of about `bytes` bytes, spread over it. Returns the digests of the final state with
 * and without interruption, and the tokens that each killed reading left in its checkpoint.
 */
export async function crash(kills, bytes, random = Math.random) {
  const folder = mkdtempSync(join(tmpdir(), 'riverrun-crash-'));
  try {
    const text = join(folder, 'text.txt');
    const words = ['river', 'run', 'past', 'Eve', 'and', 'Adam’s', 'naïve', 'swerve', '\u{1f30a}'];
    let content = '';
    while (content.length < bytes) content += `${words[Math.floor(random() * words.length)]} `;
    writeFileSync(text, content);
    const whole = await read([text, join(folder, 'whole.state'), '1000000']);
    // On average they come as far as three quarters of the text.
    const longest = (1.5 * whole.milliseconds) / kills;
    const checkpoint = join(folder, 'killed.state');
    const left = [];
    let killed = 0;
    let digest;
    while (digest === undefined) {
      ({ digest } = await read([text, checkpoint, '256'], killed < kills ? random() * longest : undefined));
      if (digest !== undefined) break;
      killed++;
      // Whatever there is must be whole.
      if (readdirSync(folder).includes('killed.state')) {
        const state = await State.load(readFileSync(checkpoint), checkpoint);
        left.push(Number(state.notes['source.tokens']));
      } else left.push(0);
    }
    const files = readdirSync(folder).filter((name) => name.endsWith('.partial'));
    return { whole: whole.digest, digest, killed, left, partial: files };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

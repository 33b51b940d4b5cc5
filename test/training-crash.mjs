// Kills a training with SIGKILL, again and again at random moments, and has the next go on from its checkpoint.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openSafetensors } from '../dist/formats/safetensors.js';
import { openFile } from '../dist/platform/node-file.js';

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

/** Trains until killed `later` milliseconds after it told of more than `after` steps; resolves to the exit code, and how long the steps took. */
function train(args, env, after = Infinity, later = 0) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [main, 'train', ...args, '--json'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...env },
    });
    let timer;
    let started;
    let told = 0;
    child.stdout.on('data', (data) => {
      started ??= performance.now();
      told += data.toString().split('\n').length - 1;
      if (told > after) timer ??= setTimeout(() => child.kill('SIGKILL'), later);
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code, milliseconds: performance.now() - (started ?? performance.now()) });
    });
  });
}

/** What a folder's training found: its losses, and the digests of its files. */
function found(folder) {
  const log = readFileSync(join(folder, 'log.jsonl'), 'utf8').trim().split('\n');
  const losses = log.map((line) => {
    const { step, loss, gradientNorm, evaluation } = JSON.parse(line);
    return { step, loss, gradientNorm, evaluation };
  });
  const digest = (name) =>
    createHash('sha256')
      .update(readFileSync(join(folder, name)))
      .digest('hex');
  return JSON.stringify({ losses, model: digest('model.safetensors'), training: digest('training.safetensors') });
}

/**
 * Kills at most `kills` trainings of `steps` steps, spread over them. Returns whether losses, model and last checkpoint are, to the
 * last bit, those of a training that was never interrupted, the steps that each killed training left in its checkpoint, and files that
 * were left behind. `options` are more options of the training.
 */
export async function crash(kills, steps, options = [], random = Math.random) {
  const folder = mkdtempSync(join(tmpdir(), 'riverrun-training-crash-'));
  try {
    const text = join(folder, 'text.txt');
    const words = ['river', 'run', 'past', 'Eve', 'and', 'Adam’s', 'naïve', 'swerve'];
    let content = '';
    while (content.length < 20_000) content += `${words[Math.floor(random() * words.length)]} `;
    writeFileSync(text, content);
    const sizes = '--arch gated_deltanet --width 32 --head-width 16 --layers 2 --tokenizer bytes --threads 1';
    const settings = `--steps ${steps} --batch 4 --length 64 --checkpoint-every 5 --evaluate-every 10 --evaluation-windows 4`;
    const args = [...sizes.split(' '), ...settings.split(' '), ...options, '--data', text, '--validation', text];
    const env = { XDG_CACHE_HOME: join(folder, 'cache') };
    const [wholeFolder, killedFolder] = [join(folder, 'whole'), join(folder, 'killed')];
    const whole = await train([...args, '--out', wholeFolder], env);
    if (whole.code !== 0) throw new Error(`the training ended with ${whole.code}`);
    // On average they come as far as three quarters of the steps, had they begun at the first. Steps are counted, for the machine may
    // be faster or slower than it was; within a step any moment may come.
    const longest = (1.5 * steps) / kills;
    const checkpoint = join(killedFolder, 'training.safetensors');
    const left = [];
    let killed = 0;
    for (;;) {
      const after = killed < kills ? Math.floor(random() * longest) : undefined;
      const later = (random() * whole.milliseconds) / steps;
      const { code } = await train([...args, '--out', killedFolder, '--resume'], env, after, later);
      if (code === 0) break;
      if (code !== null) throw new Error(`a resumed training ended with ${code}`);
      killed++;
      left.push(existsSync(checkpoint) ? await stepOf(checkpoint) : 0);
    }
    const partial = readdirSync(killedFolder).filter((name) => name.endsWith('.partial'));
    return { same: found(killedFolder) === found(wholeFolder), killed, left, partial };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The step of a checkpoint, which is read whole. */
async function stepOf(path) {
  const checkpoint = await openSafetensors(await openFile(path));
  try {
    return JSON.parse(checkpoint.metadata.progress).step;
  } finally {
    await checkpoint.close();
  }
}

// How soon there is a first token, and how long a model takes to load, beside reading its file: the best of some runs in turns, each in a
// process of its own; and what it takes to clear as many new pages on one thread and on two.
//   node bench/start.mjs [--shapes DIR] [--runs 5] [--out bench/results/start.json]   (FILE keeps what other Nodes found)
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { device } from '../dist/index.js';
import { riverrun } from './command-line.mjs';

const { values } = parseArgs({
  options: {
    shapes: { type: 'string', default: join(tmpdir(), 'riverrun-shapes') },
    runs: { type: 'string', default: '5' },
    out: { type: 'string' },
    // What a process of its own does: reused, fresh, load, or clear.
    part: { type: 'string' },
    path: { type: 'string' },
    weights: { type: 'string' },
    threads: { type: 'string' },
  },
});
const SHAPE = 'mamba-130m';
const PIECE = 1 << 20;
const PAGE = 4096;
const peak = () => process.resourceUsage().maxRSS * 1024;

/** Seconds of reading a file piece by piece to where `place` says. */
function reading(path, place) {
  const start = performance.now();
  const file = openSync(path);
  for (let at = 0, length = 1; length > 0; at += length) length = readSync(file, place(at), 0, PIECE);
  closeSync(file);
  return { seconds: (performance.now() - start) / 1000 };
}

const parts = {
  /** Into one buffer that is used again and again, and nothing is done with the bytes. */
  reused(path) {
    const buffer = Buffer.alloc(PIECE);
    return reading(path, () => buffer);
  },
  /** Into memory as weights lie in, all of it new: the system clears each page when it is first touched. */
  fresh(path) {
    const pages = Math.ceil(statSync(path).size / 65536) + PIECE / 65536;
    const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    return reading(path, (at) => new Uint8Array(buffer, at, PIECE));
  },
  /** One number stored in each page of memory as weights lie in, by threads that have an equal part each. */
  async clear(path) {
    const pages = Math.ceil(statSync(path).size / PAGE);
    const { buffer } = new WebAssembly.Memory({ initial: pages / 16 + 1, maximum: pages / 16 + 1, shared: true });
    const threads = Number(values.threads);
    const bounds = Array.from({ length: threads + 1 }, (_, n) => Math.floor((n * pages) / threads) * PAGE);
    const go = new Int32Array(new SharedArrayBuffer(8));
    const touch = `(bytes, from, to) => { for (let at = from; at < to; at += ${PAGE}) bytes[at] = 1; }`;
    const source = `const { parentPort, workerData: [buffer, go, from, to] } = require('node:worker_threads');
      parentPort.postMessage('ready');
      Atomics.wait(go, 0, 0);
      (${touch})(new Uint8Array(buffer), from, to);
      Atomics.add(go, 1, 1);
      Atomics.notify(go, 1);`;
    const others = bounds.slice(1, -1).map((from, n) => {
      const worker = new Worker(source, { eval: true, workerData: [buffer, go, from, bounds[n + 2]] });
      return new Promise((resolve) => worker.once('message', resolve));
    });
    await Promise.all(others);
    await pause(20);
    const start = performance.now();
    Atomics.store(go, 0, 1);
    Atomics.notify(go, 0);
    const bytes = new Uint8Array(buffer);
    for (let at = 0; at < bounds[1]; at += PAGE) bytes[at] = 1;
    for (let done; (done = Atomics.load(go, 1)) < others.length; ) Atomics.wait(go, 1, done);
    return { seconds: (performance.now() - start) / 1000, pages };
  },
  async load(path) {
    const { load } = await import('../dist/index.js');
    const before = peak();
    const times = [];
    const start = performance.now();
    const onProgress = () => times.push(performance.now());
    const model = await load(path, { weights: values.weights, onProgress });
    const seconds = (performance.now() - start) / 1000;
    const found = { seconds, weightsSeconds: (times.at(-1) - times[0]) / 1000, weights: model.bytes.weights };
    const more = peak() - before;
    const asked = performance.now();
    void model.fingerprint;
    return { ...found, more, fingerprint: (performance.now() - asked) / 1000 };
  },
};

if (values.part) {
  console.log(JSON.stringify(await parts[values.part](values.path)));
  process.exit();
}

const self = fileURLToPath(import.meta.url);
const run = (...args) => JSON.parse(execFileSync(process.execPath, [self, ...args], { encoding: 'utf8' }));
/** Of objects, the least of each of their numbers. */
const least = (a, b) =>
  Object.fromEntries(Object.entries(b).map(([name, x]) => [name, Math.min(x, a?.[name] ?? Infinity)]));
const rounds = Number(values.runs);

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const prompt = ['generate', 'Once upon a time', '--max-tokens', '1', '-q'];
/** Seconds to the first token. */
function generating(env = process.env) {
  const start = performance.now();
  execFileSync(process.execPath, [main, ...prompt], { stdio: 'ignore', env });
  return (performance.now() - start) / 1000;
}
// From here on it is known whether kernels may be revectorized.
await device();
let firstToken = Infinity;
for (let n = 0; n < rounds; n++) firstToken = Math.min(firstToken, generating());
console.log(`${process.version}: first token of the embedded model, with the process: ${firstToken.toFixed(2)} s`);

const work = mkdtempSync(join(tmpdir(), 'riverrun-start-'));
const loads = [];
const plain = join(values.shapes, SHAPE);
let clearing;
for (let n = 0; n < rounds; n++) {
  const clear = (threads) => run('--part', 'clear', '--path', join(plain, 'model.safetensors'), '--threads', threads);
  const { seconds: one, pages } = clear('1');
  clearing = least(clearing, { pages, one, two: clear('2').seconds });
}
console.log(
  `${clearing.pages} new pages cleared on one thread in ${clearing.one.toFixed(3)} s, on two in ${clearing.two.toFixed(3)}`,
);
try {
  for (const type of ['q8', 'q4']) riverrun('convert', plain, join(work, type), '--type', type, '-q');
  for (const [file, folder, weights] of [
    ['f32', plain, 'f32'],
    ['f32', plain, 'q8'],
    ['f32', plain, 'q4'],
    ['q8', join(work, 'q8'), 'q8'],
    ['q4', join(work, 'q4'), 'q4'],
    ['GGUF Q4_0', join(values.shapes, `${SHAPE}-q4.gguf`), 'q4'],
  ]) {
    const path = folder.endsWith('.gguf') ? folder : join(folder, 'model.safetensors');
    if (!existsSync(path)) continue;
    let [reused, fresh, loaded] = [];
    for (let n = 0; n < rounds; n++) {
      reused = least(reused, run('--part', 'reused', '--path', path));
      fresh = least(fresh, run('--part', 'fresh', '--path', path));
      loaded = least(loaded, run('--part', 'load', '--path', folder, '--weights', weights));
    }
    const result = {
      file,
      held: weights,
      bytes: statSync(path).size,
      readReused: reused.seconds,
      readFresh: fresh.seconds,
      loading: loaded.seconds,
      loadingWeights: loaded.weightsSeconds,
      ofFresh: fresh.seconds / loaded.weightsSeconds,
      fingerprint: loaded.fingerprint,
      weightsBytes: loaded.weights,
      peakMore: loaded.more,
    };
    loads.push(result);
    console.log(
      `${file} held as ${weights}: read in ${reused.seconds.toFixed(3)} s, into fresh memory in ${fresh.seconds.toFixed(3)}, loaded in ${loaded.seconds.toFixed(3)}, ` +
        `of it weights ${loaded.weightsSeconds.toFixed(3)} (${Math.round(100 * result.ofFresh)} % of the fresh reading's speed); fingerprint ${loaded.fingerprint.toFixed(3)}; ` +
        `${(loaded.weights / 1e6).toFixed(0)} MB, process grew by ${(loaded.more / 1e6).toFixed(0)}`,
    );
  }
} finally {
  rmSync(work, { recursive: true });
}
/** Seconds at most for kernels to be compared, which newer Nodes have done beside a first start (src/platform/revectorization.ts). */
const COMPARING = 8;
let firstStart = Infinity;
for (let n = 0; n < Math.min(2, rounds); n++) {
  const cache = mkdtempSync(join(tmpdir(), 'riverrun-cache-'));
  firstStart = Math.min(firstStart, generating({ ...process.env, XDG_CACHE_HOME: cache }));
  const kernels = join(cache, 'riverrun', 'kernels');
  const isComparing = () => existsSync(kernels) && !readdirSync(kernels).every((name) => name.endsWith('.json'));
  for (let waited = 0; waited < COMPARING && isComparing(); waited += 0.1) await pause(100);
  rmSync(cache, { recursive: true });
}
console.log(`at a first start, with nothing kept by others: ${firstStart.toFixed(2)} s`);
if (values.out) {
  const before = existsSync(values.out) ? JSON.parse(readFileSync(values.out, 'utf8')) : {};
  const machine = { cpu: cpus()[0].model, cores: cpus().length };
  const others = (before.runs ?? []).filter(({ node }) => node.split('.')[0] !== process.version.split('.')[0]);
  const runs = [...others, { node: process.version, firstToken, firstStart, clearing, loads }].sort((a, b) =>
    a.node < b.node ? -1 : 1,
  );
  mkdirSync(dirname(values.out), { recursive: true });
  writeFileSync(values.out, `${JSON.stringify({ machine, shape: SHAPE, runs }, null, 2)}\n`);
}

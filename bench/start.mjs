// How soon there is a first token, and how long a model takes to load, beside reading its file: the best of some runs in turns, each in a
// process of its own.
//   node bench/start.mjs [--shapes DIR] [--runs 5] [--out bench/results/start.json]   (FILE keeps what other Nodes found)
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { riverrun } from './command-line.mjs';

const { values } = parseArgs({
  options: {
    shapes: { type: 'string', default: join(tmpdir(), 'riverrun-shapes') },
    runs: { type: 'string', default: '5' },
    out: { type: 'string' },
    // What a process of its own does: reused, fresh, or load.
    part: { type: 'string' },
    path: { type: 'string' },
    weights: { type: 'string' },
  },
});
const SHAPE = 'mamba-130m';
const PIECE = 1 << 20;
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
let firstToken = Infinity;
for (let n = 0; n < rounds; n++) {
  const start = performance.now();
  execFileSync(process.execPath, [main, ...prompt], { stdio: 'ignore' });
  firstToken = Math.min(firstToken, (performance.now() - start) / 1000);
}
console.log(`${process.version}: first token of the embedded model, with the process: ${firstToken.toFixed(2)} s`);

const work = mkdtempSync(join(tmpdir(), 'riverrun-start-'));
const loads = [];
try {
  const plain = join(values.shapes, SHAPE);
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
if (values.out) {
  const before = existsSync(values.out) ? JSON.parse(readFileSync(values.out, 'utf8')) : {};
  const machine = { cpu: cpus()[0].model, cores: cpus().length };
  const others = (before.runs ?? []).filter(({ node }) => node.split('.')[0] !== process.version.split('.')[0]);
  const runs = [...others, { node: process.version, firstToken, loads }].sort((a, b) => (a.node < b.node ? -1 : 1));
  mkdirSync(dirname(values.out), { recursive: true });
  writeFileSync(values.out, `${JSON.stringify({ machine, shape: SHAPE, runs }, null, 2)}\n`);
}

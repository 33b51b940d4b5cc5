// Training speed of the 4.5-million-parameter shapes beside PyTorch on the CPU of this machine, in tokens a second as a ratio: the same
// weights and tokens, in f32, on as many threads, the step of AdamW included. The two take turns; of each the median step counts. Losses
// of the first steps must be the same on both sides. Run it while nothing else runs.
//   node bench/training.mjs [mamba mamba2 rwkv7 llama] [--compiled] [--python python3] [--models ../shared/models] [--out bench/results/training.json]
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Random } from '../dist/core/random.js';
import { openModelFiles } from '../dist/platform/model-files.js';
import { makeBackend } from '../dist/platform/node-load.js';
import { traceModel } from '../dist/runtime/graph.js';
import { loadParameters } from '../dist/runtime/load-parameters.js';
import { matchModel } from '../dist/runtime/matched.js';
import { Learner } from '../dist/train/learner.js';
import { learnedBy } from '../dist/train/method.js';
import { prediction } from '../dist/train/objective.js';
import { openPython, pythonOption } from './peers/python.mjs';

const { values, positionals } = parseArgs({
  options: {
    models: { type: 'string', default: '../shared/models' },
    python: pythonOption,
    batch: { type: 'string', default: '8' },
    length: { type: 'string', default: '256' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '4' },
    /** PyTorch's torch.compile in the place of eager. */
    compiled: { type: 'boolean', default: false },
    /** Only ours, with the seconds of each kernel. */
    profile: { type: 'boolean', default: false },
    out: { type: 'string' },
  },
  allowPositionals: true,
});
const [batch, length, threads, rounds] = ['batch', 'length', 'threads', 'rounds'].map((name) => Number(values[name]));
const names = positionals.length > 0 ? positionals : ['mamba', 'mamba2', 'rwkv7', 'llama'];
const form = values.compiled ? 'compiled' : 'eager';
const RATE = 1e-3;
/** Seconds that each side's steps of a round take at least. */
const TURN = 3;
/** Turns in which other programs had more than this of the CPU do not count. */
const DISTURBED = 0.04;
/** Seconds. */
const LONG = 20;
/** What the losses of the first steps may differ by, relative, and how many those are: of windows learned by heart, roundings' differences grow with every step. */
const [TOLERANCE, FIRST] = [1e-4, 8];

const random = new Random(1);
const rows = Array.from({ length: batch }, () => Array.from({ length: length + 1 }, () => random.integer(4096)));

/** Ours: a learner with the folder's weights. */
async function ours(folder) {
  const files = await openModelFiles(folder);
  const matched = matchModel(files.config, files.checkpoint);
  const graph = traceModel(matched.architecture, matched.config);
  const backend = await makeBackend({ threads });
  const tokens = batch * length;
  const capacity = { tokens, segments: batch, outputs: tokens };
  const learner = new Learner(backend, prediction(graph, learnedBy(graph, {})), capacity);
  await loadParameters(matched.origins, files.checkpoint, learner, {});
  const part = {
    tokens: Int32Array.from(rows.flatMap((row) => row.slice(0, -1))),
    ends: rows.map((_, b) => (b + 1) * length),
    rows: Int32Array.from({ length: tokens }, (_, i) => i),
    inputs: {
      targets: Int32Array.from(rows.flatMap((row) => row.slice(1))),
      weights: new Float32Array(tokens).fill(1 / tokens),
    },
  };
  let made = 0;
  return {
    learner,
    async steps(count) {
      const found = { seconds: [], losses: [] };
      for (let n = 0; n < count; n++) {
        const start = performance.now();
        found.losses.push((await learner.step([part], RATE, ++made)).loss);
        found.seconds.push((performance.now() - start) / 1000);
      }
      return found;
    },
    async close() {
      learner.dispose();
      backend.dispose();
      await files.file.close();
    },
  };
}

/** Seconds of CPU that other programs used since the last call; 0 where the system does not tell. */
function watchOthers(pid) {
  const used = () => {
    if (!existsSync('/proc/stat')) return 0;
    const all = readFileSync('/proc/stat', 'utf8').split('\n')[0].trim().split(/\s+/).slice(1).map(Number);
    const [user, nice, system, , , irq, softirq] = all;
    const { user: own, system: ownSystem } = process.cpuUsage();
    const times =
      pid &&
      readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ');
    const peers = times ? Number(times[11]) + Number(times[12]) : 0;
    return (user + nice + system + irq + softirq - peers) / 100 - (own + ownSystem) / 1e6;
  };
  let before = used();
  return () => {
    const now = used();
    const others = Math.max(0, now - before);
    before = now;
    return others;
  };
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

async function profiled(name) {
  const own = await ours(join(values.models, `tiny-books-${name}`));
  await own.steps(2);
  const others = watchOthers();
  const { seconds } = await own.steps(8);
  const busy = others() / seconds.reduce((a, b) => a + b) / os.cpus().length;
  own.learner.seconds = new Map();
  await own.steps(3);
  const sorted = [...own.learner.seconds].sort((a, b) => b[1] - a[1]);
  const total = sorted.reduce((sum, [, one]) => sum + one, 0);
  console.log(
    `${name}: ${(1000 * median(seconds)).toFixed(0)} ms a step (${(1000 * Math.min(...seconds)).toFixed(0)} at best), ${Math.round((batch * length) / median(seconds))} tokens/s, others had ${(100 * busy).toFixed(0)} % of the CPU`,
  );
  for (const [kernel, one] of sorted.slice(0, 16))
    console.log(
      `  ${kernel.padEnd(24)} ${((1000 * one) / 3).toFixed(1).padStart(8)} ms ${((100 * one) / total).toFixed(1)} %`,
    );
  await own.close();
}

async function compared(name, python) {
  const config = join(values.models, `tiny-books-${name}`);
  const loaded = await python.ask({ config, form, threads, tokens: rows, rate: RATE });
  if (loaded.error) return { name, form, error: loaded.error };
  const own = await ours(config);
  try {
    // torch.compile compiles in the first step, which is no measure of any.
    const compiled = values.compiled ? await python.ask({ steps: 1 }) : undefined;
    if (compiled?.error) return { name, form, error: compiled.error };
    if (compiled) await own.steps(1);
    // The first steps allocate memory.
    const others = watchOthers(python.pid);
    const first = await python.ask({ steps: 1 });
    const disturbed = others() > DISTURBED * first.seconds?.[0] * os.cpus().length;
    if (first.error) return { name, form, error: first.error };
    const sides = [
      { steps: (count) => own.steps(count), ...(await own.steps(1)) },
      { steps: (count) => python.ask({ steps: count }), ...first },
    ];
    const times = [[], []];
    // A step that takes this long is not made again: it is the measure itself.
    if (first.seconds[0] > LONG && !disturbed) times[1].push(first.seconds[0]);
    for (let round = 0; round < rounds; round++)
      for (const [i, side] of sides.entries()) {
        if (i === 1 && first.seconds[0] > LONG) continue;
        const count = Math.max(1, Math.min(20, Math.round(TURN / side.seconds[0])));
        others();
        const { seconds, losses } = await side.steps(count);
        const busy = others() / seconds.reduce((a, b) => a + b) / os.cpus().length;
        side.losses.push(...losses);
        if (busy <= DISTURBED) times[i].push(...seconds);
        else
          console.error(`${name}: a turn is not counted: other programs had ${(100 * busy).toFixed(0)} % of the CPU`);
      }
    if (times.some((seconds) => seconds.length === 0))
      throw new Error(`${name}: the machine is busy with other programs`);
    for (const [i, loss] of first.losses.slice(0, Math.min(FIRST, sides[0].losses.length)).entries())
      if (!(Math.abs(loss - sides[0].losses[i]) <= TOLERANCE * loss))
        throw new Error(`${name}: the loss of step ${i + 1} is ${sides[0].losses[i]}, PyTorch's ${loss}`);
    const speeds = times.map((seconds) => (batch * length) / median(seconds));
    await python.ask({ close: true });
    const parameters = loaded.parameters;
    const [riverrun, pytorch] = speeds.map((speed) => Math.round(speed));
    return {
      name,
      form,
      node: process.version.slice(1),
      parameters,
      riverrun,
      pytorch,
      ratio: Number((speeds[0] / speeds[1]).toFixed(2)),
      ...(compiled && { compilingSeconds: Math.round(compiled.seconds[0]) }),
      torch: loaded.torch,
    };
  } finally {
    await own.close();
  }
}

if (values.profile) for (const name of names) await profiled(name);
else {
  const python = openPython(values.python, 'training.py');
  const found = [];
  for (const name of names) {
    const row = await compared(name, python);
    console.log(JSON.stringify(row));
    found.push(row);
  }
  python.close();
  if (values.out) save(values.out, found);
}

/** Puts the rows in the place of those of the same names, forms and versions of Node. */
function save(path, found) {
  const machine = `${os.cpus().length} cores of ${os.cpus()[0].model}`;
  const before = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).rows : [];
  const isNew = (row) => !found.some((one) => ['name', 'form', 'node'].every((key) => one[key] === row[key]));
  const result = { batch, length, threads, machine, rows: [...before.filter(isNew), ...found] };
  writeFileSync(path, `${JSON.stringify(result, null, 2)}\n`);
}

// How much of memory's speed the products of one row reach, which generating is made of: beside a loop that reads the same bytes and does
// nothing with them, in turns in one run, on one thread and on two. GB/s, the best and the median.
//   node bench/one-row.mjs [--rounds 10] [--out FILE]   (FILE keeps what other Nodes found)
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import v8 from 'node:v8';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import binaryen from 'binaryen';
import { compileKernels } from './kernel-module.mjs';
import { productKernels } from './kernel-products.mjs';

/** [outputs, inputs, how many such matrices]: a model's in the third-level cache, others that no cache holds. */
const sizes = [
  [3072, 768, 4],
  [768, 768, 200],
  [50304, 768, 3],
];
/** Bytes of a panel's group of 32 inputs, and the kernel. */
const formats = { q8: [272, 'linearQ8'], q4: [144, 'linearQ4'] };
/** Addresses: behind the kernels' own, one place for what all matrices share. */
const [COUNTS, ARGS, X, Y, W] = [65536, 65600, 131072, 262144, 1048576];

function readingLoop() {
  const loads = [...Array(8).keys()].map((i) => `(v128.load offset=${16 * i} (local.get $at))`);
  const sum = loads.reduce((all, one) => `(v128.xor ${all} ${one})`);
  const text = `(module (import "env" "memory" (memory 1 65536 shared)) (func (export "read") (param $at i32) (param $end i32) (local $sum v128)
    (loop $next (local.set $sum (v128.xor (local.get $sum) ${sum})) (local.set $at (i32.add (local.get $at) (i32.const 128)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
    (v128.store (i32.const 131008) (local.get $sum))))`;
  const module = binaryen.parseText(text);
  module.setFeatures(binaryen.Features.All);
  return new WebAssembly.Module(module.emitBinary());
}

/** What a thread does: its share of every matrix, `times` over. */
function runner({ kernels, reading, memory, thread, threads }) {
  const env = { env: { memory } };
  const { exports: products } = new WebAssembly.Instance(kernels, env);
  const { exports: loops } = new WebAssembly.Instance(reading, env);
  return ({ what, format, matrices, bytes, times }) => {
    const [, kernel] = formats[format];
    const share = (n) => 128 * Math.floor((n * bytes) / 128 / threads);
    for (let n = 0; n < times * matrices; n++) {
      const m = n % matrices;
      if (what === 'read') loops.read(W + m * bytes + share(thread), W + m * bytes + share(thread + 1));
      else products[kernel](ARGS + 80 * m, thread, threads);
    }
  };
}

/** A loop of 128 numbers at a time, [first four bits of a scale, …]: scales of usual sizes, as subnormal ones would take longer. */
function fill(memory, bytes) {
  const words = new Int32Array(memory.buffer);
  for (let n = W / 4; n < (W + bytes) / 4; n++) words[n] = (Math.imul(n, 2654435761) & 0x03ff03ff) | 0x2c002c00;
}

function fillRow(memory, format, I) {
  const words = new Int32Array(memory.buffer, X, 64 * I);
  const period = format === 'q4' ? 10 : Infinity;
  for (let n = 0; n < I; n++) words[n] = n % period === 0 ? 0x3c000000 : Math.imul(n, 2654435761);
}

async function main() {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '10' }, out: { type: 'string' } } });
  // At once by the compiler that code which runs long ends up with.
  v8.setFlagsFromString('--no-liftoff');
  const kernels = compileKernels(productKernels, true);
  const reading = readingLoop();
  const most = Math.max(...sizes.map(([O, I, matrices]) => (matrices * O * I * 272) / 256));
  const memory = new WebAssembly.Memory({ initial: Math.ceil((W + most) / 65536) + 1, maximum: 65536, shared: true });
  fill(memory, most);
  const words = new Int32Array(memory.buffer);
  const rows = [];
  for (const threads of [1, 2]) {
    const data = { kernels, reading, memory, threads };
    const workers = Array.from(
      { length: threads - 1 },
      (_, i) => new Worker(new URL(import.meta.url), { workerData: { ...data, thread: i + 1 } }),
    );
    const own = runner({ ...data, thread: 0 });
    /** Seconds until all threads are done. */
    const timed = async (work) => {
      const done = workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)));
      const start = performance.now();
      for (const worker of workers) worker.postMessage(work);
      own(work);
      await Promise.all(done);
      return (performance.now() - start) / 1000;
    };
    for (const [O, I, matrices] of sizes) {
      words.set([1, I], COUNTS / 4);
      const cases = Object.keys(formats).flatMap((format) =>
        ['read', 'multiply'].map((what) => ({ format, what, rates: [] })),
      );
      for (let round = 0; round <= Number(values.rounds); round++)
        for (const { format, what, rates } of cases) {
          const bytes = (O * I * formats[format][0]) / 256;
          for (let m = 0; m < matrices; m++)
            words.set(
              [COUNTS, 1, X, 0, W + m * bytes, 0, Y, O, COUNTS + 4, O, 0, 0, 0, 0, 0, 0, 0, 0],
              (ARGS + 80 * m) / 4,
            );
          fillRow(memory, format, I);
          const times = Math.ceil(1e8 / (matrices * bytes));
          const seconds = await timed({ what, format, matrices, bytes, times });
          // The first warms up.
          if (round > 0) rates.push((times * matrices * bytes) / seconds / 1e9);
        }
      for (const { format, what, rates } of cases) {
        rates.sort((a, b) => b - a);
        const [best, median] = [rates[0], rates[rates.length >> 1]].map((rate) => +rate.toFixed(1));
        rows.push({ node: process.version, threads, O, I, matrices, format, what, best, median });
        console.log(
          `${threads} thread(s), ${matrices} × [${O}, ${I}], ${format}: ${what} ${best} GB/s, median ${median}`,
        );
      }
    }
    for (const worker of workers) await worker.terminate();
  }
  if (!values.out) return;
  const before = existsSync(values.out) ? JSON.parse(readFileSync(values.out, 'utf8')).rows : [];
  const kept = before.filter(({ node }) => node !== process.version);
  mkdirSync(dirname(values.out), { recursive: true });
  writeFileSync(
    values.out,
    `${JSON.stringify({ machine: { cpu: cpus()[0].model }, rows: [...kept, ...rows] }, null, 2)}\n`,
  );
}

if (isMainThread) await main();
else {
  const run = runner(workerData);
  parentPort.on('message', (work) => {
    run(work);
    parentPort.postMessage('done');
  });
}

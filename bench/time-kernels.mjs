// Times the kernels that look along time, on one thread: attention and the forms of the recurrence, over blocks of tokens and
// token by token with states that no cache holds. Rates are of the multiply-adds that the equations name, and of bytes of state.
//   node bench/time-kernels.mjs [--simd] [--json FILE]
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import { Arena } from './kernel-arena.mjs';
import { compileKernels } from './kernel-module.mjs';
import { gaussian } from './kernel-reference.mjs';

const relaxed = !process.argv.includes('--simd');
const module = compileKernels({ 'attention.ts': ['attention'], 'recurrence.ts': ['recurrence'] }, relaxed);
const random = gaussian(5);
const bits = (value) => new Int32Array(Float32Array.of(value).buffer)[0];
/** Tokens in a page of keys or values. */
const PAGE = 64;
/** Floats that any of the kernels' working memory fits in. */
const SCRATCH = 200_000;

/** Median milliseconds of a call. */
function timed(run, seconds = 1.5) {
  for (let n = 0; n < 5; n++) run();
  const times = [];
  const deadline = performance.now() + 1000 * seconds;
  while (performance.now() < deadline) {
    const start = performance.now();
    run();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[times.length >> 1];
}

const numbers = (arena, count, make = random) => arena.put(Float32Array.from({ length: count }, make));

/** T tokens after `before` others; `copies` layers, so that decoding reads memory. */
function attention(H, G, T, before, copies) {
  const arena = new Arena(module, 64 + Math.ceil((copies * 8 * G * 64 * (before + T + PAGE)) / 2 ** 20));
  const [K, V] = [64, 64];
  const pages = Math.ceil((before + T) / PAGE);
  const table = () => arena.put(Int32Array.from({ length: pages }, () => arena.allocate(4 * PAGE * G * K)));
  const own = 72 * (K + V + PAGE + 3) + PAGE * K;
  const [ends, start, q] = [arena.words(T), arena.words(before), numbers(arena, T * H * K)];
  const [y, scratch, one] = [arena.allocate(4 * T * H * V), arena.allocate(4 * own), arena.words(1)];
  const first = arena.next;
  const calls = Array.from({ length: copies }, () => {
    const slots = arena.words(arena.words(table(), 0, 0, 0, table()));
    const where = [one, ends, start, q, H * K, slots, 0, slots, 16, y, H * V];
    return [...where, H, G, K, V, bits(0.125), 0, scratch, own];
  });
  // Keys and values of any size, as long as they are numbers.
  for (const { address, end } of arena.blocks)
    if (address > first && end - address === 4 * PAGE * G * K) arena.f32.fill(0.01, address / 4, end / 4);
  const args = calls.map((words) => arena.words(...words));
  const ms = timed(() => {
    for (const at of args) arena.kernels.attention(at, 0, 1);
  });
  const pairs = T * before + (T * (T + 1)) / 2;
  return { ms, macs: copies * H * (K + V) * pairs, bytes: copies * 4 * G * (K + V) * (before + T) };
}

/** T tokens of one head form; `copies` layers. */
function recurrence(H, G, V, K, T, form, copies) {
  const arena = new Arena(module, 64 + Math.ceil((copies * 4 * H * V * K + 4 * T * H * (V + 4 * K)) / 2 ** 20));
  const rows = (heads, width, make) => [numbers(arena, T * heads * width, make), heads * width];
  const decay = {
    scalar: [numbers(arena, T * H, () => -0.05), H, 1, 0],
    vector: [numbers(arena, T * H * K, () => -0.05), H * K, K, 1],
  };
  decay.delta = decay.vector;
  const small = () => 0.05 * random();
  const delta = form === 'delta' ? [...rows(H, K, small), ...rows(H, K, small)] : [0, 0, 0, 0];
  const common = [arena.words(1), arena.words(T), H, G, V, K, ...rows(G, K), ...rows(G, K), ...rows(H, V)];
  const [y, scratch] = [arena.allocate(4 * T * H * V), arena.allocate(4 * SCRATCH)];
  const args = Array.from({ length: copies }, () => {
    const slots = arena.words(numbers(arena, H * V * K, () => 0));
    return arena.words(...common, y, H * V, slots, 0, slots, 0, scratch, ...decay[form], 0, 0, ...delta, 0);
  });
  const ms = timed(() => {
    for (const at of args) arena.kernels.recurrence(at, 0, 1);
  });
  return { ms, macs: copies * T * H * V * K * (form === 'delta' ? 4 : 2), bytes: copies * 4 * H * V * K * 2 };
}

const cases = {
  'attention, 128 tokens, none before': () => attention(12, 12, 128, 0, 1),
  'attention, 128 tokens after 896': () => attention(12, 12, 128, 896, 1),
  'attention, 128 tokens after 896, 3 heads share': () => attention(12, 4, 128, 896, 1),
  'attention, 1 token after 1,023, 24 layers': () => attention(12, 12, 1, 1023, 24),
  'attention, 1 token after 1,023, 3 heads share, 24 layers': () => attention(12, 4, 1, 1023, 24),
  'one decay a head [64, 128], 128 tokens': () => recurrence(24, 1, 64, 128, 128, 'scalar', 1),
  'one decay a head [64, 64], 128 tokens': () => recurrence(12, 12, 64, 64, 128, 'scalar', 1),
  'a decay a channel [64, 64], 128 tokens': () => recurrence(12, 12, 64, 64, 128, 'vector', 1),
  'delta rule [64, 64], 128 tokens': () => recurrence(12, 12, 64, 64, 128, 'delta', 1),
  'one decay a head [64, 128], 1 token, 48 layers': () => recurrence(24, 1, 64, 128, 1, 'scalar', 48),
  'a decay a channel [64, 64], 1 token, 200 layers': () => recurrence(12, 12, 64, 64, 1, 'vector', 200),
  'delta rule [64, 64], 1 token, 200 layers': () => recurrence(12, 12, 64, 64, 1, 'delta', 200),
};
const results = {};
for (const [name, run] of Object.entries(cases)) {
  const { ms, macs, bytes } = run();
  results[name] = {
    gmacPerSecond: +(macs / ms / 1e6).toFixed(1),
    stateGigabytesPerSecond: +(bytes / ms / 1e6).toFixed(1),
  };
  console.log(`${name}: ${results[name].gmacPerSecond} GMAC/s, ${results[name].stateGigabytesPerSecond} GB/s`);
}
const file = process.argv[process.argv.indexOf('--json') + 1];
if (process.argv.includes('--json')) {
  const machine = `${os.cpus()[0].model.trim()}, Node ${process.versions.node}, ${relaxed ? 'relaxed SIMD' : 'SIMD'}, one thread`;
  writeFileSync(file, `${JSON.stringify({ machine, results }, null, 2)}\n`);
}

// How long the kernels of a training step take on one thread: products, what along time gives back, and what is laid out for them; at
// the shapes of 8 windows of 256 tokens. With --against, the same kernels of another checkout in turns in the same process.
//   node bench/backward-kernels.mjs [--against CHECKOUT] [--rounds 8] [--out bench/results/backward-kernels.json]
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { compileKernels } from './kernel-module.mjs';

const { values } = parseArgs({
  options: {
    against: { type: 'string' },
    rounds: { type: 'string', default: '8' },
    out: { type: 'string' },
  },
});
const [BATCH, LENGTH] = [8, 256];
const TOKENS = BATCH * LENGTH;
/** Milliseconds that a turn takes at least. */
const TURN = 30;
const names = {
  linear: ['linear'],
  panels: ['packPanels'],
  'outer-sum': ['outerSum', 'groupColumns'],
  'attention-grad': ['attentionGrad'],
  'recurrence-grad': ['recurrenceGrad'],
  'norm-grad': ['layerNormGrad', 'rmsNormGrad'],
  softmax: ['crossEntropy', 'crossEntropyGrad'],
};

/** One build of the kernels with a memory of its own; all are given the same numbers at the same addresses. */
function side(checkout) {
  const memory = new WebAssembly.Memory({ initial: 12_288, maximum: 65_536, shared: true });
  const { exports } = new WebAssembly.Instance(compileKernels(names, true, checkout), { env: { memory } });
  return { kernels: exports, f32: new Float32Array(memory.buffer), i32: new Int32Array(memory.buffer) };
}
const sides = [side(), ...(values.against ? [side(values.against)] : [])];

let next = 1 << 17;
const first = next;
function allocate(count) {
  const address = next;
  next += Math.ceil((4 * count) / 64) * 64 + 64;
  return address;
}
function put(array, numbers) {
  const address = allocate(numbers.length);
  for (const one of sides) one[array].set(numbers, address / 4);
  return address;
}
const words = (...numbers) => put('i32', numbers);
const random = (count, make = () => Math.random() - 0.5) => put('f32', Float32Array.from({ length: count }, make));
const bits = (number) => new Int32Array(Float32Array.of(number).buffer)[0];
const ends = () => words(...Array.from({ length: BATCH }, (_, b) => (b + 1) * LENGTH));

/** y = x Wᵀ. */
function linear(I, O) {
  const x = random(TOKENS * I);
  const W = random(Math.ceil(O / 8) * 8 * I);
  const y = allocate(TOKENS * O);
  const args = words(words(TOKENS), 1, x, I, W, 0, y, O, words(I), O, 0, allocate(8 * I));
  return { what: `y = x Wᵀ, ${I} → ${O}`, kernel: 'linear', args, found: [[y, TOKENS * O]] };
}

/** A matrix in rows, or its transpose, in panels of eight outputs. */
function packPanels(O, I, transposed) {
  const y = allocate(O * I);
  const args = words(random(O * I), ...(transposed ? [1, O] : [I, 1]), O, words(I), y);
  return { what: `${transposed ? `Wᵀ` : 'W'} in panels, ${I} → ${O}`, kernel: 'packPanels', args, found: [[y, O * I]] };
}

/** dW = Σ a ⊗ b. */
function outerSum(O, I) {
  const a = random(Math.ceil(O / 6) * 6 * TOKENS);
  const b = random(Math.ceil(I / 8) * 8 * TOKENS);
  const y = allocate(O * I);
  const args = words(words(TOKENS), a, b, y, I, O, I);
  return { what: `dW, ${O} × ${I}`, kernel: 'outerSum', args, found: [[y, O * I]] };
}

function groupColumns(C, group) {
  const count = TOKENS * Math.ceil(C / group) * group;
  const y = allocate(count);
  const args = words(words(TOKENS), random(TOKENS * C), C, C, group, y);
  return { what: `${C} columns in groups of ${group}`, kernel: 'groupColumns', args, found: [[y, count]] };
}

function attentionGrad(H, G, K) {
  const [many, few] = [TOKENS * H * K, TOKENS * G * K];
  const operands = [
    [many, H],
    [few, G],
    [few, G],
    [many, H],
  ].flatMap(([count, heads]) => [random(count), heads * K]);
  const found = [many, few, few].map((count) => [allocate(count), count]);
  const places = found.flatMap(([address], i) => [address, (i === 0 ? H : G) * K]);
  const scratch = allocate(1 << 18);
  const args = words(words(BATCH), ends(), ...operands, ...places, H, G, K, K, bits(K ** -0.5), 0, scratch, 0);
  return { what: `attention, ${H} heads of ${K}, ${G} of keys`, kernel: 'attentionGrad', args, found };
}

/** The recurrence's derivative: with a decay a channel and a removal, one decay a head, or as Mamba's scan has it. */
function recurrenceGrad(kind, H, V, K) {
  const G = kind === 'delta' ? H : 1;
  const [group, keys, value] = [TOKENS * G * K, TOKENS * H * K, TOKENS * H * V];
  const small = () => 0.3 * (Math.random() - 0.5);
  const decay = () => -0.5 * Math.random();
  const state = words(...new Array(H * V * K).fill(0));
  const [r, k, v, dy] = [random(group), random(group, small), random(value), random(value)];
  const width = kind === 'head' ? 1 : K;
  const g = random(kind === 'delta' ? keys : H * width, decay);
  const dt = kind === 'delta' ? 0 : random(TOKENS * H, Math.random);
  const [a, b] = kind === 'delta' ? [random(keys, small), random(keys, small)] : [0, 0];
  const counts = {
    dr: group,
    dk: group,
    dv: value,
    dg: kind === 'delta' ? keys : H * width,
    ddt: TOKENS * H,
    da: keys,
    db: keys,
  };
  const place = Object.fromEntries(Object.entries(counts).map(([name, count]) => [name, allocate(count)]));
  const [du, dstate] = [allocate(H * K), allocate(BATCH * H * V * K)];
  const parts = G < H ? allocate(2 * group) : 0;
  const table = words(...new Array(BATCH).fill(state));
  const perToken = kind === 'delta' ? H * K : 0;
  const args = words(
    ...[words(BATCH), ends(), H, G, V, K, r, G * K, k, G * K, v, H * V, dy, H * V, table, 0, 0, 0],
    ...[allocate(1 << 22), g, perToken, width, width > 1 ? 1 : 0, dt, H, a, H * K, b, H * K, 0],
    ...[place.dr, G * K, place.dk, G * K, place.dv, H * V, place.dg, perToken, place.ddt, H],
    ...[place.da, H * K, place.db, H * K, du, dstate, H * V * K, parts, TOKENS, 1 << 22, words(TOKENS)],
  );
  const names = ['dv', 'dg', ...(parts ? ['ddt'] : ['dr', 'dk', 'da', 'db'])];
  const what = {
    delta: `delta rule with a decay a channel, ${H} heads [${V}, ${K}]`,
    head: `one decay a head, ${H} heads [${V}, ${K}] that share r and k`,
    scan: `Mamba's scan, ${H} channels of ${K}`,
  }[kind];
  return { what, kernel: 'recurrenceGrad', args, found: names.map((name) => [place[name], counts[name]]) };
}

/** The derivative of norms over `width` numbers, several to a row. */
function normGrad(kernel, inner, width) {
  const count = TOKENS * inner * width;
  const [x, dy, dx] = [random(count), random(count), allocate(count)];
  const args = words(
    words(TOKENS),
    inner,
    ...[x, dy, dx].flatMap((at) => [at, inner * width]),
    width,
    bits(1e-5),
    0,
    0,
    0,
  );
  return { what: `${kernel}, ${inner} × ${width} a token`, kernel, args, found: [[dx, count]] };
}

/** The loss of a token's logits, and its derivative. */
function crossEntropy(V) {
  const logits = random(TOKENS * V);
  const targets = words(...Array.from({ length: TOKENS }, () => Math.floor(Math.random() * V)));
  const y = allocate(TOKENS);
  const args = words(words(TOKENS), logits, V, targets, y, 1, V);
  return { what: `cross-entropy of ${V} logits`, kernel: 'crossEntropy', args, found: [[y, TOKENS]] };
}
function crossEntropyGrad(V) {
  const logits = random(TOKENS * V);
  const targets = words(...Array.from({ length: TOKENS }, () => Math.floor(Math.random() * V)));
  const dy = random(TOKENS, () => 1 / TOKENS);
  const y = allocate(TOKENS * V);
  const args = words(words(TOKENS), logits, V, targets, dy, 1, y, V, V);
  return {
    what: `derivative of cross-entropy, ${V} logits`,
    kernel: 'crossEntropyGrad',
    args,
    found: [[y, TOKENS * V]],
  };
}

/** Milliseconds of each side, the best of the rounds, once all are known to find the same. */
function measure({ what, kernel, args, found }) {
  const run = (one) => one.kernels[kernel](args, 0, 1);
  for (const one of sides) run(one);
  for (const [address, count] of found) {
    const [mine, other = mine] = sides.map(({ f32 }) => f32.subarray(address / 4, address / 4 + count));
    const largest = mine.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    for (let i = 0; i < count; i++)
      if (!(Math.abs(mine[i] - other[i]) <= 1e-4 * largest)) throw new Error(`${what}: ${mine[i]} is not ${other[i]}`);
  }
  const best = sides.map(() => Infinity);
  let times = 1;
  for (let round = 0; round <= Number(values.rounds); round++)
    for (const [i, one] of sides.entries()) {
      const start = performance.now();
      for (let n = 0; n < times; n++) run(one);
      const each = (performance.now() - start) / times;
      // The first round tells how often a turn is.
      if (round > 0) best[i] = Math.min(best[i], each);
      else if (i === 0) times = Math.max(1, Math.ceil(TURN / each));
    }
  const [milliseconds, before] = best.map((ms) => Number(ms.toPrecision(3)));
  return { kernel, what, milliseconds, ...(before && { before, ratio: Number((best[1] / best[0]).toFixed(2)) }) };
}

const cases = [
  () => linear(256, 704),
  () => linear(704, 256),
  () => linear(64, 256),
  () => linear(16, 512),
  () => packPanels(704, 256, false),
  () => packPanels(256, 704, true),
  () => outerSum(704, 256),
  () => groupColumns(4096, 6),
  () => groupColumns(256, 8),
  () => attentionGrad(8, 4, 32),
  () => recurrenceGrad('delta', 4, 64, 64),
  () => recurrenceGrad('head', 8, 64, 64),
  () => recurrenceGrad('scan', 512, 1, 16),
  () => normGrad('layerNormGrad', 1, 256),
  () => normGrad('layerNormGrad', 4, 64),
  () => normGrad('rmsNormGrad', 1, 256),
  () => crossEntropy(4096),
  () => crossEntropyGrad(4096),
];
const rows = [];
for (const make of cases) {
  next = first;
  rows.push(measure(make()));
  console.log(JSON.stringify(rows.at(-1)));
}
if (values.out) {
  const machine = `${cpus().length} cores of ${cpus()[0].model}`;
  const result = { machine, node: process.version.slice(1), threads: 1, tokens: TOKENS, rows };
  writeFileSync(values.out, `${JSON.stringify(result, null, 2)}\n`);
}

// How fast V8 runs the inner loop of 4-bit products with more and more of what a product needs around it, on one thread and in the
// first-level cache: what bounds `linearQ4`, and whether another tile or other scales would be faster.
//   node bench/inner-loops.mjs [--revectorize] [--out FILE]   (FILE keeps what other Nodes found)
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname } from 'node:path';
import v8 from 'node:v8';
import binaryen from 'binaryen';

// At once by the compiler that code which runs long ends up with.
v8.setFlagsFromString('--no-liftoff');
const isRevectorized = process.argv.includes('--revectorize');
if (process.versions.v8.split('.')[0] < 12) v8.setFlagsFromString('--experimental-wasm-relaxed-simd');
if (isRevectorized) v8.setFlagsFromString('--experimental-wasm-revectorize');

/** Groups of 32 numbers in a row. */
const GROUPS = 24;
const [X, W, TILE] = [1024, 65536, 512];
const all = (count, make) => Array.from({ length: count }, (_, i) => make(i)).join('\n');
const get = (name) => `(local.get $${name})`;
const set = (name, value) => `(local.set $${name} ${value})`;
const load = (at, offset, kind = 'v128.load') => `(${kind} offset=${offset} ${get(at)})`;
const move = (name, by) => set(name, `(i32.add ${get(name)} (i32.const ${by}))`);
const dot = (sum, x, w) => set(sum, `(i16x8.add ${get(sum)} (i16x8.relaxed_dot_i8x16_i7x16_s ${get(x)} ${get(w)}))`);
const loop = (label, body, name, end) =>
  `(loop $${label} ${body} (br_if $${label} (i32.lt_u ${get(name)} ${get(end)})))`;
const intoTile = (k, value) => `(v128.store offset=${16 * k} (i32.const ${TILE}) ${value})`;
const fromTile = (k) => `(v128.load offset=${16 * k} (i32.const ${TILE}))`;
const product = (a, b) => `(f32x4.mul ${a} ${b})`;
const floats = (integers) => `(f32x4.convert_i32x4_s ${integers})`;
const pairs = (sum) => `(i32x4.extadd_pairwise_i16x8_s ${get(sum)})`;

/** Four rows × eight outputs, as in linear-q4.ts: a step is four numbers of x for each row and of W for each output. */
const step = [
  set('w0', load('w', 0)),
  set('w1', load('w', 16)),
  all(4, (r) =>
    [
      set(`x${r}`, load('x', 4 * r, 'v128.load32_splat')),
      dot(`s${2 * r}`, `x${r}`, 'w0'),
      dot(`s${2 * r + 1}`, `x${r}`, 'w1'),
    ].join(' '),
  ),
  move('x', 16),
  move('w', 32),
].join('\n');
const steps = (count) =>
  `${set('stop', `(i32.add ${get('w')} (i32.const ${32 * count}))`)} ${loop('steps', step, 'w', 'stop')}`;
/** Each group of `count` steps begins with its scales, and with what takes out the 8 that W's numbers have on top. */
const group = (finish, count = 8) => `
  ${set('gx', get('x'))} ${set('gw', get('w'))}
  ${all(4, (r) => `${set(`s${2 * r}`, load('x', 16 + 4 * r, 'v128.load32_splat'))} ${set(`s${2 * r + 1}`, get(`s${2 * r}`))}`)}
  ${move('x', 32)} ${move('w', 32)} ${steps(count)}
  ${set('w0', load('gw', 0))} ${set('w1', load('gw', 16))} ${finish}`;
/** Scales of W and x or of W alone, added by a multiplication and an addition or by both in one. */
const scaledBy = (ofX, isFused) =>
  all(4, (r) =>
    [
      ...(ofX ? [set('x0', load('gx', 4 * r, 'v128.load32_splat'))] : []),
      ...[0, 1].map((c) => {
        const sum = get(`t${2 * r + c}`);
        const scale = ofX ? product(get('x0'), get(`w${c}`)) : get(`w${c}`);
        const integers = floats(pairs(`s${2 * r + c}`));
        const added = isFused
          ? `(f32x4.relaxed_madd ${integers} ${scale} ${sum})`
          : `(f32x4.add ${sum} ${product(integers, scale)})`;
        return set(`t${2 * r + c}`, added);
      }),
    ].join(' '),
  );
const scaled = scaledBy(true, false);
const integerScaled = all(8, (k) =>
  set(`t${k}`, `(i32x4.add ${get(`t${k}`)} (i32x4.dot_i16x8_s ${get(`s${k}`)} ${get(`w${k % 2}`)}))`),
);
const fold = `${set('w0', load('w', 0))} ${set('w1', load('w', 16))} ${all(4, (r) =>
  [
    set('x0', load('x', 4 * r, 'v128.load32_splat')),
    ...[0, 1].map((c) => {
      const k = 2 * r + c;
      const value = product(floats(get(`t${k}`)), product(get('x0'), get(`w${c}`)));
      return `${intoTile(k, `(f32x4.add ${fromTile(k)} ${value})`)} ${set(`t${k}`, '(v128.const i32x4 0 0 0 0)')}`;
    }),
  ].join(' '),
)}`;
const wBytes = 288 * GROUPS;
const panel = (finish, count = 8) => {
  const bytes = (32 + 32 * count) * ((8 * GROUPS) / count);
  return `${set('end', `(i32.const ${W + bytes})`)} ${loop('groups', group(finish, count), 'w', 'end')}`;
};
const four = `${set('end', `(i32.add ${get('w')} (i32.const ${4 * 288}))`)} ${loop('four', group(integerScaled), 'w', 'end')} ${fold}`;

/** Three rows × three outputs along their rows, 16 numbers a step: sums are widened after `count` steps. */
const along = (count) => {
  const row = 16 * 2 * GROUPS;
  const inner = `${all(3, (i) => set(`w${i}`, load('w', i * row)))} ${all(3, (r) => `${set('x0', load('x', r * row))} ${all(3, (c) => dot(`s${3 * r + c}`, 'x0', `w${c}`))}`)} ${move('x', 16)} ${move('w', 16)}`;
  const widen = all(
    9,
    (k) =>
      `${intoTile(k, `(i32x4.add ${fromTile(k)} ${pairs(`s${k}`)})`)} ${set(`s${k}`, '(v128.const i32x4 0 0 0 0)')}`,
  );
  return `${set('end', `(i32.const ${W + row})`)}
    ${loop('groups', `${set('stop', `(i32.add ${get('w')} (i32.const ${16 * count}))`)} ${loop('steps', inner, 'w', 'stop')} ${widen}`, 'w', 'end')}`;
};

/** Each with the multiply-adds of a pass. */
const cases = {
  '4 × 8, products and additions alone': [steps(8 * GROUPS), 128 * 8 * GROUPS],
  '4 × 8, f32 scales for 32 numbers (linearQ4)': [panel(scaled), 128 * 8 * GROUPS],
  '4 × 8, f32 scales for 64 numbers': [panel(scaled, 16), 128 * 8 * GROUPS],
  '4 × 8, f32 scales for 128 numbers, sums of 16 bits too short': [panel(scaled, 32), 128 * 8 * GROUPS],
  '4 × 8, f32 scales for 32, fused': [panel(scaledBy(true, true)), 128 * 8 * GROUPS],
  '4 × 8, f32 scales for 32 of W alone': [panel(scaledBy(false, false)), 128 * 8 * GROUPS],
  '4 × 8, f32 scales for 32 of W alone, fused': [panel(scaledBy(false, true)), 128 * 8 * GROUPS],
  '4 × 8, integer scales for 32, f32 for 128': [
    `${set('last', `(i32.const ${W + wBytes})`)} ${loop('blocks', four, 'w', 'last')}`,
    128 * 8 * GROUPS,
  ],
  '3 × 3 along rows, widened after 128 numbers': [along(8), 9 * 32 * GROUPS],
  '3 × 3 along rows, widened after 32 numbers': [along(2), 9 * 32 * GROUPS],
};

function compile(body) {
  const vectors = [...Array(9).keys()]
    .flatMap((k) => [`s${k}`, `t${k}`])
    .concat(['w0', 'w1', 'w2', 'x0', 'x1', 'x2', 'x3']);
  const words = ['x', 'w', 'gx', 'gw', 'stop', 'end', 'last'];
  const text = `(module (memory 4) (func (export "run") (param $n i32)
    ${vectors.map((name) => `(local $${name} v128)`).join(' ')} ${words.map((name) => `(local $${name} i32)`).join(' ')}
    (loop $passes ${set('x', `(i32.const ${X})`)} ${set('w', `(i32.const ${W})`)} ${body}
      ${set('n', `(i32.sub ${get('n')} (i32.const 1))`)} (br_if $passes ${get('n')}))
    ${all(9, (k) => intoTile(k, `(v128.xor ${get(`s${k}`)} ${get(`t${k}`)})`))}))`;
  const module = binaryen.parseText(text);
  module.setFeatures(binaryen.Features.All);
  return new WebAssembly.Instance(new WebAssembly.Module(module.emitBinary())).exports.run;
}

const PASSES = 300;
const runs = Object.entries(cases).map(([name, [body, work]]) => ({ name, run: compile(body), work, best: Infinity }));
for (let round = 0; round < 60; round++)
  for (const timing of runs) {
    const start = performance.now();
    timing.run(PASSES);
    timing.best = Math.min(timing.best, performance.now() - start);
  }
const rates = Object.fromEntries(
  runs.map(({ name, work, best }) => [name, +((work * PASSES) / best / 1e6).toFixed(1)]),
);
console.log(`Node ${process.versions.node}${isRevectorized ? ', revectorized' : ''}: 10⁹ multiply-adds a second`);
for (const [name, rate] of Object.entries(rates)) console.log(`  ${name}: ${rate}`);
const file = process.argv[process.argv.indexOf('--out') + 1];
if (process.argv.includes('--out')) {
  const before = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).runs : [];
  const isOf = (run) => run.node === process.version && run.isRevectorized === isRevectorized;
  mkdirSync(dirname(file), { recursive: true });
  const found = [...before.filter((run) => !isOf(run)), { node: process.version, isRevectorized, rates }];
  writeFileSync(file, `${JSON.stringify({ machine: { cpu: cpus()[0].model }, runs: found }, null, 2)}\n`);
}

import { formatCodes, packMatrix, productCalls, scratchBytes } from './kernel-products.mjs';
import { errorRatio, gaussian, product, quantisedProduct } from './kernel-reference.mjs';

/** How far from float64, with the very numbers that the packed weights stand for. */
const limits = { f32: 2e-6, bf16: 2e-6, f16: 2e-6, q8: 1e-4, q4: 2e-2 };

/** Tails of every kind, and sizes of models. [rows, inner, I, O, threads] */
const shapes = [
  [0, 1, 5, 9, 2],
  ...[1, 2, 3, 4, 5, 6, 7, 13].map((rows) => [rows, 1, 33, 19, 1]),
  ...[1, 3, 63, 64, 65].flatMap((size) => [1, 3, 63, 65].map((O) => [5, 1, size, O, 3])),
  [63, 1, 65, 3, 4],
  [65, 1, 63, 8, 8],
  [3, 5, 40, 24, 2],
  [2, 3, 37, 11, 1],
  [1, 1, 768, 768, 2],
  [67, 1, 768, 56, 4],
  [130, 1, 3072, 24, 2],
];

/** Runs every product kernel over the shapes; returns what was wrong. `results` of another build must agree in quantised kernels. */
export function checkProducts(arena, sources, results) {
  const failures = [];
  for (const format of Object.keys(limits)) {
    for (const [n, shape] of shapes.entries()) {
      for (const accumulate of [false, true]) {
        const key = `${format} [rows ${shape[0]}×${shape[1]}, I ${shape[2]}, O ${shape[3]}, ${shape[4]} threads]${accumulate ? ' +=' : ''}`;
        const y = checkOne(arena, sources, format, shape, accumulate, n, (text) => failures.push(`${key}: ${text}`));
        if (format !== 'q8' && format !== 'q4') continue;
        const other = results.get(key);
        if (other && y.some((value, i) => !Object.is(value, other[i]))) failures.push(`${key}: differs between builds`);
        results.set(key, y);
      }
    }
    checkEmbed(arena, sources, format, failures);
  }
  checkNotFinite(arena, sources, failures);
  return failures;
}

const numbers = (random, length, scale = 1) => Float32Array.from({ length }, () => random() * scale);

/** Rows of `width` elements, `stride` apart, in a block that ends with the last row. */
function strided(rows, width, stride, values) {
  const result = new Float32Array(rows === 0 ? 0 : (rows - 1) * stride + width).fill(Number.NaN);
  for (let r = 0; r < rows; r++) result.set(values.subarray(r * width, (r + 1) * width), r * stride);
  return result;
}

function checkOne(arena, sources, format, [rows, inner, I, O, threads], accumulate, seed, fail) {
  arena.reset();
  const random = gaussian(seed + 1);
  const T = rows * inner;
  const w = numbers(random, O * I, 0.05);
  const x = numbers(random, T * I, 3);
  const bias = seed % 3 === 0 ? undefined : numbers(random, O);
  const before = numbers(random, T * O);
  const { W, unpack } = packMatrix(arena, sources, format, w, O, I);
  const held = unpack();
  const [xStride, yStride] = [inner * I + (seed % 2) * 3, inner * O + (seed % 4)];
  const xAt = arena.put(strided(rows, inner * I, xStride, x));
  const yBefore = strided(rows, inner * O, yStride, before);
  const yAt = arena.put(yBefore);
  const scratch = scratchBytes(sources, format, T, I, threads);
  const calls = productCalls({
    format,
    rows: arena.words(rows),
    inner,
    x: [xAt, xStride],
    W,
    bias: bias ? arena.put(bias) : 0,
    y: [yAt, yStride],
    I: arena.words(I),
    O,
    accumulate,
    quantised: arena.allocate(scratch.x),
    panels: arena.allocate(scratch.panels),
  });
  for (const [name, words] of calls) arena.call(name, words, threads);
  const damaged = arena.damaged();
  if (damaged.length > 0) fail(`wrote outside of its operands (${damaged.length} bytes)`);
  const all = arena.f32.slice(yAt / 4, yAt / 4 + yBefore.length);
  const y = new Float32Array(T * O);
  for (let r = 0; r < rows; r++) {
    y.set(all.subarray(r * yStride, r * yStride + inner * O), r * inner * O);
    const gap = all.subarray(r * yStride + inner * O, (r + 1) * yStride);
    if (gap.some((value) => !Number.isNaN(value))) fail('wrote between the rows of y');
  }
  const truth = product(x, held, bias, T, I, O).map((value, i) => value + (accumulate ? before[i] : 0));
  const error = errorRatio(y, truth);
  if (!(error <= limits[format])) fail(`relative error ${error.toExponential(2)}`);
  if (format === 'q8' || format === 'q4')
    checkBits(sources, format, { w, held, x, bias, before, T, I, O, accumulate, y }, fail);
  return y;
}

/** The quantised kernels to the last bit, from the form that files have; and that form's numbers are those packed. */
function checkBits(sources, format, { w, held, x, bias, before, T, I, O, accumulate, y }, fail) {
  const { quantiseMatrix, readGroup } = sources.quantise;
  const matrix = quantiseMatrix(w, I, format);
  const groups = Math.ceil(I / 32);
  const integers = new Int8Array(O * I);
  const group = new Int8Array(32);
  for (let n = 0; n < O * groups; n++) {
    const [o, g] = [Math.floor(n / groups), n % groups];
    const count = readGroup(matrix, I, o, g, group);
    integers.set(group.subarray(0, count), o * I + g * 32);
  }
  const scales = Float32Array.from(matrix.scales, halfToNumber);
  const expected = quantisedProduct({ format, integers, scales }, x, bias, T, I, O);
  for (let i = 0; i < y.length; i++) {
    const value = accumulate ? Math.fround(before[i] + expected[i]) : expected[i];
    if (value !== y[i]) return fail(`element ${i} is ${y[i]}, and must be ${value} to the last bit`);
  }
  if (held.some((value, i) => value !== Math.fround(integers[i] * scales[Math.floor(i / I) * groups + ((i % I) >> 5)])))
    fail('packing at load and into a file differ');
}

function halfToNumber(half) {
  const exponent = (half >> 10) & 31;
  const magnitude = exponent === 0 ? (half & 1023) * 2 ** -24 : (1024 + (half & 1023)) * 2 ** (exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

/** Rows of a packed matrix are exactly the numbers that it stands for. */
function checkEmbed(arena, sources, format, failures) {
  for (const [V, I] of [
    [1, 1],
    [19, 63],
    [65, 65],
    [9, 96],
  ]) {
    arena.reset();
    const { W, unpack } = packMatrix(arena, sources, format, numbers(gaussian(V), V * I), V, I);
    const held = unpack();
    const ids = Int32Array.from({ length: 7 }, (_, n) => (n * 5) % V);
    const y = arena.put(new Float32Array(6 * (I + 2) + I));
    arena.call('embedPanels', [arena.words(7), arena.put(ids), W, y, I + 2, I, formatCodes[format]], 3);
    for (const [n, id] of ids.entries()) {
      for (let i = 0; i < I; i++) {
        if (arena.f32[y / 4 + n * (I + 2) + i] !== held[id * I + i])
          return failures.push(`${format} embed [${V}, ${I}]: row ${id} is wrong at ${i}`);
      }
    }
    if (arena.damaged().length > 0) failures.push(`${format} embed [${V}, ${I}]: wrote outside of its operands`);
  }
}

/** NaN in a row of x makes that row of y NaN, and no other. */
function checkNotFinite(arena, sources, failures) {
  for (const format of Object.keys(limits)) {
    arena.reset();
    const [T, I, O] = [6, 70, 9];
    const x = numbers(gaussian(1), T * I);
    x[2 * I + 33] = Number.NaN;
    const { W } = packMatrix(arena, sources, format, numbers(gaussian(2), O * I), O, I);
    const scratch = scratchBytes(sources, format, T, I, 1);
    const y = arena.put(new Float32Array(T * O));
    const calls = productCalls({
      format,
      rows: arena.words(T),
      inner: 1,
      x: [arena.put(x), I],
      W,
      bias: 0,
      y: [y, O],
      I: arena.words(I),
      O,
      quantised: arena.allocate(scratch.x),
      panels: arena.allocate(scratch.panels),
    });
    for (const [name, words] of calls) arena.call(name, words);
    for (let n = 0; n < T * O; n++) {
      if (Number.isNaN(arena.f32[y / 4 + n]) !== (Math.floor(n / O) === 2))
        return failures.push(
          `${format}: NaN in row 2 of x, and row ${Math.floor(n / O)} of y is ${arena.f32[y / 4 + n]}`,
        );
    }
  }
}

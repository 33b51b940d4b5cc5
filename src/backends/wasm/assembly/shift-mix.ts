import { madd } from './math';
import { firstOf, loadLanes, rowAt, stateAt, storeLanes } from './rows';
import { beginUnits, takeUnits, unitsEnd } from './schedule';
import { addTo } from './vectors';

/** Channels that a thread takes at a time: whole cache lines, of all tokens. */
const STRIP: i32 = 64;
/** Tokens of a block of the adjoint, whose sums are made apart (kernels.ts counts the floats). */
const BLOCK: i32 = 32;

/**
 * Token shift with mixtures: y_i = x_t + (x_{t−1} − x_t) ⊙ μ_i; before the first token of a segment is its state, which becomes its last x.
 * args: [segmentsAt, ends, x (2 words), state (2 words), next (2 words), C, n, then of each mixture: μ, y (2 words)].
 */
export function shiftMix(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const C = load<i32>(args, 32);
  beginUnits((C + STRIP - 1) / STRIP, thread, threads);
  for (let unit = takeUnits(1); unit < unitsEnd(); unit = takeUnits(1)) {
    const at = (<usize>(unit * STRIP)) << 2;
    const count = min(STRIP, C - unit * STRIP);
    let t = 0;
    for (let b = 0; b < segments; b++) {
      const last = load<i32>(ends + ((<usize>b) << 2));
      if (t == last) continue;
      let before = stateAt(args + 16, b) + at;
      for (; t < last; t++) {
        const x = rowAt(args + 8, t) + at;
        mix(args, x, before, t, at, count);
        before = x;
      }
      memory.copy(stateAt(args + 24, b) + at, before, (<usize>count) << 2);
    }
  }
}

/** All mixtures of a token. */
function mix(args: usize, x: usize, before: usize, t: i32, at: usize, count: i32): void {
  const end = args + 40 + <usize>(load<i32>(args, 36) * 12);
  for (let own = args + 40; own < end; own += 12) {
    const μ = <usize>load<u32>(own) + at;
    const y = rowAt(own + 4, t) + at;
    let j = 0;
    for (; j + 4 <= count; j += 4) {
      const i = (<usize>j) << 2;
      const now = v128.load(x + i);
      v128.store(y + i, madd(f32x4.sub(v128.load(before + i), now), v128.load(μ + i), now));
    }
    if (j < count) {
      const i = (<usize>j) << 2;
      const now = loadLanes(x + i, count - j);
      const step = f32x4.sub(loadLanes(before + i, count - j), now);
      storeLanes(y + i, count - j, madd(step, loadLanes(μ + i, count - j), now));
    }
  }
}

/**
 * The adjoint: with d_i the gradient of y_i and m_t = Σ_i d_i,t ⊙ μ_i, dx_t = Σ_i d_i,t − m_t + m_{t+1}; of dμ_i = Σ_t d_i,t ⊙ (x_{t−1} − x_t) the
 * sums of BLOCK tokens each, for `sumBlocks`.
 * args: [tokensAt, segmentsAt, ends, x (2 words), state (2 words), dnext (2 words, or 0), dx (2 words), dstate (2 words), C, sums (n·C floats a block),
 *        n, then of each mixture: μ, d (2 words, or 0)].
 */
export function shiftMixGrad(args: usize, thread: i32, threads: i32): void {
  const tokens = load<i32>(<usize>load<u32>(args));
  const C = load<i32>(args, 52);
  const own = <usize>(load<i32>(args, 60) * C);
  beginUnits((tokens + BLOCK - 1) / BLOCK, thread, threads);
  for (let unit = takeUnits(1); unit < unitsEnd(); unit = takeUnits(1)) {
    const from = unit * BLOCK;
    const sums = <usize>load<u32>(args, 56) + ((<usize>unit * own) << 2);
    memory.fill(sums, 0, own << 2);
    blockBack(args, from, min(tokens, from + BLOCK), C, sums);
  }
}

/** Tokens `from` to `to`, one mixture after the other: so each is read from its beginning to its end. */
function blockBack(args: usize, from: i32, to: i32, C: i32, sums: usize): void {
  const ends = <usize>load<u32>(args, 8);
  const segments = load<i32>(<usize>load<u32>(args, 4));
  const bytes = (<usize>C) << 2;
  let begin = 0;
  while (begin < segments && load<i32>(ends + ((<usize>begin) << 2)) <= from) begin++;
  for (let t = from; t < to; t++) memory.fill(rowAt(args + 36, t), 0, bytes);
  const mixtures = args + 64;
  const end = mixtures + <usize>(load<i32>(args, 60) * 12);
  for (let own = mixtures; own < end; own += 12, sums += bytes) {
    const μ = <usize>load<u32>(own);
    const isAbsent = load<u32>(own, 4) == 0;
    let b = begin;
    for (let t = from; t < to; t++) {
      while (load<i32>(ends + ((<usize>b) << 2)) <= t) b++;
      const isFirst = t == firstOf(ends, b);
      if (isFirst && own == mixtures) memory.fill(rowAt(args + 44, b), 0, bytes);
      if (isAbsent) continue;
      const d = rowAt(own + 4, t);
      const x = rowAt(args + 12, t);
      giveBack(d, μ, x, isFirst ? stateAt(args + 20, b) : rowAt(args + 12, t - 1), rowAt(args + 36, t), sums, C);
      // The token before this block gets its own from that block.
      if (isFirst) addProducts(rowAt(args + 44, b), d, μ, C);
      else if (t > from) addProducts(rowAt(args + 36, t - 1), d, μ, C);
    }
  }
  for (let t = from, b = begin; t < to; t++) {
    while (load<i32>(ends + ((<usize>b) << 2)) <= t) b++;
    const dx = rowAt(args + 36, t);
    if (t + 1 == load<i32>(ends + ((<usize>b) << 2))) {
      if (load<u32>(args, 28)) addTo(dx, rowAt(args + 28, b), C);
    } else if (t + 1 == to) {
      for (let own = mixtures; own < end; own += 12)
        if (load<u32>(own, 4)) addProducts(dx, rowAt(own + 4, to), <usize>load<u32>(own), C);
    }
  }
}

/** What d, the gradient of one mixture of a token, gives x and μ. */
function giveBack(d: usize, μ: usize, x: usize, before: usize, dx: usize, dμ: usize, count: i32): void {
  let j = 0;
  for (; j + 4 <= count; j += 4) {
    const i = (<usize>j) << 2;
    const arriving = v128.load(d + i);
    const kept = f32x4.sub(arriving, f32x4.mul(arriving, v128.load(μ + i)));
    v128.store(dx + i, f32x4.add(v128.load(dx + i), kept));
    v128.store(dμ + i, madd(arriving, f32x4.sub(v128.load(before + i), v128.load(x + i)), v128.load(dμ + i)));
  }
  if (j == count) return;
  const left = count - j;
  const i = (<usize>j) << 2;
  const arriving = loadLanes(d + i, left);
  const kept = f32x4.sub(arriving, f32x4.mul(arriving, loadLanes(μ + i, left)));
  storeLanes(dx + i, left, f32x4.add(loadLanes(dx + i, left), kept));
  const step = f32x4.sub(loadLanes(before + i, left), loadLanes(x + i, left));
  storeLanes(dμ + i, left, madd(arriving, step, loadLanes(dμ + i, left)));
}

/** y ← y + a ⊙ b. */
function addProducts(y: usize, a: usize, b: usize, count: i32): void {
  let j = 0;
  for (; j + 4 <= count; j += 4) {
    const i = (<usize>j) << 2;
    v128.store(y + i, madd(v128.load(a + i), v128.load(b + i), v128.load(y + i)));
  }
  if (j == count) return;
  const left = count - j;
  const i = (<usize>j) << 2;
  storeLanes(y + i, left, madd(loadLanes(a + i, left), loadLanes(b + i, left), loadLanes(y + i, left)));
}

import { expx4, madd } from './math';
import { loadLanes, rowAt, storeLanes, sumLanes, sumRows } from './rows';

/** Tokens whose states are kept at a time. */
const BLOCK: i32 = 16;
/** Rows of the state that go along a block together, so that what is kept of them stays in the first-level cache. */
const ROWS: i32 = 4;
/** Bytes of a vector of each of them: they lie side by side. */
const TALL: usize = 64;

let K: i32 = 0;
let V: i32 = 0;
/** Vectors of a row, the last one filled up with zeros. */
let columns: i32 = 0;
/** Bytes of ROWS rows: [columns][ROWS] vectors. Rows beyond V are zeros, and give zeros to all sums. */
let rows: usize = 0;
/** Bytes from a token's vector of r to the next one of r: vectors of r, k, w and, with a removal, a and b lie side by side. */
let step: usize = 0;
/** Bytes of what a token reads. */
let token: usize = 0;
/** What the tokens of a block read, and its gradients: [BLOCK][columns][3 or 5] vectors. */
let operands: usize = 0;
let gradients: usize = 0;
/** S a of every token, [tokens][⌈V / ROWS⌉][ROWS]: what was found on the way forwards need not be found again. */
let removed: usize = 0;
/** Bytes of a token's, and where those of the rows and of the block at hand are. */
let removedStep: usize = 0;
let removedAt: usize = 0;
/** Σ d ⊙ k and Σ d ⊙ b of ROWS rows, lanes not yet added. */
let sums: usize = 0;
/** ROWS rows of the states before each token of a block and after its last. */
let history: usize = 0;
/** ∂/∂S, [⌈V / ROWS⌉] times ROWS rows. */
let dS: usize = 0;
let bonus: bool = false;
let delta: bool = false;

/** Where in a token's vectors those of k, w, a and b are. */
const OF_K: usize = 16;
const OF_W: usize = 32;
const OF_A: usize = 48;
const OF_B: usize = 64;

/**
 * One head backwards along a segment. The rows of a state don't look at each other: a few at a time they are made again along a block and
 * go back, and what they give r, k, w, a and b is summed for the block before it goes where it belongs.
 */
export function headBack(
  args: usize,
  h: i32,
  thread: i32,
  first: i32,
  last: i32,
  state: usize,
  dnext: usize,
  dstate: usize,
  scratch: usize,
): void {
  const starts = layOut(args, scratch, last - first);
  const blocks = (last - first + BLOCK - 1) / BLOCK;
  const size = <usize>((V + ROWS - 1) / ROWS) * rows;
  loadState(state, starts);
  for (let n = 0; n + 1 < blocks; n++) {
    const from = first + n * BLOCK;
    const next = starts + <usize>(n + 1) * size;
    fetch(args, h, from, from + BLOCK, false);
    memory.copy(next, next - size, size);
    for (let row = 0, S = next; row < V; row += ROWS, S += rows) {
      removedAt = removed + <usize>(n * BLOCK) * removedStep + ((<usize>row) << 2);
      if (delta) remove(S, 0);
      for (let i = 0; i < BLOCK; i++) forward(S, S, i, BLOCK, valuesOf(args + 40, h, from + i, row));
    }
  }
  if (dnext) loadState(dnext, dS);
  else memory.fill(dS, 0, size);
  for (let n = blocks - 1; n >= 0; n--) {
    const from = first + n * BLOCK;
    const to = min(last, from + BLOCK);
    fetch(args, h, from, to, true);
    memory.fill(gradients, 0, <usize>BLOCK * token);
    for (let row = 0, at: usize = 0; row < V; row += ROWS, at += rows) {
      removedAt = removed + <usize>(n * BLOCK) * removedStep + ((<usize>row) << 2);
      rowsBack(args, h, from, to, row, starts + <usize>n * size + at, dS + at, n + 1 < blocks);
    }
    if (bonus && load<u32>(args, 48)) for (let t = from; t < to; t++) putBonus(args, h, t, t - from);
    for (let t = from; t < to; t++) put(args, h, thread, t, t - from);
  }
  storeState(dS, dstate);
}

/** Gives everything its place in scratch memory (kernels.ts counts the floats); returns where the states at the blocks' beginnings go. */
function layOut(args: usize, scratch: usize, tokens: i32): usize {
  V = load<i32>(args, 16);
  K = load<i32>(args, 20);
  delta = load<u32>(args, 100) != 0;
  bonus = load<u32>(args, 116) != 0;
  columns = (K + 3) >> 2;
  rows = <usize>columns * TALL;
  step = delta ? 80 : 48;
  token = <usize>columns * step;
  operands = scratch;
  gradients = operands + <usize>BLOCK * token;
  sums = gradients + <usize>BLOCK * token;
  history = sums + 2 * TALL;
  dS = history + <usize>(BLOCK + 1) * rows;
  const groups = <usize>((V + ROWS - 1) / ROWS);
  removed = dS + groups * rows;
  removedStep = delta ? groups << 4 : 0;
  return removed + <usize>tokens * removedStep;
}

/** A state [V][K] to ROWS rows side by side. */
function loadState(from: usize, to: usize): void {
  for (let row = 0; row < V; row += ROWS, to += rows) {
    if (V - row < ROWS) memory.fill(to, 0, rows);
    for (let n = 0; n < min(ROWS, V - row); n++)
      for (let j = 0, at = to + ((<usize>n) << 4); j < K; j += 4, at += TALL)
        v128.store(at, loadLanes(from + ((<usize>((row + n) * K + j)) << 2), K - j));
  }
}

/** The other way round. */
function storeState(from: usize, to: usize): void {
  for (let row = 0; row < V; row++)
    for (let j = 0, at = from + <usize>(row / ROWS) * rows + ((<usize>(row % ROWS)) << 4); j < K; j += 4, at += TALL)
      storeLanes(to + ((<usize>(row * K + j)) << 2), K - j, v128.load(at));
}

/** What the head reads at the tokens of a block; r only on the way back. */
function fetch(args: usize, h: i32, from: i32, to: i32, back: bool): void {
  const group = (<usize>(((h * load<i32>(args, 12)) / load<i32>(args, 8)) * K)) << 2;
  const head = (<usize>(h * K)) << 2;
  for (let t = from, at = operands; t < to; t++, at += token) {
    if (back) spread(rowAt(args + 24, t) + group, at);
    spread(rowAt(args + 32, t) + group, at + OF_K);
    decays(args, h, t, at + OF_W);
    if (!delta) continue;
    spread(rowAt(args + 100, t) + head, at + OF_A);
    spread(rowAt(args + 108, t) + head, at + OF_B);
  }
}

/** K numbers to their places among a token's vectors. */
function spread(from: usize, to: usize): void {
  for (let j = 0; j < K; j += 4, from += 16, to += step) v128.store(to, loadLanes(from, K - j));
}

/** K numbers from their places among a token's vectors. */
function gather(from: usize, to: usize): void {
  for (let j = 0; j < K; j += 4, from += step, to += 16) storeLanes(to, K - j, v128.load(from));
}

/** Adds K numbers from their places among a token's vectors. */
function addGathered(from: usize, to: usize): void {
  for (let j = 0; j < K; j += 4, from += step, to += 16)
    storeLanes(to, K - j, f32x4.add(loadLanes(to, K - j), v128.load(from)));
}

/** Where the log-decays of head h at token t lie. */
function logDecays(args: usize, h: i32, t: i32): usize {
  return <usize>load<u32>(args, 76) + ((<usize>(h * load<i32>(args, 84) + t * load<i32>(args, 80))) << 2);
}

/** dt of head h at token t; 1 without. */
function factorAt(args: usize, h: i32, t: i32): f32 {
  return load<u32>(args, 92) ? load<f32>(rowAt(args + 92, t) + ((<usize>h) << 2)) : 1;
}

function decays(args: usize, h: i32, t: i32, to: usize): void {
  const end = to + token;
  if (!load<u32>(args, 76)) {
    for (; to < end; to += step) v128.store(to, f32x4.splat(1));
    return;
  }
  const g = logDecays(args, h, t);
  const factor = f32x4.splat(factorAt(args, h, t));
  if (load<i32>(args, 88) == 0) {
    const decay = expx4(f32x4.mul(factor, v128.load32_splat(g)));
    for (; to < end; to += step) v128.store(to, decay);
    return;
  }
  spread(g, to);
  for (; to < end; to += step) v128.store(to, expx4(f32x4.mul(factor, v128.load(to))));
}

/** The head's values at token t, of operand words at `args`, from `row` on: ROWS of them, zeros beyond the last. */
function valuesOf(args: usize, h: i32, t: i32, row: i32): v128 {
  return loadLanes(rowAt(args, t) + ((<usize>(h * V + row)) << 2), V - row);
}

/** S a of token i, of the rows before it (P). */
function remove(P: usize, i: i32): void {
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  const end = P + rows;
  for (let o = operands + <usize>i * token; P < end; P += TALL, o += 80) {
    const a = v128.load(o, OF_A);
    s0 = madd(v128.load(P), a, s0);
    s1 = madd(v128.load(P, 16), a, s1);
    s2 = madd(v128.load(P, 32), a, s2);
    s3 = madd(v128.load(P, 48), a, s3);
  }
  v128.store(removedAt + <usize>i * removedStep, sumRows(s0, s1, s2, s3));
}

/** Rows of the state after token i (S) from those before it (P) and values x; with a removal, what the next token, if it is below `count`, removes. */
function forward(P: usize, S: usize, i: i32, count: i32, x: v128): void {
  const x0 = v128.shuffle<f32>(x, x, 0, 0, 0, 0);
  const x1 = v128.shuffle<f32>(x, x, 1, 1, 1, 1);
  const x2 = v128.shuffle<f32>(x, x, 2, 2, 2, 2);
  const x3 = v128.shuffle<f32>(x, x, 3, 3, 3, 3);
  let o = operands + <usize>i * token;
  const end = P + rows;
  if (!delta) {
    for (; P < end; P += TALL, S += TALL, o += 48) {
      const k = v128.load(o, OF_K);
      const w = v128.load(o, OF_W);
      v128.store(S, madd(x0, k, f32x4.mul(v128.load(P), w)));
      v128.store(S, madd(x1, k, f32x4.mul(v128.load(P, 16), w)), 16);
      v128.store(S, madd(x2, k, f32x4.mul(v128.load(P, 32), w)), 32);
      v128.store(S, madd(x3, k, f32x4.mul(v128.load(P, 48), w)), 48);
    }
    return;
  }
  const sa = v128.load(removedAt + <usize>i * removedStep);
  const s0 = v128.shuffle<f32>(sa, sa, 0, 0, 0, 0);
  const s1 = v128.shuffle<f32>(sa, sa, 1, 1, 1, 1);
  const s2 = v128.shuffle<f32>(sa, sa, 2, 2, 2, 2);
  const s3 = v128.shuffle<f32>(sa, sa, 3, 3, 3, 3);
  const after = S;
  for (; P < end; P += TALL, S += TALL, o += 80) {
    const k = v128.load(o, OF_K);
    const w = v128.load(o, OF_W);
    const b = v128.load(o, OF_B);
    v128.store(S, madd(x0, k, madd(s0, b, f32x4.mul(v128.load(P), w))));
    v128.store(S, madd(x1, k, madd(s1, b, f32x4.mul(v128.load(P, 16), w))), 16);
    v128.store(S, madd(x2, k, madd(s2, b, f32x4.mul(v128.load(P, 32), w))), 32);
    v128.store(S, madd(x3, k, madd(s3, b, f32x4.mul(v128.load(P, 48), w))), 48);
  }
  if (i + 1 < count) remove(after, i + 1);
}

/**
 * ROWS rows from `row` on, along the block from their states at `start` and back: D is ∂/∂S of them. What tokens remove is known where the way
 * forwards came by.
 */
function rowsBack(args: usize, h: i32, from: i32, to: i32, row: i32, start: usize, D: usize, isKnown: bool): void {
  memory.copy(history, start, rows);
  let P = history;
  if (delta && !isKnown) remove(P, 0);
  const removing = isKnown ? 0 : to - from;
  for (let t = from; t < to; t++, P += rows) forward(P, P + rows, t - from, removing, valuesOf(args + 40, h, t, row));
  const none = f32x4.splat(0);
  for (let t = to - 1; t >= from; t--) {
    P -= rows;
    const i = t - from;
    const x = valuesOf(args + 40, h, t, row);
    const dy = load<u32>(args, 48) ? valuesOf(args + 48, h, t, row) : none;
    // With the bonus the output reads the state before the token, else the one after it.
    if (delta) backDelta(P, D, i, x, bonus ? none : dy);
    else back(P, D, i, x, bonus ? none : dy);
    if (bonus) readBefore(P, D, i, dy);
    storeLanes(
      rowAt(args + 136, t) + ((<usize>(h * V + row)) << 2),
      V - row,
      sumRows(v128.load(sums), v128.load(sums, 16), v128.load(sums, 32), v128.load(sums, 48)),
    );
  }
}

/** Token i backwards without a removal: ∂/∂S after it (D) becomes that before it. P are the states before it, x its values, e those of dy. */
function back(P: usize, D: usize, i: i32, x: v128, e: v128): void {
  twoBack(P, D, i, x, e, sums);
  twoBack(P + 32, D + 32, i, v128.shuffle<f32>(x, x, 2, 3, 0, 1), v128.shuffle<f32>(e, e, 2, 3, 0, 1), sums + 32);
}

/** Two rows, of the first two of x and e: vectors made here, for a V8 that fuses pairs of vectors ends the process over pairs that are arguments. */
function twoBack(P: usize, D: usize, i: i32, x: v128, e: v128, to: usize): void {
  const x0 = v128.shuffle<f32>(x, x, 0, 0, 0, 0);
  const x1 = v128.shuffle<f32>(x, x, 1, 1, 1, 1);
  const e0 = v128.shuffle<f32>(e, e, 0, 0, 0, 0);
  const e1 = v128.shuffle<f32>(e, e, 1, 1, 1, 1);
  let o = operands + <usize>i * token;
  let g = gradients + <usize>i * token;
  let S = P + rows;
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  const end = P + rows;
  for (; P < end; P += TALL, S += TALL, D += TALL, o += 48, g += 48) {
    const r = v128.load(o);
    const k = v128.load(o, OF_K);
    const w = v128.load(o, OF_W);
    const d0 = madd(e0, r, v128.load(D));
    const d1 = madd(e1, r, v128.load(D, 16));
    v128.store(g, madd(e1, v128.load(S, 16), madd(e0, v128.load(S), v128.load(g))));
    v128.store(g, madd(x1, d1, madd(x0, d0, v128.load(g, OF_K))), OF_K);
    v128.store(g, madd(d1, v128.load(P, 16), madd(d0, v128.load(P), v128.load(g, OF_W))), OF_W);
    sum0 = madd(d0, k, sum0);
    sum1 = madd(d1, k, sum1);
    v128.store(D, f32x4.mul(d0, w));
    v128.store(D, f32x4.mul(d1, w), 16);
  }
  v128.store(to, sum0);
  v128.store(to, sum1, 16);
}

/** Token i backwards with the removal (S a) bᵀ. */
function backDelta(P: usize, D: usize, i: i32, x: v128, e: v128): void {
  const sa = v128.load(removedAt + <usize>i * removedStep);
  const e0 = v128.shuffle<f32>(e, e, 0, 0, 0, 0);
  const e1 = v128.shuffle<f32>(e, e, 1, 1, 1, 1);
  const e2 = v128.shuffle<f32>(e, e, 2, 2, 2, 2);
  const e3 = v128.shuffle<f32>(e, e, 3, 3, 3, 3);
  twoDelta(P, D, i, x, e, sa, sums);
  const e23 = v128.shuffle<f32>(e, e, 2, 3, 0, 1);
  twoDelta(
    P + 32,
    D + 32,
    i,
    v128.shuffle<f32>(x, x, 2, 3, 0, 1),
    e23,
    v128.shuffle<f32>(sa, sa, 2, 3, 0, 1),
    sums + 32,
  );
  const dsa = sumRows(
    v128.load(sums, TALL),
    v128.load(sums, TALL + 16),
    v128.load(sums, TALL + 32),
    v128.load(sums, TALL + 48),
  );
  const dsa0 = v128.shuffle<f32>(dsa, dsa, 0, 0, 0, 0);
  const dsa1 = v128.shuffle<f32>(dsa, dsa, 1, 1, 1, 1);
  const dsa2 = v128.shuffle<f32>(dsa, dsa, 2, 2, 2, 2);
  const dsa3 = v128.shuffle<f32>(dsa, dsa, 3, 3, 3, 3);
  let o = operands + <usize>i * token;
  let g = gradients + <usize>i * token;
  const end = P + rows;
  for (; P < end; P += TALL, D += TALL, o += 80, g += 80) {
    let da = madd(dsa0, v128.load(P), v128.load(g, OF_A));
    da = madd(dsa1, v128.load(P, 16), da);
    da = madd(dsa2, v128.load(P, 32), da);
    v128.store(g, madd(dsa3, v128.load(P, 48), da), OF_A);
    const r = v128.load(o);
    const w = v128.load(o, OF_W);
    const a = v128.load(o, OF_A);
    v128.store(D, madd(dsa0, a, f32x4.mul(madd(e0, r, v128.load(D)), w)));
    v128.store(D, madd(dsa1, a, f32x4.mul(madd(e1, r, v128.load(D, 16)), w)), 16);
    v128.store(D, madd(dsa2, a, f32x4.mul(madd(e2, r, v128.load(D, 32)), w)), 32);
    v128.store(D, madd(dsa3, a, f32x4.mul(madd(e3, r, v128.load(D, 48)), w)), 48);
  }
}

/** What two rows give all operands but a, and the sums that give v and a theirs. */
function twoDelta(P: usize, D: usize, i: i32, x: v128, e: v128, sa: v128, to: usize): void {
  const x0 = v128.shuffle<f32>(x, x, 0, 0, 0, 0);
  const x1 = v128.shuffle<f32>(x, x, 1, 1, 1, 1);
  const e0 = v128.shuffle<f32>(e, e, 0, 0, 0, 0);
  const e1 = v128.shuffle<f32>(e, e, 1, 1, 1, 1);
  const sa0 = v128.shuffle<f32>(sa, sa, 0, 0, 0, 0);
  const sa1 = v128.shuffle<f32>(sa, sa, 1, 1, 1, 1);
  let o = operands + <usize>i * token;
  let g = gradients + <usize>i * token;
  let S = P + rows;
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  let removal0 = sum0;
  let removal1 = sum0;
  const end = P + rows;
  for (; P < end; P += TALL, S += TALL, D += TALL, o += 80, g += 80) {
    const r = v128.load(o);
    const d0 = madd(e0, r, v128.load(D));
    const d1 = madd(e1, r, v128.load(D, 16));
    v128.store(g, madd(e1, v128.load(S, 16), madd(e0, v128.load(S), v128.load(g))));
    v128.store(g, madd(x1, d1, madd(x0, d0, v128.load(g, OF_K))), OF_K);
    v128.store(g, madd(d1, v128.load(P, 16), madd(d0, v128.load(P), v128.load(g, OF_W))), OF_W);
    v128.store(g, madd(sa1, d1, madd(sa0, d0, v128.load(g, OF_B))), OF_B);
    const k = v128.load(o, OF_K);
    sum0 = madd(d0, k, sum0);
    sum1 = madd(d1, k, sum1);
    const b = v128.load(o, OF_B);
    removal0 = madd(d0, b, removal0);
    removal1 = madd(d1, b, removal1);
  }
  v128.store(to, sum0);
  v128.store(to, sum1, 16);
  v128.store(to, removal0, TALL);
  v128.store(to, removal1, TALL + 16);
}

/** What y = S r of the state before token i gives back. */
function readBefore(P: usize, D: usize, i: i32, e: v128): void {
  const e0 = v128.shuffle<f32>(e, e, 0, 0, 0, 0);
  const e1 = v128.shuffle<f32>(e, e, 1, 1, 1, 1);
  const e2 = v128.shuffle<f32>(e, e, 2, 2, 2, 2);
  const e3 = v128.shuffle<f32>(e, e, 3, 3, 3, 3);
  let o = operands + <usize>i * token;
  let g = gradients + <usize>i * token;
  const end = P + rows;
  for (; P < end; P += TALL, D += TALL, o += step, g += step) {
    let dr = madd(e0, v128.load(P), v128.load(g));
    dr = madd(e1, v128.load(P, 16), dr);
    dr = madd(e2, v128.load(P, 32), dr);
    v128.store(g, madd(e3, v128.load(P, 48), dr));
    const r = v128.load(o);
    v128.store(D, madd(e0, r, v128.load(D)));
    v128.store(D, madd(e1, r, v128.load(D, 16)), 16);
    v128.store(D, madd(e2, r, v128.load(D, 32)), 32);
    v128.store(D, madd(e3, r, v128.load(D, 48)), 48);
  }
}

/** The read past the state, y += (Σ u ⊙ k ⊙ r) v. */
function putBonus(args: usize, h: i32, t: i32, i: i32): void {
  const values = (<usize>(h * V)) << 2;
  const v = rowAt(args + 40, t) + values;
  const dv = rowAt(args + 136, t) + values;
  const dy = rowAt(args + 48, t) + values;
  let u = <usize>load<u32>(args, 116) + ((<usize>(h * K)) << 2);
  let du = <usize>load<u32>(args, 176) + ((<usize>(h * K)) << 2);
  let products = f32x4.splat(0);
  for (let row = 0; row < V; row += 4) {
    const lane = (<usize>row) << 2;
    products = madd(loadLanes(v + lane, V - row), loadLanes(dy + lane, V - row), products);
  }
  const arriving = f32x4.splat(sumLanes(products));
  products = f32x4.splat(0);
  let o = operands + <usize>i * token;
  let g = gradients + <usize>i * token;
  for (let j = 0; j < K; j += 4, u += 16, du += 16, o += step, g += step) {
    const factor = loadLanes(u, K - j);
    const r = v128.load(o);
    const k = v128.load(o, OF_K);
    const both = f32x4.mul(k, r);
    products = madd(factor, both, products);
    const given = f32x4.mul(factor, arriving);
    v128.store(g, madd(k, given, v128.load(g)));
    v128.store(g, madd(r, given, v128.load(g, OF_K)), OF_K);
    storeLanes(du, K - j, madd(both, arriving, loadLanes(du, K - j)));
  }
  const whole = f32x4.splat(sumLanes(products));
  for (let row = 0; row < V; row += 4) {
    const lane = (<usize>row) << 2;
    storeLanes(dv + lane, V - row, madd(whole, loadLanes(dy + lane, V - row), loadLanes(dv + lane, V - row)));
  }
}

/** Puts the sums of token i where they belong. */
function put(args: usize, h: i32, thread: i32, t: i32, i: i32): void {
  const from = gradients + <usize>i * token;
  const G = load<i32>(args, 12);
  const group = (<usize>(((h * G) / load<i32>(args, 8)) * K)) << 2;
  const head = (<usize>(h * K)) << 2;
  const parts = <usize>load<u32>(args, 188);
  if (parts) {
    const row = (<usize>(G * K)) << 2;
    const size = <usize>load<i32>(args, 192) * row;
    const part = parts + <usize>(thread * 2) * size + <usize>t * row + group;
    addGathered(from, part);
    addGathered(from + OF_K, part + size);
  } else if (G == load<i32>(args, 8)) {
    gather(from, rowAt(args + 120, t) + group);
    gather(from + OF_K, rowAt(args + 128, t) + group);
  } else {
    addGathered(from, rowAt(args + 120, t) + group);
    addGathered(from + OF_K, rowAt(args + 128, t) + group);
  }
  if (delta) {
    gather(from + OF_A, rowAt(args + 160, t) + head);
    gather(from + OF_B, rowAt(args + 168, t) + head);
  }
  if (load<u32>(args, 76)) putDecay(args, h, t, from + OF_W, operands + <usize>i * token + OF_W);
}

/** ∂/∂g = ∂/∂w ⊙ w · dt, and ∂/∂dt, of ∂/∂w at `from` and w. */
function putDecay(args: usize, h: i32, t: i32, from: usize, w: usize): void {
  let g = logDecays(args, h, t);
  const factor = factorAt(args, h, t);
  const varies = load<i32>(args, 88) != 0;
  const fixed = load<i32>(args, 80) == 0;
  let to =
    <usize>load<u32>(args, 144) + ((<usize>(h * load<i32>(args, 84) + (fixed ? 0 : t * load<i32>(args, 148)))) << 2);
  let total = f32x4.splat(0);
  const factors = f32x4.splat(factor);
  for (let j = 0; j < K; j += 4, from += step, w += step) {
    const log = f32x4.mul(v128.load(from), v128.load(w));
    if (!varies) {
      total = f32x4.add(total, log);
      continue;
    }
    total = madd(log, loadLanes(g, K - j), total);
    const given = f32x4.mul(log, factors);
    storeLanes(to, K - j, fixed ? f32x4.add(loadLanes(to, K - j), given) : given);
    g += 16;
    to += 16;
  }
  let toFactor = sumLanes(total);
  if (!varies) {
    store<f32>(to, (fixed ? load<f32>(to) : 0) + toFactor * factor);
    toFactor *= load<f32>(g);
  }
  if (load<u32>(args, 92)) store<f32>(rowAt(args + 152, t) + ((<usize>h) << 2), toFactor);
}

import { expx4, madd } from './math';
import { rowAt, sumLanes, sumRows } from './rows';
import { addTo } from './vectors';

/** Tokens whose states are kept at a time. */
const BLOCK: i32 = 16;

let K: i32 = 0;
let V: i32 = 0;
/** Bytes of a row of the state, padded to whole vectors; what follows are rows of as many, one for each token of a block. */
let width: usize = 0;
let r: usize = 0;
let k: usize = 0;
let w: usize = 0;
let a: usize = 0;
let b: usize = 0;
let dr: usize = 0;
let dk: usize = 0;
let dw: usize = 0;
let da: usize = 0;
let db: usize = 0;
/** S a of every token of a block, [BLOCK][V]. */
let removed: usize = 0;
/** States before each token of a block and after its last, [BLOCK + 1][V] rows. */
let history: usize = 0;
/** ∂/∂S, [V] rows. */
let dS: usize = 0;
let bonus: bool = false;
let delta: bool = false;

/**
 * One head backwards along a segment. Its states are made again block by block, and what the head's rows give r, k, w, a and b is
 * summed in padded rows of a block before it goes where it belongs.
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
  const starts = layOut(args, scratch);
  const blocks = (last - first + BLOCK - 1) / BLOCK;
  const size = <usize>V * width;
  pad(starts, state);
  for (let n = 0; n + 1 < blocks; n++) {
    const from = first + n * BLOCK;
    fetch(args, h, from, from + BLOCK);
    memory.copy(history, starts + <usize>n * size, size);
    for (let i = 0; i < BLOCK; i++) forward(rowAt(args + 40, from + i) + ((<usize>(h * V)) << 2), i);
    memory.copy(starts + <usize>(n + 1) * size, history + <usize>BLOCK * size, size);
  }
  if (dnext) pad(dS, dnext);
  else memory.fill(dS, 0, size);
  for (let n = blocks - 1; n >= 0; n--) {
    const from = first + n * BLOCK;
    const to = min(last, from + BLOCK);
    fetch(args, h, from, to);
    memory.copy(history, starts + <usize>n * size, size);
    for (let t = from; t < to; t++) forward(rowAt(args + 40, t) + ((<usize>(h * V)) << 2), t - from);
    memory.fill(dr, 0, 5 * <usize>BLOCK * width);
    for (let t = to - 1; t >= from; t--) backward(args, h, t, t - from);
    for (let t = from; t < to; t++) put(args, h, thread, t, t - from);
  }
  for (let i = 0; i < V; i++) memory.copy(dstate + ((<usize>(i * K)) << 2), dS + <usize>i * width, (<usize>K) << 2);
}

/** Gives everything its place in scratch memory; returns where the states at the blocks' beginnings go. */
function layOut(args: usize, scratch: usize): usize {
  V = load<i32>(args, 16);
  K = load<i32>(args, 20);
  delta = load<u32>(args, 100) != 0;
  bonus = load<u32>(args, 116) != 0;
  width = ((<usize>K + 3) & ~3) << 2;
  const block = <usize>BLOCK * width;
  r = scratch;
  k = r + block;
  w = k + block;
  a = w + block;
  b = a + block;
  dr = b + block;
  dk = dr + block;
  dw = dk + block;
  da = dw + block;
  db = da + block;
  removed = db + block;
  history = removed + ((<usize>(BLOCK * ((V + 3) & ~3))) << 2);
  dS = history + <usize>((BLOCK + 1) * V) * width;
  return dS + <usize>V * width;
}

/** Rows of K numbers to padded rows. */
function pad(to: usize, from: usize): void {
  for (let i = 0; i < V; i++) padRow(to + <usize>i * width, from + ((<usize>(i * K)) << 2));
}

function padRow(to: usize, from: usize): void {
  if ((K & 3) != 0) v128.store(to + width - 16, f32x4.splat(0));
  memory.copy(to, from, (<usize>K) << 2);
}

/** What the head reads at the tokens of a block, in padded rows. */
function fetch(args: usize, h: i32, from: i32, to: i32): void {
  const group = (<usize>(((h * load<i32>(args, 12)) / load<i32>(args, 8)) * K)) << 2;
  const head = (<usize>(h * K)) << 2;
  for (let t = from; t < to; t++) {
    const at = <usize>(t - from) * width;
    padRow(r + at, rowAt(args + 24, t) + group);
    padRow(k + at, rowAt(args + 32, t) + group);
    if (delta) {
      padRow(a + at, rowAt(args + 100, t) + head);
      padRow(b + at, rowAt(args + 108, t) + head);
    }
    decays(args, h, t, w + at);
  }
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
  if (!load<u32>(args, 76)) {
    for (let j: usize = 0; j < width; j += 16) v128.store(to + j, f32x4.splat(1));
    return;
  }
  const g = logDecays(args, h, t);
  const factor = f32x4.splat(factorAt(args, h, t));
  if (load<i32>(args, 88) == 0) {
    const decay = expx4(f32x4.mul(factor, v128.load32_splat(g)));
    for (let j: usize = 0; j < width; j += 16) v128.store(to + j, decay);
    return;
  }
  padRow(to, g);
  for (let j: usize = 0; j < width; j += 16) v128.store(to + j, expx4(f32x4.mul(factor, v128.load(to + j))));
}

/** Token i of the block: the state after it from the one before, rows of v as scalars. */
function forward(v: usize, i: i32): void {
  const at = <usize>i * width;
  const wi = w + at;
  const ki = k + at;
  const ai = a + at;
  const bi = b + at;
  let P = history + <usize>(i * V) * width;
  let S = P + <usize>V * width;
  let row = 0;
  for (; row + 4 <= V; row += 4) {
    forward4(P, S, at, v + ((<usize>row) << 2), i * V + row);
    P += width << 2;
    S += width << 2;
  }
  for (; row < V; row++) {
    const x = v128.load32_splat(v + ((<usize>row) << 2));
    if (delta) {
      let sum = f32x4.splat(0);
      for (let j: usize = 0; j < width; j += 16) sum = madd(v128.load(P + j), v128.load(ai + j), sum);
      const sa = sumLanes(sum);
      store<f32>(removed + ((<usize>(i * V + row)) << 2), sa);
      const back = f32x4.splat(sa);
      for (let j: usize = 0; j < width; j += 16) {
        const kept = madd(back, v128.load(bi + j), f32x4.mul(v128.load(P + j), v128.load(wi + j)));
        v128.store(S + j, madd(x, v128.load(ki + j), kept));
      }
    } else {
      for (let j: usize = 0; j < width; j += 16)
        v128.store(S + j, madd(x, v128.load(ki + j), f32x4.mul(v128.load(P + j), v128.load(wi + j))));
    }
    P += width;
    S += width;
  }
}

/** Four rows of the state after a token, in row P of those before it, and what is removed of them from row `at` of `removed` on. */
function forward4(P: usize, S: usize, token: usize, v: usize, at: i32): void {
  const P1 = P + width;
  const P2 = P1 + width;
  const P3 = P2 + width;
  const S1 = S + width;
  const S2 = S1 + width;
  const S3 = S2 + width;
  const x0 = v128.load32_splat(v);
  const x1 = v128.load32_splat(v, 4);
  const x2 = v128.load32_splat(v, 8);
  const x3 = v128.load32_splat(v, 12);
  const wi = w + token;
  const ki = k + token;
  if (!delta) {
    for (let j: usize = 0; j < width; j += 16) {
      const wj = v128.load(wi + j);
      const kj = v128.load(ki + j);
      v128.store(S + j, madd(x0, kj, f32x4.mul(v128.load(P + j), wj)));
      v128.store(S1 + j, madd(x1, kj, f32x4.mul(v128.load(P1 + j), wj)));
      v128.store(S2 + j, madd(x2, kj, f32x4.mul(v128.load(P2 + j), wj)));
      v128.store(S3 + j, madd(x3, kj, f32x4.mul(v128.load(P3 + j), wj)));
    }
    return;
  }
  const ai = a + token;
  const bi = b + token;
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  for (let j: usize = 0; j < width; j += 16) {
    const aj = v128.load(ai + j);
    s0 = madd(v128.load(P + j), aj, s0);
    s1 = madd(v128.load(P1 + j), aj, s1);
    s2 = madd(v128.load(P2 + j), aj, s2);
    s3 = madd(v128.load(P3 + j), aj, s3);
  }
  const sa = sumRows(s0, s1, s2, s3);
  v128.store(removed + ((<usize>at) << 2), sa);
  s0 = v128.shuffle<f32>(sa, sa, 0, 0, 0, 0);
  s1 = v128.shuffle<f32>(sa, sa, 1, 1, 1, 1);
  s2 = v128.shuffle<f32>(sa, sa, 2, 2, 2, 2);
  s3 = v128.shuffle<f32>(sa, sa, 3, 3, 3, 3);
  for (let j: usize = 0; j < width; j += 16) {
    const wj = v128.load(wi + j);
    const kj = v128.load(ki + j);
    const bj = v128.load(bi + j);
    v128.store(S + j, madd(x0, kj, madd(s0, bj, f32x4.mul(v128.load(P + j), wj))));
    v128.store(S1 + j, madd(x1, kj, madd(s1, bj, f32x4.mul(v128.load(P1 + j), wj))));
    v128.store(S2 + j, madd(x2, kj, madd(s2, bj, f32x4.mul(v128.load(P2 + j), wj))));
    v128.store(S3 + j, madd(x3, kj, madd(s3, bj, f32x4.mul(v128.load(P3 + j), wj))));
  }
}

/** Token i of the block backwards: ∂/∂S after it becomes that before it. */
function backward(args: usize, h: i32, t: i32, i: i32): void {
  const values = (<usize>(h * V)) << 2;
  const v = rowAt(args + 40, t) + values;
  const dv = rowAt(args + 136, t) + values;
  const dy = load<u32>(args, 48) ? rowAt(args + 48, t) + values : 0;
  const P = history + <usize>(i * V) * width;
  const sa = removed + ((<usize>(i * V)) << 2);
  let row = 0;
  if (delta && dy && !bonus) for (; row + 2 <= V; row += 2) rowsDelta(P, v, dv, dy, row, i, sa + ((<usize>row) << 2));
  if (delta) for (; row < V; row++) rowDelta(P, v, dv, dy, row, i, load<f32>(sa + ((<usize>row) << 2)));
  else {
    if (dy) for (; row + 4 <= V; row += 4) rows4(P, v, dv, dy, row, i);
    for (; row < V; row++) row1(P, v, dv, dy, row, i);
  }
  if (bonus && dy) putBonus(args, h, i, v, dv, dy);
}

/**
 * Four rows: with the bonus the output reads the state before the token (P), else the one after it.
 */
function rows4(before: usize, v: usize, dv: usize, dy: usize, row: i32, i: i32): void {
  const at = <usize>i * width;
  const offset = <usize>row * width;
  const P = before + offset;
  const S = bonus ? P : P + <usize>V * width;
  const D = dS + offset;
  const lanes = (<usize>row) << 2;
  const e = v128.load(dy + lanes);
  const x = v128.load(v + lanes);
  const e0 = v128.shuffle<f32>(e, e, 0, 0, 0, 0);
  const e1 = v128.shuffle<f32>(e, e, 1, 1, 1, 1);
  const e2 = v128.shuffle<f32>(e, e, 2, 2, 2, 2);
  const e3 = v128.shuffle<f32>(e, e, 3, 3, 3, 3);
  const x0 = v128.shuffle<f32>(x, x, 0, 0, 0, 0);
  const x1 = v128.shuffle<f32>(x, x, 1, 1, 1, 1);
  const x2 = v128.shuffle<f32>(x, x, 2, 2, 2, 2);
  const x3 = v128.shuffle<f32>(x, x, 3, 3, 3, 3);
  const none = f32x4.splat(0);
  const one = f32x4.splat(1);
  // What of dy·r enters ∂/∂S before the write is taken back, and what after.
  const early = bonus ? none : one;
  const late = bonus ? one : none;
  let v0 = none;
  let v1 = none;
  let v2 = none;
  let v3 = none;
  for (let j: usize = 0; j < width; j += 16) {
    const rj = v128.load(r + at + j);
    const kj = v128.load(k + at + j);
    const wj = v128.load(w + at + j);
    const rEarly = f32x4.mul(rj, early);
    const rLate = f32x4.mul(rj, late);
    let read = v128.load(dr + at + j);
    let written = v128.load(dk + at + j);
    let faded = v128.load(dw + at + j);

    let d = madd(e0, rEarly, v128.load(D + j));
    read = madd(e0, v128.load(S + j), read);
    written = madd(x0, d, written);
    faded = madd(d, v128.load(P + j), faded);
    v0 = madd(d, kj, v0);
    v128.store(D + j, madd(d, wj, f32x4.mul(e0, rLate)));

    d = madd(e1, rEarly, v128.load(D + width + j));
    read = madd(e1, v128.load(S + width + j), read);
    written = madd(x1, d, written);
    faded = madd(d, v128.load(P + width + j), faded);
    v1 = madd(d, kj, v1);
    v128.store(D + width + j, madd(d, wj, f32x4.mul(e1, rLate)));

    d = madd(e2, rEarly, v128.load(D + 2 * width + j));
    read = madd(e2, v128.load(S + 2 * width + j), read);
    written = madd(x2, d, written);
    faded = madd(d, v128.load(P + 2 * width + j), faded);
    v2 = madd(d, kj, v2);
    v128.store(D + 2 * width + j, madd(d, wj, f32x4.mul(e2, rLate)));

    d = madd(e3, rEarly, v128.load(D + 3 * width + j));
    read = madd(e3, v128.load(S + 3 * width + j), read);
    written = madd(x3, d, written);
    faded = madd(d, v128.load(P + 3 * width + j), faded);
    v3 = madd(d, kj, v3);
    v128.store(D + 3 * width + j, madd(d, wj, f32x4.mul(e3, rLate)));

    v128.store(dr + at + j, read);
    v128.store(dk + at + j, written);
    v128.store(dw + at + j, faded);
  }
  store<f32>(dv + lanes, sumLanes(v0));
  store<f32>(dv + lanes, sumLanes(v1), 4);
  store<f32>(dv + lanes, sumLanes(v2), 8);
  store<f32>(dv + lanes, sumLanes(v3), 12);
}

/** One row, without a removal. */
function row1(before: usize, v: usize, dv: usize, dy: usize, row: i32, i: i32): void {
  const at = <usize>i * width;
  const P = before + <usize>row * width;
  const S = bonus ? P : P + <usize>V * width;
  const D = dS + <usize>row * width;
  const lane = (<usize>row) << 2;
  const e = f32x4.splat(dy ? load<f32>(dy + lane) : 0);
  const x = v128.load32_splat(v + lane);
  let sum = f32x4.splat(0);
  for (let j: usize = 0; j < width; j += 16) {
    const er = f32x4.mul(e, v128.load(r + at + j));
    let d = v128.load(D + j);
    if (!bonus) d = f32x4.add(d, er);
    v128.store(dr + at + j, madd(e, v128.load(S + j), v128.load(dr + at + j)));
    v128.store(dk + at + j, madd(x, d, v128.load(dk + at + j)));
    v128.store(dw + at + j, madd(d, v128.load(P + j), v128.load(dw + at + j)));
    sum = madd(d, v128.load(k + at + j), sum);
    d = f32x4.mul(d, v128.load(w + at + j));
    if (bonus) d = f32x4.add(d, er);
    v128.store(D + j, d);
  }
  store<f32>(dv + lane, sumLanes(sum));
}

/** Two rows with the removal (S a) bᵀ and without the bonus: `sa` is what was removed of them. */
function rowsDelta(before: usize, v: usize, dv: usize, dy: usize, row: i32, i: i32, sa: usize): void {
  const at = <usize>i * width;
  // Rows of the state, from where a token's rows are counted.
  const P = before + <usize>row * width - at;
  const P1 = P + width;
  const S = P + <usize>V * width;
  const S1 = S + width;
  const D = dS + <usize>row * width - at;
  const D1 = D + width;
  const lane = (<usize>row) << 2;
  const e0 = v128.load32_splat(dy + lane);
  const e1 = v128.load32_splat(dy + lane, 4);
  const x0 = v128.load32_splat(v + lane);
  const x1 = v128.load32_splat(v + lane, 4);
  const back0 = v128.load32_splat(sa);
  const back1 = v128.load32_splat(sa, 4);
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  let removal0 = sum0;
  let removal1 = sum0;
  for (let j = at; j < at + width; j += 16) {
    const rj = v128.load(r + j);
    const d0 = madd(e0, rj, v128.load(D + j));
    const d1 = madd(e1, rj, v128.load(D1 + j));
    v128.store(dr + j, madd(e1, v128.load(S1 + j), madd(e0, v128.load(S + j), v128.load(dr + j))));
    v128.store(dk + j, madd(x1, d1, madd(x0, d0, v128.load(dk + j))));
    v128.store(dw + j, madd(d1, v128.load(P1 + j), madd(d0, v128.load(P + j), v128.load(dw + j))));
    v128.store(db + j, madd(back1, d1, madd(back0, d0, v128.load(db + j))));
    const kj = v128.load(k + j);
    sum0 = madd(d0, kj, sum0);
    sum1 = madd(d1, kj, sum1);
    const bj = v128.load(b + j);
    removal0 = madd(d0, bj, removal0);
    removal1 = madd(d1, bj, removal1);
  }
  // Both rows' sums, and both rows' removals.
  const sums = sumRows(sum0, sum1, removal0, removal1);
  v128.store64_lane(dv + lane, sums, 0);
  const dsa0 = v128.shuffle<f32>(sums, sums, 2, 2, 2, 2);
  const dsa1 = v128.shuffle<f32>(sums, sums, 3, 3, 3, 3);
  for (let j = at; j < at + width; j += 16) {
    v128.store(da + j, madd(dsa1, v128.load(P1 + j), madd(dsa0, v128.load(P + j), v128.load(da + j))));
    const rj = v128.load(r + j);
    const aj = v128.load(a + j);
    const wj = v128.load(w + j);
    const d0 = madd(e0, rj, v128.load(D + j));
    const d1 = madd(e1, rj, v128.load(D1 + j));
    v128.store(D + j, madd(dsa0, aj, f32x4.mul(d0, wj)));
    v128.store(D1 + j, madd(dsa1, aj, f32x4.mul(d1, wj)));
  }
}

/** One row with the removal (S a) bᵀ: `sa` is what was removed of this row. */
function rowDelta(before: usize, v: usize, dv: usize, dy: usize, row: i32, i: i32, sa: f32): void {
  const at = <usize>i * width;
  const P = before + <usize>row * width;
  const S = bonus ? P : P + <usize>V * width;
  const D = dS + <usize>row * width;
  const lane = (<usize>row) << 2;
  const e = f32x4.splat(dy ? load<f32>(dy + lane) : 0);
  const x = v128.load32_splat(v + lane);
  const back = f32x4.splat(sa);
  let sum = f32x4.splat(0);
  let removal = f32x4.splat(0);
  for (let j: usize = 0; j < width; j += 16) {
    let d = v128.load(D + j);
    if (!bonus) d = madd(e, v128.load(r + at + j), d);
    v128.store(D + j, d);
    v128.store(dr + at + j, madd(e, v128.load(S + j), v128.load(dr + at + j)));
    v128.store(dk + at + j, madd(x, d, v128.load(dk + at + j)));
    v128.store(dw + at + j, madd(d, v128.load(P + j), v128.load(dw + at + j)));
    v128.store(db + at + j, madd(back, d, v128.load(db + at + j)));
    sum = madd(d, v128.load(k + at + j), sum);
    removal = madd(d, v128.load(b + at + j), removal);
  }
  store<f32>(dv + lane, sumLanes(sum));
  const dsa = f32x4.splat(sumLanes(removal));
  for (let j: usize = 0; j < width; j += 16) {
    v128.store(da + at + j, madd(dsa, v128.load(P + j), v128.load(da + at + j)));
    let d = madd(dsa, v128.load(a + at + j), f32x4.mul(v128.load(D + j), v128.load(w + at + j)));
    if (bonus) d = madd(e, v128.load(r + at + j), d);
    v128.store(D + j, d);
  }
}

/** The read past the state, y += (Σ u ⊙ k ⊙ r) v. */
function putBonus(args: usize, h: i32, i: i32, v: usize, dv: usize, dy: usize): void {
  const u = <usize>load<u32>(args, 116) + ((<usize>(h * K)) << 2);
  const du = <usize>load<u32>(args, 176) + ((<usize>(h * K)) << 2);
  const at = <usize>i * width;
  let arriving: f32 = 0;
  for (let row = 0; row < V; row++)
    arriving += load<f32>(v + ((<usize>row) << 2)) * load<f32>(dy + ((<usize>row) << 2));
  let whole: f32 = 0;
  for (let j = 0; j < K; j++) {
    const lane = (<usize>j) << 2;
    const uj = load<f32>(u + lane);
    const kj = load<f32>(k + at + lane);
    const rj = load<f32>(r + at + lane);
    whole += uj * kj * rj;
    store<f32>(dr + at + lane, load<f32>(dr + at + lane) + uj * kj * arriving);
    store<f32>(dk + at + lane, load<f32>(dk + at + lane) + uj * rj * arriving);
    store<f32>(du + lane, load<f32>(du + lane) + kj * rj * arriving);
  }
  for (let row = 0; row < V; row++) {
    const lane = (<usize>row) << 2;
    store<f32>(dv + lane, load<f32>(dv + lane) + whole * load<f32>(dy + lane));
  }
}

/** Puts the sums of token i where they belong. */
function put(args: usize, h: i32, thread: i32, t: i32, i: i32): void {
  const at = <usize>i * width;
  const G = load<i32>(args, 12);
  const group = (<usize>(((h * G) / load<i32>(args, 8)) * K)) << 2;
  const head = (<usize>(h * K)) << 2;
  const parts = <usize>load<u32>(args, 188);
  if (parts) {
    const row = (<usize>(G * K)) << 2;
    const size = <usize>load<i32>(args, 192) * row;
    const part = parts + <usize>(thread * 2) * size + <usize>t * row + group;
    addTo(part, dr + at, K);
    addTo(part + size, dk + at, K);
  } else {
    addTo(rowAt(args + 120, t) + group, dr + at, K);
    addTo(rowAt(args + 128, t) + group, dk + at, K);
  }
  if (delta) {
    memory.copy(rowAt(args + 160, t) + head, da + at, (<usize>K) << 2);
    memory.copy(rowAt(args + 168, t) + head, db + at, (<usize>K) << 2);
  }
  if (load<u32>(args, 76)) putDecay(args, h, t, at);
}

/** ∂/∂g = ∂/∂w ⊙ w · dt, and ∂/∂dt. */
function putDecay(args: usize, h: i32, t: i32, at: usize): void {
  const g = logDecays(args, h, t);
  const factor = factorAt(args, h, t);
  const varies = load<i32>(args, 88) != 0;
  const fixed = load<i32>(args, 80) == 0;
  const to =
    <usize>load<u32>(args, 144) + ((<usize>(h * load<i32>(args, 84) + (fixed ? 0 : t * load<i32>(args, 148)))) << 2);
  let total: f32 = 0;
  let toFactor: f32 = 0;
  for (let j = 0; j < K; j++) {
    const lane = (<usize>j) << 2;
    const log = load<f32>(dw + at + lane) * load<f32>(w + at + lane);
    total += log;
    if (!varies) continue;
    toFactor += log * load<f32>(g + lane);
    store<f32>(to + lane, (fixed ? load<f32>(to + lane) : 0) + log * factor);
  }
  if (!varies) {
    toFactor = total * load<f32>(g);
    store<f32>(to, (fixed ? load<f32>(to) : 0) + total * factor);
  }
  if (load<u32>(args, 92)) store<f32>(rowAt(args + 152, t) + ((<usize>h) << 2), toFactor);
}

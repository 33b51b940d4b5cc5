import { expx4, madd } from './math';
import { rowAt, storeLanes, strideOf, sumLanes, sumRows } from './rows';

/** Tokens whose decays are made together, so that every row finds them ready. */
export const HEAD_TOKENS: i32 = 64;

/** What the rows of one head read, and where: addresses of a block's first token and bytes from token to token. */
let K: i32 = 0;
let tokens: i32 = 0;
let w: usize = 0;
let wStep: usize = 0;
let r: usize = 0;
let rStep: usize = 0;
let k: usize = 0;
let kStep: usize = 0;
let v: usize = 0;
let vStep: usize = 0;
let y: usize = 0;
let yStep: usize = 0;
let a: usize = 0;
let aStep: usize = 0;
let b: usize = 0;
let bStep: usize = 0;
/** Σ u ⊙ k ⊙ r of every token, where there is a bonus. */
let bonus: usize = 0;

/**
 * Rows `from` to `to` of one head along a segment; S is updated where it lies. Rows are independent of each other, so a few
 * run along a block of tokens together: their state stays in the first-level cache and what they read is read once for all.
 */
export function head(args: usize, h: i32, from: i32, to: i32, first: i32, last: i32, S: usize, scratch: usize): void {
  K = load<i32>(args, 20);
  const V = load<i32>(args, 16);
  const group = (<usize>(((h * load<i32>(args, 12)) / load<i32>(args, 8)) * K)) << 2;
  const perHead = (<usize>(h * K)) << 2;
  const values = (<usize>(h * V)) << 2;
  const u = <usize>load<u32>(args, 116);
  rStep = strideOf(args + 24);
  kStep = strideOf(args + 32);
  vStep = strideOf(args + 40);
  yStep = strideOf(args + 48);
  aStep = strideOf(args + 100);
  bStep = strideOf(args + 108);
  for (let t = first; t < last; t += HEAD_TOKENS) {
    tokens = min(HEAD_TOKENS, last - t);
    r = rowAt(args + 24, t) + group;
    k = rowAt(args + 32, t) + group;
    v = rowAt(args + 40, t) + values;
    y = rowAt(args + 48, t) + values;
    const delta = load<u32>(args, 100) != 0;
    if (delta) {
      a = rowAt(args + 100, t) + perHead;
      b = rowAt(args + 108, t) + perHead;
    }
    decays(args, h, t, scratch);
    bonus = 0;
    if (u) {
      bonus = scratch + <usize>(HEAD_TOKENS * K * 4);
      for (let i = 0; i < tokens; i++)
        store<f32>(bonus + ((<usize>i) << 2), dot3(u + perHead, k + <usize>i * kStep, r + <usize>i * rStep, K));
    }
    let row = from;
    if (tokens == 1 && (K & 7) == 0) {
      const width = (<usize>K) << 2;
      const uniform = !u && !delta && load<i32>(args, 88) == 0;
      if (uniform) {
        const both = dot(k, r, K);
        for (; row < to; row++) stepUniform(S + <usize>row * width, row, both);
      } else for (; row < to; row++) step(S + <usize>row * width, row, delta);
    } else if ((K & 3) == 0) {
      if (delta) for (; row + 2 <= to; row += 2) delta2(S, row);
      else if (u) for (; row + 4 <= to; row += 4) bonus4(S, row);
      else for (; row + 4 <= to; row += 4) rows4(S, row);
    }
    for (; row < to; row++) row1(S + ((<usize>(row * K)) << 2), row, delta);
  }
}

/** Decays of a block of tokens, [tokens][K] at `scratch`; one row for all where they are the same for every token. */
function decays(args: usize, h: i32, t: i32, scratch: usize): void {
  const g = <usize>load<u32>(args, 76);
  const perToken = (<usize>load<i32>(args, 80)) << 2;
  const dt = <usize>load<u32>(args, 92);
  w = scratch;
  wStep = 0;
  if (!g) {
    fill(w, K, 1);
    return;
  }
  const constant = perToken == 0 && !dt;
  if (!constant) wStep = (<usize>K) << 2;
  let at = g + ((<usize>(h * load<i32>(args, 84))) << 2) + <usize>t * perToken;
  const varies = load<i32>(args, 88);
  const count = constant ? 1 : tokens;
  for (let i = 0; i < count; i++) {
    const factor: f32 = dt ? load<f32>(rowAt(args + 92, t + i) + ((<usize>h) << 2)) : 1;
    decay(w + <usize>i * wStep, at, K, varies, factor);
    at += perToken;
  }
}

/**
 * Four rows along the block: S ← S·w + v·k, y = S·r. K is a multiple of 4.
 */
function rows4(S: usize, row: i32): void {
  const at = (<usize>row) << 2;
  const from = S + <usize>row * ((<usize>K) << 2);
  // Called from two places the inner loop stays a function: inside this one V8 would unroll it, and spill.
  rowsToken(from, 0, at);
  for (let i = 1; i < tokens; i++) rowsToken(from, i, at);
}

/** One token of four rows. */
function rowsToken(S0: usize, i: i32, at: usize): void {
  const width = (<usize>K) << 2;
  let kt = k + <usize>i * kStep;
  let rt = r + <usize>i * rStep;
  let wt = w + <usize>i * wStep;
  let S1 = S0 + width;
  let S2 = S1 + width;
  let S3 = S2 + width;
  const value = v + <usize>i * vStep + at;
  const x0 = v128.load32_splat(value);
  const x1 = v128.load32_splat(value, 4);
  const x2 = v128.load32_splat(value, 8);
  const x3 = v128.load32_splat(value, 12);
  let y0 = f32x4.splat(0);
  let y1 = f32x4.splat(0);
  let y2 = f32x4.splat(0);
  let y3 = f32x4.splat(0);
  for (const end = S1; S0 < end; S0 += 16) {
    const kj = v128.load(kt);
    const wj = v128.load(wt);
    const rj = v128.load(rt);
    let s = madd(x0, kj, f32x4.mul(v128.load(S0), wj));
    v128.store(S0, s);
    y0 = madd(s, rj, y0);
    s = madd(x1, kj, f32x4.mul(v128.load(S1), wj));
    v128.store(S1, s);
    y1 = madd(s, rj, y1);
    s = madd(x2, kj, f32x4.mul(v128.load(S2), wj));
    v128.store(S2, s);
    y2 = madd(s, rj, y2);
    s = madd(x3, kj, f32x4.mul(v128.load(S3), wj));
    v128.store(S3, s);
    y3 = madd(s, rj, y3);
    S1 += 16;
    S2 += 16;
    S3 += 16;
    kt += 16;
    rt += 16;
    wt += 16;
  }
  v128.store(y + <usize>i * yStep + at, sumRows(y0, y1, y2, y3));
}

/** The same, read before the writing and with the bonus. */
function bonus4(S: usize, row: i32): void {
  const at = (<usize>row) << 2;
  const from = S + <usize>row * ((<usize>K) << 2);
  bonusToken(from, 0, at);
  for (let i = 1; i < tokens; i++) bonusToken(from, i, at);
}

/** One token of four rows. */
function bonusToken(S0: usize, i: i32, at: usize): void {
  const width = (<usize>K) << 2;
  let kt = k + <usize>i * kStep;
  let rt = r + <usize>i * rStep;
  let wt = w + <usize>i * wStep;
  let S1 = S0 + width;
  let S2 = S1 + width;
  let S3 = S2 + width;
  const value = v + <usize>i * vStep + at;
  const x0 = v128.load32_splat(value);
  const x1 = v128.load32_splat(value, 4);
  const x2 = v128.load32_splat(value, 8);
  const x3 = v128.load32_splat(value, 12);
  let y0 = f32x4.splat(0);
  let y1 = f32x4.splat(0);
  let y2 = f32x4.splat(0);
  let y3 = f32x4.splat(0);
  for (const end = S1; S0 < end; S0 += 16) {
    const kj = v128.load(kt);
    const wj = v128.load(wt);
    const rj = v128.load(rt);
    let s = v128.load(S0);
    y0 = madd(s, rj, y0);
    v128.store(S0, madd(x0, kj, f32x4.mul(s, wj)));
    s = v128.load(S1);
    y1 = madd(s, rj, y1);
    v128.store(S1, madd(x1, kj, f32x4.mul(s, wj)));
    s = v128.load(S2);
    y2 = madd(s, rj, y2);
    v128.store(S2, madd(x2, kj, f32x4.mul(s, wj)));
    s = v128.load(S3);
    y3 = madd(s, rj, y3);
    v128.store(S3, madd(x3, kj, f32x4.mul(s, wj)));
    S1 += 16;
    S2 += 16;
    S3 += 16;
    kt += 16;
    rt += 16;
    wt += 16;
  }
  const once = v128.load32_splat(bonus + ((<usize>i) << 2));
  v128.store(y + <usize>i * yStep + at, madd(once, v128.load(value), sumRows(y0, y1, y2, y3)));
}

/**
 * Two rows along the block: S ← S·w + (S·a)·b + v·k, y = S·r. What the next token removes, S·a of its a, is summed while S is
 * in registers.
 */
function delta2(S: usize, row: i32): void {
  const width = (<usize>K) << 2;
  const S0 = S + <usize>row * width;
  const at = (<usize>row) << 2;
  let removed = v128.shuffle<f32>(f32x4.splat(dot(S0, a, K)), f32x4.splat(dot(S0 + width, a, K)), 0, 4, 0, 4);
  // Called from two places the inner loop stays a function: inside this one V8 would unroll it, and spill.
  const final = tokens - 1;
  for (let i = 0; i < final; i++) removed = deltaToken(S0, width, i, i + 1, at, removed);
  deltaToken(S0, width, final, final, at, removed);
}

/** One token of two rows; returns what `next` removes in the first two lanes. */
function deltaToken(S0: usize, width: usize, i: i32, next: i32, at: usize, removed: v128): v128 {
  let kt = k + <usize>i * kStep;
  let rt = r + <usize>i * rStep;
  let wt = w + <usize>i * wStep;
  let bt = b + <usize>i * bStep;
  let an = a + <usize>next * aStep;
  const value = v + <usize>i * vStep + at;
  const x0 = v128.load32_splat(value);
  const x1 = v128.load32_splat(value, 4);
  const z0 = v128.shuffle<f32>(removed, removed, 0, 0, 0, 0);
  const z1 = v128.shuffle<f32>(removed, removed, 1, 1, 1, 1);
  let S1 = S0 + width;
  let y0 = f32x4.splat(0);
  let y1 = f32x4.splat(0);
  let n0 = f32x4.splat(0);
  let n1 = f32x4.splat(0);
  for (const end = S1; S0 < end; S0 += 16) {
    const kj = v128.load(kt);
    const bj = v128.load(bt);
    const wj = v128.load(wt);
    const s0 = madd(z0, bj, madd(x0, kj, f32x4.mul(v128.load(S0), wj)));
    v128.store(S0, s0);
    const s1 = madd(z1, bj, madd(x1, kj, f32x4.mul(v128.load(S1), wj)));
    v128.store(S1, s1);
    const rj = v128.load(rt);
    y0 = madd(s0, rj, y0);
    y1 = madd(s1, rj, y1);
    const aj = v128.load(an);
    n0 = madd(s0, aj, n0);
    n1 = madd(s1, aj, n1);
    S1 += 16;
    kt += 16;
    rt += 16;
    wt += 16;
    bt += 16;
    an += 16;
  }
  const sums = sumRows(y0, y1, n0, n1);
  const result = y + <usize>i * yStep + at;
  store<f32>(result, f32x4.extract_lane(sums, 0));
  store<f32>(result, f32x4.extract_lane(sums, 1), 4);
  return v128.shuffle<f32>(sums, sums, 2, 3, 2, 3);
}

/**
 * One row and one token. The state comes from memory row after row, in one stream: two side by side would come at a third of the
 * rate. K is a multiple of 8.
 */
function step(S: usize, row: i32, delta: bool): void {
  const at = (<usize>row) << 2;
  const x = v128.load32_splat(v + at);
  const width = (<usize>K) << 2;
  let p = f32x4.splat(0);
  let q = p;
  if (delta) {
    for (let j: usize = 0; j < width; j += 32) {
      p = madd(v128.load(S + j), v128.load(a + j), p);
      q = madd(v128.load(S + j, 16), v128.load(a + j, 16), q);
    }
    const removed = f32x4.splat(sumLanes(f32x4.add(p, q)));
    p = f32x4.splat(0);
    q = p;
    for (let j: usize = 0; j < width; j += 32) {
      let s = madd(x, v128.load(k + j), f32x4.mul(v128.load(S + j), v128.load(w + j)));
      s = madd(removed, v128.load(b + j), s);
      v128.store(S + j, s);
      p = madd(s, v128.load(r + j), p);
      s = madd(x, v128.load(k + j, 16), f32x4.mul(v128.load(S + j, 16), v128.load(w + j, 16)));
      s = madd(removed, v128.load(b + j, 16), s);
      v128.store(S + j, s, 16);
      q = madd(s, v128.load(r + j, 16), q);
    }
    store<f32>(y + at, sumLanes(f32x4.add(p, q)));
    return;
  }
  if (bonus) {
    for (let j: usize = 0; j < width; j += 32) {
      let s = v128.load(S + j);
      p = madd(s, v128.load(r + j), p);
      v128.store(S + j, madd(x, v128.load(k + j), f32x4.mul(s, v128.load(w + j))));
      s = v128.load(S + j, 16);
      q = madd(s, v128.load(r + j, 16), q);
      v128.store(S + j, madd(x, v128.load(k + j, 16), f32x4.mul(s, v128.load(w + j, 16))), 16);
    }
    store<f32>(y + at, sumLanes(f32x4.add(p, q)) + load<f32>(bonus) * load<f32>(v + at));
    return;
  }
  for (let j: usize = 0; j < width; j += 32) {
    let s = madd(x, v128.load(k + j), f32x4.mul(v128.load(S + j), v128.load(w + j)));
    v128.store(S + j, s);
    p = madd(s, v128.load(r + j), p);
    s = madd(x, v128.load(k + j, 16), f32x4.mul(v128.load(S + j, 16), v128.load(w + j, 16)));
    v128.store(S + j, s, 16);
    q = madd(s, v128.load(r + j, 16), q);
  }
  store<f32>(y + at, sumLanes(f32x4.add(p, q)));
}

/** The same where one decay serves the row: y = w·(S r) + v·(k·r), with `both` k·r, waits for nothing that is written. */
function stepUniform(S: usize, row: i32, both: f32): void {
  const at = (<usize>row) << 2;
  const decay = v128.load32_splat(w);
  const x = v128.load32_splat(v + at);
  let p = f32x4.splat(0);
  let q = p;
  let kt = k;
  let rt = r;
  for (const end = S + ((<usize>K) << 2); S < end; S += 32, kt += 32, rt += 32) {
    let s = v128.load(S);
    p = madd(s, v128.load(rt), p);
    v128.store(S, madd(x, v128.load(kt), f32x4.mul(s, decay)));
    s = v128.load(S, 16);
    q = madd(s, v128.load(rt, 16), q);
    v128.store(S, madd(x, v128.load(kt, 16), f32x4.mul(s, decay)), 16);
  }
  store<f32>(y + at, sumLanes(f32x4.add(p, q)) * load<f32>(w) + both * load<f32>(v + at));
}

/** One row along the block, whatever K is. */
function row1(S: usize, row: i32, delta: bool): void {
  const at = (<usize>row) << 2;
  for (let i = 0; i < tokens; i++) {
    const kt = k + <usize>i * kStep;
    const rt = r + <usize>i * rStep;
    const wt = w + <usize>i * wStep;
    const value = load<f32>(v + <usize>i * vStep + at);
    const result = y + <usize>i * yStep + at;
    if (delta) {
      store<f32>(result, removeAndWrite(S, wt, a + <usize>i * aStep, b + <usize>i * bStep, kt, rt, value, K));
    } else if (bonus) {
      store<f32>(result, dot(S, rt, K) + load<f32>(bonus + ((<usize>i) << 2)) * value);
      write(S, wt, kt, rt, value, K);
    } else store<f32>(result, write(S, wt, kt, rt, value, K));
  }
}

/** w = exp(factor · g), K of them; one for all channels unless g varies. */
function decay(w: usize, g: usize, K: i32, varies: i32, factor: f32): void {
  const f = f32x4.splat(factor);
  if (!varies) {
    fill(w, K, f32x4.extract_lane(expx4(f32x4.mul(f, f32x4.splat(load<f32>(g)))), 0));
    return;
  }
  let j = 0;
  for (; j + 4 <= K; j += 4) v128.store(w + ((<usize>j) << 2), expx4(f32x4.mul(f, v128.load(g + ((<usize>j) << 2)))));
  for (; j < K; j++) {
    store<f32>(
      w + ((<usize>j) << 2),
      f32x4.extract_lane(expx4(f32x4.splat(factor * load<f32>(g + ((<usize>j) << 2)))), 0),
    );
  }
}

function fill(w: usize, K: i32, value: f32): void {
  const x = f32x4.splat(value);
  for (let j = 0; j < K; j += 4) storeLanes(w + ((<usize>j) << 2), K - j, x);
}

/** S ← S·w + value·k; returns S·r. */
function write(S: usize, w: usize, k: usize, r: usize, value: f32, K: i32): f32 {
  const x = f32x4.splat(value);
  let sum = f32x4.splat(0);
  let j = 0;
  for (; j + 4 <= K; j += 4) {
    const at = (<usize>j) << 2;
    const s = madd(x, v128.load(k + at), f32x4.mul(v128.load(S + at), v128.load(w + at)));
    v128.store(S + at, s);
    sum = madd(s, v128.load(r + at), sum);
  }
  let result = sumLanes(sum);
  for (; j < K; j++) {
    const at = (<usize>j) << 2;
    const s = load<f32>(S + at) * load<f32>(w + at) + value * load<f32>(k + at);
    store<f32>(S + at, s);
    result += s * load<f32>(r + at);
  }
  return result;
}

/** S ← S·w + (S·a)·b + value·k; returns S·r. */
function removeAndWrite(S: usize, w: usize, a: usize, b: usize, k: usize, r: usize, value: f32, K: i32): f32 {
  const removed = dot(S, a, K);
  const x = f32x4.splat(value);
  const y = f32x4.splat(removed);
  let sum = f32x4.splat(0);
  let j = 0;
  for (; j + 4 <= K; j += 4) {
    const at = (<usize>j) << 2;
    let s = madd(x, v128.load(k + at), f32x4.mul(v128.load(S + at), v128.load(w + at)));
    s = madd(y, v128.load(b + at), s);
    v128.store(S + at, s);
    sum = madd(s, v128.load(r + at), sum);
  }
  let result = sumLanes(sum);
  for (; j < K; j++) {
    const at = (<usize>j) << 2;
    const s = load<f32>(S + at) * load<f32>(w + at) + removed * load<f32>(b + at) + value * load<f32>(k + at);
    store<f32>(S + at, s);
    result += s * load<f32>(r + at);
  }
  return result;
}

function dot(x: usize, y: usize, K: i32): f32 {
  let sum = f32x4.splat(0);
  let j = 0;
  for (; j + 4 <= K; j += 4) sum = madd(v128.load(x + ((<usize>j) << 2)), v128.load(y + ((<usize>j) << 2)), sum);
  let result = sumLanes(sum);
  for (; j < K; j++) result += load<f32>(x + ((<usize>j) << 2)) * load<f32>(y + ((<usize>j) << 2));
  return result;
}

function dot3(x: usize, y: usize, z: usize, K: i32): f32 {
  let result: f32 = 0;
  for (let j = 0; j < K; j++) {
    const at = (<usize>j) << 2;
    result += load<f32>(x + at) * load<f32>(y + at) * load<f32>(z + at);
  }
  return result;
}

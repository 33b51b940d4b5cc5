import { exp2Finex4, madd } from './math';
import { CHANNELS, TOKENS, turn, turnBack } from './recurrence-channels';
import { rowAt, strideOf, sumLanes } from './rows';

/** Tiles of a block, whose states are kept: the last block of a segment needs no states made twice, and most segments are no longer. */
const TILES: i32 = 4;
const BLOCK: i32 = TILES * TOKENS;
/** Bytes of a state, of a channel's states before each token of a block and the last, and of a turned tile. */
const STATE: usize = 64;
const HISTORY: usize = STATE * <usize>(BLOCK + 1);
const TILE: usize = 16 * 64 * 4;
const TILED: usize = <usize>TILES * TILE;

/** Where things lie in scratch memory. */
let history: usize = 0;
let decays: usize = 0;
let gradients: usize = 0;
let dtTile: usize = 0;
let xTile: usize = 0;
let dyTile: usize = 0;
let dxTile: usize = 0;
let ddtTile: usize = 0;
let starts: usize = 0;

/**
 * Up to 16 channels of Mamba (V = 1, K = 16, decay exp(dt·A)) from `h` on, backwards along a segment. Tiles of channels × tokens
 * are turned as in the forward kernel; states are made again block by block and kept with their decays.
 */
export function channelsBack(
  args: usize,
  h: i32,
  count: i32,
  thread: i32,
  first: i32,
  last: i32,
  state: usize,
  dnext: usize,
  dstate: usize,
  scratch: usize,
): void {
  history = scratch;
  decays = history + HISTORY;
  gradients = decays + HISTORY;
  dtTile = gradients + <usize>CHANNELS * STATE;
  xTile = dtTile + TILED;
  dyTile = xTile + TILED;
  dxTile = dyTile + TILED;
  ddtTile = dxTile + TILED;
  starts = ddtTile + TILED;
  const at = (<usize>h) << 2;
  const blocks = (last - first + BLOCK - 1) / BLOCK;
  const bytes = <usize>count * STATE;
  memory.copy(starts, state, bytes);
  for (let n = 0; n + 1 < blocks; n++) {
    const from = first + n * BLOCK;
    turnInputs(args, from, BLOCK, count, at);
    const start = starts + <usize>(n * CHANNELS) * STATE;
    for (let c = 0; c < count; c++) {
      memory.copy(history, start + <usize>c * STATE, STATE);
      for (let i = 0; i < BLOCK; i += TOKENS) forward(args, h + c, c, from, i, TOKENS);
      memory.copy(start + <usize>(CHANNELS + c) * STATE, history + <usize>BLOCK * STATE, STATE);
    }
  }
  if (dnext) memory.copy(gradients, dnext, bytes);
  else memory.fill(gradients, 0, bytes);
  for (let n = blocks - 1; n >= 0; n--) {
    const from = first + n * BLOCK;
    const tokens = min(BLOCK, last - from);
    turnInputs(args, from, tokens, count, at);
    if (load<u32>(args, 48)) turnAll(args + 48, from, tokens, count, at, dyTile);
    else memory.fill(dyTile, 0, TILED);
    for (let c = 0; c < count; c++) {
      memory.copy(history, starts + <usize>(n * CHANNELS + c) * STATE, STATE);
      for (let i = 0; i < tokens; i += TOKENS) forward(args, h + c, c, from, i, min(TOKENS, tokens - i));
      for (let i = ((tokens - 1) / TOKENS) * TOKENS; i >= 0; i -= TOKENS)
        backward(args, h + c, c, thread, from, i, min(TOKENS, tokens - i));
    }
    for (let i = 0; i < tokens; i += TOKENS) {
      const within = min(TOKENS, tokens - i);
      turnBack(dxTile + tileOf(i), within, count, rowAt(args + 136, from + i) + at, strideOf(args + 136));
      turnBack(ddtTile + tileOf(i), within, count, rowAt(args + 152, from + i) + at, strideOf(args + 152));
    }
  }
  memory.copy(dstate, gradients, bytes);
}

/** Bytes from a block's first tile to that of its token i. */
function tileOf(i: i32): usize {
  return <usize>(i / TOKENS) * TILE;
}

function turnInputs(args: usize, from: i32, tokens: i32, count: i32, at: usize): void {
  turnAll(args + 92, from, tokens, count, at, dtTile);
  turnAll(args + 40, from, tokens, count, at, xTile);
}

/** The numbers of `tokens` tokens, of operand words at `args`, to tiles. */
function turnAll(args: usize, from: i32, tokens: i32, count: i32, at: usize, to: usize): void {
  for (let i = 0; i < tokens; i += TOKENS)
    turn(rowAt(args, from + i) + at, strideOf(args), min(TOKENS, tokens - i), count, to + tileOf(i));
}

/**
 * The states after each of `tokens` tokens from `first` of a block on, whose states before them are there, and the decays, of channel h,
 * which is c of the tile. The block begins at token `from`.
 */
function forward(args: usize, h: i32, c: i32, from: i32, first: i32, tokens: i32): void {
  const A = <usize>load<u32>(args, 76) + ((<usize>(h * 16)) << 2);
  const row = tileOf(first) + <usize>(c * TOKENS * 4);
  const log2e = f32x4.splat(1.4426950408889634);
  const a0 = f32x4.mul(v128.load(A), log2e);
  const a1 = f32x4.mul(v128.load(A, 16), log2e);
  const a2 = f32x4.mul(v128.load(A, 32), log2e);
  const a3 = f32x4.mul(v128.load(A, 48), log2e);
  let S = history + <usize>first * STATE;
  let w = decays + <usize>first * STATE;
  let s0 = v128.load(S);
  let s1 = v128.load(S, 16);
  let s2 = v128.load(S, 32);
  let s3 = v128.load(S, 48);
  let k = rowAt(args + 32, from + first) + groupOf(args, h);
  const kStep = strideOf(args + 32);
  for (let i: usize = 0; i < (<usize>tokens) << 2; i += 4) {
    const x = v128.load32_splat(xTile + row + i);
    const dt = v128.load32_splat(dtTile + row + i);
    const w0 = exp2Finex4(f32x4.mul(dt, a0));
    const w1 = exp2Finex4(f32x4.mul(dt, a1));
    v128.store(w, w0);
    v128.store(w, w1, 16);
    s0 = madd(x, v128.load(k), f32x4.mul(s0, w0));
    s1 = madd(x, v128.load(k, 16), f32x4.mul(s1, w1));
    const w2 = exp2Finex4(f32x4.mul(dt, a2));
    const w3 = exp2Finex4(f32x4.mul(dt, a3));
    v128.store(w, w2, 32);
    v128.store(w, w3, 48);
    s2 = madd(x, v128.load(k, 32), f32x4.mul(s2, w2));
    s3 = madd(x, v128.load(k, 48), f32x4.mul(s3, w3));
    k += kStep;
    S += STATE;
    w += STATE;
    v128.store(S, s0);
    v128.store(S, s1, 16);
    v128.store(S, s2, 32);
    v128.store(S, s3, 48);
  }
}

/** Bytes from the beginning of a token's r or k to those of head h. */
function groupOf(args: usize, h: i32): usize {
  return (<usize>(((h * load<i32>(args, 12)) / load<i32>(args, 8)) * 16)) << 2;
}

/** One channel back along `tokens` tokens from `first` of a block on: ∂/∂S and the sums of dA stay in registers. */
function backward(args: usize, h: i32, c: i32, thread: i32, from: i32, first: i32, tokens: i32): void {
  const group = groupOf(args, h);
  const A = <usize>load<u32>(args, 76) + ((<usize>(h * 16)) << 2);
  const dA = <usize>load<u32>(args, 144) + ((<usize>(h * 16)) << 2);
  // Gradients of r and k: this thread's part where the group is shared, their own rows where it is not.
  const parts = <usize>load<u32>(args, 188);
  const row = (<usize>(load<i32>(args, 12) * 16)) << 2;
  const most = <usize>load<i32>(args, 192) * row;
  const drStep = parts ? row : strideOf(args + 120);
  const dkStep = parts ? row : strideOf(args + 128);
  const end = from + first + tokens - 1;
  let dr = (parts ? parts + <usize>(thread * 2) * most : <usize>load<u32>(args, 120)) + group + <usize>end * drStep;
  let dk = (parts ? parts + <usize>(thread * 2 + 1) * most : <usize>load<u32>(args, 128)) + group + <usize>end * dkStep;
  let r = rowAt(args + 24, end) + group;
  let k = rowAt(args + 32, end) + group;
  const rStep = strideOf(args + 24);
  const kStep = strideOf(args + 32);
  const inTile = tileOf(first) + <usize>(c * TOKENS * 4);
  const D = gradients + <usize>c * STATE;
  const a0 = v128.load(A);
  const a1 = v128.load(A, 16);
  const a2 = v128.load(A, 32);
  const a3 = v128.load(A, 48);
  let s0 = v128.load(D);
  let s1 = v128.load(D, 16);
  let s2 = v128.load(D, 32);
  let s3 = v128.load(D, 48);
  let g0 = v128.load(dA);
  let g1 = v128.load(dA, 16);
  let g2 = v128.load(dA, 32);
  let g3 = v128.load(dA, 48);
  for (let i = tokens - 1; i >= 0; i--) {
    const lane = inTile + ((<usize>i) << 2);
    const P = history + <usize>(first + i) * STATE;
    const w = decays + <usize>(first + i) * STATE;
    const x = v128.load32_splat(xTile + lane);
    const dt = v128.load32_splat(dtTile + lane);
    const dy = v128.load32_splat(dyTile + lane);
    s0 = madd(dy, v128.load(r), s0);
    s1 = madd(dy, v128.load(r, 16), s1);
    s2 = madd(dy, v128.load(r, 32), s2);
    s3 = madd(dy, v128.load(r, 48), s3);
    v128.store(dr, madd(dy, v128.load(P, 64), v128.load(dr)));
    v128.store(dr, madd(dy, v128.load(P, 80), v128.load(dr, 16)), 16);
    v128.store(dr, madd(dy, v128.load(P, 96), v128.load(dr, 32)), 32);
    v128.store(dr, madd(dy, v128.load(P, 112), v128.load(dr, 48)), 48);
    v128.store(dk, madd(x, s0, v128.load(dk)));
    v128.store(dk, madd(x, s1, v128.load(dk, 16)), 16);
    v128.store(dk, madd(x, s2, v128.load(dk, 32)), 32);
    v128.store(dk, madd(x, s3, v128.load(dk, 48)), 48);
    const low = madd(s1, v128.load(k, 16), f32x4.mul(s0, v128.load(k)));
    const high = madd(s3, v128.load(k, 48), f32x4.mul(s2, v128.load(k, 32)));
    store<f32>(dxTile + lane, sumLanes(f32x4.add(low, high)));
    // On to the state before; the decay's logarithm gets dS ⊙ w ⊙ S.
    s0 = f32x4.mul(s0, v128.load(w));
    s1 = f32x4.mul(s1, v128.load(w, 16));
    s2 = f32x4.mul(s2, v128.load(w, 32));
    s3 = f32x4.mul(s3, v128.load(w, 48));
    const l0 = f32x4.mul(s0, v128.load(P));
    const l1 = f32x4.mul(s1, v128.load(P, 16));
    g0 = madd(dt, l0, g0);
    g1 = madd(dt, l1, g1);
    const l2 = f32x4.mul(s2, v128.load(P, 32));
    const l3 = f32x4.mul(s3, v128.load(P, 48));
    g2 = madd(dt, l2, g2);
    g3 = madd(dt, l3, g3);
    const faded = f32x4.add(madd(l1, a1, f32x4.mul(l0, a0)), madd(l3, a3, f32x4.mul(l2, a2)));
    store<f32>(ddtTile + lane, sumLanes(faded));
    r -= rStep;
    k -= kStep;
    dr -= drStep;
    dk -= dkStep;
  }
  v128.store(dA, g0);
  v128.store(dA, g1, 16);
  v128.store(dA, g2, 32);
  v128.store(dA, g3, 48);
  v128.store(D, s0);
  v128.store(D, s1, 16);
  v128.store(D, s2, 32);
  v128.store(D, s3, 48);
}

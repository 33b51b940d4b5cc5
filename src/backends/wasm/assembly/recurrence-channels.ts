import { EXP2, exp2Ofx4, exp2x4, madd } from './math';
import { rowAt, storeLanes, strideOf, sumLanes, sumRows } from './rows';
import { transpose4 } from './transpose';

/** Channels of a tile: their numbers of one token share a cache line. */
export const CHANNELS: i32 = 16;
/** Tokens of a tile. */
export const TOKENS: i32 = 64;
/** Floats of scratch memory that a thread wants. */
export const CHANNEL_SCRATCH: i32 = 3 * CHANNELS * TOKENS;

/**
 * Channels `from` to `to` of Mamba: V = 1, K = 16, decay exp(dt·A). The numbers of one channel lie a row apart from token to
 * token, where they would chase each other out of the cache, so tiles of channels × tokens are turned: each channel then runs
 * along its tokens with its state in registers. `scratch` holds three tiles.
 */
export function channels16(
  args: usize,
  from: i32,
  to: i32,
  first: i32,
  last: i32,
  state: usize,
  next: usize,
  scratch: usize,
): void {
  if (last - first == 1) {
    oneToken(args, from, to, first, state, next, scratch);
    return;
  }
  const tile = <usize>(CHANNELS * TOKENS * 4);
  for (let h = from; h < to; h += CHANNELS) {
    const count = min(CHANNELS, to - h);
    const at = (<usize>h) << 2;
    let S = state;
    for (let t = first; t < last; t += TOKENS) {
      const tokens = min(TOKENS, last - t);
      turn(rowAt(args + 92, t) + at, strideOf(args + 92), tokens, count, scratch);
      turn(rowAt(args + 40, t) + at, strideOf(args + 40), tokens, count, scratch + tile);
      for (let c = 0; c < count; c++) {
        const row = scratch + <usize>(c * TOKENS * 4);
        channel16(args, h + c, t, tokens, S, next, row, row + tile, row + 2 * tile);
      }
      turnBack(scratch + 2 * tile, tokens, count, rowAt(args + 48, t) + at, strideOf(args + 48));
      S = next;
    }
  }
}

/** log₂ e, loaded before loops: from Node 24 on V8 makes a constant anew wherever it is used. */
const LOG2E = memory.data<f32>([1.4426950408889634]);

/** All channels of one token: nothing to turn, and the sums of a tile of channels are made together. */
function oneToken(args: usize, from: i32, to: i32, t: i32, state: usize, next: usize, scratch: usize): void {
  const perGroup = load<i32>(args, 8) / load<i32>(args, 12);
  for (let h = from; h < to; ) {
    // The channels of a group read the same B and C.
    const end = min(to, (h / perGroup + 1) * perGroup);
    // Called from two places the loop stays a function: inside of this one V8 would spill.
    for (; h + TOKENS <= end; h += TOKENS) step16(args, h, TOKENS, t, state, next, scratch);
    if (h < end) step16(args, h, end - h, t, state, next, scratch);
    h = end;
  }
}

/** `count` channels of a group from channel `h` on. */
function step16(args: usize, h: i32, count: i32, t: i32, state: usize, next: usize, scratch: usize): void {
  const group = (<usize>((h * load<i32>(args, 12)) / load<i32>(args, 8))) << 6;
  const at = (<usize>h) << 2;
  const step = (<usize>load<i32>(args, 84)) << 2;
  const A = <usize>load<u32>(args, 76) + <usize>h * step;
  const dt = rowAt(args + 92, t) + at;
  const v = rowAt(args + 40, t) + at;
  const k = rowAt(args + 32, t) + group;
  const r = rowAt(args + 24, t) + group;
  products16(A, step, dt, v, k, r, state + (at << 4), next + (at << 4), scratch, scratch + ((<usize>count) << 4));
  const y = rowAt(args + 48, t) + at;
  for (let c = 0; c < count; c += 4) {
    const from = scratch + ((<usize>c) << 4);
    const sums = sumRows(v128.load(from), v128.load(from, 16), v128.load(from, 32), v128.load(from, 48));
    storeLanes(y + ((<usize>c) << 2), count - c, sums);
  }
}

/** The channels' states, and at `to` until `stop` the products with r that each one's y is the sum of. */
function products16(
  A: usize,
  step: usize,
  dt: usize,
  v: usize,
  k: usize,
  r: usize,
  state: usize,
  next: usize,
  to: usize,
  stop: usize,
): void {
  // These stay in registers: read wherever they are used they would be most of what the loop loads.
  const log2e = v128.load32_splat(LOG2E);
  const integer = v128.load32_splat(EXP2);
  const limit = v128.load32_splat(EXP2, 4);
  const c5 = v128.load32_splat(EXP2, 8);
  const c4 = v128.load32_splat(EXP2, 12);
  const c3 = v128.load32_splat(EXP2, 16);
  const c2 = v128.load32_splat(EXP2, 20);
  const c1 = v128.load32_splat(EXP2, 24);
  const c0 = v128.load32_splat(EXP2, 28);
  for (; to < stop; to += 16) {
    const Δ = v128.load32_splat(dt);
    const x = v128.load32_splat(v);
    let fade = exp2Ofx4(f32x4.mul(Δ, f32x4.mul(v128.load(A), log2e)), integer, limit, c5, c4, c3, c2, c1, c0);
    const S0 = madd(x, v128.load(k), f32x4.mul(v128.load(state), fade));
    v128.store(next, S0);
    fade = exp2Ofx4(f32x4.mul(Δ, f32x4.mul(v128.load(A, 16), log2e)), integer, limit, c5, c4, c3, c2, c1, c0);
    const S1 = madd(x, v128.load(k, 16), f32x4.mul(v128.load(state, 16), fade));
    v128.store(next, S1, 16);
    const sum = f32x4.mul(S0, v128.load(r));
    const other = f32x4.mul(S1, v128.load(r, 16));
    fade = exp2Ofx4(f32x4.mul(Δ, f32x4.mul(v128.load(A, 32), log2e)), integer, limit, c5, c4, c3, c2, c1, c0);
    const S2 = madd(x, v128.load(k, 32), f32x4.mul(v128.load(state, 32), fade));
    v128.store(next, S2, 32);
    fade = exp2Ofx4(f32x4.mul(Δ, f32x4.mul(v128.load(A, 48), log2e)), integer, limit, c5, c4, c3, c2, c1, c0);
    const S3 = madd(x, v128.load(k, 48), f32x4.mul(v128.load(state, 48), fade));
    v128.store(next, S3, 48);
    v128.store(to, f32x4.add(madd(S2, v128.load(r, 32), sum), madd(S3, v128.load(r, 48), other)));
    A += step;
    dt += 4;
    v += 4;
    state += 64;
    next += 64;
  }
}

/** Rows of `count` numbers, one per token, to rows of tokens, one per channel. */
export function turn(from: usize, step: usize, tokens: i32, count: i32, to: usize): void {
  let t = 0;
  for (; t + 4 <= tokens; t += 4) {
    let c = 0;
    for (; c + 4 <= count; c += 4) {
      const at = from + ((<usize>c) << 2);
      transpose4(at, step, to + <usize>((c * TOKENS + t) * 4), TOKENS * 4);
    }
    for (; c < count; c++) {
      for (let i = 0; i < 4; i++)
        store<f32>(to + <usize>((c * TOKENS + t + i) * 4), load<f32>(from + <usize>i * step + ((<usize>c) << 2)));
    }
    from += 4 * step;
  }
  for (; t < tokens; t++) {
    for (let c = 0; c < count; c++) store<f32>(to + <usize>((c * TOKENS + t) * 4), load<f32>(from + ((<usize>c) << 2)));
    from += step;
  }
}

/** The other way round. */
export function turnBack(from: usize, tokens: i32, count: i32, to: usize, step: usize): void {
  let t = 0;
  for (; t + 4 <= tokens; t += 4) {
    let c = 0;
    for (; c + 4 <= count; c += 4)
      transpose4(from + <usize>((c * TOKENS + t) * 4), TOKENS * 4, to + ((<usize>c) << 2), step);
    for (; c < count; c++) {
      for (let i = 0; i < 4; i++)
        store<f32>(to + <usize>i * step + ((<usize>c) << 2), load<f32>(from + <usize>((c * TOKENS + t + i) * 4)));
    }
    to += 4 * step;
  }
  for (; t < tokens; t++) {
    for (let c = 0; c < count; c++) store<f32>(to + ((<usize>c) << 2), load<f32>(from + <usize>((c * TOKENS + t) * 4)));
    to += step;
  }
}

/** One channel along `tokens` tokens from token `first` on: Δ, x and y are rows of tokens, the state stays in registers. */
function channel16(
  args: usize,
  h: i32,
  first: i32,
  tokens: i32,
  state: usize,
  next: usize,
  dt: usize,
  v: usize,
  y: usize,
): void {
  const group = (<usize>(((h * load<i32>(args, 12)) / load<i32>(args, 8)) * 16)) << 2;
  const A = <usize>load<u32>(args, 76) + ((<usize>(h * load<i32>(args, 84))) << 2);
  const log2e = f32x4.splat(1.4426950408889634);
  const A0 = f32x4.mul(v128.load(A), log2e);
  const A1 = f32x4.mul(v128.load(A, 16), log2e);
  const A2 = f32x4.mul(v128.load(A, 32), log2e);
  const A3 = f32x4.mul(v128.load(A, 48), log2e);
  const from = state + ((<usize>(h * 16)) << 2);
  let S0 = v128.load(from);
  let S1 = v128.load(from, 16);
  let S2 = v128.load(from, 32);
  let S3 = v128.load(from, 48);
  // Addresses that step from token to token: memory is not read for them inside the loop.
  let k = rowAt(args + 32, first) + group;
  let r = rowAt(args + 24, first) + group;
  const kStep = strideOf(args + 32);
  const rStep = strideOf(args + 24);
  const end = dt + ((<usize>tokens) << 2);
  for (; dt < end; dt += 4) {
    const Δ = v128.load32_splat(dt);
    const x = v128.load32_splat(v);
    S0 = madd(x, v128.load(k), f32x4.mul(S0, exp2x4(f32x4.mul(Δ, A0))));
    S1 = madd(x, v128.load(k, 16), f32x4.mul(S1, exp2x4(f32x4.mul(Δ, A1))));
    let sum = f32x4.mul(S0, v128.load(r));
    let other = f32x4.mul(S1, v128.load(r, 16));
    S2 = madd(x, v128.load(k, 32), f32x4.mul(S2, exp2x4(f32x4.mul(Δ, A2))));
    S3 = madd(x, v128.load(k, 48), f32x4.mul(S3, exp2x4(f32x4.mul(Δ, A3))));
    sum = madd(S2, v128.load(r, 32), sum);
    other = madd(S3, v128.load(r, 48), other);
    store<f32>(y, sumLanes(f32x4.add(sum, other)));
    v += 4;
    y += 4;
    k += kStep;
    r += rStep;
  }
  const to = next + ((<usize>(h * 16)) << 2);
  v128.store(to, S0);
  v128.store(to, S1, 16);
  v128.store(to, S2, 32);
  v128.store(to, S3, 48);
}

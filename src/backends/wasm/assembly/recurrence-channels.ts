import { exp2x4, madd } from './math';
import { rowAt, strideOf, sumLanes } from './rows';
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

import { CHANNELS } from './recurrence-channels';
import { channelsBack } from './recurrence-grad-channels';
import { headBack } from './recurrence-grad-heads';
import { firstOf, rowAt, share, stateAt } from './rows';
import { beginUnits, takeUnits, unitsEnd } from './schedule';
import { addTo, zero } from './vectors';

/**
 * The adjoint of the recurrence. Heads are shared among the threads, and each runs its heads backwards along every segment; heads that
 * add to no common sum are taken as threads come to them, a segment at a time. What the heads of a group give their common r and k is
 * summed for each thread apart (`parts`), then together by `addParts`.
 * args, in words: 0 segmentsAt · 1 ends · 2 H · 3 G · 4 V · 5 K · 6 r (2) · 8 k (2) · 10 v (2) · 12 dy (2, or 0) · 14 state (2) ·
 *   16 dnext (2, or 0) · 18 scratch · 19 g (or 0) · 20 its stride from token to token · 21 from head to head · 22 1 if it varies along K ·
 *   23 dt (2, or 0) · 25 a (2, or 0) · 27 b (2) · 29 u (or 0) · 30 dr (2) · 32 dk (2) · 34 dv (2) · 36 dg · 37 its stride from token to token ·
 *   38 ddt (2) · 40 da (2) · 42 db (2) · 44 du · 45 dstate (2) · 47 parts (2·T·G·K floats a thread, or 0) · 48 tokens at most ·
 *   49 floats of scratch for a thread · 50 tokensAt
 */
export function recurrenceGrad(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const H = load<i32>(args, 8);
  const V = load<i32>(args, 16);
  const K = load<i32>(args, 20);
  const scratch = <usize>load<u32>(args, 72) + ((<usize>(thread * load<i32>(args, 196))) << 2);
  const perChannel =
    V == 1 &&
    K == 16 &&
    load<i32>(args, 92) != 0 &&
    load<i32>(args, 80) == 0 &&
    load<i32>(args, 88) == 1 &&
    load<i32>(args, 100) == 0 &&
    load<i32>(args, 116) == 0;
  if (perChannel || load<i32>(args, 12) < H) clearSums(args, thread, threads);
  if (thread == 0) clearAbsent(args);
  if (isApart(args)) {
    beginUnits(H * segments, thread, threads);
    for (let unit = takeUnits(1); unit < unitsEnd(); unit = takeUnits(1))
      back(args, unit / segments, 1, unit % segments, false, thread, scratch);
    return;
  }
  const to = share(H, thread + 1, threads);
  const unit = perChannel ? CHANNELS : 1;
  for (let h = share(H, thread, threads); h < to; h += unit) {
    const count = min(unit, to - h);
    for (let i = 0; i < count; i++) clearHead(args, h + i, K);
    for (let b = 0; b < segments; b++) back(args, h, count, b, perChannel, thread, scratch);
  }
}

/** Whether a head's segments give nothing to the same sums, nor heads of a group: then it does not matter who goes along which. */
function isApart(args: usize): bool {
  const isPerToken = load<u32>(args, 76) == 0 || load<i32>(args, 80) != 0;
  return load<i32>(args, 12) == load<i32>(args, 8) && isPerToken && load<u32>(args, 116) == 0;
}

/** `count` heads from `h` on along segment `b`. */
function back(args: usize, h: i32, count: i32, b: i32, perChannel: bool, thread: i32, scratch: usize): void {
  const ends = <usize>load<u32>(args, 4);
  const first = firstOf(ends, b);
  const last = load<i32>(ends + ((<usize>b) << 2));
  const at = (<usize>(h * load<i32>(args, 16) * load<i32>(args, 20))) << 2;
  const state = stateAt(args + 56, b) + at;
  const dnext = load<u32>(args, 64) ? rowAt(args + 64, b) + at : 0;
  const dstate = rowAt(args + 180, b) + at;
  if (perChannel) channelsBack(args, h, count, thread, first, last, state, dnext, dstate, scratch);
  else headBack(args, h, thread, first, last, state, dnext, dstate, scratch);
}

/** Zeros what the heads of this thread add to: dr and dk, or its own part of them. Heads that share nothing put theirs there themselves. */
function clearSums(args: usize, thread: i32, threads: i32): void {
  const tokens = load<i32>(<usize>load<u32>(args, 200));
  const G = load<i32>(args, 12);
  const K = load<i32>(args, 20);
  const parts = <usize>load<u32>(args, 188);
  if (parts) {
    const size = 2 * load<i32>(args, 192) * G * K;
    zero(parts + ((<usize>(thread * size)) << 2), size);
    return;
  }
  // Every head is a group of its own here.
  const from = share(G, thread, threads);
  const count = (share(G, thread + 1, threads) - from) * K;
  for (let t = 0; t < tokens; t++) {
    zero(rowAt(args + 120, t) + ((<usize>(from * K)) << 2), count);
    zero(rowAt(args + 128, t) + ((<usize>(from * K)) << 2), count);
  }
}

/** Gradients of operands that are absent are one number, which means nothing. */
function clearAbsent(args: usize): void {
  if (!load<u32>(args, 76)) store<f32>(<usize>load<u32>(args, 144), 0);
  if (!load<u32>(args, 92)) store<f32>(<usize>load<u32>(args, 152), 0);
  if (!load<u32>(args, 100)) store<f32>(<usize>load<u32>(args, 160), 0);
  if (!load<u32>(args, 100)) store<f32>(<usize>load<u32>(args, 168), 0);
  if (!load<u32>(args, 116)) store<f32>(<usize>load<u32>(args, 176), 0);
}

/** Zeros the sums over tokens of one head: dg where it is the same for every token, and du. */
function clearHead(args: usize, h: i32, K: i32): void {
  const perHead = load<i32>(args, 84);
  if (load<u32>(args, 76) && load<i32>(args, 80) == 0)
    zero(<usize>load<u32>(args, 144) + ((<usize>(h * perHead)) << 2), perHead);
  if (load<u32>(args, 116)) zero(<usize>load<u32>(args, 176) + ((<usize>(h * K)) << 2), K);
}

/** dr and dk: the sums of the threads' parts. args: [tokensAt, parts, threads, tokens at most, dr (2 words), dk (2 words), width]. */
export function addParts(args: usize, thread: i32, threads: i32): void {
  const tokens = load<i32>(<usize>load<u32>(args));
  const count = load<i32>(args, 8);
  const most = load<i32>(args, 12);
  const width = load<i32>(args, 32);
  const bytes = (<usize>width) << 2;
  const size = <usize>most * bytes;
  const to = share(tokens, thread + 1, threads);
  for (let t = share(tokens, thread, threads); t < to; t++) {
    for (let which: usize = 0; which < 2; which++) {
      const y = rowAt(args + 16 + 8 * which, t);
      const first = <usize>load<u32>(args, 4) + which * size + <usize>t * bytes;
      memory.copy(y, first, bytes);
      for (let i = 1; i < count; i++) addTo(y, first + <usize>i * 2 * size, width);
    }
  }
}

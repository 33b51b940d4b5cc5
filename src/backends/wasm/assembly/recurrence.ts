import { CHANNEL_SCRATCH, CHANNELS, channels16 } from './recurrence-channels';
import { chunkScratch, chunks } from './recurrence-chunks';
import { HEAD_TOKENS, head } from './recurrence-heads';
import { firstOf, share, stateAt } from './rows';
import { beginUnits, takeUnits, unitsEnd } from './schedule';

/** Tokens from which on chunks pay. */
const CHUNKED: i32 = 12;
/** Tokens that segments have on average, and heads for each thread, from which on threads take them as they come to them. */
const MANY: i32 = 16;
const TURNS: i32 = 4;

/**
 * S_t = S_{t−1} diag(w_t) + (S_{t−1} a_t) b_tᵀ + v_t k_tᵀ, y_t = S_t r_t, S [V, K] per head.
 * args, in words: 0 segmentsAt · 1 ends · 2 H · 3 G · 4 V · 5 K · 6 r (2) · 8 k (2) · 10 v (2) · 12 y (2) · 14 state (2) ·
 *   16 next (2) · 18 scratch (HEAD_TOKENS·(K + 1) floats a thread, at least CHANNEL_SCRATCH and, where decays are the heads', chunkScratch) · 19 g (or 0) · 20 its stride from token to token · 21 from head to head ·
 *   22 1 if it varies along K, else 0 · 23 dt (2, or 0) · 25 a (2, or 0) · 27 b (2) · 29 u (or 0)
 * Rows of S are independent of each other: threads share the H·V rows, and each runs its rows along the whole segment; of many long
 * segments threads take a head at a time. Where one decay serves all key channels, many tokens go in chunks.
 */
export function recurrence(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const H = load<i32>(args, 8);
  const V = load<i32>(args, 16);
  const K = load<i32>(args, 20);
  // The factored decays of Mamba: dt ⊗ g, with g below zero, so that only a dt below zero could make them grow.
  const perChannel =
    V == 1 &&
    K == 16 &&
    load<i32>(args, 92) != 0 &&
    load<i32>(args, 80) == 0 &&
    load<i32>(args, 88) == 1 &&
    load<i32>(args, 100) == 0 &&
    load<i32>(args, 116) == 0;
  const perHead =
    load<i32>(args, 88) == 0 && load<i32>(args, 100) == 0 && load<i32>(args, 116) == 0 && K >= 4 && V >= 4;
  const own = max(max(HEAD_TOKENS * (K + 1), CHANNEL_SCRATCH), perHead ? chunkScratch(K, V) : 0);
  const scratch = <usize>load<u32>(args, 72) + ((<usize>(thread * own)) << 2);
  // Whole tiles of channels for each thread.
  const unit = perChannel ? CHANNELS : 1;
  const units = (H * V + unit - 1) / unit;
  // A head, or channels that go together, of one segment.
  const apart = perChannel ? units : H;
  const tokens = firstOf(ends, segments);
  if (!perHead && tokens >= MANY * segments && segments * apart >= TURNS * threads) {
    beginUnits(segments * apart, thread, threads);
    for (let n = takeUnits(1); n < unitsEnd(); n = takeUnits(1)) {
      const b = n / apart;
      const one = perChannel ? unit : V;
      const row = (n % apart) * one;
      const first = firstOf(ends, b);
      rowsAlong(args, row, min(H * V, row + one), b, first, perChannel, scratch);
    }
    return;
  }
  const from = min(H * V, share(units, thread, threads) * unit);
  const to = min(H * V, share(units, thread + 1, threads) * unit);
  let first = 0;
  for (let b = 0; b < segments; b++) {
    const last = load<i32>(ends + ((<usize>b) << 2));
    if (perHead && last - first >= CHUNKED) {
      const panels = H * ((V + 7) >> 3);
      chunks(
        args,
        share(panels, thread, threads),
        share(panels, thread + 1, threads),
        first,
        last,
        stateAt(args + 56, b),
        stateAt(args + 64, b),
        scratch,
      );
    } else rowsAlong(args, from, to, b, first, perChannel, scratch);
    first = last;
  }
}

/** Rows `from` to `to` of the state along segment `b`, which begins at token `first`. */
function rowsAlong(args: usize, from: i32, to: i32, b: i32, first: i32, perChannel: bool, scratch: usize): void {
  const last = load<i32>(<usize>load<u32>(args, 4) + ((<usize>b) << 2));
  const V = load<i32>(args, 16);
  const K = load<i32>(args, 20);
  const state = stateAt(args + 56, b);
  const next = stateAt(args + 64, b);
  if (perChannel) {
    channels16(args, from, to, first, last, state, next, scratch);
    return;
  }
  if (state != next)
    memory.copy(next + ((<usize>(from * K)) << 2), state + ((<usize>(from * K)) << 2), (<usize>((to - from) * K)) << 2);
  for (let row = from; row < to; ) {
    const h = row / V;
    const end = min(to, (h + 1) * V);
    head(args, h, row - h * V, end - h * V, first, last, next + ((<usize>(h * V * K)) << 2), scratch);
    row = end;
  }
}

import { expx4, madd } from './math';
import { rowAt, strideOf, sumLanes } from './rows';

/** Tokens whose states are kept at a time. */
const BLOCK: i32 = 128;

/**
 * One channel of Mamba (V = 1, K = 16, decay exp(dt·A)) backwards along a segment. Its states are made again block by block
 * and kept with their decays; ∂/∂S and the sums of dA stay in registers.
 */
export function channelsBack(
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
  const G = load<i32>(args, 12);
  const group = (<usize>(((h * G) / load<i32>(args, 8)) * 16)) << 2;
  const A = <usize>load<u32>(args, 76) + ((<usize>(h * 16)) << 2);
  const dA = <usize>load<u32>(args, 144) + ((<usize>(h * 16)) << 2);
  const history = scratch;
  const decays = scratch + <usize>(64 * (BLOCK + 1));
  const starts = decays + <usize>(64 * BLOCK);
  // Gradients of r and k: this thread's part where the group is shared, their own rows where it is not.
  const parts = <usize>load<u32>(args, 188);
  const row = (<usize>(G * 16)) << 2;
  const most = <usize>load<i32>(args, 192) * row;
  const dr0 = parts ? parts + <usize>(thread * 2) * most + group : <usize>load<u32>(args, 120) + group;
  const dk0 = parts ? parts + <usize>(thread * 2 + 1) * most + group : <usize>load<u32>(args, 128) + group;
  const drStep = parts ? row : strideOf(args + 120);
  const dkStep = parts ? row : strideOf(args + 128);

  const blocks = (last - first + BLOCK - 1) / BLOCK;
  memory.copy(starts, state, 64);
  for (let n = 0; n + 1 < blocks; n++) {
    const from = first + n * BLOCK;
    forward(args, h, group, A, from, from + BLOCK, starts + <usize>(64 * n), history, decays);
    memory.copy(starts + <usize>(64 * (n + 1)), history + <usize>(64 * BLOCK), 64);
  }
  const a0 = v128.load(A);
  const a1 = v128.load(A, 16);
  const a2 = v128.load(A, 32);
  const a3 = v128.load(A, 48);
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  if (dnext) {
    s0 = v128.load(dnext);
    s1 = v128.load(dnext, 16);
    s2 = v128.load(dnext, 32);
    s3 = v128.load(dnext, 48);
  }
  let g0 = v128.load(dA);
  let g1 = v128.load(dA, 16);
  let g2 = v128.load(dA, 32);
  let g3 = v128.load(dA, 48);
  const channel = (<usize>h) << 2;
  const hasRead = load<u32>(args, 48) != 0;
  for (let n = blocks - 1; n >= 0; n--) {
    const from = first + n * BLOCK;
    const to = min(last, from + BLOCK);
    forward(args, h, group, A, from, to, starts + <usize>(64 * n), history, decays);
    for (let t = to - 1; t >= from; t--) {
      const P = history + <usize>(64 * (t - from));
      const w = decays + <usize>(64 * (t - from));
      const k = rowAt(args + 32, t) + group;
      const dr = dr0 + <usize>t * drStep;
      const dk = dk0 + <usize>t * dkStep;
      const x = v128.load32_splat(rowAt(args + 40, t) + channel);
      const dt = v128.load32_splat(rowAt(args + 92, t) + channel);
      if (hasRead) {
        const dy = v128.load32_splat(rowAt(args + 48, t) + channel);
        const r = rowAt(args + 24, t) + group;
        s0 = madd(dy, v128.load(r), s0);
        s1 = madd(dy, v128.load(r, 16), s1);
        s2 = madd(dy, v128.load(r, 32), s2);
        s3 = madd(dy, v128.load(r, 48), s3);
        v128.store(dr, madd(dy, v128.load(P, 64), v128.load(dr)));
        v128.store(dr, madd(dy, v128.load(P, 80), v128.load(dr, 16)), 16);
        v128.store(dr, madd(dy, v128.load(P, 96), v128.load(dr, 32)), 32);
        v128.store(dr, madd(dy, v128.load(P, 112), v128.load(dr, 48)), 48);
      }
      v128.store(dk, madd(x, s0, v128.load(dk)));
      v128.store(dk, madd(x, s1, v128.load(dk, 16)), 16);
      v128.store(dk, madd(x, s2, v128.load(dk, 32)), 32);
      v128.store(dk, madd(x, s3, v128.load(dk, 48)), 48);
      const written = madd(
        s0,
        v128.load(k),
        madd(s1, v128.load(k, 16), madd(s2, v128.load(k, 32), f32x4.mul(s3, v128.load(k, 48)))),
      );
      store<f32>(rowAt(args + 136, t) + channel, sumLanes(written));
      // On to the state before; the decay's logarithm gets dS ⊙ w ⊙ S.
      s0 = f32x4.mul(s0, v128.load(w));
      s1 = f32x4.mul(s1, v128.load(w, 16));
      s2 = f32x4.mul(s2, v128.load(w, 32));
      s3 = f32x4.mul(s3, v128.load(w, 48));
      const l0 = f32x4.mul(s0, v128.load(P));
      const l1 = f32x4.mul(s1, v128.load(P, 16));
      const l2 = f32x4.mul(s2, v128.load(P, 32));
      const l3 = f32x4.mul(s3, v128.load(P, 48));
      g0 = madd(dt, l0, g0);
      g1 = madd(dt, l1, g1);
      g2 = madd(dt, l2, g2);
      g3 = madd(dt, l3, g3);
      const faded = madd(l0, a0, madd(l1, a1, madd(l2, a2, f32x4.mul(l3, a3))));
      store<f32>(rowAt(args + 152, t) + channel, sumLanes(faded));
    }
  }
  v128.store(dA, g0);
  v128.store(dA, g1, 16);
  v128.store(dA, g2, 32);
  v128.store(dA, g3, 48);
  v128.store(dstate, s0);
  v128.store(dstate, s1, 16);
  v128.store(dstate, s2, 32);
  v128.store(dstate, s3, 48);
}

/** The states before each of the tokens and after the last, and the decays. */
function forward(
  args: usize,
  h: i32,
  group: usize,
  A: usize,
  from: i32,
  to: i32,
  start: usize,
  history: usize,
  decays: usize,
): void {
  const channel = (<usize>h) << 2;
  const a0 = v128.load(A);
  const a1 = v128.load(A, 16);
  const a2 = v128.load(A, 32);
  const a3 = v128.load(A, 48);
  let s0 = v128.load(start);
  let s1 = v128.load(start, 16);
  let s2 = v128.load(start, 32);
  let s3 = v128.load(start, 48);
  for (let t = from; t < to; t++) {
    v128.store(history, s0);
    v128.store(history, s1, 16);
    v128.store(history, s2, 32);
    v128.store(history, s3, 48);
    const x = v128.load32_splat(rowAt(args + 40, t) + channel);
    const dt = v128.load32_splat(rowAt(args + 92, t) + channel);
    const k = rowAt(args + 32, t) + group;
    const w0 = expx4(f32x4.mul(dt, a0));
    const w1 = expx4(f32x4.mul(dt, a1));
    const w2 = expx4(f32x4.mul(dt, a2));
    const w3 = expx4(f32x4.mul(dt, a3));
    v128.store(decays, w0);
    v128.store(decays, w1, 16);
    v128.store(decays, w2, 32);
    v128.store(decays, w3, 48);
    s0 = madd(x, v128.load(k), f32x4.mul(s0, w0));
    s1 = madd(x, v128.load(k, 16), f32x4.mul(s1, w1));
    s2 = madd(x, v128.load(k, 32), f32x4.mul(s2, w2));
    s3 = madd(x, v128.load(k, 48), f32x4.mul(s3, w3));
    history += 64;
    decays += 64;
  }
  v128.store(history, s0);
  v128.store(history, s1, 16);
  v128.store(history, s2, 32);
  v128.store(history, s3, 48);
}

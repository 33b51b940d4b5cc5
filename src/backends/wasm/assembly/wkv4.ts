import { expx4, madd } from './math';
import { loadLanes, rowAt, share, stateAt, storeLanes } from './rows';

/**
 * RWKV-4's weighted average, equation in ops/wkv4.ts; four channels at a time along each segment.
 * args: [segmentsAt, ends, k (2 words), v (2), w, u, num (2), den (2), max (2), y (2), next num (2), next den (2), next max (2), C].
 * Threads share the channels.
 */
export function wkv4(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const C = load<i32>(args, 88);
  const to = min(C, share((C + 3) >> 2, thread + 1, threads) << 2);
  for (let c = share((C + 3) >> 2, thread, threads) << 2; c < to; c += 4) {
    const lanes = to - c;
    const at = (<usize>c) << 2;
    const w = loadLanes(<usize>load<u32>(args, 24) + at, lanes);
    const u = loadLanes(<usize>load<u32>(args, 28) + at, lanes);
    let first = 0;
    for (let b = 0; b < segments; b++) {
      const last = load<i32>(ends + ((<usize>b) << 2));
      let num = loadLanes(stateAt(args + 32, b) + at, lanes);
      let den = loadLanes(stateAt(args + 40, b) + at, lanes);
      let top = loadLanes(stateAt(args + 48, b) + at, lanes);
      for (let t = first; t < last; t++) {
        const k = loadLanes(rowAt(args + 8, t) + at, lanes);
        const v = loadLanes(rowAt(args + 16, t) + at, lanes);
        const uk = f32x4.add(u, k);
        const q = f32x4.pmax(top, uk);
        const e1 = expx4(f32x4.sub(top, q));
        const e2 = expx4(f32x4.sub(uk, q));
        const y = f32x4.div(madd(e1, num, f32x4.mul(e2, v)), madd(e1, den, e2));
        storeLanes(rowAt(args + 56, t) + at, lanes, y);
        const faded = f32x4.add(top, w);
        top = f32x4.pmax(faded, k);
        const f1 = expx4(f32x4.sub(faded, top));
        const f2 = expx4(f32x4.sub(k, top));
        num = madd(f1, num, f32x4.mul(f2, v));
        den = madd(f1, den, f2);
      }
      storeLanes(stateAt(args + 64, b) + at, lanes, num);
      storeLanes(stateAt(args + 72, b) + at, lanes, den);
      storeLanes(stateAt(args + 80, b) + at, lanes, top);
      first = last;
    }
  }
}

/** A gradient's row, or zeros where it is absent. */
function rowOrZero(operand: usize, r: i32, at: usize, lanes: i32): v128 {
  return load<u32>(operand) ? loadLanes(rowAt(operand, r) + at, lanes) : f32x4.splat(0);
}

/**
 * The adjoint of `wkv4`, the running maximum included; the states before each token are made again first.
 * args: [segmentsAt, ends, k (2 words), v (2), w, u, num (2), den (2), max (2), dy (2, or 0), dnum (2, or 0), dden (2, or 0), dmax (2, or 0),
 *        dk (2), dv (2), dw, du, dn (2), dd (2), dm (2), C, scratch, its floats for a thread (12 a token, and 12)]. Threads share the channels.
 */
export function wkv4Grad(args: usize, thread: i32, threads: i32): void {
  const segments = load<i32>(<usize>load<u32>(args));
  const ends = <usize>load<u32>(args, 4);
  const C = load<i32>(args, 136);
  const history = <usize>load<u32>(args, 140) + ((<usize>(thread * load<i32>(args, 144))) << 2);
  const to = min(C, share((C + 3) >> 2, thread + 1, threads) << 2);
  for (let c = share((C + 3) >> 2, thread, threads) << 2; c < to; c += 4) {
    const lanes = to - c;
    const at = (<usize>c) << 2;
    const w = loadLanes(<usize>load<u32>(args, 24) + at, lanes);
    const u = loadLanes(<usize>load<u32>(args, 28) + at, lanes);
    let dw = f32x4.splat(0);
    let du = dw;
    let first = 0;
    for (let b = 0; b < segments; b++) {
      const last = load<i32>(ends + ((<usize>b) << 2));
      remember(args, b, first, last, at, lanes, w, history);
      let gn = rowOrZero(args + 64, b, at, lanes);
      let gd = rowOrZero(args + 72, b, at, lanes);
      let gm = rowOrZero(args + 80, b, at, lanes);
      for (let t = last - 1; t >= first; t--) {
        const before = history + <usize>((t - first) * 48);
        const num = v128.load(before);
        const den = v128.load(before, 16);
        const top = v128.load(before, 32);
        const q2 = v128.load(before, 80);
        const k = loadLanes(rowAt(args + 8, t) + at, lanes);
        const v = loadLanes(rowAt(args + 16, t) + at, lanes);
        const faded = f32x4.add(top, w);
        const f1 = expx4(f32x4.sub(faded, q2));
        const f2 = expx4(f32x4.sub(k, q2));
        const uk = f32x4.add(u, k);
        const q = f32x4.pmax(top, uk);
        const e1 = expx4(f32x4.sub(top, q));
        const e2 = expx4(f32x4.sub(uk, q));
        const whole = madd(e1, den, e2);
        const y = f32x4.div(madd(e1, num, f32x4.mul(e2, v)), whole);
        const arriving = f32x4.div(rowOrZero(args + 56, t, at, lanes), whole);
        const kept = f32x4.mul(f1, madd(gn, num, f32x4.mul(gd, den)));
        const written = f32x4.mul(f2, madd(gn, v, gd));
        const read = f32x4.mul(f32x4.mul(e2, arriving), f32x4.sub(v, y));
        // The maximum scales the sums, and is either the old one faded or the new exponent.
        const ofMax = f32x4.sub(gm, madd(gn, v128.load(before, 48), f32x4.mul(gd, v128.load(before, 64))));
        const fromOld = f32x4.ge(faded, k);
        const toOld = v128.and(ofMax, fromOld);
        const toNew = v128.andnot(ofMax, fromOld);
        storeLanes(rowAt(args + 88, t) + at, lanes, f32x4.add(f32x4.add(written, read), toNew));
        storeLanes(rowAt(args + 96, t) + at, lanes, madd(gn, f2, f32x4.mul(arriving, e2)));
        dw = f32x4.add(dw, f32x4.add(kept, toOld));
        du = f32x4.add(du, read);
        const past = f32x4.mul(f32x4.mul(e1, arriving), f32x4.sub(num, f32x4.mul(y, den)));
        gm = f32x4.add(f32x4.add(kept, past), toOld);
        gn = madd(gn, f1, f32x4.mul(arriving, e1));
        gd = f32x4.sub(f32x4.mul(gd, f1), f32x4.mul(f32x4.mul(arriving, y), e1));
      }
      storeLanes(rowAt(args + 112, b) + at, lanes, gn);
      storeLanes(rowAt(args + 120, b) + at, lanes, gd);
      storeLanes(rowAt(args + 128, b) + at, lanes, gm);
      first = last;
    }
    storeLanes(<usize>load<u32>(args, 104) + at, lanes, dw);
    storeLanes(<usize>load<u32>(args, 108) + at, lanes, du);
  }
}

/** The states before each token of a segment and after its last: num, den and max of four channels each. */
function remember(args: usize, b: i32, first: i32, last: i32, at: usize, lanes: i32, w: v128, history: usize): void {
  let num = loadLanes(stateAt(args + 32, b) + at, lanes);
  let den = loadLanes(stateAt(args + 40, b) + at, lanes);
  let top = loadLanes(stateAt(args + 48, b) + at, lanes);
  for (let t = first; t <= last; t++) {
    v128.store(history, num);
    v128.store(history, den, 16);
    v128.store(history, top, 32);
    history += 48;
    if (t == last) break;
    const k = loadLanes(rowAt(args + 8, t) + at, lanes);
    const v = loadLanes(rowAt(args + 16, t) + at, lanes);
    const faded = f32x4.add(top, w);
    top = f32x4.pmax(faded, k);
    const f1 = expx4(f32x4.sub(faded, top));
    const f2 = expx4(f32x4.sub(k, top));
    num = madd(f1, num, f32x4.mul(f2, v));
    den = madd(f1, den, f2);
  }
}

import { madd } from './math';
import { rowAt, share } from './rows';

/**
 * y = W x + b with W packed in panels of 8 outputs: [⌈O/8⌉][I][8], so that one row of x or many stream through the same
 * memory in the same order.
 * args: [rowsAt, rows of I in a row of x, x (2 words), W, bias (or 0), y (2 words), address of I, O, format, scratch]
 * Formats: 0 f32 · 1 bf16 · 2 f16. Threads share the panels. With several rows a 16-bit panel is expanded once into the
 * thread's scratch (8·I floats each).
 */
export function linear(args: usize, thread: i32, threads: i32): void {
  const inner = load<i32>(args, 4);
  const rows = load<i32>(<usize>load<u32>(args)) * inner;
  const W = <usize>load<u32>(args, 16);
  const bias = <usize>load<u32>(args, 20);
  const I = load<i32>(<usize>load<u32>(args, 32));
  const O = load<i32>(args, 36);
  const format = load<i32>(args, 40);
  const scratch = <usize>load<u32>(args, 44) + ((<usize>(thread * I)) << 5);
  const panels = (O + 7) >> 3;
  const from = share(panels, thread, threads);
  const to = share(panels, thread + 1, threads);
  const shift = format == 0 ? 5 : 4;
  // Rows in blocks that stay in the second-level cache while the panels pass.
  const BLOCK = max(6, (98304 / max(I, 1) / 6) * 6);
  for (let block = 0; block < rows; block += BLOCK) {
    const end = min(rows, block + BLOCK);
    for (let p = from; p < to; p++) {
      let panel = W + ((<usize>(p * I)) << shift);
      const o = p << 3;
      const width = min(8, O - o);
      let start0 = f32x4.splat(0);
      let start1 = f32x4.splat(0);
      if (bias) {
        if (width == 8) {
          start0 = v128.load(bias + ((<usize>o) << 2));
          start1 = v128.load(bias + ((<usize>o) << 2), 16);
        } else {
          start0 = partial(bias + ((<usize>o) << 2), min(4, width));
          start1 = partial(bias + ((<usize>(o + 4)) << 2), width - 4);
        }
      }
      let kind = format;
      if (kind != 0 && end - block > 2) {
        expand(panel, scratch, I, kind);
        panel = scratch;
        kind = 0;
      }
      let r = block;
      if (kind == 0) {
        for (; r + 6 <= end; r += 6) tile6(args, inner, r, panel, I, start0, start1, o, width);
        for (; r + 3 <= end; r += 3) tile3(args, inner, r, panel, I, start0, start1, o, width);
        for (; r < end; r++) tile1(args, inner, r, panel, I, start0, start1, o, width);
      } else {
        for (; r < end; r++) tile1Half(args, inner, r, panel, I, start0, start1, o, width, kind);
      }
    }
  }
}

/** Up to four floats, zeros beyond. */
function partial(at: usize, count: i32): v128 {
  let result = f32x4.splat(0);
  if (count > 0) result = f32x4.replace_lane(result, 0, load<f32>(at));
  if (count > 1) result = f32x4.replace_lane(result, 1, load<f32>(at, 4));
  if (count > 2) result = f32x4.replace_lane(result, 2, load<f32>(at, 8));
  if (count > 3) result = f32x4.replace_lane(result, 3, load<f32>(at, 12));
  return result;
}

function input(args: usize, inner: i32, r: i32, I: i32): usize {
  const base = <usize>load<u32>(args, 8);
  const stride = load<i32>(args, 12);
  return inner == 1
    ? base + ((<usize>(r * stride)) << 2)
    : base + ((<usize>((r / inner) * stride + (r % inner) * I)) << 2);
}

function put(args: usize, inner: i32, r: i32, o: i32, width: i32, a: v128, b: v128): void {
  const O = load<i32>(args, 36);
  const stride = load<i32>(args, 28);
  const row = inner == 1 ? r * stride : (r / inner) * stride + (r % inner) * O;
  const y = <usize>load<u32>(args, 24) + ((<usize>(row + o)) << 2);
  if (width == 8) {
    v128.store(y, a);
    v128.store(y, b, 16);
    return;
  }
  if (width >= 4) v128.store(y, a);
  const rest = width >= 4 ? b : a;
  const at = width >= 4 ? y + 16 : y;
  const left = width & 3;
  if (left > 0) store<f32>(at, f32x4.extract_lane(rest, 0));
  if (left > 1) store<f32>(at, f32x4.extract_lane(rest, 1), 4);
  if (left > 2) store<f32>(at, f32x4.extract_lane(rest, 2), 8);
}

/** Six rows × eight outputs: 12 accumulators, 2 loads and 1 splat fill the 16 vector registers but one. */
function tile6(args: usize, inner: i32, r: i32, panel: usize, I: i32, s0: v128, s1: v128, o: i32, width: i32): void {
  let x0 = input(args, inner, r, I);
  let x1 = input(args, inner, r + 1, I);
  let x2 = input(args, inner, r + 2, I);
  let x3 = input(args, inner, r + 3, I);
  let x4 = input(args, inner, r + 4, I);
  let x5 = input(args, inner, r + 5, I);
  let a0 = s0,
    a1 = s1,
    b0 = s0,
    b1 = s1,
    c0 = s0,
    c1 = s1,
    d0 = s0,
    d1 = s1,
    e0 = s0,
    e1 = s1,
    f0 = s0,
    f1 = s1;
  const end = panel + ((<usize>I) << 5);
  for (; panel < end; panel += 32) {
    const w0 = v128.load(panel);
    const w1 = v128.load(panel, 16);
    let x = v128.load32_splat(x0);
    a0 = madd(x, w0, a0);
    a1 = madd(x, w1, a1);
    x = v128.load32_splat(x1);
    b0 = madd(x, w0, b0);
    b1 = madd(x, w1, b1);
    x = v128.load32_splat(x2);
    c0 = madd(x, w0, c0);
    c1 = madd(x, w1, c1);
    x = v128.load32_splat(x3);
    d0 = madd(x, w0, d0);
    d1 = madd(x, w1, d1);
    x = v128.load32_splat(x4);
    e0 = madd(x, w0, e0);
    e1 = madd(x, w1, e1);
    x = v128.load32_splat(x5);
    f0 = madd(x, w0, f0);
    f1 = madd(x, w1, f1);
    x0 += 4;
    x1 += 4;
    x2 += 4;
    x3 += 4;
    x4 += 4;
    x5 += 4;
  }
  put(args, inner, r, o, width, a0, a1);
  put(args, inner, r + 1, o, width, b0, b1);
  put(args, inner, r + 2, o, width, c0, c1);
  put(args, inner, r + 3, o, width, d0, d1);
  put(args, inner, r + 4, o, width, e0, e1);
  put(args, inner, r + 5, o, width, f0, f1);
}

/** Three rows, two steps of I at a time in separate accumulators. */
function tile3(args: usize, inner: i32, r: i32, panel: usize, I: i32, s0: v128, s1: v128, o: i32, width: i32): void {
  let x0 = input(args, inner, r, I);
  let x1 = input(args, inner, r + 1, I);
  let x2 = input(args, inner, r + 2, I);
  const zero = f32x4.splat(0);
  let a0 = s0,
    a1 = s1,
    b0 = s0,
    b1 = s1,
    c0 = s0,
    c1 = s1;
  let d0 = zero,
    d1 = zero,
    e0 = zero,
    e1 = zero,
    f0 = zero,
    f1 = zero;
  const even = panel + ((<usize>(I & ~1)) << 5);
  for (; panel < even; panel += 64) {
    let w0 = v128.load(panel);
    let w1 = v128.load(panel, 16);
    let x = v128.load32_splat(x0);
    a0 = madd(x, w0, a0);
    a1 = madd(x, w1, a1);
    x = v128.load32_splat(x1);
    b0 = madd(x, w0, b0);
    b1 = madd(x, w1, b1);
    x = v128.load32_splat(x2);
    c0 = madd(x, w0, c0);
    c1 = madd(x, w1, c1);
    w0 = v128.load(panel, 32);
    w1 = v128.load(panel, 48);
    x = v128.load32_splat(x0, 4);
    d0 = madd(x, w0, d0);
    d1 = madd(x, w1, d1);
    x = v128.load32_splat(x1, 4);
    e0 = madd(x, w0, e0);
    e1 = madd(x, w1, e1);
    x = v128.load32_splat(x2, 4);
    f0 = madd(x, w0, f0);
    f1 = madd(x, w1, f1);
    x0 += 8;
    x1 += 8;
    x2 += 8;
  }
  if (I & 1) {
    const w0 = v128.load(panel);
    const w1 = v128.load(panel, 16);
    let x = v128.load32_splat(x0);
    a0 = madd(x, w0, a0);
    a1 = madd(x, w1, a1);
    x = v128.load32_splat(x1);
    b0 = madd(x, w0, b0);
    b1 = madd(x, w1, b1);
    x = v128.load32_splat(x2);
    c0 = madd(x, w0, c0);
    c1 = madd(x, w1, c1);
  }
  put(args, inner, r, o, width, f32x4.add(a0, d0), f32x4.add(a1, d1));
  put(args, inner, r + 1, o, width, f32x4.add(b0, e0), f32x4.add(b1, e1));
  put(args, inner, r + 2, o, width, f32x4.add(c0, f0), f32x4.add(c1, f1));
}

/** One row, four steps of I at a time in separate accumulators: as fast as memory delivers the panel. */
function tile1(args: usize, inner: i32, r: i32, panel: usize, I: i32, s0: v128, s1: v128, o: i32, width: i32): void {
  let x = input(args, inner, r, I);
  const zero = f32x4.splat(0);
  let a0 = s0,
    a1 = s1,
    b0 = zero,
    b1 = zero,
    c0 = zero,
    c1 = zero,
    d0 = zero,
    d1 = zero;
  const whole = panel + ((<usize>(I & ~3)) << 5);
  for (; panel < whole; panel += 128) {
    const v = v128.load(x);
    let s = v128.shuffle<f32>(v, v, 0, 0, 0, 0);
    a0 = madd(s, v128.load(panel), a0);
    a1 = madd(s, v128.load(panel, 16), a1);
    s = v128.shuffle<f32>(v, v, 1, 1, 1, 1);
    b0 = madd(s, v128.load(panel, 32), b0);
    b1 = madd(s, v128.load(panel, 48), b1);
    s = v128.shuffle<f32>(v, v, 2, 2, 2, 2);
    c0 = madd(s, v128.load(panel, 64), c0);
    c1 = madd(s, v128.load(panel, 80), c1);
    s = v128.shuffle<f32>(v, v, 3, 3, 3, 3);
    d0 = madd(s, v128.load(panel, 96), d0);
    d1 = madd(s, v128.load(panel, 112), d1);
    x += 16;
  }
  for (let i = I & ~3; i < I; i++) {
    const s = v128.load32_splat(x);
    a0 = madd(s, v128.load(panel), a0);
    a1 = madd(s, v128.load(panel, 16), a1);
    panel += 32;
    x += 4;
  }
  put(
    args,
    inner,
    r,
    o,
    width,
    f32x4.add(f32x4.add(a0, b0), f32x4.add(c0, d0)),
    f32x4.add(f32x4.add(a1, b1), f32x4.add(c1, d1)),
  );
}

/** One row of a 16-bit panel, converted as it streams. */
function tile1Half(
  args: usize,
  inner: i32,
  r: i32,
  panel: usize,
  I: i32,
  s0: v128,
  s1: v128,
  o: i32,
  width: i32,
  format: i32,
): void {
  let x = input(args, inner, r, I);
  const zero = f32x4.splat(0);
  let a0 = s0,
    a1 = s1,
    b0 = zero,
    b1 = zero;
  const even = I & ~1;
  if (format == 1) {
    for (let i = 0; i < even; i += 2) {
      const p = v128.load(panel);
      const q = v128.load(panel, 16);
      let s = v128.load32_splat(x);
      a0 = madd(s, i32x4.shl(i32x4.extend_low_i16x8_u(p), 16), a0);
      a1 = madd(s, i32x4.shl(i32x4.extend_high_i16x8_u(p), 16), a1);
      s = v128.load32_splat(x, 4);
      b0 = madd(s, i32x4.shl(i32x4.extend_low_i16x8_u(q), 16), b0);
      b1 = madd(s, i32x4.shl(i32x4.extend_high_i16x8_u(q), 16), b1);
      panel += 32;
      x += 8;
    }
  } else {
    for (let i = 0; i < even; i += 2) {
      const p = v128.load(panel);
      const q = v128.load(panel, 16);
      let s = v128.load32_splat(x);
      a0 = madd(s, fromHalf(i32x4.extend_low_i16x8_u(p)), a0);
      a1 = madd(s, fromHalf(i32x4.extend_high_i16x8_u(p)), a1);
      s = v128.load32_splat(x, 4);
      b0 = madd(s, fromHalf(i32x4.extend_low_i16x8_u(q)), b0);
      b1 = madd(s, fromHalf(i32x4.extend_high_i16x8_u(q)), b1);
      panel += 32;
      x += 8;
    }
  }
  if (I & 1) {
    const p = v128.load(panel);
    const s = v128.load32_splat(x);
    a0 = madd(s, widen(i32x4.extend_low_i16x8_u(p), format), a0);
    a1 = madd(s, widen(i32x4.extend_high_i16x8_u(p), format), a1);
  }
  put(args, inner, r, o, width, f32x4.add(a0, b0), f32x4.add(a1, b1));
}

function widen(bits: v128, format: i32): v128 {
  return format == 1 ? i32x4.shl(bits, 16) : fromHalf(bits);
}

/**
 * f16 bits to f32: moved into place as if the exponents had one bias, then multiplied by 2¹¹² to mend it, which is exact
 * for subnormals too. Infinities and NaN are not among weights.
 */
function fromHalf(bits: v128): v128 {
  const magnitude = i32x4.shl(v128.and(bits, i32x4.splat(0x7fff)), 13);
  const sign = i32x4.shl(v128.and(bits, i32x4.splat(0x8000)), 16);
  return v128.or(f32x4.mul(magnitude, f32x4.splat(5.192296858534828e33)), sign);
}

function expand(panel: usize, to: usize, I: i32, format: i32): void {
  for (let i = 0; i < I; i++) {
    const p = v128.load(panel);
    v128.store(to, widen(i32x4.extend_low_i16x8_u(p), format));
    v128.store(to, widen(i32x4.extend_high_i16x8_u(p), format), 16);
    panel += 16;
    to += 32;
  }
}

/**
 * Packs a row-major matrix into panels. Element (o, i) is at w + 4·(o·oStride + i·iStride).
 * args: [w, oStride, iStride, O, address of I, panels]
 */
export function packPanels(args: usize, thread: i32, threads: i32): void {
  const w = <usize>load<u32>(args);
  const oStride = (<usize>load<i32>(args, 4)) << 2;
  const iStride = (<usize>load<i32>(args, 8)) << 2;
  const O = load<i32>(args, 12);
  const I = load<i32>(<usize>load<u32>(args, 16));
  const panels = (O + 7) >> 3;
  const last = share(panels, thread + 1, threads);
  for (let p = share(panels, thread, threads); p < last; p++) {
    const to = <usize>load<u32>(args, 20) + ((<usize>(p * I)) << 5);
    const width = min(8, O - (p << 3));
    for (let lane = 0; lane < 8; lane++) {
      let from = w + <usize>((p << 3) + lane) * oStride;
      let at = to + ((<usize>lane) << 2);
      for (let i = 0; i < I; i++) {
        store<f32>(at, lane < width ? load<f32>(from) : 0);
        from += iStride;
        at += 32;
      }
    }
  }
}

/** Transposes rows [T, C] into [C, T]. args: [rowsAt, x (2 words), C, y (2 words)] */
export function transposeRows(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(<usize>load<u32>(args));
  const C = load<i32>(args, 12);
  const y = <usize>load<u32>(args, 16);
  const stride = load<i32>(args, 20);
  const first = share(C, thread, threads);
  const last = share(C, thread + 1, threads);
  for (let r = 0; r < rows; r++) {
    const x = rowAt(args + 4, r);
    for (let c = first; c < last; c++)
      store<f32>(y + ((<usize>(c * stride + r)) << 2), load<f32>(x + ((<usize>c) << 2)));
  }
}

/** y[r] = row ids[r] of a packed matrix. args: [countAt, ids, W, y (2 words), I, format] */
export function embedPanels(args: usize, thread: i32, threads: i32): void {
  const count = load<i32>(<usize>load<u32>(args));
  const ids = <usize>load<u32>(args, 4);
  const I = load<i32>(args, 20);
  const format = load<i32>(args, 24);
  const size: i32 = format == 0 ? 4 : 2;
  const last = share(count, thread + 1, threads);
  for (let r = share(count, thread, threads); r < last; r++) {
    const id = load<i32>(ids + ((<usize>r) << 2));
    let w = <usize>load<u32>(args, 8) + <usize>((id >> 3) * I * 8 + (id & 7)) * <usize>size;
    let y = <usize>load<u32>(args, 12) + ((<usize>(r * load<i32>(args, 16))) << 2);
    for (let i = 0; i < I; i++) {
      if (format == 0) store<f32>(y, load<f32>(w));
      else store<f32>(y, f32x4.extract_lane(widen(i32x4.splat(<i32>load<u16>(w)), format), 0));
      w += <usize>(8 * size);
      y += 4;
    }
  }
}

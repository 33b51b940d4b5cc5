import { fromHalf, widened } from './half';
import { GROUP_Q4, GROUP_Q8, groupsOf } from './quantised';
import { rowAt, share } from './rows';
import { transpose4 } from './transpose';

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
    const from = w + <usize>(p << 3) * oStride;
    if (width == 8 && oStride == 4) packColumns(from, iStride, I, to);
    else if (width == 8 && iStride == 4) packRows(from, oStride, I, to);
    else
      for (let lane = 0; lane < 8; lane++)
        packLane(from + <usize>lane * oStride, iStride, lane < width ? I : 0, I, to, lane);
  }
}

/** A panel of eight columns of a matrix, whose rows are `step` bytes apart. */
function packColumns(from: usize, step: usize, I: i32, to: usize): void {
  for (let i = 0; i < I; i++, from += step, to += 32) {
    v128.store(to, v128.load(from));
    v128.store(to, v128.load(from, 16), 16);
  }
}

/** A panel of eight rows of a matrix, `step` bytes apart. */
function packRows(from: usize, step: usize, I: i32, to: usize): void {
  let i = 0;
  for (; i + 4 <= I; i += 4, from += 16, to += 128) {
    transpose4(from, step, to, 32);
    transpose4(from + 4 * step, step, to + 16, 32);
  }
  for (; i < I; i++, from += 4, to += 32)
    for (let lane: usize = 0; lane < 8; lane++) store<f32>(to + (lane << 2), load<f32>(from + lane * step));
}

/** One of a panel's eight outputs: `count` numbers `step` bytes apart, and zeros up to I. */
function packLane(from: usize, step: usize, count: i32, I: i32, to: usize, lane: i32): void {
  to += (<usize>lane) << 2;
  for (let i = 0; i < I; i++, from += step, to += 32) store<f32>(to, i < count ? load<f32>(from) : 0);
}

/**
 * y[r] = row ids[r] of a packed matrix. args: [countAt, ids, W, y (2 words), I, format]
 * Formats: 0 f32 · 1 bf16 · 2 f16 · 3 q8 · 4 q4.
 */
export function embedPanels(args: usize, thread: i32, threads: i32): void {
  const count = load<i32>(<usize>load<u32>(args));
  const ids = <usize>load<u32>(args, 4);
  const W = <usize>load<u32>(args, 8);
  const I = load<i32>(args, 20);
  const format = load<i32>(args, 24);
  const last = share(count, thread + 1, threads);
  for (let r = share(count, thread, threads); r < last; r++) {
    const id = load<i32>(ids + ((<usize>r) << 2));
    const y = rowAt(args + 12, r);
    if (format == 0) embedF32(W, id, y, I);
    else if (format < 3) embed16(W, id, y, I, format);
    else if (format == 3) embedQ8(W, id, y, I);
    else embedQ4(W, id, y, I);
  }
}

function embedF32(W: usize, id: i32, y: usize, I: i32): void {
  let w = W + ((<usize>((id >> 3) * I * 8 + (id & 7))) << 2);
  for (let i = 0; i < I; i++) {
    store<f32>(y, load<f32>(w));
    w += 32;
    y += 4;
  }
}

function embed16(W: usize, id: i32, y: usize, I: i32, format: i32): void {
  let w = W + ((<usize>((id >> 3) * I * 8 + (id & 7))) << 1);
  for (let i = 0; i < I; i++) {
    store<f32>(y, f32x4.extract_lane(widened(i32x4.splat(<i32>load<i16>(w)), format), 0));
    w += 16;
    y += 4;
  }
}

/** The scale of output `lane` in the panel's group at `group`. */
function scaleAt(group: usize, lane: usize): f32 {
  return f32x4.extract_lane(fromHalf(i32x4.splat(<i32>load<i16>(group + (lane << 1)))), 0);
}

function embedQ8(W: usize, id: i32, y: usize, I: i32): void {
  const lane = <usize>(id & 7);
  const panel = W + <usize>((id >> 3) * groupsOf(I)) * GROUP_Q8;
  for (let i = 0; i < I; i++) {
    const k = <usize>(i & 31);
    const group = panel + <usize>(i >> 5) * GROUP_Q8;
    const integer = load<i8>(group + ((k >> 1) << 4) + (lane << 1) + (k & 1), 16);
    store<f32>(y + ((<usize>i) << 2), <f32>integer * scaleAt(group, lane));
  }
}

function embedQ4(W: usize, id: i32, y: usize, I: i32): void {
  const lane = <usize>(id & 7);
  const panel = W + <usize>((id >> 3) * groupsOf(I)) * GROUP_Q4;
  for (let i = 0; i < I; i++) {
    const k = <usize>(i & 31);
    const group = panel + <usize>(i >> 5) * GROUP_Q4;
    const byte = <i32>load<u8>(group + ((k >> 3) << 5) + (lane << 2) + (k & 3), 16);
    const integer = ((byte >> <i32>(k & 4)) & 15) - 8;
    store<f32>(y + ((<usize>i) << 2), <f32>integer * scaleAt(group, lane));
  }
}

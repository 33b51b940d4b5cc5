import { packGroupQ4, packGroupQ8, toBf16, toHalf } from './pack-weights';
import { tileOf } from './product';
import { GROUP_Q4, GROUP_Q8, groupsOf } from './quantised';
import { numbersAt } from './stored-rows';
import { surveyRows } from './survey-rows';

/** Numbers of a parameter kept by rows that are stored at a time. */
const STRETCH: i32 = 4096;

/**
 * Stores rows as a file holds them, converting them to how a parameter is held, and tells what they hold (survey-rows.ts).
 * args: [unit, state, type, integers, step, scales, scale step, count (stored-rows.ts), layout, format, W, width, first, rows, I, digest]
 * Layouts: 0 row-major f32, `first` a number · 1 packed, rows [O, I] (linear.ts, quantised.ts) · 2 packed, rows of [I, O], formats
 * 0 to 2. Formats are packWeights'. `width` is a row's length, `first` and `rows` say which rows they are. Threads take units
 * one by one, for a page of memory that nobody touched before costs more time than filling it: the first is the survey. Places
 * beyond the matrix are left as they are: zero.
 */
export function storeRows(args: usize, thread: i32, threads: i32): void {
  const tile = tileOf(thread);
  const layout = load<i32>(args, 32);
  const first = load<i32>(args, 48);
  const rows = load<i32>(args, 52);
  let chunks = (load<i32>(args, 28) + STRETCH - 1) / STRETCH;
  if (layout == 1) chunks = ((first + rows + 7) >> 3) - (first >> 3);
  if (layout == 2) chunks = (rows + 7) >> 3;
  for (let unit = atomic.add<i32>(args, 1); unit <= chunks; unit = atomic.add<i32>(args, 1)) {
    if (unit == 0) surveyRows(args, tile);
    else if (layout == 0) storePlain(args, unit - 1, tile);
    else if (layout == 1) storePanel(args, (first >> 3) + unit - 1, tile);
    else storeInputs(args, (unit - 1) << 3, tile);
  }
}

function storePlain(args: usize, chunk: i32, tile: usize): void {
  const end = min(load<i32>(args, 28), (chunk + 1) * STRETCH);
  let to = <usize>load<u32>(args, 40) + ((<usize>(load<i32>(args, 48) + chunk * STRETCH)) << 2);
  for (let at = chunk * STRETCH; at < end; at += 32, to += 128) {
    const count = min(32, end - at);
    memory.copy(to, numbersAt(args, at, count, tile), (<usize>count) << 2);
  }
}

/** The rows that are outputs of panel p. */
function storePanel(args: usize, p: i32, tile: usize): void {
  const type = load<i32>(args, 8);
  const format = load<i32>(args, 36);
  const W = <usize>load<u32>(args, 40);
  const I = load<i32>(args, 44);
  const first = load<i32>(args, 48);
  const end = min(first + load<i32>(args, 52), (p + 1) << 3);
  const isSame = type >= 3 && min(type, 4) == format;
  for (let o = max(first, p << 3); o < end; o++) {
    const at = (o - first) * I;
    if (format < 3) storeOutput(args, at, I, W, p * I * 8 + (o & 7), format, tile);
    else if (isSame) moveGroups(args, at >> 5, groupsOf(I), W, p * groupsOf(I), <usize>(o & 7));
    else packGroups(args, at, I, W, p * groupsOf(I), <usize>(o & 7), format, tile);
  }
}

/** One output's numbers, eight places apart from place `place` on. */
function storeOutput(args: usize, at: i32, I: i32, W: usize, place: i32, format: i32, tile: usize): void {
  for (let i = 0; i < I; i += 32) {
    const count = min(32, I - i);
    const x = numbersAt(args, at + i, count, tile);
    if (format == 0 && count == 32) spread(x, W + ((<usize>(place + i * 8)) << 2));
    else for (let k = 0; k < count; k++) put(x + ((<usize>k) << 2), W, place + (i + k) * 8, format);
  }
}

/** 32 numbers, eight places apart. */
function spread(x: usize, to: usize): void {
  for (const end = x + 128; x < end; x += 16, to += 128) {
    const numbers = v128.load(x);
    v128.store32_lane(to, numbers, 0);
    v128.store32_lane(to, numbers, 1, 32);
    v128.store32_lane(to, numbers, 2, 64);
    v128.store32_lane(to, numbers, 3, 96);
  }
}

/** The number at x, in a format of 32 or 16 bits, at a place of W. */
function put(x: usize, W: usize, place: i32, format: i32): void {
  if (format == 0) store<f32>(W + ((<usize>place) << 2), load<f32>(x));
  else store<u16>(W + ((<usize>place) << 1), <u16>(format == 1 ? toBf16(load<u32>(x)) : toHalf(load<f32>(x))));
}

/** Rows of [I, O]: eight inputs. */
function storeInputs(args: usize, row: i32, tile: usize): void {
  const format = load<i32>(args, 36);
  const W = <usize>load<u32>(args, 40);
  const O = load<i32>(args, 44);
  const first = load<i32>(args, 48);
  const I = load<i32>(args, 56);
  const end = min(load<i32>(args, 52), row + 8);
  for (; row < end; row++)
    for (let o = 0; o < O; o += 32) {
      const count = min(32, O - o);
      const x = numbersAt(args, row * O + o, count, tile);
      for (let k = 0; k < count; k++)
        put(x + ((<usize>k) << 2), W, (((o + k) >> 3) * I + first + row) * 8 + (k & 7), format);
    }
}

/** One output's groups, from the panel's group `group` on. */
function packGroups(args: usize, at: i32, I: i32, W: usize, group: i32, lane: usize, format: i32, tile: usize): void {
  const bytes = format == 3 ? GROUP_Q8 : GROUP_Q4;
  let to = W + <usize>group * bytes;
  for (let i = 0; i < I; i += 32, to += bytes) {
    const x = numbersAt(args, at + i, min(32, I - i), tile);
    if (format == 3) packGroupQ8(x, to, lane);
    else packGroupQ4(x, to, lane);
  }
}

/** `count` groups from group `from` on that are held as the file has them: no number changes. */
function moveGroups(args: usize, from: i32, count: i32, W: usize, group: i32, lane: usize): void {
  const type = load<i32>(args, 8);
  const step = <usize>load<i32>(args, 16);
  const scaleStep = <usize>load<i32>(args, 24);
  let integers = <usize>load<u32>(args, 12) + <usize>from * step;
  let scale = <usize>load<u32>(args, 20) + <usize>from * scaleStep;
  const bytes = type == 3 ? GROUP_Q8 : GROUP_Q4;
  let to = W + <usize>group * bytes;
  for (const end = to + <usize>count * bytes; to < end; to += bytes) {
    store<u16>(to + (lane << 1), load<u16>(scale));
    if (type == 3) movePairs(integers, to + 16 + (lane << 1));
    else moveHalves(v128.load(integers), to + 16 + (lane << 2), type == 5);
    integers += step;
    scale += scaleStep;
  }
}

/** 32 bytes as pairs, those of the eight outputs side by side. */
function movePairs(from: usize, to: usize): void {
  for (const end = from + 32; from < end; from += 16, to += 128) {
    const pairs = v128.load(from);
    v128.store16_lane(to, pairs, 0);
    v128.store16_lane(to, pairs, 1, 16);
    v128.store16_lane(to, pairs, 2, 32);
    v128.store16_lane(to, pairs, 3, 48);
    v128.store16_lane(to, pairs, 4, 64);
    v128.store16_lane(to, pairs, 5, 80);
    v128.store16_lane(to, pairs, 6, 96);
    v128.store16_lane(to, pairs, 7, 112);
  }
}

/** Of 16 bytes with two numbers each come bytes with numbers four places apart, four of each output side by side. */
function moveHalves(bytes: v128, to: usize, isPaired: bool): void {
  const low = v128.and(bytes, i8x16.splat(15));
  const high = v128.and(i16x8.shr_u(bytes, 4), i8x16.splat(15));
  let first = v128.shuffle<i8>(low, high, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  let second = v128.shuffle<i8>(low, high, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  if (isPaired) {
    first = v128.shuffle<i8>(low, high, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    second = v128.shuffle<i8>(low, high, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  const words = v128.or(first, i16x8.shl(second, 4));
  v128.store32_lane(to, words, 0);
  v128.store32_lane(to, words, 1, 32);
  v128.store32_lane(to, words, 2, 64);
  v128.store32_lane(to, words, 3, 96);
}

import { erfx4, expx4, logx4, sigmoidx4, silux4, softplusx4, tanhx4 } from './math';
import { beginUnits, runEnd, takeUnits, unitsEnd } from './schedule';

/**
 * Pointwise formulas. A formula is a list of instructions over tiles of TILE floats; every instruction is one SIMD loop over a
 * tile, so that the cost of reading the instruction is spread over TILE elements. Operands whose tile lies in one piece are
 * read where they are, and whole vectors of the result are written where they belong; the rest goes through registers.
 *
 * args: [registers (scratch; REGISTERS tiles a thread and as many addresses), rowsAt, width, y, yStride, operandCount,
 *        instructionCount,
 *        operands: 5 words each: address, row stride in elements (0: the same for all rows), inner, size, register …,
 *        instructions: 5 words each: opcode, destination, a, b, constant (f32) …]
 * Element j of row t of an operand is at address + 4·(t·stride + ⌊j/inner⌋ mod size).
 */
const TILE: i32 = 256;
const REGISTERS: i32 = 32;
/** Pieces that a thread takes at a time. */
const RUN: i32 = 16;

export function expr(args: usize, thread: i32, threads: i32): void {
  const addresses = <usize>load<u32>(args) + <usize>(thread * REGISTERS * (TILE * 4 + 4));
  const registers = addresses + REGISTERS * 4;
  const rows = load<i32>(<usize>load<u32>(args, 4));
  const width = load<i32>(args, 8);
  for (let i = 0; i < REGISTERS; i++)
    store<u32>(addresses + ((<usize>i) << 2), <u32>(registers + <usize>(i * TILE * 4)));

  // Work is cut into pieces of a row, taken in runs. Of a few rows each thread gets as many.
  let perRow = (width + TILE - 1) / TILE;
  if (rows * perRow < 8 * threads) perRow = ((perRow + threads - 1) / threads) * threads;
  const piece = min(TILE, ((width + perRow - 1) / perRow + 3) & ~3);
  perRow = (width + piece - 1) / piece;
  const pieces = rows * perRow;
  // Few pieces are done before threads that take from each other would know.
  const run = pieces >= 4 * RUN * threads ? RUN : (pieces + threads - 1) / threads;
  beginUnits(pieces, thread, threads);
  for (let n = takeUnits(run); n < unitsEnd(); n = takeUnits(run))
    for (const stop = runEnd(n, run); n < stop; n++) compute(args, n, perRow, piece, registers, addresses);
}

/** Piece `n` of the rows, `perRow` pieces to a row. */
function compute(args: usize, n: i32, perRow: i32, piece: i32, registers: usize, addresses: usize): void {
  const width = load<i32>(args, 8);
  const operandCount = load<i32>(args, 20);
  const instructionCount = load<i32>(args, 24);
  const operands = args + 28;
  const code = operands + <usize>(operandCount * 20);
  const row = n / perRow;
  const start = (n - row * perRow) * piece;
  const count = min(piece, width - start);
  const result = <usize>load<u32>(args, 12) + ((<usize>(row * load<i32>(args, 16) + start)) << 2);
  // The result is in register 0; vectors that would reach past it are made beside it.
  const direct = (count & 3) == 0;
  store<u32>(addresses, <u32>(direct ? result : registers));
  for (let i = 0; i < operandCount; i++) {
    const operand = operands + <usize>(i * 20);
    const base = <usize>load<u32>(operand) + ((<usize>(row * load<i32>(operand, 4))) << 2);
    const register = load<i32>(operand, 16);
    const inner = load<i32>(operand, 8);
    const size = load<i32>(operand, 12);
    const place = registers + <usize>(register * TILE * 4);
    const index = size < width ? start % size : start;
    const inOnePiece = inner == 1 && size > 1 && index + count <= size && direct && instructionCount > 0;
    store<u32>(
      addresses + ((<usize>register) << 2),
      <u32>(inOnePiece ? base + ((<usize>index) << 2) : register == 0 && direct ? result : place),
    );
    if (!inOnePiece) fetch(register == 0 && direct ? result : place, base, start, count, inner, size);
  }
  for (let i = 0; i < instructionCount; i++) {
    const instruction = code + <usize>(i * 20);
    const destination = load<i32>(instruction, 4);
    execute(
      load<i32>(instruction),
      // An operand's register that is used again is a register from then on.
      destination == 0 ? <usize>load<u32>(addresses) : registers + <usize>(destination * TILE * 4),
      <usize>load<u32>(addresses + ((<usize>load<i32>(instruction, 8)) << 2)),
      <usize>load<u32>(addresses + ((<usize>load<i32>(instruction, 12)) << 2)),
      load<f32>(instruction, 16),
      count,
    );
    if (destination != 0)
      store<u32>(addresses + ((<usize>destination) << 2), <u32>(registers + <usize>(destination * TILE * 4)));
  }
  if (!direct) memory.copy(result, registers, (<usize>count) << 2);
}

/** Copies `count` elements of an operand from element `start` of its row on, spreading what is broadcast; zeros fill the last vector. */
function fetch(to: usize, base: usize, start: i32, count: i32, inner: i32, size: i32): void {
  if ((count & 3) != 0) v128.store(to + ((<usize>(count & ~3)) << 2), f32x4.splat(0));
  if (size == 1) {
    const value = f32x4.splat(load<f32>(base));
    for (let i = 0; i < count; i += 4) v128.store(to + ((<usize>i) << 2), value);
    return;
  }
  let done = 0;
  if (inner == 1) {
    let index = start % size;
    while (done < count) {
      const run = min(count - done, size - index);
      memory.copy(to + ((<usize>done) << 2), base + ((<usize>index) << 2), (<usize>run) << 2);
      done += run;
      index = 0;
    }
    return;
  }
  let block = (start / inner) % size;
  let left = inner - (start % inner);
  while (done < count) {
    const run = min(count - done, left);
    const value = load<f32>(base + ((<usize>block) << 2));
    fill(to + ((<usize>done) << 2), run, value);
    done += run;
    left = inner;
    if (++block == size) block = 0;
  }
}

/** `count` times the same number. */
function fill(to: usize, count: i32, value: f32): void {
  const x = f32x4.splat(value);
  let i = 0;
  for (; i + 4 <= count; i += 4) v128.store(to + ((<usize>i) << 2), x);
  for (; i < count; i++) store<f32>(to + ((<usize>i) << 2), value);
}

/** One instruction over a tile. Elements past `count`, up to the next multiple of 4, are computed and never used. */
function execute(opcode: i32, to: usize, a: usize, b: usize, constant: f32, count: i32): void {
  const end = to + ((<usize>((count + 3) & ~3)) << 2);
  const one = f32x4.splat(1);
  const zero = f32x4.splat(0);
  switch (opcode) {
    case 0: {
      const c = f32x4.splat(constant);
      for (; to < end; to += 16) v128.store(to, c);
      break;
    }
    case 1:
      for (; to < end; to += 16, a += 16, b += 16) v128.store(to, f32x4.add(v128.load(a), v128.load(b)));
      break;
    case 2:
      for (; to < end; to += 16, a += 16, b += 16) v128.store(to, f32x4.sub(v128.load(a), v128.load(b)));
      break;
    case 3:
      for (; to < end; to += 16, a += 16, b += 16) v128.store(to, f32x4.mul(v128.load(a), v128.load(b)));
      break;
    case 4:
      for (; to < end; to += 16, a += 16, b += 16) v128.store(to, f32x4.div(v128.load(a), v128.load(b)));
      break;
    case 5:
      for (; to < end; to += 16, a += 16) v128.store(to, f32x4.neg(v128.load(a)));
      break;
    case 6:
      for (; to < end; to += 16, a += 16) v128.store(to, expx4(v128.load(a)));
      break;
    case 7:
      for (; to < end; to += 16, a += 16) v128.store(to, logx4(v128.load(a)));
      break;
    case 8:
      for (; to < end; to += 16, a += 16) v128.store(to, f32x4.sqrt(v128.load(a)));
      break;
    case 9:
      for (; to < end; to += 16, a += 16) {
        const x = v128.load(a);
        v128.store(to, f32x4.mul(x, x));
      }
      break;
    case 10:
      for (; to < end; to += 16, a += 16) v128.store(to, f32x4.abs(v128.load(a)));
      break;
    case 11:
      for (; to < end; to += 16, a += 16) v128.store(to, v128.and(f32x4.gt(v128.load(a), zero), one));
      break;
    case 12:
      for (; to < end; to += 16, a += 16, b += 16) v128.store(to, f32x4.max(v128.load(a), v128.load(b)));
      break;
    case 13:
      for (; to < end; to += 16, a += 16, b += 16) v128.store(to, f32x4.min(v128.load(a), v128.load(b)));
      break;
    case 14:
      for (; to < end; to += 16, a += 16) v128.store(to, f32x4.max(v128.load(a), zero));
      break;
    case 15:
      for (; to < end; to += 16, a += 16) v128.store(to, sigmoidx4(v128.load(a)));
      break;
    case 16:
      for (; to < end; to += 16, a += 16) v128.store(to, tanhx4(v128.load(a)));
      break;
    case 17:
      for (; to < end; to += 16, a += 16) v128.store(to, silux4(v128.load(a)));
      break;
    case 18:
      for (; to < end; to += 16, a += 16) v128.store(to, softplusx4(v128.load(a)));
      break;
    case 19:
      for (; to < end; to += 16, a += 16) v128.store(to, f32x4.neg(softplusx4(f32x4.neg(v128.load(a)))));
      break;
    case 20:
      for (; to < end; to += 16, a += 16) v128.store(to, erfx4(v128.load(a)));
      break;
    case 21:
      for (; to < end; to += 16, a += 16) {
        const x = v128.load(a);
        const half = f32x4.mul(f32x4.splat(0.5), x);
        v128.store(to, f32x4.add(half, f32x4.mul(half, erfx4(f32x4.mul(x, f32x4.splat(0.7071067811865476))))));
      }
      break;
    case 22:
      for (; to < end; to += 16, a += 16) {
        const x = v128.load(a);
        const cubic = f32x4.mul(f32x4.splat(0.044715), f32x4.mul(x, f32x4.mul(x, x)));
        const inner = f32x4.mul(f32x4.splat(0.7978845608028654), f32x4.add(x, cubic));
        v128.store(to, f32x4.mul(f32x4.mul(f32x4.splat(0.5), x), f32x4.add(one, tanhx4(inner))));
      }
      break;
    default:
      unreachable();
  }
}

import { UnsupportedError } from '../../core/errors.ts';
import type { Place, Step } from '../../core/plan.ts';
import { rowSize } from '../../core/shape.ts';
import { broadcastPattern } from '../../ops/broadcast.ts';
import { operandNames } from '../../ops/expr.ts';
import type { Expression } from '../../ops/expression.ts';
import { format } from '../../ops/expression.ts';
import type { FunctionName } from '../../ops/functions.ts';
import { type Encoder, Float, type Word } from './encoder.ts';

/** The kernel's registers: tiles of TILE floats, REGISTERS a thread. The result is left in the first. */
const TILE = 256;
const REGISTERS = 32;

/** Instruction numbers; 0 fills a register with a constant. */
const opcodes: Readonly<Record<FunctionName, number>> = {
  add: 1,
  sub: 2,
  mul: 3,
  div: 4,
  neg: 5,
  exp: 6,
  log: 7,
  sqrt: 8,
  square: 9,
  abs: 10,
  step: 11,
  max: 12,
  min: 13,
  relu: 14,
  sigmoid: 15,
  tanh: 16,
  silu: 17,
  softplus: 18,
  logsigmoid: 19,
  erf: 20,
  gelu: 21,
  gelutanh: 22,
};

interface Instruction {
  opcode: number;
  to: number;
  a: number;
  b: number;
  constant: number;
}

/** In elements: tiles, and the address of each. */
export const exprScratch = (threads: number): number => threads * REGISTERS * (TILE + 1);

/** One kernel call for a formula: operands with the way they broadcast, then instructions over registers. */
export function encodeExpr({ inputs, outputs: { y }, attributes, scratch, path }: Step, e: Encoder): void {
  const places = operandNames.flatMap((name) => inputs[name] ?? []);
  const { operandRegisters, instructions } = compile(attributes['formula'] as Expression, places.length, path);
  const operands = places.flatMap((place, i) => operandWords(place, y!, operandRegisters[i]!, e));
  const code = instructions.flatMap(({ opcode, to, a, b, constant }): Word[] => [
    opcode,
    to,
    a,
    b,
    new Float(constant),
  ]);
  e.call(
    'expr',
    e.scratch(scratch),
    e.count(y!.shape[0] ?? 1),
    rowSize(y!.shape),
    ...e.operand(y),
    places.length,
    instructions.length,
    ...operands,
    ...code,
  );
}

function operandWords(place: Place, y: Place, register: number, e: Encoder): Word[] {
  const { perRow, inner, size } = broadcastPattern(place.shape, y.shape);
  return [e.address(place), perRow ? place.stride : 0, inner, size, register];
}

/** Assigns registers to a formula's distinct parts, each computed once. */
function compile(formula: Expression, operandCount: number, path: string) {
  // A bare operand is fetched where the result belongs.
  if (formula.kind === 'operand') return { operandRegisters: [0], instructions: [] };
  const parts: { key: string; expression: Expression }[] = [];
  const uses = new Map<string, number>();
  const visit = (expression: Expression) => {
    const key = format(expression);
    uses.set(key, (uses.get(key) ?? 0) + 1);
    if (uses.get(key)! > 1) return;
    if (expression.kind === 'call') expression.args.forEach(visit);
    if (expression.kind !== 'operand') parts.push({ key, expression });
  };
  visit(formula);

  const free = Array.from({ length: REGISTERS - 1 }, (_, i) => REGISTERS - 1 - i);
  const registers = new Map<string, number>();
  const take = (): number => {
    const register = free.pop();
    if (register === undefined)
      throw new UnsupportedError(`expr: a formula needs more than ${REGISTERS} registers (at ${path}): split it`);
    return register;
  };
  const release = (expression: Expression) => {
    const key = format(expression);
    uses.set(key, uses.get(key)! - 1);
    if (uses.get(key) === 0) free.push(registers.get(key)!);
  };
  const operandRegisters = Array.from({ length: operandCount }, (_, i) => {
    const register = take();
    registers.set(`$${i}`, register);
    return register;
  });
  const instructions = parts.map(({ key, expression }, i): Instruction => {
    const args = expression.kind === 'call' ? expression.args : [];
    const [a = 0, b = 0] = args.map((arg) => registers.get(format(arg))!);
    // Element by element, so an operand's register may take the result.
    args.forEach(release);
    const to = i === parts.length - 1 ? 0 : take();
    registers.set(key, to);
    if (expression.kind === 'number') return { opcode: 0, to, a, b, constant: expression.value };
    return { opcode: opcodes[(expression as { name: FunctionName }).name], to, a, b, constant: 0 };
  });
  return { operandRegisters, instructions };
}

import { ShapeError } from '../core/errors.ts';
import type { Op } from '../core/op.ts';
import { type Shape, sameShape } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';
import { type BroadcastPattern, broadcastPattern, broadcastShape } from './broadcast.ts';
import {
  call,
  derivative,
  type Expression,
  evaluator,
  format,
  operand,
  operands,
  parse,
  replacePart,
  substitute,
} from './expression.ts';

/** Which number of an operand's row element `j` reads. Most operands are not broadcast, and need no division. */
const place = ({ inner, size }: BroadcastPattern, j: number): number =>
  inner === 1 && j < size ? j : Math.floor(j / inner) % size;

/** Names of the operands, in order. */
export const operandNames = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'] as const;

/** Shapes that broadcast to a pattern, for the cases. */
const broadcasts = (pattern: string): string[] =>
  pattern === 'T I' ? ['T I', 'I', '1', 'T 1'] : ['T H I', 'H 1', 'T H 1', 'I'];

/**
 * y = formula(a, b, c, …), element by element: pointwise mathematics written as mathematics and run as one kernel.
 *
 * Operands broadcast as in NumPy (axes aligned at the last, absent or 1 meaning "the same for all"), with one limit
 * that keeps kernels simple: after the first axis, the axes in which an operand is not broadcast must be adjacent.
 */
export const exprOp: Op = {
  name: 'expr',
  inputs: Object.fromEntries(operandNames.map((name) => [`${name}?`, '*'])),
  outputs: { y: '*' },
  infer(inputs, { shape }) {
    const shapes = Object.values(inputs).map((tensor) => tensor.shape);
    const target = (shape as Shape | undefined) ?? broadcastShape(shapes);
    for (const operandShape of shapes) broadcastPattern(operandShape, target);
    return [target];
  },
  reference(inputs, { y }, { formula }) {
    const evaluate = evaluator(formula as Expression);
    const views = operandNames.flatMap((name) => inputs[name] ?? []);
    const patterns = views.map((view) => broadcastPattern(view.shape, y!.shape));
    const values = new Array<number>(views.length).fill(0);
    const rows = y!.shape[0] ?? 1;
    const width = y!.shape.slice(1).reduce((a, b) => a * b, 1);
    for (let t = 0; t < rows; t++) {
      const to = y!.row(t);
      const from = views.map((view, i) => view.row(patterns[i]!.perRow ? t : 0));
      for (let j = 0; j < width; j++) {
        for (let i = 0; i < views.length; i++) values[i] = views[i]!.data[from[i]! + place(patterns[i]!, j)]!;
        y!.data[to + j] = evaluate(values);
      }
    }
  },
  grad({ inputs, outputs, attributes, gradients, wants }) {
    const formula = attributes['formula'] as Expression;
    const tensors = operandNames.flatMap((name) => inputs[name] ?? []);
    const dy = gradients['y']!;
    const all = [...tensors, dy, outputs['y']!];
    const result: Record<string, Tensor> = {};
    // Operands that are only added have one derivative: it is computed once.
    const made = new Map<string, Tensor>();
    for (const [i, tensor] of tensors.entries()) {
      const name = operandNames[i]!;
      if (!wants(name)) continue;
      // What the derivative has in it of the value itself, as those of exp, sigmoid and tanh do, is read and not computed again.
      const slope = replacePart(derivative(formula, i), formula, operand(tensors.length + 1));
      const local = call('mul', operand(tensors.length), slope);
      const key = format(local);
      const isPassed = local.kind === 'operand' && local.index === tensors.length;
      const given = made.get(key) ?? (isPassed ? dy : exprOf(local, all, dy.shape));
      made.set(key, given);
      result[name] = sumTo(given, tensor.shape);
    }
    return result;
  },
  cases: [
    'silu($0)',
    'softplus($0 + $1)',
    '$0 * silu($1)',
    '$0 + $1 * $2',
    'gelu($0)',
    'gelutanh($0) - tanh($1)',
    'exp(-exp($0))',
    'logsigmoid($0) / 16',
    'square(relu($0))',
    'sqrt(1 + square($0)) / (2 + abs($1))',
    'sigmoid($0 + $1)',
    'exp($0 * $1)',
    'log(1.5 + square($0))',
    'max($0, $1) * min($0, 0.5) * erf($1)',
    'sigmoid($0) * ($1 - $2) + step($2)',
  ].flatMap((text) => {
    const names = operandNames.slice(0, operands(parse(text)).length);
    const layouts: { pattern: string; axes: Record<string, number> }[] = [
      { pattern: 'T I', axes: { I: 63 } },
      { pattern: 'T I', axes: { I: 1 } },
      { pattern: 'T H I', axes: { H: 3, I: 16 } },
    ];
    return layouts.map(({ pattern, axes }) => ({
      axes,
      segments: [3],
      attributes: { formula: parse(text) },
      optional: Object.fromEntries(names.map((name, i) => [name, i === 0 ? pattern : broadcasts(pattern)[i % 4]!])),
    }));
  }),
};

/**
 * y[i] = Σ x[j] over all j that broadcast from i: the adjoint of broadcasting. The output's shape is an attribute; its
 * axes are those of x, absent, or 1.
 */
export const sumToOp: Op = {
  name: 'sumTo',
  inputs: { x: '*' },
  outputs: { y: '*' },
  infer: (_, { shape }) => [shape as Shape],
  reference({ x }, { y }) {
    const { perRow, inner, size } = broadcastPattern(y!.shape, x!.shape);
    const rows = x!.shape[0] ?? 1;
    const width = x!.shape.slice(1).reduce((a, b) => a * b, 1);
    for (let t = 0; t < (perRow ? rows : 1); t++) y!.data.fill(0, y!.row(t), y!.row(t) + size);
    for (let t = 0; t < rows; t++) {
      const from = x!.row(t);
      const to = y!.row(perRow ? t : 0);
      for (let j = 0; j < width; j++) y!.data[to + (Math.floor(j / inner) % size)]! += x!.data[from + j]!;
    }
  },
  grad: ({ inputs, gradients }) => ({ x: broadcastTo(gradients['y']!, inputs['x']!.shape) }),
  cases: [
    { axes: { I: 63 }, segments: [5], attributes: { shape: [63] }, patterns: { x: 'T I' } },
    { axes: { I: 3 }, segments: [7], attributes: { shape: [1] }, patterns: { x: 'T I' } },
    { axes: { H: 3, I: 5 }, segments: [4], attributes: { shape: ['tokens', 3, 1] }, patterns: { x: 'T H I' } },
    { axes: { H: 3, I: 5 }, segments: [4], attributes: { shape: [3, 1] }, patterns: { x: 'T H I' } },
    { axes: { H: 3, I: 5 }, segments: [4], attributes: { shape: [5] }, patterns: { x: 'T H I' } },
  ],
};

/** Sums over the axes in which `shape` is broadcast; `x` itself where it already has that shape. */
export const sumTo = (x: Tensor, shape: Shape): Tensor =>
  sameShape(x.shape, shape) ? x : apply(sumToOp, { x }, { shape })[0]!;

/** ``expr`silu(${x}) * ${y}` ``: a formula over tensors and numbers. */
export function expr(strings: TemplateStringsArray, ...values: readonly (Tensor | number)[]): Tensor {
  const tensors: Tensor[] = [];
  let text = strings[0]!;
  for (const [i, value] of values.entries()) {
    if (typeof value === 'number') text += ` (${value}) `;
    else {
      if (!tensors.includes(value)) tensors.push(value);
      text += ` $${tensors.indexOf(value)} `;
    }
    text += strings[i + 1]!;
  }
  return exprOf(parse(text), tensors);
}

/** The formula over the tensors it reads (unread ones are dropped), broadcast to `shape` if it is given. */
function exprOf(formula: Expression, tensors: readonly Tensor[], shape?: Shape): Tensor {
  const used = operands(formula);
  if (used.length > operandNames.length) {
    throw new ShapeError(`expr: ${used.length} operands, but at most ${operandNames.length} fit`);
  }
  const renumbered: Expression[] = [];
  for (const [i, index] of used.entries()) renumbered[index] = operand(i);
  const inputs = Object.fromEntries(used.map((index, i) => [operandNames[i]!, tensors[index]!]));
  const target = shape ?? broadcastShape(tensors.map((tensor) => tensor.shape));
  return apply(exprOp, inputs, { formula: substitute(formula, renumbered), shape: target })[0]!;
}

/** `x` repeated along the axes that `shape` has and it lacks. */
export const broadcastTo = (x: Tensor, shape: Shape): Tensor =>
  sameShape(x.shape, shape) ? x : exprOf(operand(0), [x], shape);

/** The most instructions of a formula that goes into the sum its value is added to: more are too much to do twice, where others read it, too. */
const SHORT = 3;

/**
 * a + b, of one shape. The formulas of those of them that are `own`, read by nothing else, are computed within the sum where they are short or
 * sums themselves: their values are neither written nor read.
 */
export function addWithin(a: Tensor, b: Tensor, isOwn: (tensor: Tensor) => boolean): Tensor {
  const tensors: Tensor[] = [];
  const place = (tensor: Tensor): Expression => {
    if (!tensors.includes(tensor)) tensors.push(tensor);
    return operand(tensors.indexOf(tensor));
  };
  const terms = [a, b].map((tensor): Expression => {
    const { op, attributes, inputs } = tensor.node;
    const formula = attributes['formula'] as Expression;
    if (op !== exprOp || !isOwn(tensor) || !isShort(formula)) return place(tensor);
    const operandTensors = operandNames.flatMap((name) => inputs[name] ?? []);
    return substitute(formula, operandTensors.map(place));
  });
  return tensors.length > operandNames.length
    ? expr`${a} + ${b}`
    : exprOf(call('add', terms[0]!, terms[1]!), tensors, a.shape);
}

/** Whether a formula is a sum of short ones, of additions and products alone. */
function isShort(formula: Expression): boolean {
  if (formula.kind === 'call' && formula.name === 'add') return formula.args.every(isShort);
  return instructions(formula) <= SHORT;
}

/** How many instructions a formula of plain arithmetic is; infinitely many of another. */
function instructions(formula: Expression): number {
  if (formula.kind !== 'call') return formula.kind === 'number' ? 1 : 0;
  const isPlain = ['add', 'sub', 'mul', 'neg'].includes(formula.name);
  return formula.args.reduce((sum, arg) => sum + instructions(arg), isPlain ? 1 : Number.POSITIVE_INFINITY);
}

/** a + b, of one shape or broadcast. */
export const add = (a: Tensor, b: Tensor): Tensor => expr`${a} + ${b}`;

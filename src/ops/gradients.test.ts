import { expect, test } from 'vitest';
import { reachable } from '../core/grad.ts';
import type { Tensor } from '../core/tensor.ts';
import { input } from '../core/trace.ts';
import { expr, sumTo } from './expr.ts';
import { type Expression, format } from './expression.ts';
import { gradients } from './gradients.ts';

const [x, a, b, c, w] = ['x', 'a', 'b', 'c', 'w'].map((name) => input(name, ['tokens', 4])) as [
  Tensor,
  Tensor,
  Tensor,
  Tensor,
  Tensor,
];
const operandsOf = (tensor: Tensor) => new Set(Object.values(tensor.node.inputs));
const formulaOf = (tensor: Tensor) => format(tensor.node.attributes['formula'] as Expression);

test('the gradients of one tensor are added in one formula', () => {
  const parts = [a, b, c].map((factor) => expr`${x} * ${factor}`);
  const [dx] = gradients(sumTo(expr`${parts[0]!} + ${parts[1]!} + ${parts[2]!}`, [1]), [x]);
  expect(formulaOf(dx!)).toBe('add(add(mul($1, $0), mul($1, $2)), mul($1, $3))');
  expect([...operandsOf(dx!)].filter(({ node }) => !node.op)).toEqual([c, b, a]);
});

test('a gradient that others read is computed once', () => {
  const y = expr`${x} + ${expr`${x} * ${a}`}`;
  const [dx] = gradients(sumTo(expr`${y} * ${w}`, [1]), [x]);
  expect(formulaOf(dx!)).toBe('add($0, mul($0, $1))');
  expect(operandsOf(dx!)).not.toContain(w);
  expect(operandsOf(dx!)).toContain(a);
});

test('what takes long is not computed within a sum, and a gradient that is passed on is not copied', () => {
  const [dx] = gradients(sumTo(expr`${expr`silu(${x})`} + ${expr`${x} * ${a}`}`, [1]), [x]);
  expect(formulaOf(dx!)).toBe('add(mul($1, $0), $2)');
  const [dy] = gradients(sumTo(expr`${x} + ${a}`, [1]), [x]);
  // The broadcast seed alone.
  expect([...reachable([dy!.node])].filter(({ op }) => op?.name === 'expr')).toHaveLength(1);
});

test('operands with one derivative share it', () => {
  const y = expr`silu(${x} + ${a}) * ${b}`;
  const [dx, da] = gradients(sumTo(expr`${y} * ${w}`, [1]), [x, a]);
  expect(da).toBe(dx);
});

test('what a derivative has of the value is read, not computed again', () => {
  for (const [formula, expected] of [
    [expr`sigmoid(${x} + ${a})`, 'mul($0, mul($1, sub(1, $1)))'],
    [expr`tanh(${x})`, 'mul($0, sub(1, square($1)))'],
    [expr`exp(${x} * ${a})`, 'mul($1, mul($2, $0))'],
  ] as const) {
    const [dx] = gradients(sumTo(expr`${formula} * ${w}`, [1]), [x]);
    expect(formulaOf(dx!)).toBe(expected);
    expect(operandsOf(dx!)).toContain(formula);
  }
});

test('the derivative of a square of relu has one test of the sign', () => {
  const [dx] = gradients(sumTo(expr`${expr`square(relu(${x}))`} * ${w}`, [1]), [x]);
  expect(formulaOf(dx!)).toBe('mul($1, mul(2, relu($0)))');
});

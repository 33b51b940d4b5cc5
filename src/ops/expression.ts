import { nearest, RiverrunError } from '../core/errors.ts';
import { type FunctionName, functions, type ScalarFunction } from './functions.ts';

/** A scalar formula over numbered operands. */
export type Expression =
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'operand'; readonly index: number }
  | { readonly kind: 'call'; readonly name: FunctionName; readonly args: readonly Expression[] };

export const number = (value: number): Expression => ({ kind: 'number', value });
export const operand = (index: number): Expression => ({ kind: 'operand', index });
const table: Readonly<Record<string, ScalarFunction>> = functions;

const isNumber = (e: Expression, value?: number): boolean =>
  e.kind === 'number' && (value === undefined || e.value === value);

const isNegation = (e: Expression): e is Extract<Expression, { kind: 'call' }> => e.kind === 'call' && e.name === 'neg';

/** Whether an expression is a product with this factor, or the factor itself. */
const hasFactor = (e: Expression, factor: Expression): boolean =>
  e.kind === 'call' && (e.name === 'mul' ? e.args.some((arg) => hasFactor(arg, factor)) : format(e) === format(factor));

/** A function call, with the simplifications that keep derivatives short: constants folded, ×1, ×0, +0 removed. */
export function call(name: FunctionName, ...args: Expression[]): Expression {
  const [a, b] = args as [Expression, Expression];
  if (args.every((arg) => arg.kind === 'number')) return number(table[name]!.value(...args.map((arg) => arg.value)));
  if (name === 'add' && isNumber(a, 0)) return b;
  if ((name === 'add' || name === 'sub') && isNumber(b, 0)) return a;
  if (name === 'sub' && isNumber(a, 0)) return call('neg', b);
  if (name === 'add' && isNegation(b)) return call('sub', a, b.args[0]!);
  if (name === 'add' && isNegation(a)) return call('sub', b, a.args[0]!);
  if (name === 'mul' && (isNumber(a, 0) || isNumber(b, 0))) return number(0);
  if (name === 'mul' && isNumber(a, 1)) return b;
  if ((name === 'mul' || name === 'div') && isNumber(b, 1)) return a;
  if (name === 'mul' && isNumber(a, -1)) return call('neg', b);
  if (name === 'mul' && isNumber(b, -1)) return call('neg', a);
  // relu(x) is 0 where step(x) is.
  if (name === 'mul' && b.kind === 'call' && b.name === 'step' && hasFactor(a, call('relu', b.args[0]!))) return a;
  if (name === 'div' && isNumber(a, 0)) return number(0);
  if (name === 'neg' && a.kind === 'call' && a.name === 'neg') return a.args[0]!;
  return { kind: 'call', name, args };
}

/**
 * Parses a formula: numbers, `$i` for operand i, `+ - * /` with the usual precedence, parentheses and the functions of
 * `functions.ts`.
 */
export function parse(text: string): Expression {
  return new Parser(text).parse();
}

class Parser {
  readonly #text: string;
  readonly #tokens: string[];
  #next = 0;

  constructor(text: string) {
    this.#text = text;
    this.#tokens = text.match(/\$\d+|\d+(?:\.\d+)?(?:e[+-]?\d+)?|[A-Za-z]\w*|\S/gi) ?? [];
  }

  parse(): Expression {
    const result = this.#sum();
    if (this.#peek() !== undefined) this.#fail(`"${this.#peek()}" is unexpected`);
    return result;
  }

  #peek(): string | undefined {
    return this.#tokens[this.#next];
  }

  #take(expected?: string): string {
    const token = this.#tokens[this.#next++];
    if (token === undefined || (expected !== undefined && token !== expected)) {
      this.#fail(
        `${expected ? `"${expected}"` : 'more'} is expected ${token === undefined ? 'at the end' : `before "${token}"`}`,
      );
    }
    return token;
  }

  #fail(problem: string): never {
    throw new RiverrunError(`expr: ${problem} in "${this.#text}"`);
  }

  #sum(): Expression {
    let left = this.#product();
    while (this.#peek() === '+' || this.#peek() === '-') {
      left = call(this.#take() === '+' ? 'add' : 'sub', left, this.#product());
    }
    return left;
  }

  #product(): Expression {
    let left = this.#factor();
    while (this.#peek() === '*' || this.#peek() === '/') {
      left = call(this.#take() === '*' ? 'mul' : 'div', left, this.#factor());
    }
    return left;
  }

  #factor(): Expression {
    const token = this.#take();
    if (token === '-') return call('neg', this.#factor());
    if (token === '(') {
      const inner = this.#sum();
      this.#take(')');
      return inner;
    }
    if (token.startsWith('$')) return operand(Number(token.slice(1)));
    if (/^\d/.test(token)) return number(Number(token));
    if (/^[A-Za-z]/.test(token)) return this.#call(token);
    return this.#fail(`"${token}" is unexpected`);
  }

  #call(name: string): Expression {
    const known = Object.hasOwn(table, name) ? table[name] : undefined;
    if (!known) {
      const near = nearest(name, Object.keys(table));
      this.#fail(`unknown function "${name}"${near.length ? ` (did you mean ${near.join(' or ')}?)` : ''}`);
    }
    const args: Expression[] = [];
    this.#take('(');
    do args.push(this.#sum());
    while (this.#peek() === ',' && this.#take());
    this.#take(')');
    if (args.length !== known.arity) this.#fail(`${name} takes ${known.arity} arguments, not ${args.length},`);
    return call(name as FunctionName, ...args);
  }
}

/** Replaces operand i by `replacements[i]`. */
export function substitute(e: Expression, replacements: readonly Expression[]): Expression {
  if (e.kind === 'operand') return replacements[e.index]!;
  if (e.kind === 'number') return e;
  return call(e.name, ...e.args.map((arg) => substitute(arg, replacements)));
}

/** Puts `replacement` in the place of every part that is the expression `part`. */
export function replacePart(e: Expression, part: Expression, replacement: Expression, key = format(part)): Expression {
  if (format(e) === key) return replacement;
  return e.kind === 'call' ? call(e.name, ...e.args.map((arg) => replacePart(arg, part, replacement, key))) : e;
}

/** ∂e/∂operand, by the chain rule over the table's derivatives. */
export function derivative(e: Expression, index: number): Expression {
  if (e.kind === 'number') return number(0);
  if (e.kind === 'operand') return number(e.index === index ? 1 : 0);
  let sum = number(0);
  for (const [i, arg] of e.args.entries()) {
    const inner = derivative(arg, index);
    if (isNumber(inner, 0)) continue;
    const outer = substitute(parse(table[e.name]!.derivatives[i]!), e.args);
    sum = call('add', sum, call('mul', outer, inner));
  }
  return sum;
}

/** The operands that the expression reads, in increasing order. */
export function operands(e: Expression, found = new Set<number>()): number[] {
  if (e.kind === 'operand') found.add(e.index);
  if (e.kind === 'call') for (const arg of e.args) operands(arg, found);
  return [...found].sort((a, b) => a - b);
}

/** A function that evaluates the expression on operand values. */
export function evaluator(e: Expression): (values: readonly number[]) => number {
  if (e.kind === 'number') return () => e.value;
  if (e.kind === 'operand') return (values) => values[e.index]!;
  const value = table[e.name]!.value;
  const [a, b, c] = e.args.map(evaluator);
  if (!b) return (values) => value(a!(values));
  if (!c) return (values) => value(a!(values), b(values));
  return (values) => value(a!(values), b(values), c(values));
}

/** The expression as text, for error messages and tests. */
export function format(e: Expression): string {
  if (e.kind === 'number') return String(e.value);
  if (e.kind === 'operand') return `$${e.index}`;
  return `${e.name}(${e.args.map(format).join(', ')})`;
}

/** Which element: of token t, head h, channel i. */
export interface Index {
  readonly t: number;
  readonly h: number;
  readonly i: number;
}

export type Letters = Readonly<Record<string, (index: Index) => number>>;

const functions: Readonly<Record<string, (x: number) => number>> = {
  exp: Math.exp,
  log: Math.log,
  σ: (x) => 1 / (1 + Math.exp(-x)),
};

/**
 * Reads a formula as pages write it: letters with `_t`, products by writing side by side or with ⊙, − / ^ √ and parentheses, and
 * functions of what stands next. Throws for what it can't read.
 */
export function mathematics(
  formula: string,
  letters: Letters,
  more: Readonly<Record<string, (x: number) => number>> = {},
): (index: Index) => number {
  const tokens = formula.match(/\d+|\p{L}+(?:_t)?|[−/^√()⊙]/gu) ?? [];
  if (tokens.join('') !== formula.replaceAll(' ', '')) throw new Error(`${formula} has signs that are not known`);
  const known = { ...functions, ...more };
  let at = 0;
  type Value = (index: Index) => number;
  const take = (sign: string): boolean => tokens[at] === sign && ++at > 0;

  function sum(): Value {
    let value: Value = take('−') ? negative(product()) : product();
    while (take('−')) {
      const [before, after] = [value, product()];
      value = (index) => before(index) - after(index);
    }
    return value;
  }
  const negative =
    (value: Value): Value =>
    (index) =>
      -value(index);

  function product(): Value {
    let value = power();
    while (at < tokens.length && !['−', ')'].includes(tokens[at]!)) {
      const isDivision = take('/');
      if (!isDivision) take('⊙');
      const [before, after] = [value, power()];
      value = isDivision ? (index) => before(index) / after(index) : (index) => before(index) * after(index);
    }
    return value;
  }

  function power(): Value {
    const base = primary();
    if (!take('^')) return base;
    const exponent = primary();
    return (index) => base(index) ** exponent(index);
  }

  function primary(): Value {
    const token = tokens[at++];
    if (token === '(') {
      const inner = sum();
      if (!take(')')) throw new Error(`${formula} lacks a parenthesis`);
      return inner;
    }
    if (token === '√') {
      const inner = primary();
      return (index) => Math.sqrt(inner(index));
    }
    if (token !== undefined && /^\d+$/.test(token)) return () => Number(token);
    if (token === 'e') return () => Math.E;
    const f = known[token ?? ''];
    if (f) {
      const inner = primary();
      return (index) => f(inner(index));
    }
    const letter = letters[token ?? ''];
    if (!letter) throw new Error(`${formula}: ${token ?? 'its end'} is not known`);
    return letter;
  }

  const value = sum();
  if (at < tokens.length) throw new Error(`${formula}: ${tokens[at]} is one too many`);
  return value;
}

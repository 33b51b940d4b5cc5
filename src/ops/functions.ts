import { erf } from './erf.ts';

/**
 * The scalar functions that `expr` knows: one row each, value and derivative side by side. A derivative is an
 * expression in the arguments `$0`, `$1` …, one per argument.
 */
export interface ScalarFunction {
  readonly arity: 1 | 2 | 3;
  readonly value: (...args: number[]) => number;
  readonly derivatives: readonly string[];
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const SQRT_2_OVER_PI = Math.sqrt(2 / Math.PI);

export const functions = {
  add: { arity: 2, value: (a, b) => a + b, derivatives: ['1', '1'] },
  sub: { arity: 2, value: (a, b) => a - b, derivatives: ['1', '-1'] },
  mul: { arity: 2, value: (a, b) => a * b, derivatives: ['$1', '$0'] },
  div: { arity: 2, value: (a, b) => a / b, derivatives: ['1 / $1', '-$0 / square($1)'] },
  neg: { arity: 1, value: (x) => -x, derivatives: ['-1'] },
  exp: { arity: 1, value: Math.exp, derivatives: ['exp($0)'] },
  log: { arity: 1, value: Math.log, derivatives: ['1 / $0'] },
  sqrt: { arity: 1, value: Math.sqrt, derivatives: ['0.5 / sqrt($0)'] },
  square: { arity: 1, value: (x) => x * x, derivatives: ['2 * $0'] },
  abs: { arity: 1, value: Math.abs, derivatives: ['step($0) - step(-$0)'] },
  /** 1 where x > 0, else 0. */
  step: { arity: 1, value: (x) => (x > 0 ? 1 : 0), derivatives: ['0'] },
  max: { arity: 2, value: Math.max, derivatives: ['step($0 - $1)', '1 - step($0 - $1)'] },
  min: { arity: 2, value: Math.min, derivatives: ['step($1 - $0)', '1 - step($1 - $0)'] },
  relu: { arity: 1, value: (x) => Math.max(x, 0), derivatives: ['step($0)'] },
  sigmoid: { arity: 1, value: sigmoid, derivatives: ['sigmoid($0) * (1 - sigmoid($0))'] },
  tanh: { arity: 1, value: Math.tanh, derivatives: ['1 - square(tanh($0))'] },
  /** x·σ(x), also called swish. */
  silu: { arity: 1, value: (x) => x * sigmoid(x), derivatives: ['sigmoid($0) * (1 + $0 * (1 - sigmoid($0)))'] },
  /** log(1 + eˣ); beyond 20 it is x to double the precision of f32, and eˣ would overflow. */
  softplus: { arity: 1, value: (x) => (x > 20 ? x : Math.log1p(Math.exp(x))), derivatives: ['sigmoid($0)'] },
  /** log σ(x). */
  logsigmoid: {
    arity: 1,
    value: (x) => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x))),
    derivatives: ['sigmoid(-$0)'],
  },
  erf: { arity: 1, value: erf, derivatives: [`${2 / Math.sqrt(Math.PI)} * exp(-square($0))`] },
  /** x·Φ(x), exact. */
  gelu: {
    arity: 1,
    value: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
    derivatives: [
      `0.5 * (1 + erf($0 * ${Math.SQRT1_2})) + $0 * ${1 / Math.sqrt(2 * Math.PI)} * exp(-0.5 * square($0))`,
    ],
  },
  /** The tanh approximation of x·Φ(x) that GPT-2 was trained with (Hendrycks & Gimpel 2016). */
  gelutanh: {
    arity: 1,
    value: (x) => 0.5 * x * (1 + Math.tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x))),
    derivatives: [
      `0.5 * (1 + tanh(${SQRT_2_OVER_PI} * ($0 + 0.044715 * $0 * square($0)))) + 0.5 * $0 * ` +
        `(1 - square(tanh(${SQRT_2_OVER_PI} * ($0 + 0.044715 * $0 * square($0))))) * ` +
        `${SQRT_2_OVER_PI} * (1 + 0.134145 * square($0))`,
    ],
  },
} satisfies Record<string, ScalarFunction>;

export type FunctionName = keyof typeof functions;

import { type Case, type Op, position, rowCount, type View } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';
import { sumTo } from './expr.ts';

// One channel is its own norm: a large epsilon keeps the case from being ±1 with a derivative of 0.
const cases = [1, 3, 63, 768].map((I) => ({
  axes: { I },
  segments: [3],
  patterns: { x: 'T I' },
  attributes: { epsilon: I === 1 ? 0.5 : 1e-5 },
}));
const headCase = {
  axes: { H: 3, I: 16 },
  segments: [5],
  patterns: { x: 'T H I', dy: 'T H I' },
  attributes: { epsilon: 1e-3 },
};

const headWeightCases: readonly Case[] = [headCase, { ...headCase, axes: { H: 3, I: 7 }, segments: [2, 12] }];
const plainGradCases = [...cases.map((one) => ({ ...one, patterns: { x: 'T I', dy: 'T I' } })), headCase];
const gradCases: readonly Case[] = [
  ...plainGradCases,
  // 41 rows are more than one block of those that kernels sum apart.
  ...[...plainGradCases, { ...plainGradCases[2]!, segments: [41] }, { ...headCase, segments: [23] }].flatMap((one) =>
    [true, false].map((sums) => ({ ...one, optional: { w: true }, attributes: { ...one.attributes, sums } })),
  ),
];

/**
 * y = x / √(mean(x²) + ε) · w over the last axis. Zhang & Sennrich 2019. Without w where a model has no such weight.
 */
export const rmsNormOp: Op = {
  name: 'rmsNorm',
  inputs: { x: '… I', 'w?': 'I' },
  outputs: { y: '… I' },
  reference({ x, w }, { y }, { epsilon }) {
    const I = x!.shape.at(-1)!;
    for (let r = 0; r < rowCount(x!, I); r++) {
      const from = position(x!, r, I);
      const to = position(y!, r, I);
      let squares = 0;
      for (let i = 0; i < I; i++) squares += x!.data[from + i]! ** 2;
      const scale = 1 / Math.sqrt(squares / I + (epsilon as number));
      for (let i = 0; i < I; i++) y!.data[to + i] = x!.data[from + i]! * scale * (w ? w.data[w.row(i)]! : 1);
    }
  },
  grad({ inputs: { x, w }, attributes, gradients: { y: dy }, wants }) {
    const [dx, dw] = apply(rmsNormGradOp, { x, dy, w }, { ...attributes, sums: w !== undefined && wants('w') });
    return { x: dx, w: dw };
  },
  cases: [
    ...cases,
    ...cases.map((one) => ({ ...one, optional: { w: true } })),
    headCase,
    { ...headCase, optional: { w: true } },
  ],
};

/** With n = x·s, s = 1/√(mean(x²) + ε) and g = dy ⊙ w: dx = s·(g − n·mean(g·n)); with `sums`, dw = Σ dy ⊙ n. */
export const rmsNormGradOp: Op = {
  name: 'rmsNormGrad',
  inputs: { x: '… I', dy: '… I', 'w?': 'I' },
  outputs: { dx: '… I', dw: 'I' },
  infer: ({ x, w }, { sums }) => (sums ? [x!.shape, w!.shape] : [x!.shape]),
  reference({ x, dy, w }, { dx, dw }, { epsilon }) {
    const I = x!.shape.at(-1)!;
    if (dw) clear(dw);
    for (let r = 0; r < rowCount(x!, I); r++) {
      const from = position(x!, r, I);
      const arriving = position(dy!, r, I);
      const to = position(dx!, r, I);
      const g = (i: number) => dy!.data[arriving + i]! * (w ? w.data[w.row(i)]! : 1);
      let squares = 0;
      let dot = 0;
      for (let i = 0; i < I; i++) {
        squares += x!.data[from + i]! ** 2;
        dot += x!.data[from + i]! * g(i);
      }
      const scale = 1 / Math.sqrt(squares / I + (epsilon as number));
      const back = (dot * scale * scale) / I;
      for (let i = 0; i < I; i++) {
        dx!.data[to + i] = scale * (g(i) - x!.data[from + i]! * back);
        if (dw) dw.data[dw.row(i)]! += dy!.data[arriving + i]! * x!.data[from + i]! * scale;
      }
    }
  },
  cases: gradCases,
};

/**
 * y = (x − mean(x)) / √(var(x) + ε) · w + b over the last axis, with the biased variance. Ba, Kiros & Hinton 2016. With w and b [H, I] each head has
 * its own (group norm, Wu & He 2018).
 */
export const layerNormOp: Op = {
  name: 'layerNorm',
  inputs: { x: '… I', 'w?': 'I | H I', 'b?': 'I | H I' },
  outputs: { y: '… I' },
  reference({ x, w, b }, { y }, { epsilon }) {
    const I = x!.shape.at(-1)!;
    for (let r = 0; r < rowCount(x!, I); r++) {
      const from = position(x!, r, I);
      const to = position(y!, r, I);
      const { mean, scale } = moments(x!.data, from, I, epsilon as number);
      for (let i = 0; i < I; i++) {
        const normal = (x!.data[from + i]! - mean) * scale;
        y!.data[to + i] = normal * (w ? w.data[weightAt(w, r, i)]! : 1) + (b ? b.data[weightAt(b, r, i)]! : 0);
      }
    }
  },
  grad({ inputs: { x, w, b }, attributes, gradients: { y: dy }, wants }) {
    const sums = w !== undefined && (wants('w') || wants('b'));
    const [dx, dw, db] = apply(layerNormGradOp, { x, dy, w }, { ...attributes, sums });
    return { x: dx, w: dw, b: db ?? (b && sumTo(dy!, b.shape)) };
  },
  cases: [
    ...cases,
    ...cases.map((one) => ({ ...one, optional: { w: true, b: true } })),
    headCase,
    { ...headCase, optional: { w: true, b: true } },
    ...headWeightCases.map((one) => ({ ...one, optional: { w: 'H I', b: 'H I' } })),
  ],
};

/** With n the normalised x, s its scale and g = dy ⊙ w: dx = s·(g − mean(g) − n·mean(g·n)); with `sums`, dw = Σ dy ⊙ n and db = Σ dy. */
export const layerNormGradOp: Op = {
  name: 'layerNormGrad',
  inputs: { x: '… I', dy: '… I', 'w?': 'I | H I' },
  outputs: { dx: '… I', dw: '*', db: '*' },
  infer: ({ x, w }, { sums }) => (sums ? [x!.shape, w!.shape, w!.shape] : [x!.shape]),
  reference({ x, dy, w }, { dx, dw, db }, { epsilon }) {
    const I = x!.shape.at(-1)!;
    if (dw) clear(dw);
    if (db) clear(db);
    for (let r = 0; r < rowCount(x!, I); r++) {
      const from = position(x!, r, I);
      const arriving = position(dy!, r, I);
      const to = position(dx!, r, I);
      const { mean, scale } = moments(x!.data, from, I, epsilon as number);
      const g = (i: number) => dy!.data[arriving + i]! * (w ? w.data[weightAt(w, r, i)]! : 1);
      let sum = 0;
      let dot = 0;
      for (let i = 0; i < I; i++) {
        sum += g(i);
        dot += g(i) * (x!.data[from + i]! - mean) * scale;
      }
      for (let i = 0; i < I; i++) {
        const normal = (x!.data[from + i]! - mean) * scale;
        dx!.data[to + i] = scale * (g(i) - sum / I - (normal * dot) / I);
        if (dw) dw.data[weightAt(dw, r, i)]! += dy!.data[arriving + i]! * normal;
        if (db) db.data[weightAt(db, r, i)]! += dy!.data[arriving + i]!;
      }
    }
  },
  cases: [
    ...gradCases,
    ...headWeightCases.flatMap((one) =>
      [true, false].map((sums) => ({ ...one, optional: { w: 'H I' }, attributes: { ...one.attributes, sums } })),
    ),
  ],
};

/** Zeros a weight's gradient. */
function clear(y: View): void {
  y.data.fill(0, y.row(0), y.row(0) + y.shape.reduce((a, b) => a * b, 1));
}

/** Where a weight [I], or [H, I] of rows that are heads, has the number for element `i` of row `r`. */
const weightAt = (w: View, r: number, i: number): number =>
  w.shape.length === 1 ? w.row(i) : w.row(r % w.shape[0]!) + i;

function moments(data: ArrayLike<number>, from: number, I: number, epsilon: number): { mean: number; scale: number } {
  let sum = 0;
  for (let i = 0; i < I; i++) sum += data[from + i]!;
  const mean = sum / I;
  let squares = 0;
  for (let i = 0; i < I; i++) squares += (data[from + i]! - mean) ** 2;
  return { mean, scale: 1 / Math.sqrt(squares / I + epsilon) };
}

/** Root-mean-square norm over the last axis; `w` [I] scales it where the model has such a weight. */
export const rmsNorm = (x: Tensor, w: Tensor | undefined, epsilon: number): Tensor =>
  apply(rmsNormOp, { x, w }, { epsilon })[0]!;

/** Layer norm over the last axis, with weight and bias [I] where the model has them. */
export const layerNorm = (x: Tensor, w: Tensor | undefined, b: Tensor | undefined, epsilon: number): Tensor =>
  apply(layerNormOp, { x, w, b }, { epsilon })[0]!;

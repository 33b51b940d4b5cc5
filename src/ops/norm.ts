import { type Op, position, rowCount } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';
import { expr, sumTo } from './expr.ts';

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
    const scaled = w ? expr`${dy!} * ${w}` : dy!;
    return {
      x: wants('x') ? apply(rmsNormGradOp, { x, dy: scaled }, attributes)[0] : undefined,
      w: w && wants('w') ? sumTo(expr`${dy!} * ${apply(rmsNormOp, { x }, attributes)[0]!}`, w.shape) : undefined,
    };
  },
  cases: [
    ...cases,
    ...cases.map((one) => ({ ...one, optional: { w: true } })),
    headCase,
    { ...headCase, optional: { w: true } },
  ],
};

/** With n = x·s, s = 1/√(mean(x²) + ε): dx = s·(dy − n·mean(dy·n)). */
export const rmsNormGradOp: Op = {
  name: 'rmsNormGrad',
  inputs: { x: '… I', dy: '… I' },
  outputs: { dx: '… I' },
  reference({ x, dy }, { dx }, { epsilon }) {
    const I = x!.shape.at(-1)!;
    for (let r = 0; r < rowCount(x!, I); r++) {
      const from = position(x!, r, I);
      const arriving = position(dy!, r, I);
      const to = position(dx!, r, I);
      let squares = 0;
      let dot = 0;
      for (let i = 0; i < I; i++) {
        squares += x!.data[from + i]! ** 2;
        dot += x!.data[from + i]! * dy!.data[arriving + i]!;
      }
      const scale = 1 / Math.sqrt(squares / I + (epsilon as number));
      const back = (dot * scale * scale) / I;
      for (let i = 0; i < I; i++) dx!.data[to + i] = scale * (dy!.data[arriving + i]! - x!.data[from + i]! * back);
    }
  },
  cases: [...cases.map((one) => ({ ...one, patterns: { x: 'T I', dy: 'T I' } })), headCase],
};

/** y = (x − mean(x)) / √(var(x) + ε) · w + b over the last axis, with the biased variance. Ba, Kiros & Hinton 2016. */
export const layerNormOp: Op = {
  name: 'layerNorm',
  inputs: { x: '… I', 'w?': 'I', 'b?': 'I' },
  outputs: { y: '… I' },
  reference({ x, w, b }, { y }, { epsilon }) {
    const I = x!.shape.at(-1)!;
    for (let r = 0; r < rowCount(x!, I); r++) {
      const from = position(x!, r, I);
      const to = position(y!, r, I);
      const { mean, scale } = moments(x!.data, from, I, epsilon as number);
      for (let i = 0; i < I; i++) {
        const normal = (x!.data[from + i]! - mean) * scale;
        y!.data[to + i] = normal * (w ? w.data[w.row(i)]! : 1) + (b ? b.data[b.row(i)]! : 0);
      }
    }
  },
  grad({ inputs: { x, w, b }, attributes, gradients: { y: dy }, wants }) {
    const scaled = w ? expr`${dy!} * ${w}` : dy!;
    return {
      x: wants('x') ? apply(layerNormGradOp, { x, dy: scaled }, attributes)[0] : undefined,
      w: w && wants('w') ? sumTo(expr`${dy!} * ${apply(layerNormOp, { x }, attributes)[0]!}`, w.shape) : undefined,
      b: b && wants('b') ? sumTo(dy!, b.shape) : undefined,
    };
  },
  cases: [...cases, ...cases.map((one) => ({ ...one, optional: { w: true, b: true } })), headCase],
};

/** With n the normalised x and s its scale: dx = s·(dy − mean(dy) − n·mean(dy·n)). */
export const layerNormGradOp: Op = {
  name: 'layerNormGrad',
  inputs: { x: '… I', dy: '… I' },
  outputs: { dx: '… I' },
  reference({ x, dy }, { dx }, { epsilon }) {
    const I = x!.shape.at(-1)!;
    for (let r = 0; r < rowCount(x!, I); r++) {
      const from = position(x!, r, I);
      const arriving = position(dy!, r, I);
      const to = position(dx!, r, I);
      const { mean, scale } = moments(x!.data, from, I, epsilon as number);
      let sum = 0;
      let dot = 0;
      for (let i = 0; i < I; i++) {
        sum += dy!.data[arriving + i]!;
        dot += dy!.data[arriving + i]! * (x!.data[from + i]! - mean) * scale;
      }
      for (let i = 0; i < I; i++) {
        const normal = (x!.data[from + i]! - mean) * scale;
        dx!.data[to + i] = scale * (dy!.data[arriving + i]! - sum / I - (normal * dot) / I);
      }
    }
  },
  cases: [...cases.map((one) => ({ ...one, patterns: { x: 'T I', dy: 'T I' } })), headCase],
};

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

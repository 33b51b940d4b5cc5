import type { Op, View } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';

const matrix = { p: 'O I', g: 'O I', m: 'O I', v: 'O I' };
const attributes = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, decay: 0.1, rate: 1 };
const fill = { v: 'positive', step: 'positive', scale: 'positive' } as const;

/**
 * One step of AdamW (Loshchilov & Hutter 2019, Algorithm 2):
 *
 *     m ← β₁ m + (1 − β₁) g      v ← β₂ v + (1 − β₂) g²      p ← p − η (λ p + m̂ / (√v̂ + ε))
 *
 * with g the gradient times `scale` (clipping), η the `step`'s learning rate times `rate`, λ = `decay`, and m̂, v̂ the means
 * freed of their bias by step's other two numbers, 1 / (1 − β₁ᵗ) and 1 / (1 − β₂ᵗ). A scale that is not finite, of a gradient
 * that is not, changes nothing.
 */
export const adamwOp: Op = {
  name: 'adamw',
  inputs: { p: '*', g: '*', m: '*', v: '*', step: '3', scale: '1' },
  outputs: { nextP: '*', nextM: '*', nextV: '*' },
  infer: ({ p }) => [p!.shape, p!.shape, p!.shape],
  overwrites: { p: 'nextP', m: 'nextM', v: 'nextV' },
  reference({ p, g, m, v, step, scale }, { nextP, nextM, nextV }, attributes) {
    const { beta1, beta2, epsilon, decay, rate } = attributes as Record<string, number>;
    const [learningRate, correct1, correct2] = [0, 1, 2].map((i) => step!.data[step!.row(i)]!) as [
      number,
      number,
      number,
    ];
    const factor = scale!.data[scale!.row(0)]!;
    const η = learningRate * rate!;
    forEachElement(p!, (t, i) => {
      const at = (view: View) => view.row(t) + i;
      const [before, mean, square] = [p!.data[at(p!)]!, m!.data[at(m!)]!, v!.data[at(v!)]!];
      const gradient = g!.data[at(g!)]! * factor;
      const moves = Number.isFinite(factor);
      const nextMean = moves ? beta1! * mean + (1 - beta1!) * gradient : mean;
      const nextSquare = moves ? beta2! * square + (1 - beta2!) * gradient * gradient : square;
      const direction = (nextMean * correct1) / (Math.sqrt(nextSquare * correct2) + epsilon!);
      nextM!.data[at(nextM!)] = nextMean;
      nextV!.data[at(nextV!)] = nextSquare;
      nextP!.data[at(nextP!)] = moves ? before - η * (decay! * before + direction) : before;
    });
  },
  cases: [
    { axes: { O: 3, I: 5 }, patterns: matrix, attributes, fill },
    { axes: { O: 65, I: 63 }, patterns: matrix, attributes: { ...attributes, decay: 0, rate: 2 }, fill },
    { axes: { O: 1 }, patterns: { p: 'O', g: 'O', m: 'O', v: 'O' }, attributes, fill },
  ],
};

/** y = keep · total + x, in the place of `total`: gradients summed over the parts of a batch. With keep = 0 it is x, whatever was there. */
export const accumulateOp: Op = {
  name: 'accumulate',
  inputs: { total: '*', x: '*', keep: '1' },
  outputs: { y: '*' },
  infer: ({ total }) => [total!.shape],
  overwrites: { total: 'y' },
  reference({ total, x, keep }, { y }) {
    const factor = keep!.data[keep!.row(0)]!;
    forEachElement(x!, (t, i) => {
      const before = factor === 0 ? 0 : factor * total!.data[total!.row(t) + i]!;
      y!.data[y!.row(t) + i] = before + x!.data[x!.row(t) + i]!;
    });
  },
  cases: [
    { axes: { O: 3, I: 5 }, patterns: { total: 'O I', x: 'O I' } },
    { axes: { O: 63, I: 65 }, patterns: { total: 'O I', x: 'O I' }, fill: { keep: 'zero' } },
    { axes: { O: 7 }, patterns: { total: 'O', x: 'O' } },
  ],
};

function forEachElement({ shape }: View, body: (row: number, element: number) => void): void {
  const width = shape.slice(1).reduce((a, b) => a * b, 1);
  for (let t = 0; t < (shape[0] ?? 1); t++) for (let i = 0; i < width; i++) body(t, i);
}

export interface AdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Decoupled weight decay λ. */
  readonly decay: number;
  /** Factor of the learning rate. */
  readonly rate: number;
}

/** New p, m and v, of one shape. */
export function adamw(
  inputs: Readonly<Record<'p' | 'g' | 'm' | 'v' | 'step' | 'scale', Tensor>>,
  options: AdamWOptions,
): [Tensor, Tensor, Tensor] {
  return apply(adamwOp, inputs, { ...options }) as [Tensor, Tensor, Tensor];
}

/** keep · total + x. */
export const accumulate = (total: Tensor, x: Tensor, keep: Tensor): Tensor =>
  apply(accumulateOp, { total, x, keep })[0]!;

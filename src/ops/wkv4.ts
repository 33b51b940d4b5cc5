import type { Op, View } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';
import { clear, forEachSegment } from './conv.ts';

const states = { num: 'B C', den: 'B C', max: 'B C' } as const;
const signature = { k: 'T C', v: 'T C', w: 'C', u: 'C', ...states, ends: 'B' } as const;
const fill = { w: 'negative', den: 'positive' } as const;
const cases = [
  { axes: { C: 1 }, segments: [1], fill },
  { axes: { C: 63 }, segments: [1, 5, 2], fill },
];

/**
 * RWKV-4's weighted average (Peng et al. 2023, arXiv 2305.13048, equations 16–18): y_t = (a + e^(u+k_t) v_t) / (b + e^(u+k_t)),
 * then a ← e^w a + e^(k_t) v_t and b ← e^w b + e^(k_t), with w < 0. The sums are held as a = num·e^max, b = den·e^max with a
 * running maximum of the exponents, so that nothing overflows.
 */
export const wkv4Op: Op = {
  name: 'wkv4',
  inputs: signature,
  outputs: { y: 'T C', nextNum: 'B C', nextDen: 'B C', nextMax: 'B C' },
  dtypes: { ends: 'i32' },
  state: { num: 'nextNum', den: 'nextDen', max: 'nextMax' },
  reference(inputs, outputs) {
    const { k, v, w, u, ends } = inputs as Record<string, View>;
    const { y, nextNum, nextDen, nextMax } = outputs as Record<string, View>;
    forEachSegment(ends!, (b, first, last) => {
      for (let c = 0; c < k!.shape[1]!; c++) {
        let [num, den, max] = stateOf(inputs as Record<string, View>, b, c);
        const [wc, uc] = [w!.data[w!.row(c)]!, u!.data[u!.row(c)]!];
        for (let t = first; t < last; t++) {
          const [kt, vt] = [k!.data[k!.row(t) + c]!, v!.data[v!.row(t) + c]!];
          const q = Math.max(max, uc + kt);
          const [e1, e2] = [Math.exp(max - q), Math.exp(uc + kt - q)];
          y!.data[y!.row(t) + c] = (e1 * num + e2 * vt) / (e1 * den + e2);
          [num, den, max] = advance(num, den, max, kt, vt, wc);
        }
        nextNum!.data[nextNum!.row(b) + c] = num;
        nextDen!.data[nextDen!.row(b) + c] = den;
        nextMax!.data[nextMax!.row(b) + c] = max;
      }
    });
  },
  grad({ inputs, gradients: { y: dy, nextNum: dnum, nextDen: dden, nextMax: dmax } }) {
    const [k, v, w, u, num, den, max] = apply(wkv4GradOp, { ...inputs, dy, dnum, dden, dmax });
    return { k, v, w, u, num, den, max };
  },
  cases,
};

const stateOf = ({ num, den, max }: Record<string, View>, b: number, c: number): [number, number, number] => [
  num!.data[num!.row(b) + c]!,
  den!.data[den!.row(b) + c]!,
  max!.data[max!.row(b) + c]!,
];

function advance(num: number, den: number, max: number, k: number, v: number, w: number): [number, number, number] {
  const q = Math.max(max + w, k);
  const [e1, e2] = [Math.exp(max + w - q), Math.exp(k - q)];
  return [e1 * num + e2 * v, e1 * den + e2, q];
}

/** The adjoint of `wkv4`, the running maximum included. */
export const wkv4GradOp: Op = {
  name: 'wkv4Grad',
  inputs: { ...signature, 'dy?': 'T C', 'dnum?': 'B C', 'dden?': 'B C', 'dmax?': 'B C' },
  outputs: { dk: 'T C', dv: 'T C', dw: 'C', du: 'C', dn: 'B C', dd: 'B C', dm: 'B C' },
  dtypes: { ends: 'i32' },
  state: { num: null, den: null, max: null },
  reference(inputs, outputs) {
    clear(outputs);
    const { k, v, w, u, ends, dy, dnum, dden, dmax } = inputs as Record<string, View>;
    const { dk, dv, dw, du, dn, dd, dm } = outputs as Record<string, View>;
    forEachSegment(ends!, (b, first, last) => {
      for (let c = 0; c < k!.shape[1]!; c++) {
        const [wc, uc] = [w!.data[w!.row(c)]!, u!.data[u!.row(c)]!];
        const at = (view: View, t: number) => view.data[view.row(t) + c]!;
        const history = [stateOf(inputs as Record<string, View>, b, c)];
        for (let t = first; t < last; t++) history.push(advance(...history.at(-1)!, at(k!, t), at(v!, t), wc));
        let gn = dnum ? at(dnum, b) : 0;
        let gd = dden ? at(dden, b) : 0;
        let gm = dmax ? at(dmax, b) : 0;
        for (let t = last - 1; t >= first; t--) {
          const [num, den, max] = history[t - first]!;
          const [numAfter, denAfter, q2] = history[t - first + 1]!;
          const [kt, vt] = [at(k!, t), at(v!, t)];
          const [f1, f2] = [Math.exp(max + wc - q2), Math.exp(kt - q2)];
          const q = Math.max(max, uc + kt);
          const [e1, e2] = [Math.exp(max - q), Math.exp(uc + kt - q)];
          const whole = e1 * den + e2;
          const y = (e1 * num + e2 * vt) / whole;
          const arriving = (dy ? at(dy, t) : 0) / whole;

          const kept = f1 * (gn * num + gd * den);
          const written = f2 * (gn * vt + gd);
          const read = e2 * arriving * (vt - y);
          // The maximum scales the sums, and is either the old one faded or the new exponent.
          const ofMax = gm - gn * numAfter - gd * denAfter;
          const fromOld = max + wc >= kt;
          dk!.data[dk!.row(t) + c]! += written + read + (fromOld ? 0 : ofMax);
          dv!.data[dv!.row(t) + c]! += gn * f2 + arriving * e2;
          dw!.data[dw!.row(c)]! += kept + (fromOld ? ofMax : 0);
          du!.data[du!.row(c)]! += read;
          gm = kept + e1 * arriving * (num - y * den) + (fromOld ? ofMax : 0);
          gn = gn * f1 + arriving * e1;
          gd = gd * f1 - arriving * y * e1;
        }
        dn!.data[dn!.row(b) + c] = gn;
        dd!.data[dd!.row(b) + c] = gd;
        dm!.data[dm!.row(b) + c] = gm;
      }
    });
  },
  cases: cases.map((one) => ({ ...one, optional: { dy: true, dnum: true, dden: true, dmax: true } })),
};

/** Operands of `wkv4`: [tokens, C], [C] and the three states [segments, C]. */
export interface Wkv4Inputs {
  readonly k: Tensor;
  readonly v: Tensor;
  /** Logarithm of the decay, below 0. */
  readonly w: Tensor;
  readonly u: Tensor;
  readonly num: Tensor;
  readonly den: Tensor;
  readonly max: Tensor;
  readonly ends: Tensor;
}

/** Returns y [tokens, C] and the next num, den and max. */
export function wkv4(inputs: Wkv4Inputs): [Tensor, Tensor, Tensor, Tensor] {
  const [y, num, den, max] = apply(wkv4Op, { ...inputs });
  return [y!, num!, den!, max!];
}

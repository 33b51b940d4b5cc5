import type { Op } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';
import { forEachSegment } from './conv.ts';

const cases = [
  { axes: { C: 1 }, segments: [1] },
  { axes: { C: 63 }, segments: [1, 4, 2] },
];

/** Token shift: y_t = x_{t−1}; the first token of a segment gets the segment's state, which becomes its last x. */
export const shiftOp: Op = {
  name: 'shift',
  inputs: { x: 'T C', state: 'B C', ends: 'B' },
  outputs: { y: 'T C', next: 'B C' },
  dtypes: { ends: 'i32' },
  state: { state: 'next' },
  reference({ x, state, ends }, { y, next }) {
    const C = x!.shape[1]!;
    forEachSegment(ends!, (b, first, last) => {
      for (let i = 0; i < C; i++) {
        let before = state!.data[state!.row(b) + i]!;
        for (let t = first; t < last; t++) {
          y!.data[y!.row(t) + i] = before;
          before = x!.data[x!.row(t) + i]!;
        }
        next!.data[next!.row(b) + i] = before;
      }
    });
  },
  grad({ inputs: { x, state, ends }, gradients: { y: dy, next: dnext } }) {
    const [dx, dstate] = apply(shiftGradOp, { x, state, ends, dy, dnext });
    return { x: dx, state: dstate };
  },
  cases,
};

/** The adjoint of `shift`: dx_t = dy_{t+1}, the last of a segment gets dnext; dstate is the first dy. */
export const shiftGradOp: Op = {
  name: 'shiftGrad',
  inputs: { x: 'T C', state: 'B C', ends: 'B', 'dy?': 'T C', 'dnext?': 'B C' },
  outputs: { dx: 'T C', dstate: 'B C' },
  dtypes: { ends: 'i32' },
  state: { state: null },
  reference({ x, ends, dy, dnext }, { dx, dstate }) {
    const C = x!.shape[1]!;
    forEachSegment(ends!, (b, first, last) => {
      for (let i = 0; i < C; i++) {
        let after = dnext ? dnext.data[dnext.row(b) + i]! : 0;
        for (let t = last - 1; t >= first; t--) {
          dx!.data[dx!.row(t) + i] = after;
          after = dy ? dy.data[dy.row(t) + i]! : 0;
        }
        dstate!.data[dstate!.row(b) + i] = after;
      }
    });
  },
  cases: cases.map((one) => ({ ...one, optional: { dy: true, dnext: true } })),
};

/** The token before each token of `x` [tokens, C], continued from `state` [segments, C]. Returns it and the next state. */
export function shift(x: Tensor, state: Tensor, ends: Tensor): [Tensor, Tensor] {
  const [y, next] = apply(shiftOp, { x, state, ends });
  return [y!, next!];
}

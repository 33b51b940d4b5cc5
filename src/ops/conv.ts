import type { Op, View, Views } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';

const cases = [
  { axes: { C: 1, K: 4, J: 3 }, segments: [1] },
  { axes: { C: 63, K: 4, J: 3 }, segments: [1, 5, 2], optional: { bias: true } },
  { axes: { C: 16, K: 2, J: 1 }, segments: [1, 1, 1] },
  { axes: { C: 8, K: 4, J: 3 }, segments: [17], optional: { bias: true } },
  { axes: { C: 5, K: 3, J: 2 }, segments: [1, 4, 2], optional: { bias: true } },
];

/**
 * Causal depthwise convolution: y_t = b + Σ_{j<K} w[:, j] ⊙ x_{t−K+1+j}, where tap K−1 meets the current token (the order
 * of PyTorch's conv1d). What came before a segment's first token is its state: the last J = K − 1 inputs, oldest first.
 */
export const convOp: Op = {
  name: 'conv',
  inputs: { x: 'T C', w: 'C K', 'bias?': 'C', state: 'B C J', ends: 'B' },
  outputs: { y: 'T C', next: 'B C J' },
  dtypes: { ends: 'i32' },
  state: { state: 'next' },
  reference({ x, w, bias, state, ends }, { y, next }) {
    const [C, K] = w!.shape as [number, number];
    const history = new Array<number>(K - 1).fill(0);
    forEachSegment(ends!, (b, first, last) => {
      for (let c = 0; c < C; c++) {
        for (let j = 0; j < K - 1; j++) history[j] = state!.data[state!.row(b) + c * (K - 1) + j]!;
        for (let t = first; t < last; t++) {
          history[K - 1] = x!.data[x!.row(t) + c]!;
          let sum = bias ? bias.data[bias.row(c)]! : 0;
          for (let j = 0; j < K; j++) sum += w!.data[w!.row(c) + j]! * history[j]!;
          y!.data[y!.row(t) + c] = sum;
          history.shift();
        }
        for (let j = 0; j < K - 1; j++) next!.data[next!.row(b) + c * (K - 1) + j] = history[j]!;
      }
    });
  },
  grad({ inputs: { x, w, bias, state, ends }, gradients: { y: dy, next: dnext } }) {
    const [dx, dw, dbias, dstate] = apply(convGradOp, { x, w, state, ends, dy: dy ?? undefined, dnext });
    return { x: dx, w: dw, bias: bias && dbias, state: dstate };
  },
  cases,
};

/** The adjoint of `conv`: gradients of its operands from those of y and of the next state. */
export const convGradOp: Op = {
  name: 'convGrad',
  inputs: { x: 'T C', w: 'C K', state: 'B C J', ends: 'B', 'dy?': 'T C', 'dnext?': 'B C J' },
  outputs: { dx: 'T C', dw: 'C K', dbias: 'C', dstate: 'B C J' },
  dtypes: { ends: 'i32' },
  state: { state: null },
  reference(inputs, outputs) {
    const { x, w, state, ends, dy, dnext } = inputs as Record<string, View>;
    const { dx, dw, dbias, dstate } = outputs as Record<string, View>;
    const [C, K] = w!.shape as [number, number];
    clear(outputs);
    forEachSegment(ends!, (b, first, last) => {
      for (let c = 0; c < C; c++) {
        // Input s of the segment, counted from its first token: a negative s is in the state.
        const at = (s: number, view: View, stateView: View): [View, number] =>
          s < 0 ? [stateView, stateView.row(b) + c * (K - 1) + s + K - 1] : [view, view.row(first + s) + c];
        const accumulate = (s: number, value: number) => {
          const [view, index] = at(s, dx!, dstate!);
          view.data[index]! += value;
        };
        for (let s = 0; dy && s < last - first; s++) {
          const arriving = dy.data[dy.row(first + s) + c]!;
          dbias!.data[dbias!.row(c)]! += arriving;
          for (let j = 0; j < K; j++) {
            const [view, index] = at(s - K + 1 + j, x!, state!);
            dw!.data[dw!.row(c) + j]! += arriving * view.data[index]!;
            accumulate(s - K + 1 + j, arriving * w!.data[w!.row(c) + j]!);
          }
        }
        for (let j = 0; dnext && j < K - 1; j++) {
          accumulate(last - first - (K - 1) + j, dnext.data[dnext.row(b) + c * (K - 1) + j]!);
        }
      }
    });
  },
  cases: cases.map(({ axes, segments }) => ({ axes, segments, optional: { dy: true, dnext: true } })),
};

/** Calls `body` with each segment's number, first token and the token after its last. */
export function forEachSegment(ends: View, body: (segment: number, first: number, last: number) => void): void {
  let first = 0;
  for (let b = 0; b < ends.shape[0]!; b++) {
    const last = ends.data[ends.row(b)]!;
    body(b, first, last);
    first = last;
  }
}

/** Fills all outputs with zeros. */
export function clear(outputs: Views): void {
  for (const view of Object.values(outputs)) {
    const width = view.shape.slice(1).reduce((a, b) => a * b, 1);
    for (let t = 0; t < (view.shape[0] ?? 1); t++) view.data.fill(0, view.row(t), view.row(t) + width);
  }
}

/**
 * Causal depthwise convolution of `x` [tokens, C] with `w` [C, K] and `bias` [C], continued from `state`
 * [segments, C, K − 1]. Returns the output and the next state.
 */
export function conv(x: Tensor, w: Tensor, bias: Tensor | undefined, state: Tensor, ends: Tensor): [Tensor, Tensor] {
  const [y, next] = apply(convOp, { x, w, bias, state, ends });
  return [y!, next!];
}

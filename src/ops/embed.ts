import type { Op } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';

/** y[t] = table[ids[t]]. The caller checks that ids are in range. */
export const embedOp: Op = {
  name: 'embed',
  inputs: { ids: 'T', table: 'V D' },
  outputs: { y: 'T D' },
  dtypes: { ids: 'i32' },
  reference({ ids, table }, { y }) {
    const D = table!.shape[1]!;
    for (let t = 0; t < ids!.shape[0]!; t++) {
      const from = table!.row(ids!.data[ids!.row(t)]!);
      const to = y!.row(t);
      for (let i = 0; i < D; i++) y!.data[to + i] = table!.data[from + i]!;
    }
  },
  grad: ({ inputs: { ids, table }, gradients: { y: dy } }) => ({
    table: apply(embedGradOp, { ids, dy }, { V: table!.shape[0] as number })[0],
  }),
  cases: [
    { axes: { V: 11, D: 3 }, segments: [1], fill: { ids: 'token' } },
    { axes: { V: 13, D: 64 }, segments: [17], fill: { ids: 'token' } },
    { axes: { V: 9, D: 63 }, segments: [5], fill: { ids: 'token' } },
  ],
};

/** dtable[v] = Σ over t with ids[t] = v of dy[t]. */
export const embedGradOp: Op = {
  name: 'embedGrad',
  inputs: { ids: 'T', dy: 'T D' },
  outputs: { dtable: 'V D' },
  axes: ({ V }) => ({ V: V as number }),
  dtypes: { ids: 'i32' },
  reference({ ids, dy }, { dtable }) {
    const [V, D] = dtable!.shape as [number, number];
    for (let v = 0; v < V; v++) dtable!.data.fill(0, dtable!.row(v), dtable!.row(v) + D);
    for (let t = 0; t < ids!.shape[0]!; t++) {
      const to = dtable!.row(ids!.data[ids!.row(t)]!);
      const from = dy!.row(t);
      for (let i = 0; i < D; i++) dtable!.data[to + i]! += dy!.data[from + i]!;
    }
  },
  cases: [{ axes: { D: 7 }, segments: [19], attributes: { V: 5 }, fill: { ids: 'token' } }],
};

/** Rows of `table` [V, D] by token ids [T] → [T, D]. */
export const embed = (ids: Tensor, table: Tensor): Tensor => apply(embedOp, { ids, table })[0]!;

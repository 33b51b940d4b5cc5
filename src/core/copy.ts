import type { Op } from './op.ts';

/**
 * y = x. The planner adds it where a value must move: a view into memory of its own, a carried state out of a
 * sequence's memory before something overwrites it, and a new state back into it at the end of a step.
 */
export const copy: Op = {
  name: 'copy',
  inputs: { x: '…' },
  outputs: { y: '…' },
  reference({ x }, { y }) {
    const rows = y!.shape[0] ?? 1;
    const width = y!.shape.slice(1).reduce((a, b) => a * b, 1);
    for (let t = 0; t < rows; t++) {
      const from = x!.row(t);
      const to = y!.row(t);
      for (let i = 0; i < width; i++) y!.data[to + i] = x!.data[from + i]!;
    }
  },
  grad: ({ gradients }) => ({ x: gradients['y'] }),
  cases: [
    { axes: {}, segments: [3] },
    { axes: { I: 63 }, segments: [2, 3], patterns: { x: 'T I' } },
  ],
};

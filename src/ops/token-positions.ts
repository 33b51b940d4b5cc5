import type { Op } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';
import { forEachSegment } from './conv.ts';

/** y_t = the position of token t in its sequence: that of its segment's first token, counted on. */
export const tokenPositionsOp: Op = {
  name: 'tokenPositions',
  inputs: { tokens: 'T', positions: 'B', ends: 'B' },
  outputs: { y: 'T' },
  dtypes: { tokens: 'i32', positions: 'i32', ends: 'i32', y: 'i32' },
  reference({ positions, ends }, { y }) {
    forEachSegment(ends!, (b, first, last) => {
      for (let t = first; t < last; t++) y!.data[y!.row(t)] = positions!.data[positions!.row(b)]! + t - first;
    });
  },
  cases: [{ axes: { V: 9 }, segments: [1, 4, 2], fill: { tokens: 'token', positions: 'token' } }],
};

/** Positions [tokens] of the tokens, for a learned position embedding. */
export const tokenPositions = (tokens: Tensor, positions: Tensor, ends: Tensor): Tensor =>
  apply(tokenPositionsOp, { tokens, positions, ends })[0]!;

import { copy } from '../core/copy.ts';
import type { Op } from '../core/op.ts';
import { accumulateOp, adamwOp } from './adamw.ts';
import { attentionGradOp, attentionOp } from './attention.ts';
import { convGradOp, convOp } from './conv.ts';
import { crossEntropyGradOp, crossEntropyOp } from './cross-entropy.ts';
import { embedGradOp, embedOp } from './embed.ts';
import { exprOp, sumToOp } from './expr.ts';
import { linearOp, linearTransposedOp, outerSumOp } from './linear.ts';
import { meanGradOp, meanOp } from './mean.ts';
import { layerNormGradOp, layerNormOp, rmsNormGradOp, rmsNormOp } from './norm.ts';
import { recurrenceGradOp, recurrenceOp } from './recurrence.ts';
import { ropeOp } from './rope.ts';
import { sampleOp } from './sample.ts';
import { segmentCrossEntropyGradOp, segmentCrossEntropyOp } from './segment-cross-entropy.ts';
import { shiftGradOp, shiftOp } from './shift.ts';
import { shiftMixGradOp, shiftMixOp } from './shift-mix.ts';
import { softmaxGradOp, softmaxOp } from './softmax.ts';
import { tokenPositionsOp } from './token-positions.ts';
import { concatOp, repeatGradOp, repeatOp, reshapeOp, selectGradOp, selectOp, sliceOp } from './views.ts';
import { wkv4GradOp, wkv4Op } from './wkv4.ts';

/** The vocabulary: every op there is. A backend has a table with an entry for each name. */
export const ops = {
  accumulate: accumulateOp,
  adamw: adamwOp,
  attention: attentionOp,
  attentionGrad: attentionGradOp,
  concat: concatOp,
  conv: convOp,
  convGrad: convGradOp,
  copy,
  crossEntropy: crossEntropyOp,
  crossEntropyGrad: crossEntropyGradOp,
  embed: embedOp,
  embedGrad: embedGradOp,
  expr: exprOp,
  layerNorm: layerNormOp,
  layerNormGrad: layerNormGradOp,
  linear: linearOp,
  linearTransposed: linearTransposedOp,
  mean: meanOp,
  meanGrad: meanGradOp,
  outerSum: outerSumOp,
  recurrence: recurrenceOp,
  recurrenceGrad: recurrenceGradOp,
  repeat: repeatOp,
  repeatGrad: repeatGradOp,
  reshape: reshapeOp,
  rmsNorm: rmsNormOp,
  rmsNormGrad: rmsNormGradOp,
  rope: ropeOp,
  sample: sampleOp,
  segmentCrossEntropy: segmentCrossEntropyOp,
  segmentCrossEntropyGrad: segmentCrossEntropyGradOp,
  select: selectOp,
  selectGrad: selectGradOp,
  shift: shiftOp,
  shiftGrad: shiftGradOp,
  shiftMix: shiftMixOp,
  shiftMixGrad: shiftMixGradOp,
  slice: sliceOp,
  softmax: softmaxOp,
  softmaxGrad: softmaxGradOp,
  sumTo: sumToOp,
  tokenPositions: tokenPositionsOp,
  wkv4: wkv4Op,
  wkv4Grad: wkv4GradOp,
} satisfies Record<string, Op>;

export type OpName = keyof typeof ops;

import { UnsupportedError } from '../core/errors.ts';
import { logSumExp } from '../ops/cross-entropy.ts';
import type { Model } from '../runtime/model.ts';
import type { ReadOptions } from '../runtime/session.ts';
import type { Source } from '../runtime/source.ts';
import { refuseEmpty } from './refuse-empty.ts';

/** How probable the labels of a trained classifier are for a text of any length, in the order of `model.labels`. */
export async function classify(
  model: Model,
  source: Source,
  options: ReadOptions = {},
): Promise<{ label: string; probability: number }[]> {
  const { labels } = model;
  if (!labels)
    throw new UnsupportedError(
      `the model (${model.type}) has no trained head of labels (score.weight and id2label): teach it one, or take labels of your own with LabelClassifier`,
    );
  const session = model.session();
  try {
    await session.read(source, options);
    refuseEmpty(session, 'the text');
    const { logits } = session;
    const total = logSumExp(logits, 0, logits.length);
    return labels.map((label, i) => ({ label, probability: Math.exp(logits[i]! - total) }));
  } finally {
    session.dispose();
  }
}

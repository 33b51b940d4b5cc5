import { ConfigError } from '../core/errors.ts';
import type { Json } from '../models/config.ts';
import type { Head } from './graph.ts';

/** The head of a classifier: a row for every label. */
export interface LabelHead extends Head {
  readonly labels: readonly string[];
}

/** What Hugging Face calls the matrix of such a head. */
export const SCORE = 'score.weight';

/** The head of labels that a configuration tells of, by its `architectures`; none for a language model. */
export function labelHead(json: Json): LabelHead | undefined {
  const names = json['architectures'];
  const isClassifier = Array.isArray(names) && /ForSequenceClassification$/.test(String(names[0]));
  if (!isClassifier) return undefined;
  const labels = Object.entries((json['id2label'] ?? {}) as Record<string, unknown>)
    .sort(([a], [b]) => Number(a) - Number(b))
    .map(([, label]) => String(label));
  if (labels.length < 2)
    throw new ConfigError(
      `config: ${String(names[0])} needs id2label with at least two labels; it has ${labels.length}`,
    );
  return { name: SCORE, size: labels.length, labels };
}

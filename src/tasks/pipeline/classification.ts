import { InputError, UnsupportedError } from '../../core/errors.ts';
import type { Model } from '../../runtime/model.ts';
import { refuseUnknownOptions } from '../../runtime/sampler.ts';
import { LabelClassifier } from '../label-classifier.ts';

export interface ZeroShotOptions {
  /** The sentence that a label makes, `{}` being the label. Default `This example is {}.` */
  readonly hypothesis_template?: string;
  /** Whether several labels may be right. Default false. */
  readonly multi_label?: boolean;
  readonly signal?: AbortSignal;
}

/** The labels of a text, most probable first. */
export interface ZeroShotResult {
  readonly sequence: string;
  readonly labels: readonly string[];
  readonly scores: readonly number[];
}

export interface ZeroShotClassifier {
  (text: string, candidate_labels: string | readonly string[], options?: ZeroShotOptions): Promise<ZeroShotResult>;
  (
    texts: readonly string[],
    candidate_labels: string | readonly string[],
    options?: ZeroShotOptions,
  ): Promise<ZeroShotResult[]>;
}

export function zeroShotClassifier(model: Model): ZeroShotClassifier {
  const classify = async (
    texts: string | readonly string[],
    labels: string | readonly string[],
    options: ZeroShotOptions = {},
  ): Promise<ZeroShotResult | ZeroShotResult[]> => {
    refuseUnknownOptions(options, ['hypothesis_template', 'multi_label', 'signal']);
    const { hypothesis_template = 'This example is {}.', multi_label: multiLabel = false, signal } = options;
    const list = typeof labels === 'string' ? labels.split(',').map((label) => label.trim()) : labels;
    const classifier = new LabelClassifier(model, list, { template: `\n\n${hypothesis_template}`, multiLabel });
    const results: ZeroShotResult[] = [];
    for (const sequence of typeof texts === 'string' ? [texts] : texts) {
      if (typeof sequence !== 'string') throw new InputError(`a text is ${String(sequence)}: it must be a string`);
      const scores = await classifier.classify(sequence, { signal });
      scores.sort((a, b) => b.probability - a.probability);
      results.push({
        sequence,
        labels: scores.map(({ label }) => label),
        scores: scores.map(({ probability }) => probability),
      });
    }
    return typeof texts === 'string' ? results[0]! : results;
  };
  return classify as ZeroShotClassifier;
}

/** Texts are classified by a trained head, which none of the models that can be loaded has. */
export function textClassifier(model: Model): never {
  throw new UnsupportedError(
    `text-classification needs a model with a trained classification head (a score matrix and the labels' names), and this one (${model.type}) is a language model: use zero-shot-classification with labels of your own`,
  );
}

import { InputError, UnsupportedError } from '../../core/errors.ts';
import type { Model } from '../../runtime/model.ts';
import { refuseUnknownOptions } from '../../runtime/sampler.ts';
import { classify } from '../classify.ts';
import { LabelClassifier } from '../label-classifier.ts';
import { textsOf } from './texts.ts';

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
  const zeroShot = async (
    texts: string | readonly string[],
    labels: string | readonly string[],
    options: ZeroShotOptions = {},
  ): Promise<ZeroShotResult | ZeroShotResult[]> => {
    refuseUnknownOptions(options, ['hypothesis_template', 'multi_label', 'signal']);
    const { hypothesis_template = 'This example is {}.', multi_label: multiLabel = false, signal } = options;
    const list =
      typeof labels === 'string' ? labels.split(',').map((label) => label.trim()) : textsOf(labels, 'candidate_labels');
    const classifier = new LabelClassifier(model, list, { template: `\n\n${hypothesis_template}`, multiLabel });
    const results: ZeroShotResult[] = [];
    for (const sequence of textsOf(texts)) {
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
  return zeroShot as ZeroShotClassifier;
}

export interface TextClassificationOptions {
  /** How many labels are told, most probable first. Default 1; null or Infinity for all. */
  readonly top_k?: number | null;
  readonly signal?: AbortSignal;
}

export interface LabelScore {
  readonly label: string;
  readonly score: number;
}

/** The labels of a text; of several texts the label of each, or the labels of each where `top_k` is not 1. */
export type TextClassifier = (
  texts: string | readonly string[],
  options?: TextClassificationOptions,
) => Promise<LabelScore[] | LabelScore[][]>;

/** UnsupportedError for a model without a trained head. */
export function textClassifier(model: Model): TextClassifier {
  if (!model.labels)
    throw new UnsupportedError(
      `text-classification needs a model with a trained head of labels (score.weight and id2label), and this one (${model.type}) is a language model: use zero-shot-classification with labels of your own`,
    );
  return async (texts, options = {}) => {
    refuseUnknownOptions(options, ['top_k', 'signal']);
    const { signal } = options;
    const top_k = options.top_k === null ? Infinity : (options.top_k ?? 1);
    if (!(top_k === Infinity || (Number.isInteger(top_k) && top_k >= 1)))
      throw new InputError(`top_k is ${String(top_k)}: it must be a number of labels`);
    const all: LabelScore[][] = [];
    for (const text of textsOf(texts)) {
      const scores = await classify(model, text, { signal });
      scores.sort((a, b) => b.probability - a.probability);
      all.push(scores.slice(0, top_k).map(({ label, probability }) => ({ label, score: probability })));
    }
    return typeof texts === 'string' || top_k === 1 ? all.flat() : all;
  };
}

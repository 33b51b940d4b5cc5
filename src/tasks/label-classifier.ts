import { InputError } from '../core/errors.ts';
import { logSumExp } from '../ops/cross-entropy.ts';
import type { Batcher } from '../runtime/batcher.ts';
import type { Model } from '../runtime/model.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import type { ReadOptions, Session } from '../runtime/session.ts';
import type { Source } from '../runtime/source.ts';
import { refuseEmpty } from './refuse-empty.ts';

export interface LabelClassifierOptions {
  /** The words after a text that a label ends, `{}` being the label. Default `\n\nThis text is about {}.` */
  readonly template?: string;
  /** Whether several labels may be right: each then has a probability of its own. Default false: they sum to 1. */
  readonly multiLabel?: boolean;
}

export interface LabelProbability {
  readonly label: string;
  readonly probability: number;
  /** ln p(label | text) − ln p(label): how much likelier the text made the label. */
  readonly evidence: number;
}

const defaultTemplate = '\n\nThis text is about {}.';

/**
 * Classifies texts by any labels, without training: a label is as probable as the text makes it likelier than it is without
 * any text. Without this calibration common words would win whatever the text (Holtzman et al. 2021, arXiv 2104.08315, "domain
 * conditional PMI").
 */
export class LabelClassifier {
  readonly labels: readonly string[];
  readonly #batcher: Batcher;
  readonly #prompt: string;
  /** Tokens of each label, with what follows it in the template. */
  readonly #endings: readonly (readonly number[])[];
  readonly #multiLabel: boolean;
  #priors: Promise<number[]> | undefined;

  constructor(model: Model, labels: readonly string[], options: LabelClassifierOptions = {}) {
    refuseUnknownOptions(options, ['template', 'multiLabel']);
    if (model.labels) throw new InputError('the model is a classifier with labels of its own: use classify');
    model.expectTokens();
    const { template = defaultTemplate, multiLabel = false } = options;
    const isList = Array.isArray(labels) && labels.every((label) => typeof label === 'string' && label.trim() !== '');
    if (!isList || labels.length === 0) throw new InputError('labels must be a list of texts, none of them empty');
    if (new Set(labels).size !== labels.length) throw new InputError('a label is there twice');
    const parts = template.split('{}');
    if (parts.length !== 2) throw new InputError(`the template ${JSON.stringify(template)} must have {} once`);
    const [before, after] = parts as [string, string];
    // A space belongs to the word after it: so most vocabularies have it.
    this.#prompt = before.trimEnd();
    if (this.#prompt === '') throw new InputError('the template needs words before {}');
    const space = before.slice(this.#prompt.length);
    this.labels = [...labels];
    this.#endings = labels.map((label) => model.tokenizer.encode(space + label + after, { addSpecialTokens: false }));
    this.#multiLabel = multiLabel;
    this.#batcher = model.batcher({ maxSessions: Math.max(64, labels.length) });
  }

  /** How probable each label is for a text of any length, in the order of `labels`. */
  async classify(source: Source, options: ReadOptions = {}): Promise<LabelProbability[]> {
    const session = this.#batcher.session();
    try {
      await session.read(source, options);
      refuseEmpty(session, 'the text');
      return this.#probabilities(await this.#scores(session), await this.#unconditional());
    } finally {
      session.dispose();
    }
  }

  /** ln p of each label without a text: computed once. */
  #unconditional(): Promise<number[]> {
    this.#priors ??= (async () => {
      const session = this.#batcher.session();
      try {
        return await this.#scores(session);
      } finally {
        session.dispose();
      }
    })();
    return this.#priors;
  }

  /** ln p of each label after what a session has read: one fork a label, all in packed steps. */
  async #scores(session: Session): Promise<number[]> {
    await session.read(this.#prompt);
    return await Promise.all(
      this.#endings.map(async (tokens) => {
        const fork = session.fork();
        try {
          const V = fork.model.vocabularySize;
          const before = fork.logits.slice();
          const after = tokens.length > 1 ? await fork.logitsOf(tokens.slice(0, -1)) : new Float32Array(0);
          const first = before[tokens[0]!]! - logSumExp(before, 0, V);
          return tokens
            .slice(1)
            .reduce((sum, token, i) => sum + after[i * V + token]! - logSumExp(after, i * V, V), first);
        } finally {
          fork.dispose();
        }
      }),
    );
  }

  #probabilities(scores: readonly number[], priors: readonly number[]): LabelProbability[] {
    const evidence = scores.map((score, i) => score - priors[i]!);
    const total = logSumExp(evidence, 0, evidence.length);
    return this.labels.map((label, i) => {
      const x = evidence[i]!;
      return { label, probability: this.#multiLabel ? 1 / (1 + Math.exp(-x)) : Math.exp(x - total), evidence: x };
    });
  }
}

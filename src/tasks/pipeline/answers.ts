import { InputError } from '../../core/errors.ts';
import type { Model } from '../../runtime/model.ts';
import { refuseUnknownOptions } from '../../runtime/sampler.ts';
import { complete } from '../complete.ts';
import { readDocument } from '../document-reader.ts';
import { summarize } from '../summarize.ts';
import { checkGenerationOptions, nativeOptions, type PipelineGenerationOptions } from './generation-options.ts';

export interface QuestionAnsweringOptions {
  /** The most tokens of an answer. Default 64. */
  readonly max_new_tokens?: number;
  readonly signal?: AbortSignal;
}

export interface QuestionAnswer {
  readonly answer: string;
  /** The probability of the answer's tokens together. */
  readonly score: number;
}

export interface QuestionAnswerer {
  (question: string, context: string, options?: QuestionAnsweringOptions): Promise<QuestionAnswer>;
  /** The context is read once. */
  (questions: readonly string[], context: string, options?: QuestionAnsweringOptions): Promise<QuestionAnswer[]>;
}

export function questionAnswerer(model: Model): QuestionAnswerer {
  const answer = async (
    questions: string | readonly string[],
    context: string,
    options: QuestionAnsweringOptions = {},
  ): Promise<QuestionAnswer | QuestionAnswer[]> => {
    refuseUnknownOptions(options, ['max_new_tokens', 'signal']);
    if (typeof context !== 'string') throw new InputError('the context must be a text: question first, then context');
    const { max_new_tokens: maxTokens = 64, signal } = options;
    const reader = await readDocument(model, context, { signal });
    try {
      const answers: QuestionAnswer[] = [];
      for (const question of typeof questions === 'string' ? [questions] : questions) {
        const { text, logProbability } = await reader.ask(question, { maxTokens, ...(signal && { signal }) });
        answers.push({ answer: text, score: Math.exp(logProbability) });
      }
      return typeof questions === 'string' ? answers[0]! : answers;
    } finally {
      reader.dispose();
    }
  };
  return answer as QuestionAnswerer;
}

export type Summarizer = (
  texts: string | readonly string[],
  options?: PipelineGenerationOptions,
) => Promise<{ readonly summary_text: string }[]>;

export function summarizer(model: Model): Summarizer {
  return async (texts, options = {}) => {
    checkGenerationOptions(options);
    for (const name of ['num_beams', 'num_return_sequences', 'length_penalty', 'max_length'] as const)
      if (options[name] !== undefined) throw new InputError(`a summary is one text: ${name} is not for summarization`);
    const summaries: { summary_text: string }[] = [];
    for (const text of typeof texts === 'string' ? [texts] : texts) {
      const generation = summarize(model, text, nativeOptions(options, 0));
      summaries.push({ summary_text: (await complete(generation)).text.trim() });
    }
    return summaries;
  };
}

import { InputError } from '../../core/errors.ts';
import type { Model } from '../../runtime/model.ts';
import { refuseUnknownOptions } from '../../runtime/sampler.ts';
import { answerSpans } from '../answer-spans.ts';
import { complete } from '../complete.ts';
import { readDocument } from '../document-reader.ts';
import { summarize } from '../summarize.ts';
import { checkGenerationOptions, nativeOptions, type PipelineGenerationOptions } from './generation-options.ts';
import { textsOf } from './texts.ts';

export interface QuestionAnsweringOptions {
  /** The most tokens of an answer that a language model writes. Default 64. */
  readonly max_new_tokens?: number;
  /** With a trained head of spans: how many answers, likeliest first. Default 1; more give a list. */
  readonly top_k?: number;
  /** With a trained head of spans: the most tokens of an answer. Default 15. */
  readonly max_answer_len?: number;
  readonly signal?: AbortSignal;
}

export interface QuestionAnswer {
  readonly answer: string;
  /** The probability of the answer's tokens together, or of its first and its last token as such. */
  readonly score: number;
  /** With a trained head of spans: where the answer stands in the context, `context.slice(start, end)`. */
  readonly start?: number;
  readonly end?: number;
}

type Answers = QuestionAnswer | QuestionAnswer[];

export interface QuestionAnswerer {
  (question: string, context: string, options?: QuestionAnsweringOptions & { top_k?: 1 }): Promise<QuestionAnswer>;
  (question: string, context: string, options: QuestionAnsweringOptions): Promise<Answers>;
  /** A language model reads the context once; a head of spans after each question. */
  (questions: readonly string[], context: string, options?: QuestionAnsweringOptions): Promise<Answers[]>;
}

export function questionAnswerer(model: Model): QuestionAnswerer {
  const find = model.predicts === 'spans' ? spansOf(model) : writtenBy(model);
  const answer = async (
    questions: string | readonly string[],
    context: string,
    options: QuestionAnsweringOptions = {},
  ): Promise<Answers | Answers[]> => {
    refuseUnknownOptions(options, ['max_new_tokens', 'top_k', 'max_answer_len', 'signal']);
    if (typeof context !== 'string') throw new InputError('the context must be a text: question first, then context');
    const answers = await find(textsOf(questions, 'the question'), context, options);
    return typeof questions === 'string' ? answers[0]! : answers;
  };
  return answer as QuestionAnswerer;
}

type Find = (questions: readonly string[], context: string, options: QuestionAnsweringOptions) => Promise<Answers[]>;

/** Answers that a language model writes, after a context that it reads once. */
function writtenBy(model: Model): Find {
  return async (questions, context, options) => {
    for (const name of ['top_k', 'max_answer_len'] as const)
      if (options[name] !== undefined)
        throw new InputError(
          `unknown option ${name}: it is for models with a trained head of spans, and this one writes its answers`,
        );
    const { max_new_tokens: maxTokens = 64, signal } = options;
    const reader = await readDocument(model, context, { signal });
    try {
      const answers: QuestionAnswer[] = [];
      for (const question of questions) {
        const { text, logProbability } = await reader.ask(question, { maxTokens, ...(signal && { signal }) });
        answers.push({ answer: text, score: Math.exp(logProbability) });
      }
      return answers;
    } finally {
      reader.dispose();
    }
  };
}

/** Answers that stand in the context. */
function spansOf(model: Model): Find {
  return async (questions, context, { max_new_tokens, top_k: topK = 1, max_answer_len: maxTokens = 15, signal }) => {
    if (max_new_tokens !== undefined)
      throw new InputError('max_new_tokens is for models that write their answers: this one has max_answer_len');
    const answers: Answers[] = [];
    for (const question of questions) {
      const spans = await answerSpans(model, question, context, { topK, maxTokens, signal });
      const found = spans.map(({ text, probability, start, end }) => ({
        answer: text,
        score: probability,
        start,
        end,
      }));
      answers.push(topK === 1 ? found[0]! : found);
    }
    return answers;
  };
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
    for (const text of textsOf(texts)) {
      const generation = summarize(model, text, nativeOptions(options, 0));
      summaries.push({ summary_text: (await complete(generation)).text.trim() });
    }
    return summaries;
  };
}

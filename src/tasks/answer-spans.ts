import { InputError, UnsupportedError } from '../core/errors.ts';
import { logSumExp } from '../ops/cross-entropy.ts';
import type { Model } from '../runtime/model.ts';
import { Pace } from '../runtime/pause.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import { encodePieces } from '../tokenizers/encode-stream.ts';
import { type TokenOffset, tokenOffsets } from '../tokenizers/token-offsets.ts';

export interface AnswerSpansOptions {
  /** How many answers, likeliest first. Default 1. */
  readonly topK?: number;
  /** The most tokens of an answer. Default 15. */
  readonly maxTokens?: number;
  readonly signal?: AbortSignal | undefined;
  /** Told the tokens of the context read so far. */
  readonly onProgress?: ((tokens: number) => void) | undefined;
}

/** An answer that stands in the text. */
export interface AnswerSpan {
  readonly text: string;
  /** Where it stands in the context, in UTF-16 units as of strings: `context.slice(start, end) === text`. */
  readonly start: number;
  readonly end: number;
  /** ln p(start) + ln p(end), over all places of the context. */
  readonly logProbability: number;
  readonly probability: number;
}

/** Tokens whose logits are taken at a time. */
const PIECE = 128;

/**
 * The spans of a context of any length that a model with a trained head of spans (`…ForQuestionAnswering`) takes for the answer: the
 * pairs of a first and a last token with the largest p(first) · p(last). The question is read before the context, as such heads
 * are trained, so every question reads the context anew; what is kept of it are two numbers a token.
 */
export async function answerSpans(
  model: Model,
  question: string,
  context: string,
  options: AnswerSpansOptions = {},
): Promise<AnswerSpan[]> {
  refuseUnknownOptions(options, ['topK', 'maxTokens', 'signal', 'onProgress']);
  const { topK = 1, maxTokens = 15 } = options;
  for (const [name, value] of Object.entries({ topK, maxTokens }))
    if (!Number.isInteger(value) || value < 1)
      throw new InputError(`${name} is ${String(value)}: it must be a whole number from 1`);
  if (model.predicts !== 'spans')
    throw new UnsupportedError(
      `the model (${model.type}) has no trained head of spans (qa_outputs.weight): ask it with readDocument, which writes answers`,
    );
  if (typeof question !== 'string' || question.trim() === '') throw new InputError('the question is empty');
  if (typeof context !== 'string' || context.trim() === '') throw new InputError('the context is empty');
  return likeliest(await readPlaces(model, question, context, options), context, topK, maxTokens);
}

/** The tokens of a context that can be the first or the last of an answer, with ln p of it. */
interface Places {
  readonly offsets: readonly TokenOffset[];
  readonly first: Float64Array;
  readonly last: Float64Array;
}

async function readPlaces(
  model: Model,
  question: string,
  context: string,
  { signal, onProgress }: AnswerSpansOptions,
): Promise<Places> {
  const { tokenizer } = model;
  const offsets: TokenOffset[] = [];
  const logits: [number[], number[]] = [[], []];
  const pace = new Pace();
  const session = model.session();
  try {
    await session.read(question, { signal });
    let [at, read] = [0, 0];
    for await (const { text, tokens } of encodePieces(tokenizer, [context])) {
      const places = tokenOffsets(tokenizer, text, tokens);
      for (let from = 0; from < tokens.length; from += PIECE) {
        signal?.throwIfAborted();
        const piece = tokens.slice(from, from + PIECE);
        const found = await session.logitsOf(piece);
        for (let i = 0; i < piece.length; i++) {
          const { start, end } = places[from + i]!;
          if (start === end) continue;
          offsets.push({ start: at + start, end: at + end });
          for (const side of [0, 1] as const) logits[side].push(found[2 * i + side]!);
        }
        onProgress?.((read += piece.length));
        await pace.breathe();
      }
      at += text.length;
    }
  } finally {
    session.dispose();
  }
  const [first, last] = logits.map(logSoftmax) as [Float64Array, Float64Array];
  return { offsets, first, last };
}

function logSoftmax(logits: readonly number[]): Float64Array {
  const values = Float64Array.from(logits);
  const total = logSumExp(values, 0, values.length);
  return values.map((x) => x - total);
}

function likeliest({ offsets, first, last }: Places, context: string, topK: number, maxTokens: number): AnswerSpan[] {
  const best: AnswerSpan[] = [];
  for (let i = 0; i < offsets.length; i++) {
    for (let j = i; j < Math.min(i + maxTokens, offsets.length); j++) {
      const logProbability = first[i]! + last[j]!;
      if (best.length === topK && logProbability <= best.at(-1)!.logProbability) continue;
      const span = trimmed(context, offsets[i]!.start, offsets[j]!.end);
      if (!span) continue;
      const place = best.findIndex((other) => other.logProbability < logProbability);
      const answer = { ...span, logProbability, probability: Math.exp(logProbability) };
      best.splice(place < 0 ? best.length : place, 0, answer);
      best.length = Math.min(best.length, topK);
    }
  }
  return best;
}

/** A stretch of a text without white space at its ends; nothing for one that is no more. */
function trimmed(context: string, from: number, to: number): Pick<AnswerSpan, 'text' | 'start' | 'end'> | undefined {
  const stretch = context.slice(from, to);
  const text = stretch.trim();
  if (text === '') return undefined;
  const start = from + stretch.indexOf(text);
  return { text, start, end: start + text.length };
}

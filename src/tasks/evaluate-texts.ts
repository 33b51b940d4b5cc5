import { InputError } from '../core/errors.ts';
import type { Model } from '../runtime/model.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import type { Session } from '../runtime/session.ts';
import { encodePieces, type TextPiece, wholeTexts } from '../tokenizers/encode-stream.ts';
import { score } from './score.ts';

/** How texts look to a model, taken together. */
export interface TextEvaluation {
  readonly texts: number;
  /** Tokens that were predicted. */
  readonly tokens: number;
  /** Mean of −ln p over them. */
  readonly loss: number;
  /** e to the loss. */
  readonly perplexity: number;
  /** −log₂ p of all of them, by the bytes of UTF-8 that they stand for. */
  readonly bitsPerByte: number;
}

export interface EvaluateTextsOptions {
  /** Reads texts in windows of this many predicted tokens, each from its own beginning. Default: each text as a whole. */
  readonly length?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told how many tokens were read. */
  readonly onProgress?: ((tokens: number) => void) | undefined;
}

/**
 * Measures how well a model predicts texts. A text is read after the token that begins texts or, where the tokenizer has none, ends them, so that its first
 * token is predicted too, as EleutherAI's lm-evaluation-harness has it for rolling log-likelihoods; where there is neither, that token is given, and its bytes
 * are not counted. Texts of any length may come in pieces; memory does not grow with them. InputError where nothing is predicted.
 */
export async function evaluateTexts(
  model: Model,
  texts: AsyncIterable<string | TextPiece> | Iterable<string | TextPiece>,
  options: EvaluateTextsOptions = {},
): Promise<TextEvaluation> {
  refuseUnknownOptions(options, ['length', 'signal', 'onProgress']);
  const { length = Infinity } = options;
  if (length !== Infinity && (!Number.isSafeInteger(length) || length < 1))
    throw new InputError(`length is ${length}: it must be a whole number from 1`);
  model.expectTokens();
  const reading = new Reading(model, length, options);
  let count = 0;
  for await (const whole of wholeTexts(texts)) {
    count++;
    await reading.text(whole);
  }
  const { tokens, surprise, bytes } = reading;
  if (tokens === 0) throw new InputError('there is nothing to measure: the texts have no two tokens');
  const loss = surprise / tokens;
  return { texts: count, tokens, loss, perplexity: Math.exp(loss), bitsPerByte: surprise / Math.LN2 / bytes };
}

class Reading {
  tokens = 0;
  /** −ln p of all tokens that were predicted. */
  surprise = 0;
  /** Of UTF-8, of these tokens. */
  bytes = 0;
  readonly #model: Model;
  readonly #length: number;
  readonly #options: EvaluateTextsOptions;
  /** Whether sessions begin with a state after a text: then the first token is predicted from it. */
  readonly #goesOn: boolean;
  #read = 0;
  #session: Session | undefined;
  /** Tokens that the window still takes, and the last one of it. */
  #room = 0;
  #last: number | undefined;

  constructor(model: Model, length: number, options: EvaluateTextsOptions) {
    this.#model = model;
    this.#length = length;
    this.#options = options;
    this.#goesOn = (model.initialState?.position ?? 0) > 0;
  }

  async text(pieces: AsyncIterable<string>): Promise<void> {
    const { tokenizer } = this.#model;
    const start = this.#goesOn ? undefined : (tokenizer.beginOfText ?? tokenizer.endOfText);
    const encoder = new TextEncoder();
    this.#last = undefined;
    let isFirst = true;
    try {
      for await (const { text, tokens } of encodePieces(tokenizer, pieces, { addSpecialTokens: false })) {
        this.bytes += encoder.encode(text).length;
        if (tokens.length === 0) continue;
        if (isFirst && start !== undefined && tokens[0] !== start) tokens.unshift(start);
        else if (isFirst && !this.#goesOn) this.bytes -= tokenizer.tokenBytes(tokens[0]!).length;
        isFirst = false;
        await this.#add(tokens);
      }
    } finally {
      this.#close();
    }
  }

  async #add(tokens: readonly number[]): Promise<void> {
    for (let at = 0; at < tokens.length; ) {
      if (this.#room === 0) await this.#open();
      const part = tokens.slice(at, at + this.#room);
      await this.#score(part);
      this.#room -= part.length;
      at += part.length;
      this.#last = part.at(-1);
    }
  }

  /** The next window: its first token is given, so windows share one token with the next. */
  async #open(): Promise<void> {
    this.#close();
    this.#session = this.#model.session();
    const isGiven = !this.#goesOn && this.#last === undefined;
    this.#room = this.#length + (isGiven ? 1 : 0);
    if (!this.#goesOn && this.#last !== undefined) await this.#score([this.#last]);
  }

  async #score(tokens: readonly number[]): Promise<void> {
    const { signal, onProgress } = this.#options;
    const onToken = () => onProgress?.(++this.#read);
    const { scored, logProbability } = await score(this.#session!, [tokens], { signal, onToken });
    this.tokens += scored;
    this.surprise -= logProbability;
  }

  #close(): void {
    this.#session?.dispose();
    this.#session = undefined;
    this.#room = 0;
  }
}

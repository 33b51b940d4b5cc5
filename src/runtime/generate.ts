import { type Constraint, type ConstraintState, constrain } from '../constraints/constraint.ts';
import { InputError } from '../core/errors.ts';
import { byteStream } from '../tokenizers/tokenizer.ts';
import { type TokenProbability, tokenProbability } from './logprobs.ts';
import { Pace } from './pause.ts';
import { refuseUnknownOptions, Sampler, type SamplerOptions, samplerOptionNames } from './sampler.ts';
import type { Session } from './session.ts';
import { isTokens, type Source } from './source.ts';

export interface GenerateOptions extends SamplerOptions {
  /** The most tokens to generate. Default 256; Infinity until the model or `stop` ends the text. */
  readonly maxTokens?: number;
  /** Texts that end the generation; they are not part of it. */
  readonly stop?: string | readonly string[];
  /** Tokens that end the text besides the model's own end of text; they are not part of it. */
  readonly stopTokens?: readonly number[];
  /**
   * What the generated text must be. It ends when nothing more may come; a text that is complete but may go on ends when the
   * model ends it, or, where it has no token for that, at once. InputError where no token is allowed.
   */
  readonly constraint?: Constraint;
  /** Tokens that penalties count as seen before, besides those of the prompt. */
  readonly seen?: readonly number[];
  /** Tells every token's ln p, and those of this many likeliest tokens: see `Generation.logprobs`. */
  readonly logprobs?: number;
  /** Stops the generation: the iterator rejects with the signal's reason, and what was generated stays in the session. */
  readonly signal?: AbortSignal;
  /** Told every token as it is chosen. */
  readonly onToken?: (token: number) => void;
}

/** How a generation ended. */
export interface Generation {
  /**
   * `end`: the model ended the text · `stop`: a stop text came · `complete`: nothing more may come by the constraint ·
   * `length`: `maxTokens` were generated, and a constraint may be left unmet.
   */
  readonly finishReason: 'end' | 'stop' | 'complete' | 'length';
  /** All that was yielded. */
  readonly text: string;
  readonly tokens: readonly number[];
  /** How likely each token was to the model, before temperature, penalties and constraint; with `logprobs` only. */
  readonly logprobs?: readonly TokenProbability[];
}

const optionNames = [
  ...samplerOptionNames,
  'maxTokens',
  'stop',
  'stopTokens',
  'constraint',
  'seen',
  'logprobs',
  'signal',
  'onToken',
];

/** Checks the options at once, then generates as the result is iterated. */
export function generate(
  session: Session,
  prompt: Source | undefined,
  options: GenerateOptions,
): AsyncGenerator<string, Generation, void> {
  refuseUnknownOptions(options, optionNames);
  session.model.expectTokens();
  const { maxTokens = 256, constraint, logprobs, stopTokens = [] } = options;
  if (!Array.isArray(stopTokens) || !stopTokens.every((token) => Number.isSafeInteger(token)))
    throw new InputError(`stopTokens is ${String(stopTokens)}: it must be a list of token ids`);
  if (!(maxTokens >= 0) || !(Number.isInteger(maxTokens) || maxTokens === Infinity)) {
    throw new InputError(`maxTokens is ${String(maxTokens)}: it must be a whole number`);
  }
  if (logprobs !== undefined && !(Number.isInteger(logprobs) && logprobs >= 0))
    throw new InputError(`logprobs is ${String(logprobs)}: it must be how many of the likeliest tokens to tell of`);
  if (prompt === '' || (Array.isArray(prompt) && prompt.length === 0)) {
    throw new InputError('the prompt is empty: there is nothing to continue');
  }
  const { model } = session;
  const start = constraint && constrain(constraint, model.tokenizer, model.vocabularySize);
  return run(session, prompt, maxTokens, new Sampler(options), new StopTexts(options.stop), start, options);
}

async function* run(
  session: Session,
  prompt: Source | undefined,
  maxTokens: number,
  sampler: Sampler,
  stops: StopTexts,
  start: ConstraintState | undefined,
  { signal, onToken, seen = [], stopTokens = [], logprobs: likeliest }: GenerateOptions,
): AsyncGenerator<string, Generation, void> {
  for (const token of seen) sampler.accept(token);
  if (prompt !== undefined) await session.read(counted(prompt, session, sampler), { signal });
  const { tokenizer } = session.model;
  // What a constraint allows is bytes; other decoders leave out a first word's space.
  const decoder = start ? byteStream(tokenizer) : tokenizer.stream();
  const pace = new Pace();
  const tokens: number[] = [];
  const logprobs: TokenProbability[] = [];
  let constraint = start;
  let text = '';
  let finishReason: Generation['finishReason'] = 'length';
  while (tokens.length < maxTokens) {
    signal?.throwIfAborted();
    if (constraint?.isComplete && (!constraint.canContinue || tokenizer.endOfText === undefined)) {
      finishReason = 'complete';
      break;
    }
    // Files fill up their vocabularies with places that are no token.
    const logits = session.logits.subarray(0, tokenizer.vocabularySize);
    const token = sampler.next(logits, constraint?.allowed);
    if (session.model.endTokens.includes(token) || stopTokens.includes(token)) {
      finishReason = 'end';
      break;
    }
    if (likeliest !== undefined) logprobs.push(tokenProbability(session.logits, token, likeliest));
    constraint = constraint?.advance(token);
    await session.step(token);
    tokens.push(token);
    onToken?.(token);
    const piece = stops.push(decoder.push(token));
    text += piece;
    if (piece) yield piece;
    if (stops.found) {
      finishReason = 'stop';
      break;
    }
    await pace.breathe();
  }
  if (finishReason === 'length' && constraint?.isComplete && !constraint.canContinue) finishReason = 'complete';
  const rest = stops.found ? '' : stops.push(decoder.end()) + stops.end();
  if (stops.found) finishReason = 'stop';
  session.checkpoints.turnEnded();
  if (rest) yield rest;
  return { finishReason, text: text + rest, tokens, ...(likeliest !== undefined && { logprobs }) };
}

/** The prompt, its tokens shown to the sampler so that penalties count them; streams are too long to remember. */
function counted(prompt: Source, session: Session, sampler: Sampler): Source {
  const tokens =
    typeof prompt === 'string'
      ? session.model.tokenizer.encode(prompt, { addSpecialTokens: session.position === 0 })
      : prompt;
  if (!isTokens(tokens)) return prompt;
  for (let i = 0; i < tokens.length; i++) sampler.accept(tokens[i]!);
  return tokens;
}

/** Finds stop texts in a stream of pieces, holding back what may be the beginning of one. */
class StopTexts {
  found = false;
  readonly #stops: readonly string[];
  #held = '';

  constructor(stop: string | readonly string[] | undefined) {
    this.#stops = stop === undefined ? [] : typeof stop === 'string' ? [stop] : stop;
    for (const text of this.#stops) {
      if (typeof text !== 'string' || text === '')
        throw new InputError('stop must be a text, or a list of texts, none of them empty');
    }
  }

  /** The part of the text so far that no stop text can begin in. */
  push(piece: string): string {
    const text = this.#held + piece;
    const positions = this.#stops.map((stop) => text.indexOf(stop)).filter((position) => position >= 0);
    if (positions.length > 0) {
      this.found = true;
      this.#held = '';
      return text.slice(0, Math.min(...positions));
    }
    const held = Math.max(0, ...this.#stops.map((stop) => overlap(text, stop)));
    this.#held = text.slice(text.length - held);
    return text.slice(0, text.length - held);
  }

  /** What was held back, when nothing more comes. */
  end(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }
}

/** Length of the longest end of `text` that is a proper beginning of `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}

import { InputError } from '../core/errors.ts';
import { logSumExp } from '../ops/cross-entropy.ts';
import { Pace } from '../runtime/pause.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import type { Session } from '../runtime/session.ts';

/** Tokens whose logits are held at a time. */
const PIECE = 128;

/** How a text looked to a model. */
export interface Score {
  readonly tokens: number;
  /** Tokens that something came before, so that they could be predicted. */
  readonly scored: number;
  /** Sum of ln p over the scored tokens. */
  readonly logProbability: number;
  /** e to the mean of −ln p. */
  readonly perplexity: number;
}

export interface ScoreOptions {
  readonly signal?: AbortSignal | undefined;
  /** Told each token and its ln p given all before; undefined for the first of a text. */
  readonly onToken?: ((token: number, logProbability: number | undefined) => void) | undefined;
  /** Told the logits [tokens, V] of each piece, in order. */
  readonly onLogits?: ((logits: Float32Array) => Promise<void> | void) | undefined;
}

/** Reads tokens in a session and measures how well each was predicted. Memory does not grow with the text's length. */
export async function score(
  session: Session,
  source: Iterable<ArrayLike<number>> | AsyncIterable<ArrayLike<number>>,
  options: ScoreOptions = {},
): Promise<Score> {
  refuseUnknownOptions(options, ['signal', 'onToken', 'onLogits']);
  session.model.expectTokens();
  const V = session.model.vocabularySize;
  const pace = new Pace();
  let [tokens, scored, sum] = [0, 0, 0];
  const count = (token: number, logits: Float32Array | undefined, row: number) => {
    const logProbability = logits && logits[row * V + token]! - logSumExp(logits, row * V, V);
    tokens++;
    if (logProbability !== undefined) {
      scored++;
      sum += logProbability;
    }
    options.onToken?.(token, logProbability);
  };
  for await (const all of source) {
    for (let start = 0; start < all.length; start += PIECE) {
      options.signal?.throwIfAborted();
      const piece = Array.prototype.slice.call(all, start, start + PIECE) as number[];
      const before = session.position > 0 ? session.logits.slice() : undefined;
      const logits = await session.logitsOf(piece);
      for (const [i, token] of piece.entries()) count(token, i === 0 ? before : logits, Math.max(0, i - 1));
      await options.onLogits?.(logits);
      await pace.breathe();
    }
  }
  if (tokens === 0) throw new InputError('there is nothing to score: the text is empty');
  return { tokens, scored, logProbability: sum, perplexity: Math.exp(-sum / scored) };
}

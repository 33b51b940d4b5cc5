import { logSumExp } from '../ops/cross-entropy.ts';

/** How likely a token was. */
export interface TokenProbability {
  readonly token: number;
  /** ln p. */
  readonly logprob: number;
  /** The likeliest tokens in its place, most likely first. */
  readonly top: readonly { readonly token: number; readonly logprob: number }[];
}

/** What the model thought of a token, given the logits [V] that it came after. */
export function tokenProbability(logits: Float32Array, token: number, likeliest: number): TokenProbability {
  const total = logSumExp(logits, 0, logits.length);
  const top = topTokens(logits, likeliest).map((id) => ({ token: id, logprob: logits[id]! - total }));
  return { token, logprob: logits[token]! - total, top };
}

/** The tokens of the largest logits, largest first; of equals the first. Those of −∞ are never among them. */
export function topTokens(logits: Float32Array, count: number): number[] {
  const top: number[] = [];
  for (let v = 0; v < logits.length && count > 0; v++) {
    const logit = logits[v]!;
    if (logit === -Infinity || (top.length === count && logit <= logits[top.at(-1)!]!)) continue;
    const place = top.findIndex((other) => logits[other]! < logit);
    top.splice(place < 0 ? top.length : place, 0, v);
    if (top.length > count) top.pop();
  }
  return top;
}

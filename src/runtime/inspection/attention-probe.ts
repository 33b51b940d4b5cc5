import { roundedToF16, type StateFormat } from '../../core/state-format.ts';
import type { Node } from '../../core/tensor.ts';
import { noNorms, type ReadMap, type TokenNorms } from './inspection.ts';
import type { Probe, ProbedBlock } from './probe.ts';
import { sharesOf } from './read-map.ts';

/**
 * Looks at `attention`, y_t = Σ_s softmax_s(scale · q_t·k_s) v_s. Its state, the keys and values of all tokens, only grows: it
 * keeps everything, and the n-th token is 1/n of it; with a window of n tokens, one goes for each that comes. Maps are the softmax
 * weights themselves.
 */
export class AttentionProbe implements Probe {
  readonly heads: number;
  readonly #G: number;
  readonly #K: number;
  readonly #V: number;
  readonly #scale: number;
  readonly #window: number;
  readonly #keepsMaps: boolean;
  /** Softmax weights of each token so far, by head: from token `from` of the sequence on. */
  readonly #weights: { from: number; weights: Float64Array }[][];
  #start = -1;

  constructor({ inputs: { q, v }, attributes }: Node, keepsMaps: boolean) {
    [, this.heads, this.#K] = q!.shape as [unknown, number, number];
    [, this.#G, this.#V] = v!.shape as [unknown, number, number];
    this.#scale = attributes['scale'] as number;
    this.#window = attributes['window'] as number;
    this.#keepsMaps = keepsMaps;
    this.#weights = Array.from({ length: this.heads }, () => []);
  }

  observe(block: ProbedBlock, tell: (token: number, head: number, norms: TokenNorms) => void): void {
    const { operands, states, formats = {}, tokens, position } = block;
    const { q, k, v } = operands;
    const [H, G, K, V] = [this.heads, this.#G, this.#K, this.#V];
    if (this.#start < 0) this.#start = position;
    const keys = joined(states['keys']!, k!.data, tokens * G * K, formats['keys']);
    const values = joined(states['values']!, v!.data, tokens * G * V, formats['values']);
    // With a window, rows of tokens long past are not held.
    const gone = position - states['keys']!.length / (G * K);
    for (let t = 0; t < tokens; t++) {
      const held = position + t + 1;
      const from = this.#window > 0 ? Math.max(0, held - this.#window) : 0;
      for (let h = 0; h < H; h++) {
        const group = Math.floor((h * G) / H);
        const weights = new Float64Array(held - from);
        for (let s = from; s < held; s++) {
          let score = 0;
          for (let j = 0; j < K; j++) score += q!.data[(t * H + h) * K + j]! * keys[((s - gone) * G + group) * K + j]!;
          weights[s - from] = score * this.#scale;
        }
        softmax(weights);
        if (this.#keepsMaps) this.#weights[h]!.push({ from, weights });
        tell(t, h, this.#norms(weights, values, from - gone, group, from > 0));
      }
    }
  }

  /** @param first the row of `values` that the first weight is of; @param isFull whether a token left the window */
  #norms(weights: Float64Array, values: Float64Array, first: number, group: number, isFull: boolean): TokenNorms {
    const [G, V] = [this.#G, this.#V];
    const norms = noNorms();
    const held = weights.length;
    const own = weights[held - 1]!;
    for (let i = 0; i < V; i++) {
      let read = 0;
      for (let s = 0; s < held; s++) read += weights[s]! * values[((first + s) * G + group) * V + i]!;
      const mine = own * values[((first + held - 1) * G + group) * V + i]!;
      norms.read += read * read;
      norms.own += mine * mine;
      norms.past += (read - mine) ** 2;
    }
    // Rows of equal size: n − 1 kept, one added, and one gone where a window is full. Squared, as all norms are.
    norms.kept = (held - 1) ** 2;
    norms.before = (isFull ? held : held - 1) ** 2;
    norms.changed = 1;
    return norms;
  }

  map(head: number): ReadMap {
    const rows = this.#weights[head]!;
    const T = rows.length;
    const parts = new Float64Array(T * T);
    const before = new Float64Array(T);
    for (const [t, { from, weights }] of rows.entries()) {
      for (const [i, weight] of weights.entries()) {
        const s = from + i - this.#start;
        if (s < 0) before[t]! += weight;
        else parts[t * T + s] = weight;
      }
    }
    return sharesOf(parts, before);
  }
}

/** The rows of a state, and those that it gains, as it keeps them. */
function joined(
  held: ArrayLike<number>,
  added: ArrayLike<number>,
  count: number,
  format: StateFormat | undefined,
): Float64Array {
  const all = new Float64Array(held.length + count);
  all.set(held);
  const kept = format === 'f16' ? roundedToF16 : (value: number) => value;
  for (let i = 0; i < count; i++) all[held.length + i] = kept(added[i]!);
  return all;
}

/** exp(x − max) / Σ, in place. */
function softmax(x: Float64Array): void {
  let max = Number.NEGATIVE_INFINITY;
  for (const value of x) max = Math.max(max, value);
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] = Math.exp(x[i]! - max);
  for (let i = 0; i < x.length; i++) x[i]! /= sum;
}

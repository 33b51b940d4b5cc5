import { RankedBin } from './ranked-bin.ts';

/**
 * Tokens in the order of a key, the smallest first and equal ones by id, without a sort of all: they are counted in bins of
 * their keys, and only bins in which something is decided are looked into, by narrower bins where they are full. Tokens of weight 0 have no rank.
 *
 * A bin is the upper bits of a key as a float32, 128 bins for every power of two: whatever the scale of the keys, they are narrow beside it.
 */
export class Ranking {
  /** [V] What tokens are ordered by, from 0: to be written before `rank`. */
  readonly keys: Float64Array;
  /** [V] What tokens count, from 0: to be written before `rank`. Where a key is 1,024 or more it must be 0, as e^-key is. */
  readonly weights: Float64Array;
  /** How many tokens have a rank. */
  count = 0;
  readonly #bins: Uint16Array;
  readonly #counts = new Uint32Array(BINS);
  readonly #masses = new Float64Array(BINS);
  #opened: { readonly bin: number; readonly tokens: RankedBin } | undefined;

  constructor(V: number) {
    this.keys = new Float64Array(V);
    this.weights = new Float64Array(V);
    this.#bins = new Uint16Array(V);
  }

  /** Counts the tokens by the keys and weights that are written. */
  rank(): void {
    const { keys, weights } = this;
    this.#counts.fill(0);
    this.#masses.fill(0);
    this.#opened = undefined;
    this.count = 0;
    for (let v = 0; v < keys.length; v++) {
      const weight = weights[v]!;
      const bin = weight === 0 ? NO_BIN : binOf(keys[v]!);
      this.#bins[v] = bin;
      if (bin === NO_BIN) continue;
      this.#counts[bin]!++;
      this.#masses[bin]! += weight;
      this.count++;
    }
  }

  /** The weights of the first `count` tokens together. */
  massOf(count: number): number {
    let mass = 0;
    let left = count;
    for (let bin = 0; bin < BINS && left > 0; bin++) {
      if (this.#counts[bin]! <= left) mass += this.#masses[bin]!;
      else mass += this.#tokensOf(bin).massOf(left);
      left -= this.#counts[bin]!;
    }
    return mass;
  }

  /** The rank, from 0, of the first token whose weight and those before it together are what `isReached` asks; `count` where none is. */
  rankWhere(isReached: (mass: number) => boolean): number {
    let rank = 0;
    let mass = 0;
    for (let bin = 0; bin < BINS; bin++) {
      if (this.#counts[bin] === 0) continue;
      if (!isReached(mass + this.#masses[bin]!)) {
        rank += this.#counts[bin]!;
        mass += this.#masses[bin]!;
        continue;
      }
      const found = this.#tokensOf(bin).placeWhere(mass, isReached);
      rank += found.place;
      mass = found.mass;
      if (found.place < this.#counts[bin]!) return rank;
    }
    return rank;
  }

  /** How many tokens have a key of at most `key`. */
  countUpTo(key: number): number {
    const last = Math.min(BINS - 1, binOf(key));
    let count = 0;
    for (let bin = 0; bin < last; bin++) count += this.#counts[bin]!;
    return count + this.#tokensOf(last).countUpTo(key);
  }

  /** The token of a rank, from 0 to `count` − 1. */
  tokenAt(rank: number): number {
    let bin = 0;
    let left = rank;
    while (left >= this.#counts[bin]!) left -= this.#counts[bin++]!;
    return this.#tokensOf(bin).tokenAt(left);
  }

  #tokensOf(bin: number): RankedBin {
    if (this.#opened?.bin === bin) return this.#opened.tokens;
    const bins = this.#bins;
    const tokens = new Uint32Array(this.#counts[bin]!);
    for (let v = 0, count = 0; count < tokens.length; v++) if (bins[v] === bin) tokens[count++] = v;
    const opened = new RankedBin(tokens, this.#masses[bin]!, this.keys, this.weights);
    this.#opened = { bin, tokens: opened };
    return opened;
  }
}

/** Bins of keys from 2⁻⁴⁰ to 2¹⁰, and one before them for what is smaller. */
const BINS = 50 * 128 + 1;
const NO_BIN = 0xffff;
const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

function binOf(key: number): number {
  float[0] = key + 0; // −0 is 0 and not the largest of all bins
  const bin = (bits[0]! >>> 16) - (87 << 7) + 1;
  return Math.max(bin, 0);
}

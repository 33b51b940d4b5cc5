/** Tokens that are sorted: of more, narrower bins are made. */
const FEW = 256;
/** Narrower bins in a bin. */
const PARTS = 1024;

/**
 * Tokens of one bin in the order of their keys, equal ones by id. Many are counted in narrower bins of equal widths, from the least key to the largest,
 * and only those in which something is decided are looked into: whatever the keys are, few tokens are ever sorted.
 */
export class RankedBin {
  readonly #keys: Float64Array;
  readonly #weights: Float64Array;
  /** By id, and in order once that is asked for and they are few. */
  #tokens: ArrayLike<number>;
  readonly #mass: number;
  #parts: readonly RankedBin[] | undefined;

  /**
   * @param tokens by id
   * @param mass the sum of their weights
   */
  constructor(tokens: ArrayLike<number>, mass: number, keys: Float64Array, weights: Float64Array) {
    this.#tokens = tokens;
    this.#mass = mass;
    this.#keys = keys;
    this.#weights = weights;
  }

  /** How many they are. */
  get count(): number {
    return this.#tokens.length;
  }

  /** The weights of the first `count` tokens together. */
  massOf(count: number): number {
    if (count >= this.count) return this.#mass;
    let mass = 0;
    let left = count;
    for (const part of this.#opened()) {
      if (left <= 0) return mass;
      mass += part.massOf(left);
      left -= part.count;
    }
    for (let i = 0; i < left; i++) mass += this.#weights[this.#tokens[i]!]!;
    return mass;
  }

  /** The first token, by its place from 0, whose weight and those before it and `mass` are what `isReached` asks, or `count`; and that sum. */
  placeWhere(mass: number, isReached: (mass: number) => boolean): { readonly place: number; readonly mass: number } {
    if (!isReached(mass + this.#mass)) return { place: this.count, mass: mass + this.#mass };
    const parts = this.#opened();
    let sum = mass;
    let place = 0;
    for (const part of parts) {
      const found = part.placeWhere(sum, isReached);
      place += found.place;
      sum = found.mass;
      if (found.place < part.count) return { place, mass: sum };
    }
    if (parts.length > 0) return { place, mass: sum };
    for (; place < this.count; place++) {
      sum += this.#weights[this.#tokens[place]!]!;
      if (isReached(sum)) break;
    }
    return { place, mass: sum };
  }

  /** How many have a key of at most `key`. */
  countUpTo(key: number): number {
    let count = 0;
    for (let i = 0; i < this.count; i++) if (this.#keys[this.#tokens[i]!]! <= key) count++;
    return count;
  }

  /** The token at a place, from 0 to `count` − 1. */
  tokenAt(place: number): number {
    let left = place;
    for (const part of this.#opened()) {
      if (left < part.count) return part.tokenAt(left);
      left -= part.count;
    }
    return this.#tokens[left]!;
  }

  /** The narrower bins, in order; none where its own tokens are in order. */
  #opened(): readonly RankedBin[] {
    this.#parts ??= this.#open();
    return this.#parts;
  }

  #open(): RankedBin[] {
    const keys = this.#keys;
    const tokens = this.#tokens;
    if (tokens.length <= FEW) {
      this.#tokens = Array.from(tokens).sort((a, b) => keys[a]! - keys[b]! || a - b);
      return [];
    }
    let [least, most] = [Infinity, -Infinity];
    for (let i = 0; i < tokens.length; i++) {
      const key = keys[tokens[i]!]!;
      if (key < least) least = key;
      if (key > most) most = key;
    }
    // Equal keys are in order: by id.
    if (least === most) return [];
    // Never decreasing in the key, and 0 of the least and the last of the largest: some tokens are parted.
    const partOf = (token: number) =>
      Math.min(PARTS - 1, Math.floor(((keys[token]! - least) / (most - least)) * PARTS));
    const ends = new Uint32Array(PARTS);
    const masses = new Float64Array(PARTS);
    for (let i = 0; i < tokens.length; i++) {
      const part = partOf(tokens[i]!);
      ends[part]!++;
      masses[part]! += this.#weights[tokens[i]!]!;
    }
    for (let part = 0, end = 0; part < PARTS; part++) {
      const count = ends[part]!;
      ends[part] = end;
      end += count;
    }
    const parted = new Uint32Array(tokens.length);
    for (let i = 0; i < tokens.length; i++) parted[ends[partOf(tokens[i]!)]!++] = tokens[i]!;
    const parts: RankedBin[] = [];
    for (let part = 0, start = 0; part < PARTS; start = ends[part++]!)
      if (ends[part]! > start)
        parts.push(new RankedBin(parted.subarray(start, ends[part]!), masses[part]!, keys, this.#weights));
    return parts;
  }
}

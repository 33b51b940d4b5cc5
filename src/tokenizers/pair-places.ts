/** A pair of ids that stand beside each other: how often, and where first and last. */
interface Pair {
  count: number;
  first: number;
  last: number;
}

const NONE = -1;

/**
 * Where every pair of ids stands in a collection of words, while pairs are joined to new ids. Ids are a list with two links, out of
 * which the second of a pair goes when it is joined; the places of a pair are another, in their order. So joining a pair in one
 * place takes the same few steps however long the word is, and nothing is looked at twice: of B bytes all joins together are fewer
 * than B. Memory is 28 bytes a byte of the words, and the pairs.
 */
export class PairPlaces {
  readonly #size: number;
  readonly #pairs = new Map<number, Pair>();
  #made: number[] = [];
  /** Ids by place, how often their word stands, and the places before and after within it. */
  readonly #ids: Int32Array;
  readonly #counts: Float64Array;
  readonly #before: Int32Array;
  readonly #after: Int32Array;
  /** Of the pair that begins in a place, the place before and after where it stands too. */
  readonly #earlier: Int32Array;
  readonly #later: Int32Array;
  #length = 0;

  /** Room for words of so many bytes together, and ids below `size`. */
  constructor(bytes: number, size: number) {
    this.#size = size;
    this.#ids = new Int32Array(bytes);
    this.#counts = new Float64Array(bytes);
    this.#before = new Int32Array(bytes);
    this.#after = new Int32Array(bytes);
    this.#earlier = new Int32Array(bytes);
    this.#later = new Int32Array(bytes);
  }

  /** Adds a word that stands `count` times. */
  addWord(ids: ArrayLike<number>, count: number): void {
    const from = this.#length;
    this.#length += ids.length;
    for (let i = 0; i < ids.length; i++) {
      const at = from + i;
      this.#ids[at] = ids[i]!;
      this.#counts[at] = count;
      this.#before[at] = i > 0 ? at - 1 : NONE;
      this.#after[at] = i + 1 < ids.length ? at + 1 : NONE;
    }
    for (let at = from; at + 1 < this.#length; at++) this.#add(at);
  }

  /** The ids of a pair. */
  pairOf(key: number): [number, number] {
    return [Math.floor(key / this.#size), key % this.#size];
  }

  /** How often a pair stands. */
  count(key: number): number {
    return this.#pairs.get(key)?.count ?? 0;
  }

  /** The pairs that were not there when this was last called, with how often they stand. */
  *takeMade(): Generator<readonly [key: number, count: number]> {
    const made = this.#made;
    this.#made = [];
    for (const key of made) if (this.#pairs.has(key)) yield [key, this.count(key)];
  }

  /** Joins a pair to `id` where it stands first; false where it stands nowhere. */
  joinNext(key: number, id: number): boolean {
    const at = this.#pairs.get(key)?.first;
    if (at === undefined) return false;
    const second = this.#after[at]!;
    const before = this.#before[at]!;
    const after = this.#after[second]!;
    if (before !== NONE) this.#remove(before);
    this.#remove(at);
    if (after !== NONE) this.#remove(second);
    this.#ids[at] = id;
    this.#after[at] = after;
    if (after !== NONE) this.#before[after] = at;
    if (before !== NONE) this.#add(before);
    if (after !== NONE) this.#add(at);
    return true;
  }

  #keyAt(at: number): number {
    return this.#ids[at]! * this.#size + this.#ids[this.#after[at]!]!;
  }

  #add(at: number): void {
    const key = this.#keyAt(at);
    const pair = this.#pairs.get(key);
    this.#later[at] = NONE;
    if (pair === undefined) {
      this.#made.push(key);
      this.#earlier[at] = NONE;
      this.#pairs.set(key, { count: this.#counts[at]!, first: at, last: at });
      return;
    }
    this.#earlier[at] = pair.last;
    this.#later[pair.last] = at;
    pair.last = at;
    pair.count += this.#counts[at]!;
  }

  #remove(at: number): void {
    const key = this.#keyAt(at);
    const pair = this.#pairs.get(key)!;
    pair.count -= this.#counts[at]!;
    const [earlier, later] = [this.#earlier[at]!, this.#later[at]!];
    if (earlier === NONE && later === NONE) {
      this.#pairs.delete(key);
      return;
    }
    if (earlier === NONE) pair.first = later;
    else this.#later[earlier] = later;
    if (later === NONE) pair.last = earlier;
    else this.#earlier[later] = earlier;
  }
}

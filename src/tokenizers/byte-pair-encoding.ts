/** A merge of two tokens: by rank, which is what comes first, the ids of both and of the token that they become. */
export interface Merges {
  readonly left: Int32Array;
  readonly right: Int32Array;
  readonly merged: Int32Array;
}

/** What is put behind a word's last character before merging, and behind all its tokens but the last after it. */
export interface Suffixes {
  readonly end_of_word_suffix?: string | null;
  readonly continuing_subword_suffix?: string | null;
}

/** Words of which the tokens are kept, and the longest of them. */
const [KEPT, LONGEST] = [10_000, 256];

/**
 * Byte pair encoding (Sennrich, Haddow & Birch 2016): of all neighbours in a word those of the lowest rank are merged, and of equal ones the
 * first, until none can be.
 *
 * Merges are found by two ids. By two texts, as the library finds them, a large vocabulary takes twice as long to be made ready.
 */
export class BytePairEncoding {
  /** Texts of tokens by id. */
  readonly #texts: readonly string[];
  readonly #ids: ReadonlyMap<string, number>;
  /** The merges' ranks by `left · stride + right`; later ones count where a pair is there twice. */
  readonly #ranks = new Map<number, number>();
  readonly #merged: Int32Array;
  readonly #stride: number;
  /** The id of a character that is no token: no merge has it. */
  readonly #unknown: number;
  readonly #suffixes: Suffixes;
  readonly #known = new Map<string, string[]>();

  constructor(
    ids: ReadonlyMap<string, number>,
    texts: readonly string[],
    { left, right, merged }: Merges,
    suffixes: Suffixes = {},
  ) {
    this.#ids = ids;
    this.#texts = texts;
    this.#merged = merged;
    this.#suffixes = suffixes;
    this.#unknown = texts.length;
    this.#stride = texts.length + 1;
    for (let rank = 0; rank < merged.length; rank++) this.#ranks.set(left[rank]! * this.#stride + right[rank]!, rank);
  }

  /** The texts of a word's tokens: of characters that are no tokens, themselves. */
  split(word: string): string[] {
    const known = this.#known.get(word);
    if (known) return known;
    const { end_of_word_suffix: end, continuing_subword_suffix: continuing } = this.#suffixes;
    const pieces = Array.from(word);
    if (end && word !== '') pieces[pieces.length - 1] += end;
    const tokens = pieces.length < 2 ? pieces : this.#merge(pieces);
    if (continuing) for (let i = 0; i < tokens.length - 1; i++) tokens[i] += continuing;
    if (word.length < LONGEST) {
      if (this.#known.size === KEPT) this.#known.clear();
      this.#known.set(word, tokens);
    }
    return tokens;
  }

  #merge(pieces: readonly string[]): string[] {
    const count = pieces.length;
    const ids = pieces.map((piece) => this.#ids.get(piece) ?? this.#unknown);
    // Where the neighbours begin; what was merged into the one before it has the id −1.
    const [next, previous] = [pieces.map((_, i) => i + 1), pieces.map((_, i) => i - 1)];
    // Merges that were possible when they were put in, lowest rank first, and the first place of a rank.
    const queue = new Queue();
    const rankAt = (i: number): number | undefined =>
      next[i]! < count ? this.#ranks.get(ids[i]! * this.#stride + ids[next[i]!]!) : undefined;
    const offer = (i: number): void => {
      const rank = rankAt(i);
      if (rank !== undefined) queue.push(rank * count + i);
    };
    for (let i = 0; i + 1 < count; i++) offer(i);
    for (let first = queue.pop(); first !== undefined; first = queue.pop()) {
      const i = first % count;
      const rank = (first - i) / count;
      if (ids[i]! < 0 || rankAt(i) !== rank) continue;
      const gone = next[i]!;
      ids[i] = this.#merged[rank]!;
      ids[gone] = -1;
      next[i] = next[gone]!;
      if (next[i]! < count) previous[next[i]!] = i;
      if (previous[i]! >= 0) offer(previous[i]!);
      offer(i);
    }
    const tokens: string[] = [];
    for (let i = 0; i < count; i = next[i]!) tokens.push(ids[i] === this.#unknown ? pieces[i]! : this.#texts[ids[i]!]!);
    return tokens;
  }
}

/** Numbers, the least first: a binary heap. */
class Queue {
  readonly #heap: number[] = [];

  push(value: number): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(value);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]! <= value) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = value;
  }

  pop(): number | undefined {
    const heap = this.#heap;
    const [first] = heap;
    const last = heap.pop();
    if (heap.length === 0 || last === undefined) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
      if (heap[child]! >= last) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

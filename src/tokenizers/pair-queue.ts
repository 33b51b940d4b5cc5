/** Pairs by how often they stand, the most frequent first, of equals the smaller key: a binary heap (Williams 1964). */
export class PairQueue {
  readonly #keys: number[] = [];
  readonly #counts: number[] = [];

  push(key: number, count: number): void {
    let at = this.#keys.length;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!isBefore(count, key, this.#counts[above]!, this.#keys[above]!)) break;
      this.#put(at, this.#keys[above]!, this.#counts[above]!);
      at = above;
    }
    this.#put(at, key, count);
  }

  /** Takes the first pair out, with the count that it was put in with; nothing of an empty queue. */
  pop(): readonly [key: number, count: number] | undefined {
    if (this.#keys.length === 0) return undefined;
    const first = [this.#keys[0]!, this.#counts[0]!] as const;
    const [key, count] = [this.#keys.pop()!, this.#counts.pop()!];
    const length = this.#keys.length;
    if (length === 0) return first;
    let at = 0;
    for (let below = 1; below < length; below = 2 * at + 1) {
      const other = below + 1;
      if (
        other < length &&
        isBefore(this.#counts[other]!, this.#keys[other]!, this.#counts[below]!, this.#keys[below]!)
      )
        below = other;
      if (isBefore(count, key, this.#counts[below]!, this.#keys[below]!)) break;
      this.#put(at, this.#keys[below]!, this.#counts[below]!);
      at = below;
    }
    this.#put(at, key, count);
    return first;
  }

  #put(at: number, key: number, count: number): void {
    this.#keys[at] = key;
    this.#counts[at] = count;
  }
}

const isBefore = (count: number, key: number, otherCount: number, otherKey: number): boolean =>
  count > otherCount || (count === otherCount && key < otherKey);

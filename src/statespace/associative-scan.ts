/** The result of a scan and what it cost. */
export interface Scan<T> {
  /** a_0, a_0 ⊗ a_1, a_0 ⊗ a_1 ⊗ a_2, … */
  readonly values: T[];
  /** Rounds that must follow one another; within a round all combinations are independent. At most 2⌈log₂ T⌉. */
  readonly depth: number;
  /** Combinations in all. At most 2T. */
  readonly combinations: number;
}

/**
 * All prefixes of a_0 ⊗ a_1 ⊗ … under an associative ⊗, in O(log T) rounds and O(T) combinations: neighbours are combined
 * in pairs, the half as long sequence of pairs is scanned, and every other prefix follows with one combination more
 * (Blelloch 1990, Prefix sums and their applications).
 *
 * The rounds are what a machine with T processors would need; here they run one after another.
 *
 * @param combine (earlier, later) ↦ earlier ⊗ later; associative, not necessarily commutative; must not change its arguments.
 */
export function associativeScan<T>(elements: readonly T[], combine: (earlier: T, later: T) => T): Scan<T> {
  const count = elements.length;
  if (count < 2) return { values: [...elements], depth: 0, combinations: 0 };

  const pairs = Array.from({ length: count >> 1 }, (_, i) => combine(elements[2 * i]!, elements[2 * i + 1]!));
  const scanned = associativeScan(pairs, combine);
  const values = elements.map((element, i) => {
    if (i === 0) return element;
    return i % 2 === 1 ? scanned.values[i >> 1]! : combine(scanned.values[(i >> 1) - 1]!, element);
  });

  const remaining = (count - 1) >> 1;
  return {
    values,
    depth: 1 + scanned.depth + (remaining > 0 ? 1 : 0),
    combinations: pairs.length + scanned.combinations + remaining,
  };
}

/** All suffixes: a_0 ⊗ … ⊗ a_{T−1}, …, a_{T−2} ⊗ a_{T−1}, a_{T−1}. */
export function associativeScanReverse<T>(elements: readonly T[], combine: (earlier: T, later: T) => T): Scan<T> {
  const scan = associativeScan([...elements].reverse(), (later, earlier) => combine(earlier, later));
  return { ...scan, values: scan.values.reverse() };
}

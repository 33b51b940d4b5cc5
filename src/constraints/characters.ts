import { choice, type Pattern, sequence } from './pattern.ts';

/** Code points, as ranges from the first to the last: in order and apart. Surrogates are never among them. */
export type CharacterSet = readonly (readonly [number, number])[];

const LAST = 0x10ffff;

export const all: CharacterSet = [
  [0, 0xd7ff],
  [0xe000, LAST],
];

/** The set of single characters and ranges such as `a-z`. */
export function union(...sets: readonly CharacterSet[]): CharacterSet {
  const merged: [number, number][] = [];
  for (const [low, high] of sets.flat().sort(([a], [b]) => a - b)) {
    const last = merged.at(-1);
    if (last && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else merged.push([low, high]);
  }
  return merged;
}

export function intersection(a: CharacterSet, b: CharacterSet): CharacterSet {
  const common: [number, number][] = [];
  for (const [low, high] of a)
    for (const [from, to] of b) if (low <= to && from <= high) common.push([Math.max(low, from), Math.min(high, to)]);
  return common;
}

export function complement(set: CharacterSet): CharacterSet {
  const gaps: [number, number][] = [];
  let next = 0;
  for (const [low, high] of union(set)) {
    if (low > next) gaps.push([next, low - 1]);
    next = high + 1;
  }
  if (next <= LAST) gaps.push([next, LAST]);
  return intersection(gaps, all);
}

export const setOf = (characters: string): CharacterSet =>
  union(
    ...Array.from(characters, (character): CharacterSet => [[character.codePointAt(0)!, character.codePointAt(0)!]]),
  );

/** One character of the set, in UTF-8. */
export function utf8(set: CharacterSet): Pattern {
  const options: Pattern[] = [];
  for (const [low, high] of intersection(set, all))
    for (const bytes of byteRanges(low, high))
      options.push(sequence(...bytes.map(([first, last]): Pattern => ({ kind: 'byte', low: first, high: last }))));
  return options.length === 1 ? options[0]! : choice(...options);
}

/** A range of code points as sequences of ranges of bytes: split until the bytes vary one by one. */
function* byteRanges(low: number, high: number): Generator<[number, number][]> {
  const split = splitAt(low, high);
  if (split !== undefined) {
    yield* byteRanges(low, split);
    yield* byteRanges(split + 1, high);
    return;
  }
  const [first, last] = [low, high].map((code) => new TextEncoder().encode(String.fromCodePoint(code)));
  yield Array.from(first!, (byte, i) => [byte, last![i]!]);
}

/** The last code point of the first part, where a range must be split. */
function splitAt(low: number, high: number): number | undefined {
  for (const longest of [0x7f, 0x7ff, 0xffff]) if (low <= longest && high > longest) return longest;
  if (high <= 0x7f) return undefined;
  for (const bits of [6, 12, 18]) {
    const mask = 2 ** bits - 1;
    if (low >> bits === high >> bits) continue;
    if ((low & mask) !== 0) return low | mask;
    if ((high & mask) !== mask) return (high & ~mask) - 1;
  }
  return undefined;
}

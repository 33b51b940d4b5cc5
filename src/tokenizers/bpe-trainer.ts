import { InputError } from '../core/errors.ts';
import { byteLevelBpeJson, byteLevelNames, END_OF_TEXT, endOfTextToken } from './byte-level.ts';
import type { TextPiece } from './encode-stream.ts';

/**
 * GPT-2's cut of a text into words, which merges never cross (Radford et al. 2019). Longer ones than anyone writes are cut: a file
 * without a space would be one word, of which every merge looks at all.
 */
const WORD =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}{1,256}| ?\p{N}{1,256}| ?[^\s\p{L}\p{N}]{1,256}|\s{1,256}(?!\S)|\s{1,256}/gu;
const BYTES = 256;
/** Words between two pauses. */
const OFTEN = 4096;

interface Word {
  ids: number[];
  readonly count: number;
}

/**
 * Learns a byte-level byte-pair encoding (Sennrich et al. 2016): ids are the end of text, the 256 bytes, and merges of the pair that
 * is then the most frequent. Returns the object of a `tokenizer.json`. Ties go to the pair of smaller ids, so that the same texts
 * give the same tokenizer.
 *
 * @param pause awaited many times a second: it may let others have their turn, or end the learning by throwing
 */
export async function trainBpe(
  texts: AsyncIterable<string | TextPiece> | Iterable<string | TextPiece>,
  vocabulary: number,
  pause: () => Promise<void> = async () => {},
): Promise<object> {
  if (!Number.isSafeInteger(vocabulary) || vocabulary < BYTES + 1 || vocabulary > 2 ** 20)
    throw new InputError(`vocabulary is ${vocabulary}: it must be from ${BYTES + 1} to ${2 ** 20}`);
  const counts = new Map<string, number>();
  for await (const given of texts) {
    let looked = 0;
    for (const [word] of (typeof given === 'string' ? given : given.text).matchAll(WORD)) {
      counts.set(word, (counts.get(word) ?? 0) + 1);
      if (++looked % OFTEN === 0) await pause();
    }
  }
  const encoder = new TextEncoder();
  const words = [...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([word, count]): Word => ({ ids: [...encoder.encode(word)], count }));
  return tokenizerJson(await merge(words, vocabulary - BYTES - 1, pause));
}

/** The pair (a, b) as one number. */
const keyOf = (a: number, b: number): number => a * 2 ** 21 + b;

async function merge(words: readonly Word[], most: number, pause: () => Promise<void>): Promise<[number, number][]> {
  const counts = new Map<number, number>();
  const holders = new Map<number, Set<Word>>();
  const add = (word: Word, sign: number) => {
    for (let i = 0; i + 1 < word.ids.length; i++) {
      const key = keyOf(word.ids[i]!, word.ids[i + 1]!);
      counts.set(key, (counts.get(key) ?? 0) + sign * word.count);
      if (sign < 0) continue;
      const set = holders.get(key) ?? new Set();
      holders.set(key, set.add(word));
    }
  };
  for (const [i, word] of words.entries()) {
    add(word, 1);
    if (i % OFTEN === 0) await pause();
  }
  const merges: [number, number][] = [];
  while (merges.length < most) {
    let best = -1;
    let count = 0;
    for (const [key, n] of counts) if (n > count || (n === count && n > 0 && key < best)) [best, count] = [key, n];
    // A pair that occurs once is no regularity.
    if (count < 2) break;
    await pause();
    const [a, b] = [Math.floor(best / 2 ** 21), best % 2 ** 21];
    const id = BYTES + merges.length;
    merges.push([a, b]);
    for (const word of holders.get(best)!) {
      add(word, -1);
      word.ids = joined(word.ids, a, b, id);
      add(word, 1);
    }
    counts.delete(best);
    holders.delete(best);
  }
  return merges;
}

function joined(ids: readonly number[], a: number, b: number, id: number): number[] {
  const result: number[] = [];
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === a && ids[i + 1] === b) {
      result.push(id);
      i++;
    } else result.push(ids[i]!);
  }
  return result;
}

function tokenizerJson(merges: readonly [number, number][]): object {
  const names = [...byteLevelNames];
  const written: string[] = [];
  for (const [a, b] of merges) {
    written.push(`${names[a]} ${names[b]}`);
    names.push(names[a]! + names[b]!);
  }
  return byteLevelBpeJson({ names: [END_OF_TEXT, ...names], merges: written, addedTokens: [endOfTextToken] });
}

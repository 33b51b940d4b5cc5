import { InputError } from '../core/errors.ts';
import { byteLevelBpeJson, byteLevelNames, END_OF_TEXT, endOfTextToken } from './byte-level.ts';
import type { TextPiece } from './encode-stream.ts';
import { PairPlaces } from './pair-places.ts';
import { PairQueue } from './pair-queue.ts';

/**
 * GPT-2's cut of a text into words, which merges never cross (Radford et al. 2019). Longer ones than anyone writes are cut: a file
 * without a space would be one word, of which every merge looks at all.
 */
const WORD =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}{1,256}| ?\p{N}{1,256}| ?[^\s\p{L}\p{N}]{1,256}|\s{1,256}(?!\S)|\s{1,256}/gu;
const BYTES = 256;
/** Words, or places of a pair, between two pauses. */
const OFTEN = 4096;
/** Bytes that different words have together. A language has fewer: more are numbers, codes, or text without a space. */
const MOST_BYTES = 1 << 23;

export interface BpeTrainingOptions {
  /** Awaited many times a second: it may let others have their turn, or end the learning by throwing. */
  readonly pause?: (() => Promise<void>) | undefined;
  /** Told how many of the merges are learned, none at first; where no pair occurs twice any more, the last are not reached. */
  readonly onProgress?: ((merges: number, most: number) => void) | undefined;
  /** Bytes of UTF-8 that different words have together; where the texts have more, the rarest words are forgotten. Default 8 Mi. */
  readonly mostBytes?: number | undefined;
}

/**
 * Learns a byte-level byte-pair encoding (Sennrich et al. 2016): ids are the end of text, the 256 bytes, and merges of the pair that
 * is then the most frequent. Returns the object of a `tokenizer.json`. Ties go to the pair of smaller ids, so that the same texts
 * give the same tokenizer. Time and memory are bounded: where the texts have words that differ of more than `mostBytes` together,
 * those seen least are forgotten while words are counted, of equals the one seen first (lossy counting, Manku & Motwani 2002).
 */
export async function trainBpe(
  texts: AsyncIterable<string | TextPiece> | Iterable<string | TextPiece>,
  vocabulary: number,
  { pause = async () => {}, onProgress, mostBytes = MOST_BYTES }: BpeTrainingOptions = {},
): Promise<object> {
  if (!Number.isSafeInteger(vocabulary) || vocabulary < BYTES + 1 || vocabulary > 2 ** 20)
    throw new InputError(`vocabulary is ${vocabulary}: it must be from ${BYTES + 1} to ${2 ** 20}`);
  const counts = new Map<string, number>();
  let bytes = 0;
  for await (const given of texts) {
    let looked = 0;
    for (const [word] of (typeof given === 'string' ? given : given.text).matchAll(WORD)) {
      const count = counts.get(word) ?? 0;
      counts.set(word, count + 1);
      if (count === 0) bytes += utf8Length(word);
      if (bytes > mostBytes) bytes = forgetRarest(counts, bytes, mostBytes / 2);
      if (++looked % OFTEN === 0) await pause();
    }
  }
  return tokenizerJson(await mergesOf(counts, bytes, vocabulary - BYTES - 1, pause, onProgress));
}

/** Forgets the words that were seen least until the rest has at most so many bytes; returns how many it has. */
function forgetRarest(counts: Map<string, number>, bytes: number, most: number): number {
  let left = bytes;
  for (let rare = 1; left > most; rare *= 2)
    for (const [word, count] of counts) {
      if (left <= most) break;
      if (count > rare) continue;
      counts.delete(word);
      left -= utf8Length(word);
    }
  return left;
}

/** Bytes of UTF-8; of a character beyond U+FFFF, each of whose halves counts three, two too many. */
function utf8Length(text: string): number {
  let length = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0x80) length += unit < 0x800 ? 1 : 2;
  }
  return length;
}

async function mergesOf(
  words: ReadonlyMap<string, number>,
  bytes: number,
  most: number,
  pause: () => Promise<void>,
  onProgress?: BpeTrainingOptions['onProgress'],
): Promise<[number, number][]> {
  const places = new PairPlaces(bytes, BYTES + most);
  const encoder = new TextEncoder();
  let looked = 0;
  for (const [word, count] of words) {
    places.addWord(encoder.encode(word), count);
    if (++looked % OFTEN === 0) await pause();
  }
  const queue = new PairQueue();
  const queueMade = () => {
    // A pair that occurs once is no regularity.
    for (const [key, count] of places.takeMade()) if (count > 1) queue.push(key, count);
  };
  queueMade();
  onProgress?.(0, most);
  const merges: [number, number][] = [];
  while (merges.length < most) {
    const first = queue.pop();
    if (first === undefined) break;
    const [key, queued] = first;
    const count = places.count(key);
    // Merges of other pairs took some of it away, and gave none: it has another place.
    if (count < queued) {
      if (count > 1) queue.push(key, count);
      continue;
    }
    const id = BYTES + merges.length;
    merges.push(places.pairOf(key));
    await pause();
    for (let joined = 0; places.joinNext(key, id); ) if (++joined % OFTEN === 0) await pause();
    queueMade();
    onProgress?.(merges.length, most);
  }
  return merges;
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

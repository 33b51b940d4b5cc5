import { UnsupportedError } from '../core/errors.ts';
import type { Tokenizer } from './tokenizer.ts';

/** Where a token stands in a text: UTF-16 units from `start` up to `end`. Both are the same for a token that is no text. */
export interface TokenOffset {
  readonly start: number;
  readonly end: number;
}

const SPACE = 0x20;

/**
 * Where each token of a text stands in it. A token that holds only a part of a character has all of it. UnsupportedError for a
 * tokenizer that changes texts (other letters, other spaces), whose tokens are not the text's own.
 *
 * @param tokens what `encode` made of the text, special tokens included
 */
export function tokenOffsets(
  tokenizer: Pick<Tokenizer, 'tokenBytes' | 'isSpecial' | 'decode'>,
  text: string,
  tokens: readonly number[],
): TokenOffset[] {
  const encoder = new TextEncoder();
  const bytes = encoder.encode(text);
  const unit = unitsOf(text, bytes.length);
  // Some tokenizers begin texts with a space of their own.
  let at = 0;
  let isFirst = true;
  return tokens.map((token) => {
    const isMark = tokenizer.isSpecial(token);
    let own = isMark ? encoder.encode(tokenizer.decode([token])) : tokenizer.tokenBytes(token);
    if (isMark && !startsWith(bytes, own, at)) own = new Uint8Array(0);
    if (!isMark && isFirst && own[0] === SPACE && bytes[at] !== SPACE) own = own.subarray(1);
    if (!isMark) isFirst = false;
    if (!startsWith(bytes, own, at))
      throw new UnsupportedError(
        `token ${token} is not in the text where it should be (after ${unit[at]} characters): the tokenizer changes texts, and places in them are not known`,
      );
    const start = at;
    at += own.length;
    if (start === at) return { start: unit[start]!, end: unit[start]! };
    return { start: unit[start]!, end: unit[wholeCharacter(bytes, at)]! };
  });
}

function startsWith(bytes: Uint8Array, part: Uint8Array, at: number): boolean {
  return at + part.length <= bytes.length && part.every((byte, i) => bytes[at + i] === byte);
}

/** The end of the character that byte `at − 1` is of. */
function wholeCharacter(bytes: Uint8Array, at: number): number {
  let end = at;
  while (end < bytes.length && (bytes[end]! & 0xc0) === 0x80) end++;
  return end;
}

/** For each byte of a text in UTF-8, and its end, the UTF-16 unit at which its character begins. */
function unitsOf(text: string, length: number): Int32Array {
  const units = new Int32Array(length + 1);
  let [byte, unit] = [0, 0];
  for (const character of text) {
    const code = character.codePointAt(0)!;
    const width = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    units.fill(unit, byte, byte + width);
    byte += width;
    unit += character.length;
  }
  units[length] = unit;
  return units;
}

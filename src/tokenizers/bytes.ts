import { byteLevelBpeJson, byteLevelNames } from './byte-level.ts';
import { byteStream, checkToken, decodeBytes, type Tokenizer } from './tokenizer.ts';

/** Bytes of UTF-8 as tokens, 0 to 255: for models of text without a vocabulary. */
export function byteTokenizer(): Tokenizer {
  const tokenizer: Tokenizer = {
    vocabularySize: 256,
    endOfText: undefined,
    beginOfText: undefined,
    cuts: 'anywhere',
    encode: (text) => Array.from(new TextEncoder().encode(text)),
    decode: (tokens) => decodeBytes(tokenizer, tokens, () => ''),
    tokenBytes(id) {
      checkToken(id, 256);
      return Uint8Array.of(id);
    },
    isSpecial: () => false,
    stream: () => byteStream(tokenizer),
  };
  return tokenizer;
}

/** The same as the object of a `tokenizer.json`: a byte-level BPE without merges. */
export const byteTokenizerJson = (): object => byteLevelBpeJson({ names: byteLevelNames, merges: [], addedTokens: [] });

/** Whether a tokenizer.json is that of bytes, which needs no library. */
export function isByteTokenizerJson(json: unknown): boolean {
  // Large vocabularies, which have merges, take long to write.
  const { merges } = (json as { model?: { merges?: unknown } } | null)?.model ?? {};
  return Array.isArray(merges) && merges.length === 0 && JSON.stringify(json) === JSON.stringify(byteTokenizerJson());
}

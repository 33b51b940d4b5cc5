import { byteLevelBpeJson, byteLevelNames, END_OF_TEXT, endOfTextToken } from './byte-level.ts';
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

/**
 * Bytes of which 0, which texts have not, is the token that ends them: written `<|endoftext|>`, so that libraries have a mark to end texts and to pad
 * them with that is no character of any.
 */
export function endedByteTokenizer(): Tokenizer {
  const bytes = byteTokenizer();
  const tokenizer: Tokenizer = {
    ...bytes,
    endOfText: 0,
    cuts: 'before-spaces',
    encode: (text) =>
      text.includes(END_OF_TEXT)
        ? text.split(END_OF_TEXT).flatMap((part, i) => [...(i > 0 ? [0] : []), ...bytes.encode(part)])
        : bytes.encode(text),
    decode: (tokens, { skipSpecialTokens = false } = {}) =>
      decodeBytes(tokenizer, tokens, () => (skipSpecialTokens ? '' : END_OF_TEXT)),
    tokenBytes: (id) => (id === 0 ? new Uint8Array(0) : bytes.tokenBytes(id)),
    isSpecial: (id) => id === 0,
    stream: () => byteStream(tokenizer),
  };
  return tokenizer;
}

/** The same as the object of a `tokenizer.json`: what no token stands for is byte 0. */
export const endedByteTokenizerJson = (): object =>
  byteLevelBpeJson({
    names: [END_OF_TEXT, ...byteLevelNames.slice(1)],
    merges: [],
    addedTokens: [endOfTextToken],
    unknown: END_OF_TEXT,
  });

/** The tokenizer of bytes that a tokenizer.json is of, which needs no library; undefined where it is another, or its settings ask for more. */
export function byteTokenizerOf(json: unknown, settings: Readonly<Record<string, unknown>>): Tokenizer | undefined {
  // Large vocabularies, which have merges, take long to write.
  const { merges } = (json as { model?: { merges?: unknown } } | null)?.model ?? {};
  if (!Array.isArray(merges) || merges.length > 0) return undefined;
  if (settings['add_bos_token'] === true || settings['add_eos_token'] === true) return undefined;
  const marks = [settings['bos_token'] ?? END_OF_TEXT, settings['eos_token'] ?? END_OF_TEXT];
  const text = JSON.stringify(json);
  if (text === JSON.stringify(endedByteTokenizerJson()) && marks.every((mark) => mark === END_OF_TEXT))
    return endedByteTokenizer();
  const isMarked = settings['bos_token'] !== undefined || settings['eos_token'] !== undefined;
  return !isMarked && text === JSON.stringify(byteTokenizerJson()) ? byteTokenizer() : undefined;
}

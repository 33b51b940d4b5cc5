import { byteLevelNames } from './byte-level.ts';
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
export function byteTokenizerJson(): object {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(byteLevelNames.map((name, byte) => [name, byte])),
      merges: [],
    },
  };
}

/** Whether a tokenizer.json is that of bytes, which needs no library. */
export const isByteTokenizerJson = (json: unknown): boolean =>
  JSON.stringify(json) === JSON.stringify(byteTokenizerJson());

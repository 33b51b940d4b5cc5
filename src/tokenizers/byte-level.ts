/**
 * GPT-2's names of the bytes (Radford et al. 2019): every byte as a printable character. Printable ones are themselves, the others follow from
 * U+0100 on.
 */
export const byteLevelNames: readonly string[] = (() => {
  let other = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCharCode(isPrintable ? byte : other++);
  });
})();

/** What the tokenizers that are made here call the token that ends a text. */
export const END_OF_TEXT = '<|endoftext|>';

/** The same as a file has it, with the id 0. */
export const endOfTextToken = {
  id: 0,
  content: END_OF_TEXT,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
};

/** A byte-level BPE: tokens' names in the order of their ids, and the pairs of names that are merged, the first first. */
export interface ByteLevelBpe {
  readonly names: readonly string[];
  readonly merges: readonly string[];
  readonly addedTokens: readonly object[];
  /** The token that stands for what no other does. */
  readonly unknown?: string;
}

/** The same as the object of Hugging Face's `tokenizer.json`. */
export function byteLevelBpeJson({ names, merges, addedTokens, unknown }: ByteLevelBpe): object {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens,
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: unknown ?? null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(names.map((name, id) => [name, id])),
      merges,
    },
  };
}

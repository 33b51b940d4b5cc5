type Json = Record<string, unknown>;

/** GPT-2's pattern, which `ByteLevel` stands for where it splits. */
const gpt2Pattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/**
 * A pre-tokenizer whose patterns mean by `\s` what the library that trained the tokenizer means: Unicode's White_Space. JavaScript's
 * own `\s` has the byte order mark U+FEFF besides, and not U+0085.
 */
export function unicodeWhiteSpace(preTokenizer: unknown): unknown {
  if (typeof preTokenizer !== 'object' || preTokenizer === null) return preTokenizer;
  const { type, pretokenizers, pattern, use_regex, add_prefix_space } = preTokenizer as Json;
  if (type === 'Sequence' && Array.isArray(pretokenizers))
    return { ...preTokenizer, pretokenizers: pretokenizers.map(unicodeWhiteSpace) };
  const regex = (pattern as Json | undefined)?.['Regex'];
  if (type === 'Split' && typeof regex === 'string') return { ...preTokenizer, pattern: { Regex: spelled(regex) } };
  // A space that is put before a text must be there before the text is split.
  if (type !== 'ByteLevel' || use_regex === false || add_prefix_space === true) return preTokenizer;
  const split = { type: 'Split', pattern: { Regex: spelled(gpt2Pattern) }, behavior: 'Isolated', invert: false };
  return { type: 'Sequence', pretokenizers: [split, { ...preTokenizer, use_regex: false }] };
}

/** A pattern with `\s` and `\S` spelled out. */
const spelled = (regex: string): string =>
  regex.replace(/\\[\s\S]/g, (one) => ({ '\\s': '\\p{White_Space}', '\\S': '\\P{White_Space}' })[one] ?? one);

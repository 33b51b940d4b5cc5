/** Kinds of tokens in `tokenizer.ggml.token_type` (`enum llama_token_type`). */
export const NORMAL = 1;
/** A mark, such as the end of a text. */
export const CONTROL = 3;
/** Text that is always one token. */
export const USER_DEFINED = 4;
/** A place in the vocabulary without a token. */
export const UNUSED = 5;
/** A byte that no token's text has, `<0x…>`. */
export const BYTE = 6;

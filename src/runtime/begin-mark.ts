import type { Tokenizer } from '../tokenizers/tokenizer.ts';

/** How many tokens begin every text of a model, and are none of the text's own. */
export const beginMarkLength = (model: { readonly hasTokenizer: boolean; readonly tokenizer: Tokenizer }): number =>
  model.hasTokenizer ? model.tokenizer.encode('').length : 0;

// What held-out losses are measured on, whichever engine computes them.
import { readFileSync } from 'node:fs';

/** Options of the programs that measure them. */
export const options = {
  models: { type: 'string', default: '../shared/models' },
  text: { type: 'string', default: '../shared/data/books/held-out.txt' },
  tokens: { type: 'string', default: '16384' },
  out: { type: 'string' },
};

export const names = ['mamba', 'mamba2', 'rwkv7', 'llama', 'mamba-13m'].map((name) => `tiny-books-${name}`);

/** Every model reads windows of this length, each from the beginning: what the Transformer was trained on. */
export const WINDOW = 512;

/** The windows of the text's first tokens. */
export function windowsOf({ tokenizer }, { text, tokens }) {
  const ids = tokenizer.encode(readFileSync(text, 'utf8').slice(0, 8 * Number(tokens))).slice(0, Number(tokens));
  const windows = [];
  for (let start = 0; start + WINDOW <= ids.length; start += WINDOW) windows.push(ids.slice(start, start + WINDOW));
  return windows;
}

// What held-out losses are measured on, whichever engine computes them.
import { readFileSync } from 'node:fs';

/** Options of the programs that measure them. */
export const options = {
  models: { type: 'string', default: '../shared/models' },
  text: { type: 'string', default: '../shared/data/books/held-out.txt' },
  tokens: { type: 'string', default: '65536' },
  threads: { type: 'string', default: '2' },
  out: { type: 'string' },
};

export const names = ['mamba', 'mamba2', 'rwkv7', 'llama', 'mamba-13m'].map((name) => `tiny-books-${name}`);

/** Those of rwkv.cpp, whose tokens are bytes. */
export const byteModels = ['4v0-660K-FP32', '6v0-1m-FP16', '7v0-834K-FP32', '7v0-834K-Q5_1'].map(
  (name) => `tiny-rwkv/tiny-rwkv-${name}.bin`,
);

/** Every model reads windows of this length, each from the beginning: what the Transformer was trained on. */
export const WINDOW = 512;

/** The windows of the text's first tokens. */
export function windowsOf(model, { text, tokens }) {
  const bytes = readFileSync(text);
  const ids = (
    model.vocabularySize === 256
      ? [...bytes.subarray(0, Number(tokens))]
      : model.tokenizer.encode(bytes.toString('utf8').slice(0, 8 * Number(tokens)))
  ).slice(0, Number(tokens));
  const windows = [];
  for (let start = 0; start + WINDOW <= ids.length; start += WINDOW) windows.push(ids.slice(start, start + WINDOW));
  return windows;
}

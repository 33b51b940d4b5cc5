// Makes an embedded model from a Hugging Face folder: matrices in 8 bits, everything else as it is stored.
//   node scripts/embed-model.mjs ../shared/models/tiny-books-mamba-13m models/tiny-books-mamba-13m
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { convert } from '../dist/index.js';

const [from, to] = process.argv.slice(2);
if (!from || !to) throw new Error('usage: embed-model.mjs FROM_FOLDER TO_FOLDER');
await convert(from, to, { type: 'q8' });
for (const name of ['config.json', 'tokenizer.json']) copyFileSync(join(from, name), join(to, name));
// The model was trained on documents that begin with the end of the one before.
const mark = '<|endoftext|>';
writeFileSync(
  join(to, 'tokenizer_config.json'),
  `${JSON.stringify({ bos_token: mark, eos_token: mark, add_bos_token: true }, null, 2)}\n`,
);

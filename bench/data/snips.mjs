// SNIPS' intents as JSONL: node bench/data/snips.mjs FOLDER OUT → OUT/train.jsonl, OUT/test.jsonl (the published validation files).
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { endWithUsage } from '../command-line.mjs';
import { readSnips } from './snips-files.mjs';

const [folder, out] = process.argv.slice(2);
if (!folder || !out) endWithUsage('bench/data/snips.mjs FOLDER OUT');
mkdirSync(out, { recursive: true });
for (const split of ['train', 'test']) {
  const lines = readSnips(folder, split).flatMap(({ intent, sentences }) =>
    sentences.map(({ data }) => {
      const text = data
        .map((part) => part.text)
        .join('')
        .trim();
      return JSON.stringify({ text, label: intent });
    }),
  );
  writeFileSync(join(out, `${split}.jsonl`), `${lines.join('\n')}\n`);
}

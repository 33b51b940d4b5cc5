// SNIPS' intents as JSONL: node bench/data/snips.mjs FOLDER OUT → OUT/train.jsonl, OUT/test.jsonl (the published validation files).
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, out] = process.argv.slice(2);
if (!folder || !out) throw new Error('usage: node bench/data/snips.mjs FOLDER OUT');
mkdirSync(out, { recursive: true });
const intents = readdirSync(folder, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)
  .sort();
for (const [split, file] of [
  ['train', (intent) => `train_${intent}_full.json`],
  ['test', (intent) => `validate_${intent}.json`],
]) {
  const lines = intents.flatMap((intent) => {
    // One of the published files is Latin-1.
    const bytes = readFileSync(join(folder, intent, file(intent)));
    let text;
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch {
      text = bytes.toString('latin1');
    }
    return JSON.parse(text)[intent].map(({ data }) =>
      JSON.stringify({
        text: data
          .map((part) => part.text)
          .join('')
          .trim(),
        label: intent,
      }),
    );
  });
  writeFileSync(join(out, `${split}.jsonl`), `${lines.join('\n')}\n`);
}

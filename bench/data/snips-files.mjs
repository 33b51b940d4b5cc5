// Reads SNIPS' published files: sentences in pieces, of which those that fill a slot have an `entity`.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const FILES = { train: (intent) => `train_${intent}_full.json`, test: (intent) => `validate_${intent}.json` };

/** The sentences of each intent, of the training files or, as `test`, of the validation files. */
export function readSnips(folder, split) {
  const intents = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();
  return intents.map((intent) => {
    // One of the published files is Latin-1.
    const bytes = readFileSync(join(folder, intent, FILES[split](intent)));
    let text;
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch {
      text = bytes.toString('latin1');
    }
    return { intent, sentences: JSON.parse(text)[intent] };
  });
}

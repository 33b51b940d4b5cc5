// SMS spam as JSONL: node bench/data/sms-spam.mjs FILE OUT → OUT/train.jsonl, OUT/test.jsonl: every fifth message, in the file's order, is
// of the test. There is no published split.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { endWithUsage } from '../command-line.mjs';

const [file, out] = process.argv.slice(2);
if (!file || !out) endWithUsage('bench/data/sms-spam.mjs FILE OUT');
mkdirSync(out, { recursive: true });
const rows = readFileSync(file, 'utf8')
  .split('\n')
  .slice(1)
  .filter(Boolean)
  .map((line) => {
    const [label, ...text] = line.split('\t');
    return JSON.stringify({ text: text.join('\t').trim(), label });
  });
const of = (isTest) => `${rows.filter((_, i) => (i % 5 === 4) === isTest).join('\n')}\n`;
writeFileSync(join(out, 'train.jsonl'), of(false));
writeFileSync(join(out, 'test.jsonl'), of(true));

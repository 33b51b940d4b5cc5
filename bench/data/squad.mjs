// SQuAD 1.1 as JSONL, as Hugging Face has it: node bench/data/squad.mjs FOLDER OUT → OUT/train.jsonl and OUT/dev.jsonl, one line a
// question: {question, context, answers: {text, answer_start}}.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

const [folder, out] = process.argv.slice(2);
if (!folder || !out) throw new Error('usage: node bench/data/squad.mjs FOLDER OUT');
mkdirSync(out, { recursive: true });
for (const split of ['train', 'dev']) {
  const { data } = JSON.parse(gunzipSync(readFileSync(join(folder, `${split}-v1.1.json.gz`))));
  const rows = data.flatMap(({ paragraphs }) =>
    paragraphs.flatMap(({ context, qas }) =>
      qas.map(({ question, answers }) => ({
        question: question.trim(),
        context,
        answers: { text: answers.map(({ text }) => text), answer_start: answers.map((answer) => answer.answer_start) },
      })),
    ),
  );
  writeFileSync(join(out, `${split}.jsonl`), `${rows.map((row) => JSON.stringify(row)).join('\n')}\n`);
}

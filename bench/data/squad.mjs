// SQuAD 1.1 as JSONL, as Hugging Face has it: node bench/data/squad.mjs FOLDER OUT [WORDS] → OUT/train.jsonl and OUT/dev.jsonl, one line a
// question: {question, context, answers: {text, answer_start}}. With WORDS, contexts to learn from are cut to so many words around the
// answer, which stands anywhere in them; those of the development set are always whole.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { endWithUsage } from '../command-line.mjs';

const [folder, out, words] = process.argv.slice(2);
if (!folder || !out || !(words === undefined || Number(words) > 0))
  endWithUsage('bench/data/squad.mjs FOLDER OUT [WORDS]');
mkdirSync(out, { recursive: true });

/** A question with `count` words of its context, among them the first answer, in the `place`-th of as many places as there are. */
function cut({ question, context, answers }, count, place) {
  const [text] = answers.text;
  // In UTF-16 units or, as Python counts, in characters.
  const [told] = answers.answer_start;
  const start = context.startsWith(text, told) ? told : [...context].slice(0, told).join('').length;
  const all = [...context.matchAll(/\S+/g)].map(({ 0: word, index }) => ({ from: index, to: index + word.length }));
  const first = all.findIndex(({ to }) => to > start);
  const last = all.findLastIndex(({ from }) => from < start + text.length);
  const spare = Math.max(0, count - (last - first + 1));
  const begin = Math.max(0, Math.min(first - (place % (spare + 1)), all.length - Math.max(count, last - first + 1)));
  const end = Math.min(all.length, Math.max(last + 1, begin + count));
  const at = all[begin].from;
  return {
    question,
    context: context.slice(at, all[end - 1].to),
    answers: { text: [text], answer_start: [start - at] },
  };
}

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
  // Places are taken in an order without a pattern that questions have: multiples of a number that shares no factor with usual counts.
  const given = split === 'train' && words ? rows.map((row, i) => cut(row, Number(words), (i * 7919) % 104_729)) : rows;
  writeFileSync(join(out, `${split}.jsonl`), `${given.map((row) => JSON.stringify(row)).join('\n')}\n`);
}

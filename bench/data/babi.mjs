// bAbI's tasks as JSONL: node bench/data/babi.mjs FOLDER TASK OUT → OUT/train.jsonl, whole stories with their questions and answers as
// messages, OUT/train.txt, the same as text, and
// OUT/test.jsonl, one line a question: {prompt, ending}. The published files are split so already.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, task, out] = process.argv.slice(2);
if (!folder || !task || !out) throw new Error('usage: node bench/data/babi.mjs FOLDER TASK OUT');
mkdirSync(out, { recursive: true });

function stories(split) {
  const name = readdirSync(folder).find((one) => one.startsWith(`qa${task}_`) && one.endsWith(`_${split}.txt`));
  const found = [];
  for (const line of readFileSync(join(folder, name), 'utf8').trim().split('\n')) {
    const [, number, rest] = /^(\d+) (.*)$/.exec(line);
    if (number === '1') found.push([]);
    const [text, answer] = rest.split('\t');
    found.at(-1).push({ text: text.trim(), answer });
  }
  return found;
}

const train = stories('train').map((story) => {
  const messages = [];
  let text = '';
  for (const { text: line, answer } of story) {
    text += `${line}${answer === undefined ? '\n' : ''}`;
    if (answer === undefined) continue;
    messages.push({ role: 'user', content: text }, { role: 'assistant', content: ` ${answer}` });
    text = '\n';
  }
  return { messages };
});
const test = stories('test').flatMap((story) => {
  const questions = [];
  let text = '';
  for (const { text: line, answer } of story) {
    if (answer !== undefined) questions.push({ prompt: text + line, ending: ` ${answer}` });
    text += `${line}${answer === undefined ? '' : ` ${answer}`}\n`;
  }
  return questions;
});
const write = (name, rows) => writeFileSync(join(out, name), `${rows.map((row) => JSON.stringify(row)).join('\n')}\n`);
write('train.jsonl', train);
const told = train.map(({ messages }) => messages.map(({ content }) => content).join(''));
writeFileSync(join(out, 'train.txt'), told.join('\n<|endoftext|>\n'));
write('test.jsonl', test);

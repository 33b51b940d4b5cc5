// bAbI's tasks as JSONL: node bench/data/babi.mjs FOLDER TASK OUT → OUT/train.jsonl, whole stories with their questions and answers as
// messages, OUT/train.txt, the same as text, and
// OUT/test.jsonl, one line a question: {prompt, ending}. The published files are split so already.
// Of task 16, a tenth of the stories goes to OUT/validation.jsonl instead, and OUT/train.jsonl has each of the others twice, the second
// time with its facts in another order (unless two animals of one kind have different colours, where the order tells), and after each
// the same facts with two questions more, whose answers the facts tell: what an animal is, and what colour a kind is.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { endWithUsage } from '../command-line.mjs';

const [folder, task, out] = process.argv.slice(2);
if (!folder || !task || !out) endWithUsage('bench/data/babi.mjs FOLDER TASK OUT');
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

/** Whole numbers below n, the same in every run. */
let seed = 1;
const integer = (n) => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return Math.floor((seed / 2 ** 32) * n);
};
const pick = (list) => list[integer(list.length)];
const shuffled = (list) => {
  const rows = [...list];
  for (let i = rows.length - 1; i > 0; i--) {
    const j = integer(i + 1);
    [rows[i], rows[j]] = [rows[j], rows[i]];
  }
  return rows;
};

/** The stories of task 16 that are made of one. */
function moreQuestions(story) {
  const [kinds, colors] = [new Map(), new Map()];
  const facts = story.filter(({ answer }) => answer === undefined);
  for (const { text } of facts) {
    const [, name, article, what] = /^(\w+) is (an? )?(\w+)\.$/.exec(text);
    (article ? kinds : colors).set(name, what);
  }
  const told = new Map();
  for (const [name, color] of colors) {
    const kind = kinds.get(name);
    if (kind !== undefined) told.set(kind, (told.get(kind) ?? new Set()).add(color));
  }
  const certain = [...told].filter(([, found]) => found.size === 1).map(([kind, [color]]) => ({ kind, color }));
  const orders = [facts, certain.length === told.size ? shuffled(facts) : facts];
  return orders.flatMap((order) => {
    const name = pick([...kinds.keys()]);
    const asked = [story.at(-1), { text: `What is ${name}?`, answer: kinds.get(name) }];
    const one = certain.length > 0 && pick(certain);
    if (one) asked.push({ text: `What color is ${one.kind}?`, answer: one.color });
    return asked.map((question) => [...order, question]);
  });
}

const messagesOf = (story) => {
  const messages = [];
  let text = '';
  for (const { text: line, answer } of story) {
    text += `${line}${answer === undefined ? '\n' : ''}`;
    if (answer === undefined) continue;
    messages.push({ role: 'user', content: text }, { role: 'assistant', content: ` ${answer}` });
    text = '\n';
  }
  return { messages };
};
let taught = stories('train');
let held;
if (task === '16') {
  const mixed = shuffled(taught);
  held = mixed.slice(0, mixed.length / 10);
  taught = shuffled(mixed.slice(held.length).flatMap(moreQuestions));
}
const train = taught.map(messagesOf);
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
if (held) write('validation.jsonl', held.map(messagesOf));
const told = train.map(({ messages }) => messages.map(({ content }) => content).join(''));
writeFileSync(join(out, 'train.txt'), told.join('\n<|endoftext|>\n'));
write('test.jsonl', test);

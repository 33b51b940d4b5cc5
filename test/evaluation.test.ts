import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { Random } from '../src/core/random.ts';
import { type FinetuneOptions, finetune } from '../src/platform/finetune.ts';
import { load } from '../src/platform/node-load.ts';
import { pipeline } from '../src/platform/pipeline.ts';
import { readQuestions } from '../src/platform/question-files.ts';
import { loadState } from '../src/platform/state-files.ts';
import { type TrainOptions, trainModel } from '../src/platform/train.ts';
import type { Trained } from '../src/platform/training-run.ts';
import type { Model } from '../src/runtime/model.ts';
import { classify } from '../src/tasks/classify.ts';
import { evaluate } from '../src/tasks/evaluate.ts';
import { evaluateTexts } from '../src/tasks/evaluate-texts.ts';
import { byteTokenizerJson } from '../src/tokenizers/bytes.ts';
import type { TrainRecord } from '../src/train/trainer.ts';
import { dataFolder } from './data-folder.ts';
import { spacesAsMarks } from './spaces-as-marks.ts';

const main = new URL('../dist/cli/main.js', import.meta.url).pathname;
const { at, file } = dataFolder('evaluation');
const lines = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

const random = new Random(5);
const words = ['river', 'stone', 'bird', 'green', 'runs', 'sings', 'over', 'the', 'a', 'under'];
const sentence = () => `${Array.from({ length: 5 }, () => words[random.integer(words.length)]).join(' ')}.`;
const sentences = Array.from({ length: 80 }, sentence);
const text = file('text.txt', sentences.join('<|endoftext|>'));

async function run(running: AsyncGenerator<TrainRecord, Trained>): Promise<Trained> {
  for (;;) {
    const next = await running.next();
    if (next.done) return next.value;
  }
}

const rows = Array.from({ length: 60 }, (_, i) => ({ text: sentence(), label: i % 3 }));
const labelled = rows.map(({ text, label }) => ({ text: `${text} ${'xyz'[label]}`, label }));
const learned = file('learned.jsonl', lines(labelled.slice(0, 40)));
const held = file('held.jsonl', lines(labelled.slice(40)));
const spans = Array.from({ length: 12 }, (_, i) => {
  const context = `${sentence()} ${sentence()}`;
  const answer = context.split(' ')[i % 5]!;
  return { question: 'Which word?', context, answers: { text: [answer], answer_start: [context.indexOf(answer)] } };
});

const small: Omit<TrainOptions, 'output'> = {
  architecture: 'gla',
  width: 32,
  headWidth: 16,
  layers: 1,
  data: [text],
  batch: 2,
  length: 32,
  threads: 1,
  seed: 2,
};
const taught = (output: string, more: Partial<FinetuneOptions>): FinetuneOptions => ({
  ...{ model: at('words'), data: [learned], label: 'label', batch: 8, steps: 6, threads: 1, output: at(output) },
  ...more,
});
const stateOptions = { method: 'state', validation: [held], learningRate: 0.3, steps: 12, evaluateEvery: 12 } as const;
let state: Trained;

beforeAll(async () => {
  await run(trainModel({ ...small, vocabulary: 300, steps: 30, output: at('words') }));
  await run(trainModel({ ...small, tokenizer: 'bytes', steps: 10, output: at('bytes') }));
  // Bytes without a token that begins or ends texts.
  writeFileSync(join(at('bytes'), 'tokenizer.json'), JSON.stringify(byteTokenizerJson()));
  rmSync(join(at('bytes'), 'tokenizer_config.json'));
  await run(finetune(taught('labels', {})));
  await run(finetune(taught('spans', { data: [file('spans.jsonl', lines(spans))], label: undefined })));
  state = await run(finetune(taught('state', stateOptions)));
}, 60_000);

function riverrun(args: readonly string[], input: string | Uint8Array = '') {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { input, encoding: 'utf8' });
  return { status, stdout, stderr };
}

/** What `eval --json` tells. */
function measured(model: string, data: string, more: readonly string[] = [], input: string | Uint8Array = '') {
  const args = ['eval', '--model', at(model), '--data', data, '--threads', '1', '--json', ...more];
  const { status, stdout, stderr } = riverrun(args, input);
  expect([
    status,
    stderr.replace(/^riverrun: standard input is read as .*\n|^riverrun: texts begin with .*\n/gm, ''),
  ]).toEqual([0, '']);
  const { model: _, data: __, ...result } = JSON.parse(stdout);
  return result;
}

async function withModel<T>(name: string, use: (model: Model) => Promise<T>): Promise<T> {
  const model = await load(at(name), { threads: 1 });
  try {
    return await use(model);
  } finally {
    model.dispose();
  }
}

/** ln of softmax, in float64. */
function logSoftmax(row: ArrayLike<number>): number[] {
  const values = Array.from(row);
  const most = Math.max(...values);
  const total = most + Math.log(values.reduce((sum, x) => sum + Math.exp(x - most), 0));
  return values.map((x) => x - total);
}

/** ln p of each token after the first, and whether it was the likeliest. */
async function predicted(model: Model, tokens: readonly number[]): Promise<{ log: number; isLikeliest: boolean }[]> {
  const logits = await model.session().logitsOf(tokens);
  return tokens.slice(1).map((token, i) => {
    const row = logSoftmax(logits.subarray(i * model.outputSize, (i + 1) * model.outputSize));
    return { log: row[token]!, isLikeliest: row[token] === Math.max(...row) };
  });
}
const sum = (values: readonly { log: number }[]) => values.reduce((total, { log }) => total + log, 0);
/** The tokens of a text after the one that ends texts. */
const begun = ({ tokenizer }: Model, given: string) => [tokenizer.endOfText!, ...tokenizer.encode(given)];

describe('eval', () => {
  test.each([undefined, 2, 4])(
    'of texts is the mean surprise of every token after the one that ends texts; windows of %s',
    async (length) => {
      const found = measured('words', text, length ? ['--length', String(length)] : []);
      const expected = await withModel('words', async (model) => {
        let [surprise, tokens] = [0, 0];
        for (const one of sentences) {
          const ids = begun(model, one);
          const size = length ?? ids.length;
          for (let from = 0; from + 1 < ids.length; from += size) {
            const each = await predicted(model, ids.slice(from, from + size + 1));
            surprise -= sum(each);
            tokens += each.length;
          }
        }
        // Most texts have two windows of 4, the second of which is shorter, and three of 2.
        expect(tokens / sentences.length).toBeGreaterThan(5);
        expect(tokens / sentences.length).toBeLessThan(7);
        return { surprise, tokens };
      });
      const bytes = Buffer.byteLength(sentences.join(''));
      expect(found).toMatchObject({ texts: 80, tokens: expected.tokens });
      expect(found.loss).toBeCloseTo(expected.surprise / expected.tokens, 4);
      expect(found.perplexity / Math.exp(expected.surprise / expected.tokens)).toBeCloseTo(1, 4);
      expect(found.bitsPerByte).toBeCloseTo(expected.surprise / Math.LN2 / bytes, 4);
      expect(found.tokens).toBeLessThan(0.9 * bytes);
    },
  );

  test('of bytes counts the bytes that were predicted', async () => {
    const found = measured('bytes', file('two.txt', 'ab'));
    const [b] = await withModel('bytes', (model) => predicted(model, [97, 98]));
    expect(found.tokens).toBe(1);
    expect(found.bitsPerByte).toBeCloseTo(-b!.log / Math.LN2, 4);
    const longer = await withModel('bytes', (model) =>
      evaluateTexts(model, [{ text: 'the ', continues: false }, { text: 'bird', continues: true }, 'éa']),
    );
    expect(longer.tokens).toBe(7 + 2);
    expect(longer.bitsPerByte).toBeCloseTo((longer.loss * 9) / Math.LN2 / 9, 10);
  });

  test('of pairs counts those whose good sentence is the likelier, in JSONL, CSV and on standard input', async () => {
    const pairs = sentences.slice(0, 20).map((good, i) => {
      const bad = i < 14 ? good.split(' ').reverse().join(' ') : `${good.slice(0, -1)} the.`;
      return { sentence_good: good, sentence_bad: bad };
    });
    const right = await withModel('words', async (model) => {
      let count = 0;
      for (const { sentence_good: good, sentence_bad: bad } of pairs)
        if (sum(await predicted(model, begun(model, good))) > sum(await predicted(model, begun(model, bad)))) count++;
      return count;
    });
    expect(right).toBeGreaterThan(12);
    const expected = { questions: 20, right, accuracy: right / 20 };
    expect(measured('words', file('pairs.jsonl', lines(pairs)))).toEqual(expected);
    const table = (between: string) =>
      [{ sentence_good: 'sentence_good', sentence_bad: 'sentence_bad' }, ...pairs]
        .map((pair) => `${pair.sentence_good}${between}${pair.sentence_bad}\n`)
        .join('');
    expect(measured('words', file('pairs.csv', table(',')))).toEqual(expected);
    expect(measured('words', '-', [], gzipSync(lines(pairs)))).toEqual(expected);
    expect(measured('words', '-', [], table('\t'))).toEqual(expected);
    const { stderr } = riverrun(['eval', '--model', at('words'), '--data', '-'], lines(pairs));
    expect(stderr).toBe('riverrun: standard input is read as JSONL with sentence_good, sentence_bad\n');
    const strange = riverrun(['eval', '--model', at('words'), '--data', '-'], '{"body":"the river"}\n');
    expect(strange.stderr).toBe(
      'riverrun: standard input is read as text, for its first line is an object without a known field (it has body)\n',
    );
  });

  test('of endings tells those whose every token is the likeliest, and their perplexity', async () => {
    const texts = sentences.slice(0, 20);
    const [right, surprise] = await withModel('words', async (model) => {
      let [count, total] = [0, 0];
      for (const one of texts) {
        const before = model.tokenizer.encode(one.slice(0, one.lastIndexOf(' ')));
        const each = (await predicted(model, model.tokenizer.encode(one))).slice(before.length - 1);
        if (each.every(({ isLikeliest }) => isLikeliest)) count++;
        total -= sum(each);
      }
      return [count, total];
    });
    const found = measured('words', file('endings.jsonl', lines(texts.map((one) => ({ text: one })))), ['--questions']);
    expect(found).toMatchObject({ questions: 20, right, accuracy: right / 20 });
    expect(found.perplexity / Math.exp(surprise / 20)).toBeCloseTo(1, 3);
  });

  test('of choices takes the likeliest', async () => {
    const questions = sentences
      .slice(0, 12)
      .map((prompt, i) => ({ prompt, choices: [' the river', ' stone a', ' xqz'], answer: i % 2 }));
    const right = await withModel('words', async (model) => {
      let count = 0;
      for (const { prompt, choices, answer } of questions) {
        const before = model.tokenizer.encode(prompt).length;
        const found: number[] = [];
        for (const choice of choices)
          found.push(sum((await predicted(model, model.tokenizer.encode(prompt + choice))).slice(before - 1)));
        if (found.indexOf(Math.max(...found)) === answer) count++;
      }
      return count;
    });
    expect(measured('words', file('choices.jsonl', lines(questions)))).toEqual({
      questions: 12,
      right,
      accuracy: right / 12,
    });
  });

  test('of endings and choices counts every token of them', async () => {
    await withModel('bytes', async (model) => {
      let isLonger = 0;
      for (const prompt of ['the ', 'over a', 'bird', 'runs under', 'green st']) {
        // A byte is a token: the likeliest ones, and the surprise of each.
        const ids = model.tokenizer.encode(prompt);
        const log: number[] = [];
        for (let i = 0; i < 6; i++) {
          const logits = await model.session().logitsOf(ids);
          const row = logSoftmax(logits.subarray(-model.outputSize));
          log.push(Math.max(...row));
          ids.push(row.indexOf(Math.max(...row)));
        }
        const told = model.tokenizer.decode(ids.slice(-6));
        expect(told).toMatch(/^[ -~]{6}$/);
        const answered = async (ending: string) => await evaluate(model, [{ kind: 'ending', prompt, ending }]);
        const { right, perplexity } = await answered(told);
        expect(right).toBe(1);
        expect(perplexity! / Math.exp(-log.reduce((a, b) => a + b))).toBeCloseTo(1, 4);
        for (const at of [0, 3, 5])
          expect((await answered(`${told.slice(0, at)}~${told.slice(at + 1)}`)).right, `byte ${at} of 6`).toBe(0);
        // The whole is never likelier than how it begins, though it may be by the byte.
        if (log.reduce((a, b) => a + b) / 6 > log[0]!) isLonger++;
        const choices = [told, told[0]!, `${told[0]!}~`];
        for (const answer of choices.keys())
          expect((await evaluate(model, [{ kind: 'choice', prompt, choices, answer }])).right).toBe(
            answer === 1 ? 1 : 0,
          );
      }
      expect(isLonger).toBeGreaterThan(0);
    });
  });

  test('of endings reads them after their prompts, where a text of its own would begin with a space', async () => {
    const tokens = ['<unk>', '</s>', '▁', ...'abcdefghijklmnopqrstuvwxyz.'];
    const tokenizer = {
      added_tokens: [0, 1].map((id) => ({ id, content: tokens[id], special: true })),
      normalizer: spacesAsMarks,
      pre_tokenizer: null,
      post_processor: null,
      decoder: { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
      model: {
        type: 'BPE',
        unk_token: '<unk>',
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges: [],
      },
    };
    const path = file('spaces.json', JSON.stringify(tokenizer));
    await run(trainModel({ ...small, tokenizer: path, steps: 2, output: at('spaces') }));
    await withModel('spaces', async (model) => {
      const [prompt, ending] = ['the river', ' runs'];
      expect(model.tokenizer.encode(ending)).toHaveLength(6);
      const whole = model.tokenizer.encode(prompt + ending);
      const each = (await predicted(model, whole)).slice(-5);
      const { perplexity } = await evaluate(model, [{ kind: 'ending', prompt, ending }]);
      expect(perplexity! / Math.exp(-sum(each))).toBeCloseTo(1, 4);
    });
  });

  test('asks and reads as many as the limit says', () => {
    const questions = file('limited.jsonl', lines(sentences.slice(0, 6).map((one) => ({ text: one }))));
    expect(measured('words', questions, ['--questions', '--limit', '4'])).toMatchObject({ questions: 4 });
    expect(measured('words', questions, ['--questions', '--limit', '9'])).toMatchObject({ questions: 6 });
    const [some, all] = [['--limit', '4'], []].map((limit) => measured('words', questions, limit));
    expect([some.texts, all.texts]).toEqual([4, 6]);
    expect(some.tokens).toBeLessThan(all.tokens);
    const idle = riverrun(['eval', '--model', at('words'), '--data', questions, '--questions', '--length', '4']);
    expect([idle.status, idle.stderr]).toEqual([
      1,
      'riverrun: length is given, but questions are asked: it is for texts, leave it out\n',
    ]);
  });

  test('of labels counts what the last token tells; numbers are labels as they are written', async () => {
    const right = await withModel('labels', async (model) => {
      expect(model.labels).toEqual(['0', '1', '2']);
      let count = 0;
      for (const { text: one, label } of labelled.slice(40)) {
        const session = model.session();
        await session.read(one);
        const { logits } = session;
        if (logits.indexOf(Math.max(...logits)) === label) count++;
      }
      return count;
    });
    expect(measured('labels', held, ['--label', 'label'])).toEqual({ questions: 20, right, accuracy: right / 20 });
    expect(measured('labels', '-', ['--label', 'label'], readFileSync(held))).toMatchObject({ right });
    const csv = ['text,label', ...labelled.slice(40).map((row) => `${row.text},${row.label}`)].join('\n');
    expect(measured('labels', '-', ['--label', 'label'], csv)).toMatchObject({ right });
  });

  test('of labels refuses a column without any of them, and tells how many are unknown', () => {
    const wrong = riverrun(['eval', '--model', at('labels'), '--data', held, '--label', 'text']);
    expect(wrong.stderr).toMatch(
      /none of the data's labels \("[^"]+", .*, … 20 in all\) is one of the model's \("0", "1", "2"\)/,
    );
    expect(wrong.status).toBe(1);
    const mixed = file('mixed.jsonl', lines([...labelled.slice(40), { text: 'a', label: true }]));
    expect(measured('labels', mixed, ['--label', 'label'])).toMatchObject({ questions: 21, unknownLabels: 1 });
    const object = file('object.jsonl', lines([labelled[0]!, { text: 'a', label: { is: 1 } }]));
    for (const command of [
      ['eval', '--model', at('labels')],
      ['finetune', '--model', at('words'), '--out', at('none')],
    ]) {
      const { stderr } = riverrun([...command, '--data', object, '--label', 'label']);
      expect(stderr).toBe(`riverrun: ${object}: line 2: label is {"is":1}: it must be a text or a number\n`);
    }
  });

  const ofTokens = {
    pair: { sentence_good: sentences[0]!, sentence_bad: 'over over over.' },
    choice: { prompt: 'the ', choices: ['river', 'stone'], answer: 0 },
    ending: { prompt: 'the river', ending: ' runs' },
    completion: { prompt: 'the river', completion: ' runs' },
    text: { text: sentences[0]! },
  };
  test.each(Object.keys(ofTokens) as (keyof typeof ofTokens)[])(
    'of a %s refuses heads of labels and of places: their outputs are no tokens',
    async (kind) => {
      const asked = file(`${kind}-once.jsonl`, lines([ofTokens[kind]]));
      for (const [name, why] of [
        ['labels', /^the model is a classifier: it tells labels/],
        ['spans', /^the model answers questions with a span/],
      ] as const)
        await withModel(name, async (model) => {
          await expect(evaluate(model, readQuestions([asked]))).rejects.toThrow(why);
        });
      expect(measured('words', asked, ['--questions'])).toMatchObject({ questions: 1 });
    },
  );

  test('of pairs tells on the command line that the model is a classifier', () => {
    const { status, stdout, stderr } = riverrun(['eval', '--model', at('labels'), '--data', at('pair-once.jsonl')]);
    expect([status, stdout, stderr]).toEqual([
      1,
      '',
      'riverrun: the model is a classifier: it tells labels, and generates no text\n',
    ]);
  });

  test('of completions and messages gives the loss, and the accuracy of tokens, that training told of the same file', async () => {
    const pairs = sentences.slice(0, 24).map((one) => {
      const cut = one.lastIndexOf(' ');
      return { prompt: one.slice(0, cut), completion: one.slice(cut) };
    });
    const talks = pairs.map(({ prompt, completion }) => ({
      messages: [
        { role: 'user', content: prompt },
        { role: 'assistant', content: completion },
        { role: 'user', content: ' the bird' },
        { role: 'assistant', content: ' sings.' },
      ],
    }));
    const csv = `prompt,completion\n${pairs.map(({ prompt, completion }) => `${prompt},${completion}\n`).join('')}`;
    for (const [name, data] of [
      ['completions', file('completions.jsonl', lines(pairs))],
      ['completions', file('completions.csv', csv)],
      ['talks', file('talks.jsonl', lines(talks))],
    ] as const) {
      const output = `${name}-${data.endsWith('csv') ? 'csv' : 'jsonl'}`;
      const options = { data: [data], validation: [data], label: undefined, evaluateEvery: 6 };
      const { best } = await run(finetune(taught(output, options)));
      const found = measured(output, data);
      expect(found.loss, output).toBeCloseTo(best!.loss, 5);
      expect(found.tokenAccuracy).toBeCloseTo(best!.accuracy!, 10);
      expect(found.perplexity).toBeCloseTo(Math.exp(found.loss), 8);
      // Not all tokens of what is said are the likeliest, and of few texts each is.
      expect(found.tokenAccuracy).toBeGreaterThan(found.accuracy);
      const tokens = await withModel(output, async ({ tokenizer }) => {
        const length = (one: string) => tokenizer.encode(one).length;
        const last = name === 'talks' ? length(' sings.') : 0;
        return pairs.reduce((all, { completion }) => all + length(completion) + last, 0);
      });
      expect(found).toMatchObject({ questions: 24, tokens });
    }
    expect(measured('talks-jsonl', '-', [], lines(talks))).toEqual(measured('talks-jsonl', at('talks.jsonl')));
  });

  test('of completions counts those of which every token is the likeliest, and refuses empty ones', async () => {
    await withModel('bytes', async (model) => {
      const ids = model.tokenizer.encode('the ');
      for (let i = 0; i < 4; i++) {
        const logits = (await model.session().logitsOf(ids)).subarray(-model.outputSize);
        ids.push(logits.indexOf(Math.max(...logits)));
      }
      const said = model.tokenizer.decode(ids.slice(-4));
      const asked = async (text: string) => {
        const passages = [
          { text: 'the ', answers: false },
          { text, answers: true },
        ];
        return await evaluate(model, [{ kind: 'answers', passages }]);
      };
      expect(await asked(said)).toMatchObject({ right: 1, tokens: 4, tokenAccuracy: 1 });
      expect(await asked(`${said.slice(0, 3)}~`)).toMatchObject({ right: 0, tokens: 4, tokenAccuracy: 0.75 });
      // Without a token that begins texts, the first is given.
      const alone = await evaluate(model, [{ kind: 'answers', passages: [{ text: 'bird', answers: true }] }]);
      const each = await predicted(model, model.tokenizer.encode('bird'));
      expect(alone.tokens).toBe(3);
      expect(alone.loss).toBeCloseTo(-sum(each) / 3, 4);
    });
    for (const [row, what] of [
      [{ prompt: 'the', completion: '' }, 'completion is empty'],
      [{ messages: [{ role: 'user', content: 'the' }] }, 'the assistant says nothing'],
      [{ completion: 'bird' }, 'prompt is undefined, not a text'],
    ] as const) {
      const data = file('unsaid.jsonl', lines([row]));
      const { status, stderr } = riverrun(['eval', '--model', at('words'), '--data', data]);
      expect([status, stderr]).toEqual([1, expect.stringContaining(`${data}: line 1: ${what}`)]);
    }
  });

  test('of answers in a context gives exact matches and F1 of heads of places', async () => {
    const [right, f1] = await withModel('spans', async (model) => {
      let [exact, overlap] = [0, 0];
      for (const { question, context, answers } of spans) {
        const [answer] = answers.text as [string];
        const before = model.tokenizer.encode(question);
        const ids = model.tokenizer.encode(context);
        const all = await model.session().logitsOf([...before, ...ids]);
        const side = (n: number) => logSoftmax(ids.map((_, i) => all[2 * (before.length + i) + n]!));
        const [first, last] = [side(0), side(1)];
        let best = { score: -Infinity, text: '' };
        for (let i = 0; i < ids.length; i++)
          for (let j = i; j < Math.min(ids.length, i + 15); j++) {
            const told = model.tokenizer.decode(ids.slice(i, j + 1)).trim();
            if (told && first[i]! + last[j]! > best.score) best = { score: first[i]! + last[j]!, text: told };
          }
        const plain = (one: string) =>
          one
            .toLowerCase()
            .replace(/[.]/g, '')
            .split(/\s+/)
            .filter((word) => word && !['a', 'the'].includes(word));
        const [told, wanted] = [plain(best.text), plain(answer)];
        if (told.join(' ') === wanted.join(' ')) exact++;
        const rest = [...wanted];
        const common = told.filter((word) => rest.includes(word) && rest.splice(rest.indexOf(word), 1)).length;
        if (told.length === 0 || wanted.length === 0) overlap += told.length === wanted.length ? 1 : 0;
        else if (common > 0) overlap += (2 * common) / (told.length + wanted.length);
      }
      return [exact, overlap / spans.length];
    });
    const found = measured('spans', at('spans.jsonl'));
    expect(found).toMatchObject({ questions: 12, right, accuracy: right / 12 });
    expect(found.f1).toBeCloseTo(f1, 6);
    expect(found.f1).toBeGreaterThan(0);
  });

  test.each([
    ['eval', '--length', '0'],
    ['eval', '--length', '-3'],
    ['eval', '--limit', '0'],
    ['ask', '--max-tokens', '0'],
    ['ask', '--top-k', '0'],
    ['bench', '--rounds', '0'],
    ['bench', '--decode', '-1'],
  ])('%s %s %s is refused by name', (command, option, value) => {
    const rest = command === 'eval' ? ['--data', text] : command === 'ask' ? [text, 'Who?'] : [];
    const model = option === '--top-k' ? 'spans' : 'words';
    const { status, stderr } = riverrun([command, ...rest, '--model', at(model), option, value]);
    expect(status).toBe(1);
    expect(stderr.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)).toContain(option.slice(2));
    expect(stderr).toMatch(/must be/i);
    expect(stderr).not.toContain('report it');
  });
});

describe('tuned initial states', () => {
  test('training’s last evaluation is what eval and classify give of the same file', async () => {
    const expected = state.best!.accuracy!;
    const given = ['--label', 'label', '--load', join(at('state'), 'initial.state')];
    const { accuracy } = measured('state', held, given);
    expect(accuracy).toBe(expected);
    // The state of the model's own folder is what texts begin with, and this is told.
    expect(measured('state', held, ['--label', 'label'])).toMatchObject({ accuracy });
    const told = riverrun(
      ['classify', '--model', at('state')],
      labelled
        .slice(40)
        .map((row) => row.text)
        .join('\n'),
    );
    expect(told.stderr).toBe(
      `riverrun: texts begin with ${at('state')}/initial.state, the state that this model was tuned to\n`,
    );
    const found = told.stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split('\t')[0]);
    expect(found.filter((label, i) => label === String(labelled[40 + i]!.label)).length / 20).toBe(expected);
    // Without the state the labels are others.
    const empty = await load(at('state'), { threads: 1, state: false });
    const model = await load(at('state'), { threads: 1 });
    const classifier = await pipeline('text-classification', model);
    const question = { kind: 'label', text: labelled[41]!.text, label: String(labelled[41]!.label) } as const;
    const [own, without] = [await classify(model, question.text), await classify(empty, question.text)];
    expect(own.map(({ probability }) => probability)).not.toEqual(without.map(({ probability }) => probability));
    const [best] = (await classifier(question.text)) as { score: number }[];
    expect(best!.score).toBeCloseTo(Math.max(...own.map(({ probability }) => probability)), 6);
    expect(
      (
        await evaluate(
          model,
          labelled.slice(40).map((row) => ({ kind: 'label', text: row.text, label: String(row.label) }) as const),
        )
      ).accuracy,
    ).toBe(expected);
    await empty.beginWith(model.initialState);
    expect(await classify(empty, question.text)).toEqual(own);
    model.dispose();
    empty.dispose();
  });

  test('of language models make the loss that training told, for eval and score', async () => {
    const one = file('one.txt', sentences.slice(0, 9).join(' '));
    const options = { label: undefined, data: [text], validation: [one], length: 128, learningRate: 0.1 };
    const { best } = await run(finetune(taught('poems', { ...options, method: 'state', steps: 8, evaluateEvery: 8 })));
    const initial = join(at('poems'), 'initial.state');
    const { loss, tokens } = measured('words', one, ['--load', initial]);
    expect(loss).toBeLessThan(measured('words', one).loss);
    // Training predicts the token that ends the text, too.
    const end = await withModel('words', async (model) => {
      await model.beginWith(await loadState(initial, model));
      const ids = [...begun(model, sentences.slice(0, 9).join(' ')), model.tokenizer.endOfText!];
      return (await predicted(model, ids)).at(-1)!.log;
    });
    expect((loss * tokens - end) / (tokens + 1)).toBeCloseTo(best!.loss, 4);
    const score = (...more: string[]) =>
      JSON.parse(
        riverrun(['score', '--model', at('words'), '--text', sentences[0]!, '--summary', '--json', ...more]).stdout,
      );
    expect(score('--load', initial).logProbability).not.toBe(score().logProbability);
    const other = riverrun(['eval', '--model', at('bytes'), '--data', text, '--load', initial]);
    expect(other.stderr).toMatch(/^riverrun: the state is of another gla/);
    expect(other.status).toBe(1);
  });

  test('of a text that was read predict the first token of the next', async () => {
    const saved = at('read.state');
    riverrun(['state', 'save', saved, 'the river', '--model', at('words'), '--threads', '1']);
    const found = measured('words', file('next.txt', ' runs'), ['--load', saved]);
    const [log, tokens] = await withModel('words', async (model) => {
      const [before, next] = [model.tokenizer.encode('the river'), model.tokenizer.encode(' runs')];
      return [sum((await predicted(model, [...before, ...next])).slice(before.length - 1)), next.length];
    });
    expect(found.tokens).toBe(tokens);
    expect(found.loss).toBeCloseTo(-log / tokens, 4);
  });
});

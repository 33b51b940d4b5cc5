import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { Random } from '../src/core/random.ts';
import { answerData, hasAnswers } from '../src/platform/answer-data.ts';
import { readRecords, readTexts } from '../src/platform/data-files.ts';
import { refuseIdleLayout } from '../src/platform/data-format.ts';
import { parted } from '../src/platform/example-data.ts';
import { type FinetuneOptions, finetune } from '../src/platform/finetune.ts';
import { labelledData } from '../src/platform/labelled-data.ts';
import { embeddedModel, load } from '../src/platform/node-load.ts';
import { spanData } from '../src/platform/span-data.ts';
import { type TrainOptions, trainModel } from '../src/platform/train.ts';
import type { Trained } from '../src/platform/training-run.ts';
import { trainBpe } from '../src/tokenizers/bpe-trainer.ts';
import { byteTokenizer, endedByteTokenizerJson } from '../src/tokenizers/bytes.ts';
import { encodePieces, wholeTexts } from '../src/tokenizers/encode-stream.ts';
import { huggingFaceTokenizer } from '../src/tokenizers/hugging-face.ts';
import type { Learner, Part } from '../src/train/learner.ts';
import type { TrainRecord } from '../src/train/trainer.ts';
import { dataFolder } from './data-folder.ts';

const main = new URL('../dist/cli/main.js', import.meta.url).pathname;
const { at, file } = dataFolder('data');
const lines = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

const random = new Random(9);
const words = ['river', 'stone', 'bird', 'grün', 'runs', 'sings', 'over', '木', 'a', '𝄞'];
const sentence = () => `${Array.from({ length: 8 }, () => words[random.integer(words.length)]).join(' ')}.\n`;
const story = (count: number) => Array.from({ length: count }, sentence).join('');

async function all<T>(values: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const value of values) found.push(value);
  return found;
}

async function run(running: AsyncGenerator<TrainRecord, Trained>): Promise<Trained> {
  for (;;) {
    const next = await running.next();
    if (next.done) return next.value;
  }
}

const small = (output: string, more: Partial<TrainOptions> = {}): TrainOptions => ({
  ...{ architecture: 'gla', width: 32, headWidth: 16, layers: 1, data: [at('story.txt')], tokenizer: 'bytes' },
  ...{ steps: 1, batch: 2, length: 32, threads: 1, output: at(output), ...more },
});
file('story.txt', story(200));

function riverrun(args: readonly string[], input: string | Uint8Array = '') {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { input, encoding: 'utf8' });
  return { status, stdout, stderr };
}

test('learning a tokenizer tells how much of it is done, and a signal ends it', async () => {
  const told: [what: string, done?: number, total?: number][] = [];
  const learned = { tokenizer: undefined, vocabulary: 290, steps: 0 };
  await run(trainModel(small('told', { ...learned, onProgress: (...of) => told.push(of) })));
  const merges = told.filter(([, , total]) => total !== undefined);
  expect(merges.map(([, done, total]) => [done, total])).toEqual(Array.from({ length: 34 }, (_, i) => [i, 33]));
  expect(merges[7]![0]).toBe('learning a tokenizer: 7 of 33 merges');

  const controller = new AbortController();
  let last = 0;
  const onProgress = (_: string, done = 0) => {
    last = done;
    if (done === 20) controller.abort();
  };
  const stopped = trainModel(small('stopped', { ...learned, signal: controller.signal, onProgress }));
  await expect(run(stopped)).rejects.toThrow(/abort/i);
  expect(last).toBe(20);
  expect(existsSync(at('stopped'))).toBe(false);
});

describe('long texts', () => {
  const texts = [story(40), `${'x'.repeat(200)} ${'木'.repeat(300)}`, story(3)];
  const path = file('long.txt', texts.join('<|endoftext|>'));

  test.each([7, 50, 1000])('come in pieces of %i characters that are the same texts', async (longest) => {
    const pieces = await all(readTexts([path], { longest }));
    expect(pieces.length).toBeGreaterThan(texts.length);
    // A chunk of a file may be longer than a piece, and pieces are cut as soon as it has come.
    expect(Math.max(...pieces.map(({ text }) => text.length))).toBeLessThanOrEqual(longest + '<|endoftext|>'.length);
    const whole: string[] = [];
    for await (const each of wholeTexts(pieces)) whole.push((await all(each)).join(''));
    expect(whole).toEqual(texts);
  });

  test('give the tokenizer, and the tokens, of the whole', async () => {
    const path = file('words.txt', texts[0]!);
    const json = await trainBpe([texts[0]!], 320);
    expect(await trainBpe(readTexts([path], { longest: 100 }), 320)).toEqual(json);
    const tokenizer = huggingFaceTokenizer(json);
    const found: number[][] = [];
    for await (const each of wholeTexts(readTexts([path], { longest: 100 })))
      found.push((await all(encodePieces(tokenizer, each))).flatMap(({ tokens }) => tokens));
    expect(found).toEqual([tokenizer.encode(texts[0]!)]);
  });
});

describe('a folder of data', () => {
  test('with a link that leads nowhere is refused', async () => {
    mkdirSync(at('linked'));
    writeFileSync(join(at('linked'), 'a.txt'), 'the river');
    symlinkSync(at('gone.txt'), join(at('linked'), 'b.txt'));
    await expect(all(trainModel(small('from-links', { data: [at('linked')] })))).rejects.toThrow(
      /b.txt is a link that leads nowhere/,
    );
  });

  test.each(['', '/below'])('no model is written to a file%s', async (below) => {
    const output = `${file('afile', 'x')}${below}`;
    const running = trainModel({ ...small('x'), output });
    await expect(running.next()).rejects.toThrow(/afile(\/below)? can not be made a folder: .* is a file/);
  });
});

describe('examples kept for validation', () => {
  const rows = Array.from({ length: 500 }, (_, i) => i);

  test('are a tenth, of which nothing is learned', () => {
    const [taught, held] = parted(rows, 3);
    expect([...taught, ...held].sort((a, b) => a - b)).toEqual(rows);
    expect(held.length).toBeGreaterThan(25);
    expect(held.length).toBeLessThan(90);
    expect(parted(rows, 3)).toEqual([taught, held]);
    expect(parted(rows, 4)).not.toEqual([taught, held]);
  });

  test('are never all of a kind', () => {
    const [, plain] = parted(rows, 3);
    const alone = plain[5]!;
    const [taught, held] = parted(rows, 3, (row) => (row === alone ? 'rare' : 'usual'));
    expect(taught).toContain(alone);
    expect(held).toEqual(plain.filter((row) => row !== alone));
    expect(taught.length + held.length).toBe(500);
  });

  const told = Array.from({ length: 60 }, (_, i) => ({ text: `story ${i} is told`, label: i % 2 ? 'odd' : 'even' }));
  const written = {
    label: told,
    completion: told.map(({ text, label }) => ({ prompt: text, completion: ` ${label}` })),
    answers: told.map(({ text }) => ({
      question: '?',
      context: text,
      answers: { text: [text.split(' ')[1]!], answer_start: [6] },
    })),
  };
  /** Texts of a part's segments. */
  const textsOf = ({ tokens, ends }: Part) =>
    ends.map((end, i) => byteTokenizer().decode(Array.from(tokens).slice(i > 0 ? ends[i - 1]! : 0, end)));
  const numberOf = (text: string) => Number(/story (\d+) /.exec(text)![1]);

  test.each([
    ['label', labelledData],
    ['completion', answerData],
    ['answers', spanData],
  ] as const)('of %s are what is measured, and the others are learned, each once in an epoch', async (kind, read) => {
    const data = [file(`kept-${kind}.jsonl`, lines(written[kind]))];
    const options = { data, seed: 7, batch: 4, together: 3, ...(kind === 'label' && { label: 'label' }) };
    const { batches, evaluate } = await read(options, byteTokenizer(), 256);
    const [taught, held] = parted(told, 7);
    const numbers = (texts: readonly string[]) => texts.map(numberOf).sort((a, b) => a - b);
    const learned: string[] = [];
    for (let step = 0; step < batches.stepsPerEpoch; step++)
      for (const part of batches.parts(step)) learned.push(...textsOf(part));
    expect(numbers(learned.slice(0, taught.length))).toEqual(taught.map(({ text }) => numberOf(text)));
    const measured: string[] = [];
    // Logits that tell two of three of what is to be told.
    let count = 0;
    const learner = {
      evaluate: async (parts: Iterable<Part>, read: (part: Part, output: () => ArrayLike<number>) => void) => {
        for (const part of parts) {
          measured.push(...textsOf(part));
          const logits = new Float32Array(kind === 'answers' ? 2 * part.tokens.length : 256 * part.rows.length);
          const targets = Array.from(part.inputs['targets']!);
          const size = kind === 'label' ? 2 : 256;
          if (kind === 'answers')
            for (const [b, end] of part.ends.entries()) {
              const start = b > 0 ? part.ends[b - 1]! : 0;
              logits[2 * (start + targets[2 * b]!)] = 1;
              // Of every third question the last token is told wrong.
              logits[2 * (count++ % 3 === 0 ? end - 1 : start + targets[2 * b + 1]!) + 1] = 1;
            }
          else
            for (const [row, target] of targets.entries())
              logits[row * size + (count++ % 3 === 0 ? (target + 1) % size : target)] = 1;
          read(part, () => logits);
        }
        return 0;
      },
    } as unknown as Learner;
    const { accuracy } = await evaluate(learner);
    expect(numbers(measured)).toEqual(held.map(({ text }) => numberOf(text)));
    expect(count).toBeGreaterThanOrEqual(held.length);
    expect(accuracy).toBeCloseTo(1 - Math.ceil(count / 3) / count, 12);
  });

  test('leave a label its only example', async () => {
    await run(trainModel(small('base')));
    const labelled = rows
      .slice(0, 60)
      .map((i) => ({ text: `the river ${i}`, label: i === parted(rows.slice(0, 60), 0)[1][0] ? 'rare' : i % 2 }));
    const options = {
      model: at('base'),
      data: [file('rare.jsonl', lines(labelled))],
      label: 'label',
      steps: 1,
      threads: 1,
    };
    await run(finetune({ ...options, output: at('rare') }));
    const model = await load(at('rare'), { threads: 1 });
    expect(model.labels).toEqual(['0', '1', 'rare']);
    model.dispose();
    const one = [file('all.jsonl', lines(labelled.map(({ text }) => ({ text, label: 'y' }))))];
    await expect(run(finetune({ ...options, data: one, output: at('one') }))).rejects.toThrow(
      /all 60 examples are labelled "y"/,
    );
  });
});

describe('a signal that is raised while data is read', () => {
  const aborted = async (start: (signal: AbortSignal) => AsyncGenerator<TrainRecord, Trained>, output: string) => {
    const controller = new AbortController();
    const running = start(controller.signal).next();
    setTimeout(() => controller.abort(), 20);
    await expect(running).rejects.toThrow(/aborted/);
    expect(existsSync(at(output))).toBe(false);
  };

  test('ends the learning of a tokenizer', async () => {
    const data = [file('books.txt', story(20_000))];
    await aborted(
      (signal) => trainModel({ ...small('learned', { data, vocabulary: 4000, signal }), tokenizer: undefined }),
      'learned',
    );
  });

  test.each([
    ['questions', { question: 'Which?', answers: { text: ['river'] }, context: `the river ${story(8)}` }, {}],
    ['answers', { prompt: story(4), completion: story(4) }, {}],
    ['labels', { text: story(8), label: 'a' }, { label: 'label' }],
  ] as [string, object, Partial<FinetuneOptions>][])('ends the reading of %s', async (name, row, more) => {
    const rows = lines(Array.from({ length: 6000 }, (_, i) => (name === 'labels' ? { ...row, label: i % 3 } : row)));
    const options = {
      model: embeddedModel,
      data: [file(`${name}.jsonl`, rows)],
      threads: 1,
      output: at(name),
      ...more,
    };
    await aborted((signal) => finetune({ ...options, signal }), name);
  });
});

describe('standard input', () => {
  const common = ['--threads', '1', '--steps', '1', '--batch', '2', '--length', '32'];

  test('gives answers, gzipped or not, and texts of JSONL, and this is told', async () => {
    await run(trainModel(small('taught')));
    const rows = lines(Array.from({ length: 40 }, () => ({ prompt: 'the', completion: ' river' })));
    for (const [i, input] of [rows, gzipSync(rows), `prompt,completion\n${'the, river\n'.repeat(40)}`].entries()) {
      const out = at(`answers${i}`);
      const { status, stderr, stdout } = riverrun(
        ['finetune', '--model', at('taught'), '--data', '-', ...common, '--out', out],
        input,
      );
      expect([status, stderr]).toEqual([
        0,
        `standard input is read as ${i === 2 ? 'CSV' : 'JSONL'} with prompt, completion\n`,
      ]);
      expect(stdout).toContain('accuracy');
    }
    const texts = lines(Array.from({ length: 40 }, () => ({ text: sentence() })));
    const train = [
      'train',
      '--arch',
      'gla',
      '--width',
      '32',
      '--head-width',
      '16',
      '--layers',
      '1',
      '--tokenizer',
      'bytes',
      ...common,
    ];
    const { stderr } = riverrun([...train, '--data', '-', '--out', at('piped')], texts);
    expect(stderr).toBe('standard input is read as JSONL with text\n');
    const plain = riverrun([...train, '--data', '-', '--out', at('plain')], story(40));
    expect([plain.status, plain.stderr]).toEqual([0, 'standard input is read as text\n']);
  });

  test('is named once', () => {
    const args = '--tokenizer bytes --data - --validation - --steps 1 --out'.split(' ');
    const { status, stderr } = riverrun(['train', ...args, at('twice')], story(40));
    expect(stderr).toBe(
      'riverrun: standard input (-) is named 2 times, but can be read once: name a file for the others\n',
    );
    expect(status).toBe(1);
  });
});

test('NUL characters in JSONL are refused, and their names are not', async () => {
  await expect(all(readRecords([file('nul.jsonl', '{"text":"a\\u0000b"}\n')]))).rejects.toThrow(
    /nul.jsonl: line 1 holds a NUL character/,
  );
  await expect(all(readRecords([file('nul.jsonl', '{"text":"\\\\\\u0000"}\n')]))).rejects.toThrow(/NUL character/);
  const [{ fields } = { fields: {} }] = await all(readRecords([file('named.jsonl', '{"text":"a\\\\u0000"}\n')]));
  expect(fields).toEqual({ text: 'a\\u0000' });
});

test('a label that is null is told as such', async () => {
  const data = [file('null.jsonl', lines([{ text: 'the river', label: null }]))];
  const tokenizer = byteTokenizer();
  await expect(labelledData({ data, label: 'label' }, tokenizer)).rejects.toThrow(
    /line 1: label is null: it must be a text or a number$/,
  );
});

describe('tables', () => {
  test('tell what is wrong with them, by row', async () => {
    expect(await all(readRecords([file('a.tsv', 'x\ty\n1\t"2\n')]))).toEqual([
      { fields: { x: '1', y: '"2' }, where: `${at('a.tsv')}: row 1` },
    ]);
    await expect(all(readRecords([file('b.csv', 'x,y\n1,"2\n')]))).rejects.toThrow(/b.csv is not valid CSV/);
    await expect(all(readRecords([file('c.csv', 'x,y\n1,\0\n')]))).rejects.toThrow(/c.csv holds a NUL byte/);
  });
});

describe('the lines of a table', () => {
  const labels = async (name: string, contents: string) => {
    const records = await all(readRecords([file(name, contents)]));
    return records.map(({ fields }) => fields);
  };
  const expected = [
    { text: 'x', label: 'a' },
    { text: 'y', label: 'b' },
    { text: 'z', label: 'a' },
  ];

  test.each([
    ['one \\r\\n among \\n', 'text,label\nx,a\ny,b\r\nz,a\n'],
    ['one \\n among \\r\\n', 'text,label\r\nx,a\r\ny,b\nz,a\r\n'],
    ['\\r\\n after a quoted field', 'text,label\n"x",a\ny,"b"\r\n"z","a"'],
    ['\\r, as old systems had it', 'text,label\rx,a\ry,b\rz,a'],
    ['one \\r\\n among \\n, and empty lines', 'text,label\n\nx,a\r\n\r\ny,b\r\nz,a\r\n\r\n'],
  ])('may end in both \\n and \\r\\n: %s', async (name, contents) => {
    expect(await labels(`${name}.csv`, contents)).toEqual(expected);
    if (!contents.includes('"')) expect(await labels(`${name}.tsv`, contents.replaceAll(',', '\t'))).toEqual(expected);
  });

  test('keep line ends in quotes, and a \\r within a field', async () => {
    expect(await labels('within.csv', 'text,label\n"x\r\ny\nz",a\nu\rv,b\r\n')).toEqual([
      { text: 'x\r\ny\nz', label: 'a' },
      { text: 'u\rv', label: 'b' },
    ]);
  });

  test('of TSV have no quotes: each is a character of its field', async () => {
    expect(await labels('quotes.tsv', 'text\tlabel\r\n"x\ta\r\n"y"\tb\r\n')).toEqual([
      { text: '"x', label: 'a' },
      { text: '"y"', label: 'b' },
    ]);
  });

  test('have a column of each name once; columns without a name may be several', async () => {
    await expect(labels('twice.csv', 'text,label,text\nx,a,y\n')).rejects.toThrow(
      /twice.csv has two columns that are named "text": rename one of them/,
    );
    const columns = ['text', 'label', 'label'];
    await expect(all(readRecords([at('twice.csv')], { columns }))).rejects.toThrow(
      /two columns that are named "label"/,
    );
    expect(await labels('unnamed.csv', 'text,label,,\nx,a,,\n')).toEqual([{ text: 'x', label: 'a', '': '' }]);
  });
});

test('a name tells of gzip in letters of any case', async () => {
  const zipped = file('BOOK.TXT.GZ', gzipSync('the river'));
  expect((await all(readTexts([zipped]))).map(({ text }) => text)).toEqual(['the river']);
});

describe('options that say nothing of the data', () => {
  const plain = file('plain.txt', story(20));
  const table = file('table.csv', 'body\nthe river\n');
  const rows = file('rows.jsonl', lines([{ body: 'the river' }]));
  const isField = 'field is given, but the data is plain text, which has no fields: leave it out';
  const isColumns = 'columns is given, but none of the data is CSV or TSV: leave it out';

  test.each([
    [[plain], { field: 'body' }, isField],
    [[plain, plain], { columns: ['body'] }, isColumns],
    [[rows], { field: 'body', columns: ['body'] }, isColumns],
    [[plain, rows], { field: 'body' }, undefined],
    [[plain, table], { field: 'body', columns: ['body'] }, undefined],
    [[plain], {}, undefined],
  ])('%j with %j', async (data, options, message) => {
    const refusing = expect(refuseIdleLayout(data, options));
    if (message === undefined) await refusing.resolves.toBeUndefined();
    else await refusing.rejects.toThrow(message);
  });

  test('are refused by train, finetune and eval', async () => {
    await run(trainModel(small('for-idle')));
    const taught = { model: at('for-idle'), data: [plain], steps: 1, threads: 1, output: at('idle') };
    await expect(run(trainModel(small('idle', { data: [plain], field: 'body' })))).rejects.toThrow(isField);
    await expect(run(finetune({ ...taught, field: 'body' }))).rejects.toThrow(isField);
    await expect(run(finetune({ ...taught, columns: ['body'] }))).rejects.toThrow(isColumns);
    const args = ['eval', '--model', at('for-idle'), '--threads', '1', '--data'];
    expect(riverrun([...args, plain, '--field', 'body'])).toMatchObject({
      status: 1,
      stderr: `riverrun: ${isField}\n`,
    });
    expect(riverrun([...args, '-', '--field', 'body'], 'the river')).toMatchObject({ status: 1 });
    expect(riverrun([...args, '-', '--field', 'body', '--json'], lines([{ body: 'the river' }]))).toMatchObject({
      status: 0,
    });
    expect(existsSync(at('idle'))).toBe(false);
  });
});

test('a tokenizer of fewer tokens than were asked for is told of', async () => {
  const told: string[] = [];
  const data = [file('few.txt', story(6))];
  const options = {
    data,
    tokenizer: undefined,
    steps: 0,
    batch: 1,
    length: 4,
    onNotice: (what: string) => told.push(what),
  };
  await run(trainModel(small('few', { ...options, vocabulary: 260 })));
  expect(told).toEqual([]);
  await run(trainModel(small('fewer', { ...options, vocabulary: 5000 })));
  const { model } = JSON.parse(readFileSync(join(at('fewer'), 'tokenizer.json'), 'utf8'));
  const size = Object.keys(model.vocab).length;
  expect(size).toBeLessThan(500);
  expect(told).toEqual([
    `the tokenizer has ${size} tokens, not 5000: in the data no two of them stand side by side twice any more`,
  ]);
});

test('a model that is not there is told with the names of all that come with the package', async () => {
  const names = readdirSync(new URL('../models', import.meta.url)).sort();
  expect(names.length).toBeGreaterThan(3);
  await expect(load('m1')).rejects.toThrow(`no embedded model (${names.join(', ')}), and no hub id`);
});

describe('columns of tables without a header', () => {
  const columns = ['text', 'number'];
  const rows = Array.from({ length: 30 }, (_, i) => `the river ${i},${i}`);
  const plain = file('plain.csv', rows.map((row) => `${row}\n`).join(''));

  test('are those of texts', async () => {
    const texts = await all(readTexts([plain], { columns }));
    expect(texts.map(({ text }) => text)).toEqual(rows.map((row) => row.split(',')[0]));
    await expect(all(readTexts([plain]))).rejects.toThrow(/row 1 has no text "text" \(it has 0, the river 0\)/);
    await run(trainModel(small('columns')));
    const learned = { model: at('columns'), data: [plain], columns, steps: 1, batch: 2, length: 16, threads: 1 };
    await run(finetune({ ...learned, output: at('columns-taught') }));
    const given = ['--model', at('columns'), '--data', plain, '--columns', 'text,number', '--threads', '1', '--json'];
    expect(JSON.parse(riverrun(['eval', ...given]).stdout)).toMatchObject({ texts: 30 });
  });

  test('are those of answers', async () => {
    const named = ['prompt', 'completion'];
    expect(await hasAnswers([plain], { columns: named })).toBe(true);
    expect(await hasAnswers([plain])).toBe(false);
    const { batches } = await answerData({ data: [plain], columns: named, batch: 1 }, byteTokenizer(), 256);
    const [part] = [...batches.parts(0)];
    expect(byteTokenizer().decode(Array.from(part!.tokens))).toMatch(/^the river (\d+)\1$/);
  });
});

test('a cache that can not be written to is told of, with what names another', async () => {
  const before = process.env['XDG_CACHE_HOME'];
  process.env['XDG_CACHE_HOME'] = file('no-folder', '');
  try {
    await expect(run(trainModel(small('uncached')))).rejects.toThrow(
      /no-folder.*Tokens are kept there: XDG_CACHE_HOME names another folder/,
    );
  } finally {
    process.env['XDG_CACHE_HOME'] = before;
  }
});

test('texts that a model is taught with are tokenised once for each tokenizer', async () => {
  const output = at('cached-base');
  await run(trainModel(small('cached-base', { steps: 0 })));
  const path = file('cached.txt', 'the river ran under a stone. '.repeat(20));
  const told: string[] = [];
  const teach = (name: string) =>
    run(
      finetune({
        ...{ model: output, data: [path], steps: 1, batch: 1, length: 32, threads: 1, output: at(name) },
        onProgress: (what) => told.push(what),
      }),
    );
  const kept = () => readdirSync(join(process.env['XDG_CACHE_HOME']!, 'riverrun/tokens')).length;
  const before = kept();
  await teach('cached-once');
  expect([told.length, kept() - before]).toEqual([1, 1]);
  expect(told[0]).toMatch(/^reading the data: \d+ tokens$/);
  await teach('cached-twice');
  expect([told.length, kept() - before]).toEqual([1, 1]);
  // Settings may give the same file's tokens another beginning.
  writeFileSync(join(output, 'tokenizer_config.json'), '{"add_bos_token":false}');
  await teach('cached-anew');
  expect([told.length, kept() - before]).toEqual([2, 2]);
});

describe('a model of bytes', () => {
  test('is a folder like any other', async () => {
    const output = at('bytes');
    await run(trainModel(small('bytes', { steps: 2 })));
    const json = JSON.parse(readFileSync(join(output, 'tokenizer.json'), 'utf8'));
    // By the library, which a mark that is not there brings in, and without.
    const [ours, theirs] = [{}, { bos_token: 'none' }].map((settings) => huggingFaceTokenizer(json, settings));
    for (const text of ['the grün 木 𝄞.\n\t', 'the river '.repeat(50)])
      for (const tokenizer of [ours!, theirs!]) {
        expect(tokenizer.encode(text)).toEqual(byteTokenizer().encode(text));
        expect(tokenizer.decode(byteTokenizer().encode(text))).toBe(text);
      }
    // Byte 0 ends texts.
    for (const tokenizer of [ours!, theirs!]) {
      expect(tokenizer.encode('a<|endoftext|>\0b', { addSpecialTokens: false })).toEqual([97, 0, 0, 98]);
      expect(tokenizer.decode([97, 0])).toBe('a<|endoftext|>');
      expect(tokenizer.decode([97, 0], { skipSpecialTokens: true })).toBe('a');
      expect([tokenizer.isSpecial(0), tokenizer.tokenBytes(0).length]).toEqual([true, 0]);
    }
    const settings = JSON.parse(readFileSync(join(output, 'tokenizer_config.json'), 'utf8'));
    const marks = { bos_token: '<|endoftext|>', eos_token: '<|endoftext|>', pad_token: '<|endoftext|>' };
    expect(settings).toMatchObject({ tokenizer_class: 'PreTrainedTokenizerFast', ...marks });
    expect(Object.keys(json.model.vocab)).toHaveLength(256);
    const model = await load(output, { threads: 1 });
    expect(model.tokenizer.encode('é')).toEqual([0xc3, 0xa9]);
    expect(model.tokenizer.cuts).toBe('before-spaces');
    model.dispose();
    expect(riverrun(['generate', '--model', output, 'the', '-n', '3', '-t', '0']).status).toBe(0);
    const tuning = { data: [at('story.txt')], steps: 1, batch: 2, length: 32, threads: 1 };
    await run(finetune({ ...tuning, model: output, output: at('bytes-tuned') }));
    expect(JSON.parse(readFileSync(join(at('bytes-tuned'), 'tokenizer.json'), 'utf8'))).toEqual(
      endedByteTokenizerJson(),
    );
    // A folder of before, without the file.
    rmSync(join(output, 'tokenizer.json'));
    rmSync(join(output, 'tokenizer_config.json'));
    await expect(run(finetune({ ...tuning, model: output, output: at('none') }))).rejects.toThrow(
      /has no tokenizer: name one/,
    );
    await run(finetune({ ...tuning, model: output, tokenizer: 'bytes', output: at('older-tuned') }));
    expect(existsSync(join(at('older-tuned'), 'tokenizer.json'))).toBe(true);
  });
});

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { finetune } from '../src/platform/finetune.ts';
import { load } from '../src/platform/node-load.ts';
import { pipeline } from '../src/platform/pipeline.ts';
import { readQuestions } from '../src/platform/question-files.ts';
import { tokensOf } from '../src/platform/span-data.ts';
import { trainModel } from '../src/platform/train.ts';
import { matchAnswer } from '../src/tasks/answer-match.ts';
import { answerSpans } from '../src/tasks/answer-spans.ts';
import { evaluate } from '../src/tasks/evaluate.ts';
import { tokenOffsets } from '../src/tokenizers/token-offsets.ts';

const folder = mkdtempSync(join(tmpdir(), 'spans-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);
const write = (name: string, rows: readonly object[]): string => {
  writeFileSync(at(name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return at(name);
};
const rowOf = (question: string, context: string, text: string, start = context.indexOf(text)) => ({
  question,
  context,
  answers: { text: [text], answer_start: [start] },
});

const rows = [
  rowOf('Who ran?', 'The fox ran. The owl sat.', 'The fox'),
  rowOf('Who sat?', 'The fox ran. The owl sat.', 'The owl'),
  rowOf('Who ran?', 'An owl sat. A cat ran.', 'A cat'),
  rowOf('Who sat?', 'An owl sat. A cat ran.', 'An owl'),
  rowOf('What is red?', 'Grün 🌳 und rot 🍎.', '🍎'),
  rowOf('What is green?', 'Grün 🌳 und rot 🍎.', '🌳'),
];

const finished = async <T>(run: AsyncGenerator<unknown, T>): Promise<T> => {
  let next = await run.next();
  while (!next.done) next = await run.next();
  return next.value;
};

/** The bytes of a model's tensors, by name in order. */
function tensorsOf(model: string): Map<string, Buffer> {
  const file = readFileSync(join(model, 'model.safetensors'));
  const start = 8 + Number(file.readBigUInt64LE());
  const { __metadata__: _, ...tensors } = JSON.parse(file.toString('utf8', 8, start)) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  const names = Object.keys(tensors).sort();
  return new Map(
    names.map((name) => [
      name,
      file.subarray(...(tensors[name]!.data_offsets.map((at) => start + at) as [number, number])),
    ]),
  );
}

beforeAll(async () => {
  writeFileSync(at('text.txt'), 'The fox ran. The owl sat. '.repeat(4));
  const sizes = { architecture: 'gated_deltanet', width: 32, layers: 2, headWidth: 16, inner: 64 };
  const run = { data: [at('text.txt')], vocabulary: 280, steps: 1, batch: 1, length: 16, threads: 1 };
  await finished(trainModel({ ...sizes, ...run, output: at('base') }));
});

describe('a head of spans is learned', () => {
  const model = at('reader');
  const common = { model: at('base'), batch: 6, threads: 1 };

  test('a handful of questions by heart, and the answers are told at their places', async () => {
    const data = write('few.jsonl', rows);
    const settings = { data: [data], validation: [data], steps: 160, learningRate: 1e-2, evaluateEvery: 40 };
    const end = await finished(finetune({ ...common, ...settings, output: model }));
    expect(end.best!.accuracy).toBe(1);
    const config = JSON.parse(readFileSync(join(model, 'config.json'), 'utf8'));
    expect(config.architectures).toEqual(['GatedDeltaNetForQuestionAnswering']);

    const reader = await load(model, { threads: 1 });
    expect(reader.predicts).toBe('spans');
    for (const { question, context, answers } of rows) {
      const [span] = await answerSpans(reader, question, context);
      expect(span!.text).toBe(answers.text[0]);
      expect(context.slice(span!.start, span!.end)).toBe(span!.text);
    }
    expect(await evaluate(reader, readQuestions([data]))).toEqual({ questions: 6, right: 6, accuracy: 1, f1: 1 });
    reader.dispose();

    const answer = await pipeline('question-answering', model);
    expect(await answer('Who sat?', 'The fox ran. The owl sat.')).toMatchObject({
      answer: 'The owl',
      start: 13,
      end: 20,
    });
    await answer.dispose();
  }, 60_000);

  test('the head alone: nothing else moves', async () => {
    const output = at('head');
    const settings = { method: 'head', steps: 3, learningRate: 1e-2 } as const;
    const data = [write('few.jsonl', rows)];
    await finished(finetune({ ...common, ...settings, data, validation: data, output }));
    const [before, after] = [at('base'), output].map(tensorsOf);
    expect([...after!.keys()].filter((name) => !before!.has(name))).toEqual(['qa_outputs.bias', 'qa_outputs.weight']);
    for (const [name, bytes] of before!) expect(after!.get(name)?.equals(bytes), name).toBe(true);
  }, 60_000);

  test('Llama’s body has the name that Hugging Face gives it', async () => {
    const sizes = { architecture: 'llama', width: 16, layers: 1, headWidth: 16, inner: 16 };
    const run = { data: [at('text.txt')], vocabulary: 280, steps: 1, batch: 1, length: 16, threads: 1 };
    await finished(trainModel({ ...sizes, ...run, output: at('llama') }));
    const data = [write('few.jsonl', rows)];
    const output = at('llama-reader');
    await finished(finetune({ model: at('llama'), data, validation: data, steps: 1, threads: 1, output }));
    const names = [...tensorsOf(output).keys()];
    expect(names.filter((name) => !/^(transformer|qa_outputs)\./.test(name))).toEqual([]);
    (await load(output, { threads: 1 })).dispose();
  }, 60_000);

  test('additions are called as those of transformers’ class of spans, and the head is saved with them', async () => {
    const output = at('llama-lora');
    const data = [write('few.jsonl', rows)];
    const settings = { method: 'lora', steps: 1, threads: 1 } as const;
    await finished(finetune({ model: at('llama'), data, validation: data, ...settings, output }));
    const file = readFileSync(join(output, 'adapter/adapter_model.safetensors'));
    const names = Object.keys(JSON.parse(file.toString('utf8', 8, 8 + Number(file.readBigUInt64LE()))));
    const expected =
      /^(__metadata__|base_model\.model\.(transformer\.layers\..*\.lora_[AB]\.weight|qa_outputs\.(weight|bias)))$/;
    expect(names.filter((name) => !expected.test(name))).toEqual([]);
    expect(names).toContain('base_model.model.qa_outputs.bias');
    const config = JSON.parse(readFileSync(join(output, 'adapter/adapter_config.json'), 'utf8'));
    expect(config).toMatchObject({ task_type: 'QUESTION_ANS', modules_to_save: ['qa_outputs'] });
  });

  test('questions without an answer, or whose answer is cut off, are left out and told of', async () => {
    const far = rowOf('Who?', `${'A dog sat. '.repeat(20)}Tom ran.`, 'Tom');
    const none = { question: 'Who flew?', context: 'The fox ran.', answers: { text: [], answer_start: [] } };
    const told: string[] = [];
    const data = [write('some.jsonl', [...rows, far, none])];
    const settings = { steps: 1, length: 64, onNotice: (what: string) => told.push(what) };
    await finished(finetune({ ...common, ...settings, data, validation: data, output: at('some') }));
    expect(told.join('\n')).toContain(
      '2 of 8 questions are left out: no answer within the first 64 tokens (1 without any answer)',
    );

    const useless = [write('none.jsonl', [far, none])];
    const run = finetune({ ...common, data: useless, validation: data, length: 64, output: at('none') });
    await expect(finished(run)).rejects.toThrow(
      'none of the 2 questions has its answer within the first 64 tokens (1 without any answer): raise the length',
    );
    const unanswered = [write('unanswered.jsonl', [none, none])];
    for (const [given, message] of [
      [{ data: unanswered, validation: data }, /^none of the 2 questions has an answer: /],
      [{ data, validation: unanswered }, /^none of the 2 questions of the validation data has an answer: /],
      [
        { data: [write('mostly.jsonl', Array(60).fill(none).concat(rows[0]))] },
        /^none of the \d+ questions kept for validation has an answer: /,
      ],
    ] as const)
      await expect(finished(finetune({ ...common, ...given, length: 64, output: at('none') }))).rejects.toThrow(
        message,
      );
  }, 60_000);

  test('an answer that is not in its context is refused, and so is text for a model of spans', async () => {
    const wrong = [write('wrong.jsonl', [{ ...rows[0], answers: { text: ['The hen'], answer_start: [0] } }])];
    await expect(
      finished(finetune({ ...common, data: wrong, validation: wrong, output: at('wrong') })),
    ).rejects.toThrow(/wrong\.jsonl.*"The hen" does not stand in the context/);
    await expect(
      finished(finetune({ ...common, model, data: [at('text.txt')], length: 8, output: at('text') })),
    ).rejects.toThrow(/finds answers in a context/);
  });
});

test('the tokens of an answer hold it whole', async () => {
  const model = await load(at('base'), { threads: 1 });
  const { tokenizer } = model;
  for (const { context, answers } of rows) {
    const [text, start] = [answers.text[0]!, answers.answer_start[0]!];
    const offsets = tokenOffsets(tokenizer, context, tokenizer.encode(context));
    const { first, last } = tokensOf(offsets, { start, end: start + text.length })!;
    expect(context.slice(offsets[first]!.start, offsets[last]!.end).trim()).toBe(text);
  }
  model.dispose();
});

test.each([
  ['The Denver Broncos!', ['Denver Broncos'], true, 1],
  ['a cat, the cat', ['cat'], false, 2 / 3],
  ['in 1998', ['1998', 'in the year 1998'], false, 0.8],
  ['', ['Tom'], false, 0],
  ['', [], true, 1],
  ['Tom', [], false, 0],
])('answers compare as in SQuAD: %j with %j', (answer, given, exact, f1) => {
  const match = matchAnswer(answer, given);
  expect(match.exact).toBe(exact);
  expect(match.f1).toBeCloseTo(f1, 12);
});

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { UnsupportedError } from '../src/core/errors.ts';
import { load } from '../src/platform/node-load.ts';
import { pipeline } from '../src/platform/pipeline.ts';
import { answerSpans } from '../src/tasks/answer-spans.ts';
import { readDocument } from '../src/tasks/document-reader.ts';
import { tokenOffsets } from '../src/tokenizers/token-offsets.ts';

const folderOf = (name: string): string => new URL(`./spans/${name}`, import.meta.url).pathname;

/** What Hugging Face's own models of test/spans/make.py found; places are bytes, which are the tokens. */
interface Expected {
  readonly question: string;
  readonly context: string;
  readonly first: readonly number[];
  readonly last: readonly number[];
  readonly best: readonly { readonly logProbability: number; readonly first: number; readonly last: number }[];
}

const expectedOf = (name: string): Expected => JSON.parse(readFileSync(`${folderOf(name)}/expected.json`, 'utf8'));
const open = async (name: string, backend: 'wasm' | 'reference') =>
  await load(folderOf(name), { backend, tokenizer: 'bytes', ...(backend === 'wasm' && { threads: 1 }) });

describe.each(['gpt2', 'gpt_neox', 'llama', 'qwen2'])('a head of spans: %s', (name) => {
  const { question, context, best } = expectedOf(name);
  const bytes = Buffer.from(context);
  /** The characters that bytes are of. */
  const stretch = (from: number, to: number): string => {
    let [start, end] = [from, to];
    while (start > 0 && (bytes[start]! & 0xc0) === 0x80) start--;
    while (end < bytes.length && (bytes[end]! & 0xc0) === 0x80) end++;
    return bytes.toString('utf8', start, end).trim();
  };

  test.each(['wasm', 'reference'] as const)('finds the answers that Hugging Face finds: %s', async (backend) => {
    const model = await open(name, backend);
    expect(model.predicts).toBe('spans');
    const found = await answerSpans(model, question, context, { topK: best.length });
    expect(found.map(({ text }) => text)).toEqual(best.map(({ first, last }) => stretch(first, last + 1)));
    for (const [i, { text, start, end, logProbability, probability }] of found.entries()) {
      expect(context.slice(start, end)).toBe(text);
      expect(logProbability).toBeCloseTo(best[i]!.logProbability, 3);
      expect(probability).toBeCloseTo(Math.exp(best[i]!.logProbability), 4);
    }
    model.dispose();
  });
});

test('what there is not is refused', async () => {
  const model = await open('gpt2', 'wasm');
  expect(() => model.session().generate('x')).toThrow(/answers questions with a span of a text/);
  await expect(readDocument(model, 'A text.')).rejects.toThrow(/with a span of a text/);
  await expect(answerSpans(model, ' ', 'A text.')).rejects.toThrow(/the question is empty/);
  await expect(answerSpans(model, 'Who?', '')).rejects.toThrow(/the context is empty/);
  await expect(answerSpans(model, 'Who?', 'Tom', { topK: 0 })).rejects.toThrow(/topK is 0/);
  await expect(answerSpans(model, 'Who?', 'Tom', { top: 1 } as never)).rejects.toThrow(/unknown option top/);
  model.dispose();
  const language = await load(undefined, { threads: 1 });
  await expect(answerSpans(language, 'Who?', 'Tom')).rejects.toThrow(UnsupportedError);
  language.dispose();
});

test('question-answering gives span and offsets', async () => {
  const { question, context } = expectedOf('gpt2');
  const model = await open('gpt2', 'wasm');
  const ask = await pipeline('question-answering', model);
  const [best, second] = await answerSpans(model, question, context, { topK: 2, maxTokens: 12 });
  const inWords = ({ text, probability, start, end }: NonNullable<typeof best>) => ({
    answer: text,
    score: probability,
    start,
    end,
  });
  expect(await ask(question, context, { max_answer_len: 12 })).toEqual(inWords(best!));
  expect(await ask([question], context, { top_k: 2, max_answer_len: 12 })).toEqual([
    [inWords(best!), inWords(second!)],
  ]);
  await expect(ask(question, context, { max_new_tokens: 3 })).rejects.toThrow(/this one has max_answer_len/);
  model.dispose();
});

describe('places of tokens', () => {
  const language = load(undefined, { threads: 1 });
  afterAll(async () => (await language).dispose());

  test.each(['A dog’s naïve \u{1f30a} wave — twice.', ' begins with a space', 'x'])(
    'are those of the text: %j',
    async (text) => {
      const { tokenizer } = await language;
      const tokens = tokenizer.encode(text);
      const places = tokenOffsets(tokenizer, text, tokens);
      const bytes = Buffer.from(text);
      let at = 0;
      for (const [i, token] of tokens.entries()) {
        const own = tokenizer.tokenBytes(token);
        const { start, end } = places[i]!;
        // Every whole token is just what stands there.
        const there = Buffer.from(text.slice(start, end));
        expect(there.includes(Buffer.from(own))).toBe(true);
        expect(bytes.subarray(at, at + own.length)).toEqual(Buffer.from(own));
        at += own.length;
      }
      expect(at).toBe(bytes.length);
    },
  );

  test('a space that the tokenizer adds is not in the text, nor are marks', () => {
    const words = [' a', ' b', '<end>'];
    const tokenizer = {
      isSpecial: (id: number) => id === 2,
      tokenBytes: (id: number) => Buffer.from(words[id]!),
      decode: ([id]: Iterable<number>) => words[id!]!,
    } as never;
    expect(tokenOffsets(tokenizer, 'a b', [2, 0, 1])).toEqual([
      { start: 0, end: 0 },
      { start: 0, end: 1 },
      { start: 1, end: 3 },
    ]);
    expect(() => tokenOffsets(tokenizer, 'a c', [0, 1])).toThrow(/token 1 is not in the text where it should be/);
  });
});

test('riverrun ask tells where answers stand', () => {
  const { question, context, best } = expectedOf('gpt2');
  const main = new URL('../dist/cli/main.js', import.meta.url).pathname;
  const run = (...args: string[]) =>
    spawnSync(
      process.execPath,
      [main, 'ask', '-', question, '--model', folderOf('gpt2'), '--tokenizer', 'bytes', ...args],
      {
        input: context,
        encoding: 'utf8',
      },
    );
  const { answers } = JSON.parse(run('--json', '--top-k', '2').stdout);
  expect(answers).toHaveLength(2);
  expect(answers[0]).toMatchObject({ question, answer: context.slice(answers[0].start, answers[0].end) });
  expect(answers[0].logProbability).toBeCloseTo(best[0]!.logProbability, 3);
  const refused = run('--temperature', '1');
  expect(refused.status).toBe(1);
  expect(refused.stderr).toMatch(/--temperature has no use here/);
});

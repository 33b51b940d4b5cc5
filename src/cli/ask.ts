import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Command } from 'commander';
import type { Constraint } from '../constraints/constraint.ts';
import { InputError } from '../core/errors.ts';
import { openFile } from '../platform/node-file.ts';
import type { Model } from '../runtime/model.ts';
import type { ReadOptions } from '../runtime/session.ts';
import type { FileSource } from '../runtime/source.ts';
import { type Chunk, textOf } from '../runtime/text-chunks.ts';
import { answerSpans } from '../tasks/answer-spans.ts';
import { readDocument } from '../tasks/document-reader.ts';
import { type ConstraintFlags, constraintOf, withConstraint } from './constraint-options.ts';
import { integer, type ModelFlags, number, positive, withModel, withState } from './options.ts';
import { interruptSignal, loadModel, ProgressLine, print, standardInput, standardInputLines } from './terminal.ts';

interface AskFlags extends ModelFlags, ConstraintFlags {
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly seed?: number;
  readonly checkpoint?: string;
  readonly topK?: number;
  readonly json?: boolean;
}

export function askCommand(): Command {
  const command = new Command('ask')
    .description('Read a document of any length once, and answer questions about it.')
    .argument('<document>', 'a UTF-8 text file; - for standard input')
    .argument('[questions...]', 'one answer is printed for each; without any, lines of standard input')
    .option('-n, --max-tokens <n>', 'the most tokens of an answer (default: 64, of a span 15)', positive)
    .option('-t, --temperature <x>', '0 always takes the likeliest token (default: 0)', number)
    .option('--seed <n>', 'repeat the same choices', integer)
    .option('--checkpoint <file>', 'keep the state of the document here: the next time it is not read again')
    .option('--top-k <k>', 'with a trained head of spans: how many answers to each question', positive)
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  riverrun ask book.txt "Who is the youngest son?" "What does he find?"
  riverrun ask book.txt --checkpoint book.state < questions.txt
  riverrun ask book.txt "Is it a sad story?" --choices yes,no --json
  zcat log.gz | riverrun ask - "What went wrong?"`,
    )
    .action(runAsk);
  return withModel(withState(withConstraint(command)));
}

async function runAsk(document: string, given: string[], flags: AskFlags): Promise<void> {
  const signal = interruptSignal();
  const isPiped = document === '-';
  if (given.some((question) => question.trim() === '')) throw new InputError('a question is empty');
  const isAsked = given.length > 0 || isPiped || process.stdin.isTTY;
  const lines = isAsked ? given[Symbol.iterator]() : standardInputLines(signal);
  // The first is waited for before the document is read, which may take long.
  const first = await lines.next();
  if (first.done) throw new InputError('there is no question: give some after the document, or on standard input');
  if (!isPiped) await (await openFile(document)).close();
  // An answer follows a colon: its first word has a space.
  const choices = flags.choices?.map((choice) => ` ${choice.trim()}`);
  const constraint = await constraintOf({ ...flags, ...(choices && { choices }) });
  const model = await loadModel(flags, signal);
  const answers: object[] = [];
  let tokens = 0;
  const line = new ProgressLine(flags.quiet);
  const told = async () => {
    line.clear();
    const isWhole = !signal.aborted;
    const result = { model: flags.model, document, tokens, answers, ...(!isWhole && { finishReason: 'interrupted' }) };
    if (flags.json) await print(`${JSON.stringify(result)}\n`);
  };
  try {
    const source = isPiped ? standardInput(signal) : { file: document };
    const size = isPiped ? undefined : (await stat(document)).size;
    const onProgress: ReadOptions['onProgress'] = (read, place) => {
      tokens = read;
      line.show(`reading ${document}: ${read.toLocaleString('en-US')} tokens`, place, size);
    };
    const find = model.predicts === 'spans' ? spanFinder : writer;
    const ask = await find(model, source, flags, constraint, { signal, onProgress });
    line.clear();
    for (let next: IteratorResult<string> = first; !next.done; next = await lines.next()) {
      for (const answer of await ask(next.value)) {
        if (flags.json) answers.push({ question: next.value, ...answer });
        else await print(`${answer.answer}\n`);
      }
    }
    await told();
  } catch (error) {
    // What was answered until then is not lost.
    if (signal.aborted) await told();
    throw error;
  } finally {
    line.clear();
    model.dispose();
  }
}

type Ask = (question: string) => Promise<readonly { readonly answer: string }[]>;
type Document = AsyncIterable<string> | FileSource;

/** Answers that the model writes, after a document that it reads once. */
async function writer(
  model: Model,
  source: Document,
  { topK, checkpoint, maxTokens = 64, temperature = 0, seed }: AskFlags,
  constraint: Constraint | undefined,
  reading: ReadOptions & { readonly signal: AbortSignal },
): Promise<Ask> {
  if (topK !== undefined)
    throw new InputError('--top-k is for models with a trained head of spans, and this one writes its answers');
  const reader = await readDocument(model, source, { ...reading, checkpointFile: checkpoint });
  const options = {
    maxTokens,
    temperature,
    signal: reading.signal,
    ...(seed !== undefined && { seed }),
    ...(constraint && { constraint }),
  };
  return async (question) => {
    const { text: answer, logProbability, finishReason } = await reader.ask(question, options);
    return [{ answer, logProbability, finishReason }];
  };
}

/** Answers that stand in the document, which the model reads after each question. */
async function spanFinder(
  model: Model,
  source: Document,
  { topK = 1, maxTokens = 15, temperature, seed, checkpoint }: AskFlags,
  constraint: Constraint | undefined,
  { signal, onProgress }: ReadOptions,
): Promise<Ask> {
  const useless = Object.entries({ temperature, seed, checkpoint, 'choices, --regex and --json-schema': constraint });
  for (const [name, value] of useless)
    if (value !== undefined)
      throw new InputError(`--${name} has no use here: the model has a trained head of spans, and writes nothing`);
  let text = '';
  const pieces = 'file' in source ? createReadStream(source.file) : source;
  for await (const piece of textOf(pieces as AsyncIterable<Chunk>, { name: 'the document' })) text += piece;
  return async (question) => {
    const spans = await answerSpans(model, question, text, { topK, maxTokens, signal, onProgress });
    return spans.map(({ text: answer, ...place }) => ({ answer, ...place }));
  };
}

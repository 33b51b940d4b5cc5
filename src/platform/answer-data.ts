import { InputError } from '../core/errors.ts';
import type { Passage } from '../tasks/evaluate.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import { type Example, exampleBatches } from '../train/examples.ts';
import { exampleContents } from './contents-digest.ts';
import { type DataRecord, dataFiles, fieldsOf, readRecords } from './data-files.ts';
import type { LayoutOptions } from './data-format.ts';
import { type ExampleData, measuring, parted, TOGETHER, textsOf } from './example-data.ts';

export interface AnswerDataOptions {
  readonly data: readonly string[];
  readonly validation?: readonly string[] | undefined;
  /** Names of the columns of CSV and TSV files that have no header. */
  readonly columns?: readonly string[] | undefined;
  /** Tokens after which an example is cut. */
  readonly length?: number | undefined;
  readonly batch?: number | undefined;
  /** Examples that run together. */
  readonly together?: number | undefined;
  readonly seed?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((what: string) => void) | undefined;
  /** Told what is left out of the data. */
  readonly onNotice?: ((what: string) => void) | undefined;
}

/** Whether these files hold answers to learn: records with `prompt` and `completion`, or JSONL with `messages`. */
export async function hasAnswers(paths: readonly string[], { field, columns }: LayoutOptions = {}): Promise<boolean> {
  const fields = await fieldsOf(paths, { field, columns });
  return fields.includes('completion') || fields.includes('messages');
}

/**
 * Reads answers to learn: of `prompt` and `completion` the completion, of `messages` those of the assistant. The texts are joined as
 * they stand, and nothing else of them is learned.
 */
export async function answerData(
  options: AnswerDataOptions,
  tokenizer: Tokenizer,
  vocabulary: number,
): Promise<ExampleData> {
  const { seed = 0, batch = 16, length = 256, together: most, columns, signal } = options;
  const read = async (paths: readonly string[]) => {
    const found: Example[] = [];
    const left: Record<'empty' | 'beyond', string[]> = { empty: [], beyond: [] };
    for await (const record of readRecords(dataFiles(paths), { columns, signal })) {
      const example = exampleOf(record, tokenizer, length);
      if (typeof example === 'string') left[example].push(record.where);
      else found.push(example);
    }
    const count = found.length + left.empty.length + left.beyond.length;
    if (count === 0) throw new InputError(`${paths.join(', ')}: there are no examples`);
    const told = [
      [left.empty, 'have an empty answer'],
      [left.beyond, `have no answer within their first ${length} tokens`],
    ] as const;
    const notices = told.flatMap(([{ length: many, 0: where }, what]) =>
      many > 0 ? [`${many} of ${count} examples ${what} (${where})`] : [],
    );
    if (found.length === 0)
      throw new InputError(
        `${notices.join('; ')}: ${left.beyond.length > 0 ? 'raise the length' : 'there is nothing to learn'}`,
      );
    for (const notice of notices) options.onNotice?.(`${notice}: they are left out`);
    return found;
  };
  let taught = await read(options.data);
  let held = options.validation && (await read(options.validation));
  if (!held) [taught, held] = parted(taught, seed);
  const batches = exampleBatches(taught, { batch, together: Math.max(TOGETHER, length), most, seed });
  const contents = { data: exampleContents(taught), validation: exampleContents(held) };
  const all = [...taught, ...held];
  return { batches, contents, texts: textsOf(all, all), evaluate: measuring(held, batches, vocabulary) };
}

/** What is to be learned of a record, or why there is nothing: answers are empty, or none begins within the first `length` tokens. */
function exampleOf(record: DataRecord, tokenizer: Tokenizer, length: number): Example | 'empty' | 'beyond' {
  const start = tokenizer.beginOfText ?? tokenizer.endOfText;
  const tokens = start === undefined ? [] : [start];
  const [rows, targets]: [number[], number[]] = [[], []];
  let isEmpty = true;
  for (const { text, answers } of passages(record)) {
    for (const token of tokenizer.encode(text, { addSpecialTokens: false })) {
      if (answers) isEmpty = false;
      if (answers && tokens.length > 0 && tokens.length < length) {
        rows.push(tokens.length - 1);
        targets.push(token);
      }
      tokens.push(token);
    }
  }
  if (rows.length === 0) return isEmpty ? 'empty' : 'beyond';
  return { tokens: tokens.slice(0, length), rows, targets };
}

/** The passages of `prompt` and `completion`, or of `messages`: the completion, and what the assistant says, are answers. */
export function passages({ fields, where }: DataRecord): Passage[] {
  const { prompt, completion, messages } = fields;
  const text = (value: unknown, name: string): string => {
    if (typeof value !== 'string') throw new InputError(`${where}: ${name} is ${JSON.stringify(value)}, not a text`);
    return value;
  };
  if (!Array.isArray(messages))
    return [
      { text: text(prompt, 'prompt'), answers: false },
      { text: text(completion, 'completion'), answers: true },
    ];
  return messages.map((message: { role?: unknown; content?: unknown }, i) => ({
    text: text(message.content, `the content of message ${i + 1}`),
    answers: message.role === 'assistant',
  }));
}

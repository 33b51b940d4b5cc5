import { InputError } from '../core/errors.ts';
import { type TokenOffset, tokenOffsets } from '../tokenizers/token-offsets.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import type { Learner, Part, Pause } from '../train/learner.ts';
import { type SpanExample, spanBatches, spanParts } from '../train/spans.ts';
import type { Evaluation } from '../train/trainer.ts';
import type { AnswerDataOptions } from './answer-data.ts';
import { exampleContents } from './contents-digest.ts';
import { type DataRecord, dataFiles, fieldsOf, readRecords } from './data-files.ts';
import { type ExampleData, parted, TOGETHER, textsOf } from './example-data.ts';

/** Whether these files hold questions whose answers stand in a context: JSONL with `question` and `context`. */
export async function hasSpans(paths: readonly string[]): Promise<boolean> {
  const fields = await fieldsOf(paths);
  return fields.includes('question') && fields.includes('context');
}

/**
 * Reads questions whose answers stand in a context, as Hugging Face's SQuAD has them: `question`, `context`, and `answers` with `text`
 * and `answer_start`. Learned is the first answer. Those without an answer, or whose answer does not stand whole within the first
 * tokens, are left out of what is learned; of what is measured they count as not told.
 */
export async function spanData(options: AnswerDataOptions, tokenizer: Tokenizer): Promise<ExampleData> {
  const { seed = 0, batch = 16, length = 256, together: most, signal, onProgress, onNotice } = options;
  const read = async (paths: readonly string[]) => {
    const found: (SpanExample | 'none' | 'beyond')[] = [];
    for await (const record of readRecords(dataFiles(paths), { signal })) {
      found.push(exampleOf(record, tokenizer, length));
      if (found.length % 1000 === 0) onProgress?.(`${found.length} questions`);
    }
    if (found.length === 0) throw new InputError(`${paths.join(', ')}: there are no questions`);
    return found;
  };
  let taught = await read(options.data);
  let held = options.validation && (await read(options.validation));
  if (!held) [taught, held] = parted(taught, seed);
  const [examples, measured] = [taught, held].map((rows) => rows.filter((one) => typeof one !== 'string'));
  if (examples!.length === 0) throw nothingToTell(taught, 'questions', length);
  if (measured!.length === 0)
    throw nothingToTell(
      held,
      options.validation ? 'questions of the validation data' : 'questions kept for validation',
      length,
    );
  const left = taught.length - examples!.length;
  const unanswered = taught.filter((one) => one === 'none').length;
  if (left > 0)
    onNotice?.(
      `${left} of ${taught.length} questions are left out: no answer within the first ${length} tokens${unanswered > 0 ? ` (${unanswered} without any answer)` : ''}`,
    );
  const batches = spanBatches(examples!, { batch, together: Math.max(TOGETHER, length), most, seed });
  const contents = { data: exampleContents(examples!), validation: exampleContents(measured!) };
  const texts = textsOf([...examples!, ...measured!]);
  return { batches, contents, texts, evaluate: telling(measured!, held.length, batches.capacity) };
}

/** The error for questions of which none can be told, by why that is so. */
function nothingToTell(rows: readonly unknown[], what: string, length: number): InputError {
  const beyond = rows.filter((one) => one === 'beyond').length;
  if (beyond === 0)
    return new InputError(
      `none of the ${rows.length} ${what} has an answer: answers that stand in the context are what is learned and measured`,
    );
  const others = beyond < rows.length ? ` (${rows.length - beyond} without any answer)` : '';
  return new InputError(
    `none of the ${rows.length} ${what} has its answer within the first ${length} tokens${others}: raise the length`,
  );
}

/** How many spans are the likeliest, first token and last, of `count` questions. */
function telling(
  examples: readonly SpanExample[],
  count: number,
  capacity: { readonly tokens: number; readonly segments: number },
): (learner: Learner, pause?: Pause) => Promise<Evaluation> {
  return async (learner, pause) => {
    let right = 0;
    const parts = spanParts(examples, capacity.tokens, capacity.segments);
    const read = ({ ends, inputs }: Part, output: (name: string) => ArrayLike<number>) => {
      const logits = output('logits');
      const targets = inputs['targets']!;
      for (const [b, end] of ends.entries()) {
        const first = b === 0 ? 0 : ends[b - 1]!;
        const told = [0, 1].map((side) => likeliestRow(logits, side, first, end) - first);
        if (told[0] === targets[2 * b] && told[1] === targets[2 * b + 1]) right++;
      }
    };
    const loss = await learner.evaluate(parts, read, pause);
    return { loss, accuracy: right / count };
  };
}

function likeliestRow(logits: ArrayLike<number>, side: number, first: number, end: number): number {
  let best = first;
  for (let t = first; t < end; t++) if (logits[2 * t + side]! > logits[2 * best + side]!) best = t;
  return best;
}

/** What is learned of a question, or why there is nothing: it has no answer, or none that stands whole within the first `length` tokens. */
function exampleOf(record: DataRecord, tokenizer: Tokenizer, length: number): SpanExample | 'none' | 'beyond' {
  const question = textOf(record, 'question');
  const context = textOf(record, 'context');
  const answer = answerOf(record, context);
  if (!answer) return 'none';
  const before = tokenizer.encode(question);
  const tokens = tokenizer.encode(context);
  const span = tokensOf(tokenOffsets(tokenizer, context, tokens), answer);
  if (!span || before.length + span.last >= length) return 'beyond';
  return {
    tokens: [...before, ...tokens].slice(0, length),
    first: before.length + span.first,
    last: before.length + span.last,
  };
}

interface Stretch {
  readonly start: number;
  readonly end: number;
}

/** The tokens that hold a stretch of text: the first that ends behind its start, and the last that begins before its end. */
export function tokensOf(
  offsets: readonly TokenOffset[],
  { start, end }: Stretch,
): { first: number; last: number } | undefined {
  const first = offsets.findIndex((token) => token.start < token.end && token.end > start);
  const last = offsets.findLastIndex((token) => token.start < token.end && token.start < end);
  return first < 0 || last < first ? undefined : { first, last };
}

function textOf({ fields, where }: DataRecord, name: string): string {
  const value = fields[name];
  if (typeof value !== 'string' || value.trim() === '')
    throw new InputError(`${where} has no text "${name}" (it has ${Object.keys(fields).join(', ')})`);
  return value;
}

/** The texts of a record's answers, and where they are said to stand. None for a question without an answer. */
export function answersOf({ fields, where }: DataRecord): { texts: string[]; starts: unknown[] } {
  const given = fields['answers'];
  const { text, answer_start: starts } = (given ?? {}) as { text?: unknown; answer_start?: unknown };
  if (!Array.isArray(text) || !text.every((one) => typeof one === 'string' && one !== ''))
    throw new InputError(
      `${where}: answers is ${JSON.stringify(given)?.slice(0, 80)}: it must be {"text": [ … ], "answer_start": [ … ]}`,
    );
  return { texts: text as string[], starts: Array.isArray(starts) ? starts : [] };
}

/**
 * Where the first answer stands: at `answer_start` in UTF-16 units or, as Python counts, in characters; where it is not there, or no
 * place is given, the first time that it stands in the context.
 */
function answerOf(record: DataRecord, context: string): Stretch | undefined {
  const { texts, starts } = answersOf(record);
  const [text] = texts;
  if (text === undefined) return undefined;
  const given = starts[0];
  const isAt = (at: number) => context.startsWith(text, at);
  let start = -1;
  if (Number.isSafeInteger(given)) {
    const units = [...context].slice(0, given as number).join('').length;
    start = [given as number, units].find(isAt) ?? -1;
  }
  if (start < 0) start = context.indexOf(text);
  if (start < 0)
    throw new InputError(`${record.where}: the answer ${JSON.stringify(text)} does not stand in the context`);
  return { start, end: start + text.length };
}

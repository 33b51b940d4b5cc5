import { InputError } from '../core/errors.ts';
import type { Question } from '../tasks/evaluate.ts';
import { passages } from './answer-data.ts';
import { type DataRecord, dataFiles, fieldsOf, readRecords } from './data-files.ts';
import { plainField, textField } from './record-fields.ts';
import { answersOf } from './span-data.ts';

export interface QuestionOptions {
  /** Field of the texts. Default `text`. */
  readonly field?: string | undefined;
  /** Field of the labels, for classifiers. */
  readonly label?: string | undefined;
  readonly columns?: readonly string[] | undefined;
  /** The most questions that are asked. */
  readonly limit?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Whether the first file's records have the fields of a question. */
export async function hasQuestions(paths: readonly string[], options: QuestionOptions = {}): Promise<boolean> {
  const fields = await fieldsOf(paths, options);
  return ['choices', 'sentence_good', 'ending', 'answers', 'completion', 'messages'].some((name) =>
    fields.includes(name),
  );
}

/**
 * Questions of JSONL, CSV and TSV files, told by their fields: `choices` with `answer` (index or text) and `prompt` or `question`;
 * `sentence_good` and `sentence_bad` (BLiMP); a text and its label where `label` is named; else a text whose last word is
 * the question (LAMBADA); `question`, `context` and `answers` with their `text` (SQuAD); `prompt` and `completion`, or `messages`, as
 * answers are learned of.
 */
export async function* readQuestions(
  paths: readonly string[],
  options: QuestionOptions = {},
): AsyncGenerator<Question> {
  let count = 0;
  for await (const record of readRecords(dataFiles(paths), options)) {
    if (count++ >= (options.limit ?? Infinity)) return;
    yield questionOf(record, options);
  }
}

function questionOf(record: DataRecord, { field = 'text', label }: QuestionOptions): Question {
  const { fields, where } = record;
  const text = (name: string): string => textField(record, name);
  if (label !== undefined) return { kind: 'label', text: plainField(record, field), label: plainField(record, label) };
  if (fields['sentence_good'] !== undefined)
    return { kind: 'pair', good: text('sentence_good'), bad: text('sentence_bad') };
  if (fields['choices'] !== undefined) {
    const choices = fields['choices'];
    if (!Array.isArray(choices) || choices.length < 2 || !choices.every((choice) => typeof choice === 'string'))
      throw new InputError(`${where}: choices must be a list of at least two texts`);
    const given = fields['answer'];
    const answer = typeof given === 'number' ? given : choices.indexOf(String(given));
    if (!Number.isInteger(answer) || answer < 0 || answer >= choices.length)
      throw new InputError(`${where}: the answer ${JSON.stringify(given)} is none of the choices`);
    return { kind: 'choice', prompt: text(fields['prompt'] === undefined ? 'question' : 'prompt'), choices, answer };
  }
  if (fields['context'] !== undefined && fields['answers'] !== undefined)
    return { kind: 'context', question: text('question'), context: text('context'), answers: answersOf(record).texts };
  if (fields['ending'] !== undefined) return { kind: 'ending', prompt: text('prompt'), ending: text('ending') };
  if (fields['completion'] !== undefined || fields['messages'] !== undefined) return answersIn(record);
  const whole = text(field).trimEnd();
  const cut = whole.lastIndexOf(' ');
  if (cut <= 0) throw new InputError(`${where} is a single word: the last word of a text is what is asked`);
  return { kind: 'ending', prompt: whole.slice(0, cut), ending: whole.slice(cut) };
}

function answersIn(record: DataRecord): Question {
  const found = passages(record);
  if (!found.some(({ text, answers }) => answers && text !== ''))
    throw new InputError(
      `${record.where}: ${record.fields['messages'] === undefined ? 'completion is empty' : 'the assistant says nothing'}`,
    );
  return { kind: 'answers', passages: found };
}

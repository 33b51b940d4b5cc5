import { Command } from 'commander';
import { InputError } from '../core/errors.ts';
import { dataFiles, readTexts } from '../platform/data-files.ts';
import { refuseIdleLayout, standardInputNotice } from '../platform/data-format.ts';
import { hasQuestions, readQuestions } from '../platform/question-files.ts';
import type { Model } from '../runtime/model.ts';
import { evaluate } from '../tasks/evaluate.ts';
import { evaluateTexts } from '../tasks/evaluate-texts.ts';
import type { TextPiece } from '../tokenizers/encode-stream.ts';
import { collect, type ModelFlags, positive, withModel, withState } from './options.ts';
import { interruptSignal, loadModel, ProgressLine, print } from './terminal.ts';

interface EvaluateFlags extends ModelFlags {
  readonly data: readonly string[];
  readonly questions?: boolean;
  readonly field?: string;
  readonly label?: string;
  readonly columns?: readonly string[];
  readonly limit?: number;
  readonly length?: number;
  readonly json?: boolean;
}

export function evaluateCommand(): Command {
  const command = new Command('eval')
    .description('Measure a model on texts (perplexity, bits per byte) or on questions with known answers (accuracy).')
    .requiredOption('-d, --data <path>', 'text, or questions in JSONL, CSV or TSV; may be given several times', collect)
    .option('--questions', 'the last word of every text is a question (LAMBADA); other kinds are told by their fields')
    .option('--field <name>', 'field of the texts (default: text)')
    .option('--label <name>', 'field of the labels: the model is a classifier')
    .option('--columns <names>', 'names of the columns of CSV and TSV files without a header', (text) =>
      text.split(','),
    )
    .option('--limit <n>', 'the most questions to ask, or texts to read', positive)
    .option('-l, --length <n>', 'read texts in windows of this many tokens, each from its own beginning', positive)
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  riverrun eval --data held-out.txt
  riverrun eval --model ./my-model --data held-out.txt --length 512 --json
  riverrun eval --data lambada.jsonl --questions --limit 500
  riverrun eval --data blimp/anaphor_gender_agreement.jsonl
  riverrun eval --data quiz.jsonl            # {"prompt": …, "choices": [ … ], "answer": 0}
  riverrun eval --model ./my-answers --data questions.jsonl   # {"prompt": …, "completion": …}, or {"messages": [ … ]}
  riverrun eval --model ./my-reader --data squad.jsonl   # {"question": …, "context": …, "answers": {"text": [ … ]}}
  riverrun eval --model ./my-classifier --data test.csv --field text --label category
  riverrun eval --load my-poems/initial.state --data held-out.txt`,
    )
    .action(runEvaluate);
  return withModel(withState(command));
}

async function runEvaluate(flags: EvaluateFlags): Promise<void> {
  const signal = interruptSignal();
  const files = dataFiles(flags.data);
  const model = await loadModel(flags, signal);
  const line = new ProgressLine(flags.quiet);
  try {
    const isText = flags.label === undefined && !flags.questions && !(await hasQuestions(files, flags));
    if (!isText && flags.length !== undefined)
      throw new InputError('length is given, but questions are asked: it is for texts, leave it out');
    const notice = await standardInputNotice(files, { ...flags, hasRecords: !isText });
    await refuseIdleLayout(files, { ...flags, hasRecords: !isText });
    if (notice !== undefined && !flags.quiet) process.stderr.write(`riverrun: ${notice}\n`);
    const result = isText
      ? await ofTexts(model, files, flags, signal, line)
      : await ofQuestions(model, files, flags, signal, line);
    line.clear();
    if (flags.json) await print(`${JSON.stringify({ model: flags.model, data: flags.data, ...result })}\n`);
    else
      await print(
        Object.entries(result)
          .map(
            ([name, value]) =>
              `${name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`).padEnd(18)}${Number.isInteger(value) ? value : value.toFixed(4)}\n`,
          )
          .join(''),
      );
  } finally {
    line.clear();
    model.dispose();
  }
}

async function ofQuestions(
  model: Model,
  files: readonly string[],
  { field, label, columns, limit }: EvaluateFlags,
  signal: AbortSignal,
  line: ProgressLine,
): Promise<Record<string, number>> {
  const onProgress = (done: number, right: number) =>
    line.show(`${done} questions, ${((100 * right) / done).toFixed(1)} % right`);
  return {
    ...(await evaluate(model, readQuestions(files, { field, label, columns, limit, signal }), { signal, onProgress })),
  };
}

async function ofTexts(
  model: Model,
  files: readonly string[],
  { field, columns, length, limit }: EvaluateFlags,
  signal: AbortSignal,
  line: ProgressLine,
): Promise<Record<string, number>> {
  const onProgress = (tokens: number) => line.show(`${tokens} tokens`);
  return {
    ...(await evaluateTexts(model, limited(readTexts(files, { field, columns, signal }), limit), {
      length,
      signal,
      onProgress,
    })),
  };
}

/** The first texts. */
async function* limited(texts: AsyncIterable<TextPiece>, most = Infinity): AsyncGenerator<TextPiece> {
  let count = 0;
  for await (const piece of texts) {
    if (!piece.continues && count++ >= most) return;
    yield piece;
  }
}

import { Command } from 'commander';
import { InputError } from '../core/errors.ts';
import { openFile } from '../platform/node-file.ts';
import { readDocument } from '../tasks/document-reader.ts';
import { type ConstraintFlags, constraintOf, withConstraint } from './constraint-options.ts';
import { integer, type ModelFlags, number, withModel } from './options.ts';
import { interruptSignal, loadModel, ProgressLine, print, standardInput, standardInputLines } from './terminal.ts';

interface AskFlags extends ModelFlags, ConstraintFlags {
  readonly maxTokens: number;
  readonly temperature: number;
  readonly seed?: number;
  readonly checkpoint?: string;
  readonly json?: boolean;
}

export function askCommand(): Command {
  const command = new Command('ask')
    .description('Read a document of any length once, and answer questions about it.')
    .argument('<document>', 'a UTF-8 text file; - for standard input')
    .argument('[questions...]', 'one answer is printed for each; without any, lines of standard input')
    .option('-n, --max-tokens <n>', 'the most tokens of an answer', integer, 64)
    .option('-t, --temperature <x>', '0 always takes the likeliest token', number, 0)
    .option('--seed <n>', 'repeat the same choices', integer)
    .option('--checkpoint <file>', 'keep the state of the document here: the next time it is not read again')
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
  return withModel(withConstraint(command));
}

async function runAsk(document: string, given: string[], flags: AskFlags): Promise<void> {
  const signal = interruptSignal();
  const isPiped = document === '-';
  const questions = given.length > 0 || isPiped || process.stdin.isTTY ? given : standardInputLines();
  if (Array.isArray(questions) && questions.length === 0)
    throw new InputError('there is no question: give some after the document, or on standard input');
  if (!isPiped) await (await openFile(document)).close();
  // An answer follows a colon: its first word has a space.
  const choices = flags.choices?.map((choice) => ` ${choice.trim()}`);
  const constraint = await constraintOf({ ...flags, ...(choices && { choices }) });
  const model = await loadModel(flags, signal);
  const line = new ProgressLine(flags.quiet);
  try {
    const source = isPiped ? standardInput() : { file: document };
    const reader = await readDocument(model, source, {
      signal,
      checkpointFile: flags.checkpoint,
      onProgress: (tokens) => line.show(`reading ${document}: ${tokens.toLocaleString('en-US')} tokens`),
    });
    line.clear();
    const { maxTokens, temperature, seed } = flags;
    const options = {
      maxTokens,
      temperature,
      signal,
      ...(seed !== undefined && { seed }),
      ...(constraint && { constraint }),
    };
    const answers: object[] = [];
    for await (const question of questions) {
      const { text: answer, logProbability, finishReason } = await reader.ask(question, options);
      if (flags.json) answers.push({ question, answer, logProbability, finishReason });
      else await print(`${answer}\n`);
    }
    if (flags.json)
      await print(`${JSON.stringify({ model: flags.model, document, tokens: reader.tokens, answers })}\n`);
  } finally {
    line.clear();
    model.dispose();
  }
}

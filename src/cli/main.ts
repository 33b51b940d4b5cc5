#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { RiverrunError } from '../core/errors.ts';
import { version } from '../version.ts';
import { askCommand } from './ask.ts';
import { benchCommand } from './bench.ts';
import { chatCommand } from './chat.ts';
import { classifyCommand } from './classify.ts';
import { convertCommand } from './convert.ts';
import { embedCommand } from './embed.ts';
import { evaluateCommand } from './evaluate.ts';
import { finetuneCommand } from './finetune.ts';
import { generateCommand } from './generate.ts';
import { inspectCommand } from './inspect.ts';
import { pullCommand } from './pull.ts';
import { scoreCommand } from './score.ts';
import { stateCommand } from './state.ts';
import { trainCommand } from './train.ts';

const program = new Command('riverrun')
  .description('Sequence models whose cost grows with the length of the text: run, train, measure and inspect them.')
  .version(version)
  .showSuggestionAfterError()
  .showHelpAfterError('(--help shows what there is)')
  .exitOverride()
  .addHelpText(
    'after',
    `
Examples:
  riverrun generate "Once upon a time"
  riverrun generate --model state-spaces/mamba-130m-hf --max-tokens 50 "The river"
  riverrun ask book.txt "Who is the youngest son?"
  riverrun classify --labels dogs,kings,ships < texts.txt
  riverrun score --file book.txt
  riverrun inspect ./my-mamba
  riverrun pull state-spaces/mamba-130m-hf
  riverrun convert ./my-mamba my-mamba.gguf --type q8_0
  riverrun train --data book.txt --out my-model
  riverrun finetune --data intents.csv --label category --out my-classifier
  riverrun eval --model my-model --data held-out.txt`,
  )
  .addCommand(generateCommand())
  .addCommand(chatCommand())
  .addCommand(askCommand())
  .addCommand(classifyCommand())
  .addCommand(embedCommand())
  .addCommand(scoreCommand())
  .addCommand(inspectCommand())
  .addCommand(pullCommand())
  .addCommand(convertCommand())
  .addCommand(stateCommand())
  .addCommand(benchCommand())
  .addCommand(trainCommand())
  .addCommand(finetuneCommand())
  .addCommand(evaluateCommand());
for (const command of program.commands) command.exitOverride().showSuggestionAfterError().showHelpAfterError(false);

// Help, too, may be written to a pipe that closes (`| head`).
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

/** Says what went wrong in a line, and gives the exit code for it. Only errors that are ours to mend show a stack trace. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode;
  if (error instanceof RiverrunError) {
    process.stderr.write(`riverrun: ${error.message}\n`);
    return 1;
  }
  if (error instanceof Error && error.name === 'AbortError') return 130;
  process.stderr.write(
    `riverrun: this should not happen, please report it:\n${(error as Error)?.stack ?? String(error)}\n`,
  );
  return 1;
}

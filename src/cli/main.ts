#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { RiverrunError } from '../core/errors.ts';
import { version } from '../version.ts';

/** The commands, each loaded when it is named, or all together where they are listed: the first token should not wait for the rest. */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  generate: async () => (await import('./generate.ts')).generateCommand(),
  chat: async () => (await import('./chat.ts')).chatCommand(),
  ask: async () => (await import('./ask.ts')).askCommand(),
  classify: async () => (await import('./classify.ts')).classifyCommand(),
  embed: async () => (await import('./embed.ts')).embedCommand(),
  score: async () => (await import('./score.ts')).scoreCommand(),
  inspect: async () => (await import('./inspect.ts')).inspectCommand(),
  pull: async () => (await import('./pull.ts')).pullCommand(),
  convert: async () => (await import('./convert.ts')).convertCommand(),
  state: async () => (await import('./state.ts')).stateCommand(),
  bench: async () => (await import('./bench.ts')).benchCommand(),
  train: async () => (await import('./train.ts')).trainCommand(),
  finetune: async () => (await import('./finetune.ts')).finetuneCommand(),
  eval: async () => (await import('./evaluate.ts')).evaluateCommand(),
};

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
  );
const named = Object.hasOwn(commands, process.argv[2] ?? '') ? [process.argv[2]!] : Object.keys(commands);
for (const command of await Promise.all(named.map((name) => commands[name]!()))) program.addCommand(command);
for (const command of program.commands) command.exitOverride().showSuggestionAfterError().showHelpAfterError(false);

// Help, too, may be written to a pipe that closes (`| head`). Other failures are told by what was printing, after it has kept what it must.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  process.exitCode = 1;
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

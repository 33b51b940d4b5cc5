import { Command, Option } from 'commander';
import { type EmbedOptions, embed } from '../tasks/embed.ts';
import { textsOf } from './classify.ts';
import { type ModelFlags, withModel, withState } from './options.ts';
import { interruptSignal, loadModel, ProgressLine, print } from './terminal.ts';

interface EmbedFlags extends ModelFlags {
  readonly pooling: NonNullable<EmbedOptions['pooling']>;
  readonly normalize: boolean;
  readonly json?: boolean;
}

export function embedCommand(): Command {
  const command = new Command('embed')
    .description('Turn texts into vectors: the hidden states after the last layer, pooled.')
    .argument('[texts...]', 'without any, every line of standard input is a text')
    .addOption(
      new Option('--pooling <how>', 'which hidden states count').choices(['mean', 'last', 'first']).default('mean'),
    )
    .option('--no-normalize', 'leave the length as it is, instead of 1')
    .option('--json', 'print one JSON object a line, with the text')
    .addHelpText(
      'after',
      `
Examples:
  riverrun embed "The cat sat on the mat."
  riverrun embed --json < sentences.txt > vectors.jsonl`,
    )
    .action(runEmbed);
  return withModel(withState(command));
}

async function runEmbed(given: string[], { pooling, normalize, json, ...flags }: EmbedFlags): Promise<void> {
  const signal = interruptSignal();
  const texts = textsOf(given, signal);
  const model = await loadModel(flags, signal);
  const line = new ProgressLine(flags.quiet);
  try {
    let count = 0;
    for await (const text of texts) {
      const vector = Array.from(await embed(model, text, { pooling, normalize, signal }));
      line.clear();
      await print(json ? `${JSON.stringify({ text, embedding: vector })}\n` : `${vector.join(' ')}\n`);
      line.show(`${++count} texts`);
    }
  } finally {
    line.clear();
    model.dispose();
  }
}

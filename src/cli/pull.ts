import { Command } from 'commander';
import { fetchModel } from '../platform/hub.ts';
import { interruptSignal, ProgressLine, print } from './terminal.ts';

interface PullFlags {
  readonly revision?: string;
  readonly quiet?: boolean;
  readonly json?: boolean;
}

export function pullCommand(): Command {
  return new Command('pull')
    .description(
      'Download a model from the Hugging Face hub into its cache, and print the folder. Ctrl-C keeps what has arrived.',
    )
    .argument('<model>', 'org/name, or org/name@revision')
    .option('--revision <name>', 'branch, tag or commit')
    .option('-q, --quiet', 'no progress on standard error')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nExamples:\n  riverrun pull state-spaces/mamba-130m-hf\n  HF_HOME=/data/hf riverrun pull org/name --revision main',
    )
    .action(async (model: string, { revision, quiet, json }: PullFlags) => {
      const line = new ProgressLine(quiet);
      try {
        const folder = await fetchModel(model, {
          signal: interruptSignal(),
          ...(revision !== undefined && { revision }),
          onProgress: ({ file, overallLoaded, overallTotal }) => {
            const inAll = `${(overallLoaded / 1e6).toFixed(0)} of ${(overallTotal / 1e6).toFixed(0)} MB in all`;
            line.show(`${file}: ${inAll}`, overallLoaded, overallTotal);
          },
        });
        line.clear();
        await print(json ? `${JSON.stringify({ model, folder })}\n` : `${folder}\n`);
      } finally {
        line.clear();
      }
    });
}

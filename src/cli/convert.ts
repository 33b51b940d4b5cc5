import { Command, Option } from 'commander';
import { type ConvertOptions, convert, convertTypes } from '../platform/convert.ts';
import { interruptSignal, ProgressLine, print } from './terminal.ts';

interface ConvertFlags {
  readonly type: NonNullable<ConvertOptions['type']>;
  readonly embedding?: NonNullable<ConvertOptions['embedding']>;
  readonly revision?: string;
  readonly offline?: boolean;
  readonly quiet?: boolean;
  readonly json?: boolean;
}

export function convertCommand(): Command {
  return new Command('convert')
    .description(
      'Write a model in another form: a GGUF file where OUT ends in .gguf, otherwise a folder with config.json, model.safetensors, the tokenizer and initial.state, where there is one. Ctrl-C leaves nothing half written.',
    )
    .argument('<in>', 'folder, checkpoint file, hub id (org/name) or embedded model')
    .argument('<out>', 'a file that ends in .gguf, or a folder')
    .addOption(
      new Option(
        '--type <type>',
        'how matrices are written: auto is each as it is stored, or as near as the format comes',
      )
        .choices(convertTypes)
        .default('auto'),
    )
    .addOption(
      new Option(
        '--embedding <type>',
        'how embedding and head are written to GGUF (default: q8_0 with --type q4_0)',
      ).choices(['f32', 'f16', 'q8_0', 'q4_0']),
    )
    .option('--revision <name>', 'branch, tag or commit on the hub')
    .option('--offline', 'use only what is downloaded already')
    .option('-q, --quiet', 'no progress on standard error')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nExamples:\n  riverrun convert ./my-mamba my-mamba.gguf --type q8_0\n  riverrun convert model.gguf ./model-folder\n  riverrun convert RWKV-x070.pth rwkv7.gguf --type f16',
    )
    .action(async (input: string, output: string, { json, quiet, ...flags }: ConvertFlags) => {
      const line = new ProgressLine(quiet);
      try {
        const converted = await convert(input, output, {
          ...flags,
          signal: interruptSignal(),
          onProgress: ({ written, total }) =>
            line.show(
              `${output}: ${(written / 1e6).toFixed(0)} of about ${(total / 1e6).toFixed(0)} MB`,
              written,
              total,
            ),
        });
        line.clear();
        const { architecture, tensors, type, bytes, notes } = converted;
        await print(
          json
            ? `${JSON.stringify(converted)}\n`
            : `${output}: ${architecture}, ${tensors} tensors, matrices as ${type}, ${(bytes / 1e6).toFixed(1)} MB\n${notes.map((note) => `note: ${note}\n`).join('')}`,
        );
      } finally {
        line.clear();
      }
    });
}

import { Command } from 'commander';
import { embeddedModel, inspect } from '../platform/node-load.ts';
import type { ModelSizes } from '../runtime/sizes.ts';
import { formatBytes } from './bytes.ts';
import { interruptSignal, print } from './terminal.ts';

interface InspectFlags {
  readonly tensors?: boolean;
  readonly json?: boolean;
  readonly offline?: boolean;
  readonly revision?: string;
}

export function inspectCommand(): Command {
  return new Command('inspect')
    .description('Say what a model is and what it takes, without loading it.')
    .argument('[model]', 'folder, checkpoint file, hub id (org/name) or embedded model', embeddedModel)
    .option('--tensors', 'list every tensor')
    .option('--revision <name>', 'branch, tag or commit on the hub')
    .option('--offline', 'use only what is downloaded already')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nExamples:\n  riverrun inspect\n  riverrun inspect ./my-mamba --tensors\n  riverrun inspect rwkv7.pth --json',
    )
    .action(runInspect);
}

async function runInspect(model: string, { tensors, json, ...flags }: InspectFlags): Promise<void> {
  const signal = interruptSignal();
  const sizes = await inspect(model, { signal, ...flags });
  await print(json ? `${JSON.stringify(sizes)}\n` : report(sizes, tensors === true));
}

function report(sizes: ModelSizes, withTensors: boolean): string {
  const { title, type, parameters, vocabularySize, weightBytes, stateBytes, stateBytesPerToken } = sizes;
  const at = (tokens: number) => formatBytes(stateBytes + tokens * stateBytesPerToken);
  const state =
    stateBytesPerToken === 0
      ? `${formatBytes(stateBytes)} at any length`
      : `${at(1000)} at 1K tokens, ${at(32_000)} at 32K, ${at(1_000_000)} at 1M`;
  const lines = [
    `${title} (${type})`,
    `parameters  ${parameters.toLocaleString('en-US')}`,
    `vocabulary  ${vocabularySize.toLocaleString('en-US')}`,
    `in memory   ${Object.entries(weightBytes)
      .map(([format, size]) => `${formatBytes(size)} as ${format}`)
      .join(', ')}`,
    `state       ${state}`,
  ];
  if (withTensors) {
    const width = Math.max(...sizes.tensors.map(({ name }) => name.length));
    for (const { name, type, shape, bytes: size, parameter } of sizes.tensors) {
      const use = parameter === name ? '' : parameter === null ? '  (not needed)' : `  → ${parameter}`;
      lines.push(`${name.padEnd(width)}  ${type.padEnd(5)}[${shape.join(', ')}]  ${formatBytes(size)}${use}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

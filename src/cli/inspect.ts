import { Command, Option } from 'commander';
import { InputError } from '../core/errors.ts';
import { device } from '../platform/device.ts';
import { openFile, writeFileAtomically } from '../platform/node-file.ts';
import { inspect } from '../platform/node-load.ts';
import type { InspectOptions } from '../runtime/inspection/inspect.ts';
import type { ModelSizes } from '../runtime/sizes.ts';
import { stateBytesAt } from '../runtime/state-size.ts';
import { inspectionJson, inspectionPage } from '../tasks/inspection-page.ts';
import { formatBytes } from './bytes.ts';
import { colouredInspection, paintsFor } from './coloured-inspection.ts';
import { integer, type ModelFlags, withModel } from './options.ts';
import { interruptSignal, loadModel, ProgressLine, print, standardInput, threadsInWords } from './terminal.ts';

interface InspectFlags extends ModelFlags {
  readonly tensors?: boolean;
  readonly device?: boolean;
  readonly text?: string;
  readonly file?: string;
  readonly html?: string;
  readonly heads?: boolean;
  readonly maps?: NonNullable<InspectOptions['maps']>;
  readonly layer?: number;
  readonly json?: boolean;
}

export function inspectCommand(): Command {
  const command = new Command('inspect')
    .description(
      'Say what a model is and what it takes, without loading it; or, with a text, show what its layers keep and forget of it.',
    )
    .argument('[model]', 'folder, checkpoint file, hub id (org/name) or embedded model; also as --model')
    .option('--tensors', 'list every tensor')
    .option('--device', 'instead, say what models compute with on this machine')
    .option('--text <text>', 'show what the model does with this text')
    .option('--file <path>', 'the same with a UTF-8 text file; - for standard input')
    .option('--html <file>', 'with a text: write a page of heat maps that any browser opens')
    .option('--layer <n>', 'with a text: show one layer, from 0, instead of all together', integer)
    .option('--heads', 'with a text: in --html and --json, every head besides whole layers')
    .addOption(
      new Option(
        '--maps <which>',
        'with a text: in --html and --json, from which words each was read (default: layers)',
      ).choices(['none', 'layers', 'heads']),
    )
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  riverrun inspect
  riverrun inspect ./my-mamba --tensors
  riverrun inspect rwkv7.pth --json
  riverrun inspect ./my-llama --kv-cache f16
  riverrun inspect --device --no-revectorize
  riverrun inspect --text "The old king had three sons. The youngest was called Jack."
  riverrun inspect ./my-mamba --file letter.txt --html letter.html --heads`,
    )
    .action(runInspect);
  return withModel(command);
}

async function runInspect(given: string | undefined, flags: InspectFlags, command: Command): Promise<void> {
  const isNamed = command.getOptionValueSource('model') === 'cli';
  if (given !== undefined && isNamed) throw new InputError(`two models are named: ${given} and ${flags.model}`);
  const model = given ?? flags.model;
  const hasText = flags.text !== undefined || flags.file !== undefined;
  const ofTexts = ['html', 'layer', 'heads', 'maps', 'weights', 'threads', 'backend', 'tokenizer', 'adapter'].find(
    (name) => command.getOptionValueSource(name) === 'cli',
  );
  if (flags.device) {
    if (given !== undefined || isNamed || hasText || ofTexts || flags.kvCache || flags.tensors)
      throw new InputError(
        '--device is of the machine: of the other options only --no-revectorize and --json go with it',
      );
    return await inspectDevice(flags);
  }
  if (!hasText && !flags.revectorize)
    throw new InputError('--no-revectorize is for texts and --device: give --text, --file or --device');
  if (!hasText && ofTexts) throw new InputError(`--${ofTexts} is for texts: give --text or --file`);
  if (hasText && flags.tensors)
    throw new InputError('--tensors is of models, --text and --file are of texts: one at a time');
  if (flags.text !== undefined && flags.file !== undefined) throw new InputError('give --text or --file, not both');
  if (hasText) return await inspectText({ ...flags, model });
  const signal = interruptSignal();
  const { offline, revision, kvCache } = flags;
  const sizes = await inspect(model, {
    signal,
    ...(kvCache !== undefined && { kvCache }),
    ...(offline !== undefined && { offline }),
    ...(revision !== undefined && { revision }),
  });
  await print(flags.json ? `${JSON.stringify(sizes)}\n` : report(sizes, flags.tensors === true));
}

async function inspectDevice({ revectorize, json }: InspectFlags): Promise<void> {
  const found = await device({ revectorize });
  if (json) {
    await print(`${JSON.stringify(found)}\n`);
    return;
  }
  const { cpu, arch, cores, memoryBytes, node, v8, threads, kernels, revectorization } = found;
  const lines = [
    `processor    ${cpu}, ${arch}, ${cores} cores`,
    `memory       ${formatBytes(memoryBytes)}`,
    `engine       Node ${node}, V8 ${v8}`,
    `kernels      WebAssembly SIMD${kernels === 'relaxed' ? ', relaxed' : ''}, ${threadsInWords(threads)} unless told otherwise`,
    `256 bits     ${revectorization.on ? 'on' : 'off'}: ${revectorization.reason}`,
  ];
  await print(`${lines.join('\n')}\n`);
}

/** Shows what a model does with a text: as a page, as JSON, or in the terminal. */
async function inspectText(flags: InspectFlags): Promise<void> {
  const signal = interruptSignal();
  const { text, file, heads, maps, layer, html, json } = flags;
  if (file !== undefined && file !== '-') await (await openFile(file)).close();
  const model = await loadModel(flags, signal);
  const line = new ProgressLine(flags.quiet);
  try {
    const source = text ?? (file === '-' ? standardInput(signal) : { file: file! });
    const inspection = await model.session().inspect(source, {
      signal,
      onProgress: (tokens) => line.show(`${tokens} tokens`),
      ...(heads !== undefined && { heads }),
      ...(maps !== undefined && { maps }),
      ...(maps === undefined && html === undefined && !json && { maps: 'none' as const }),
    });
    line.clear();
    const { layers } = inspection;
    if (layer !== undefined && (layer < 0 || layer >= layers.length))
      throw new InputError(`--layer is ${layer}: the model has layers 0 to ${layers.length - 1} that look along time`);
    const title = `${model.title}${flags.model === model.type ? '' : ` · ${flags.model.replace(/^.*[\\/](?=.)/, '')}`}`;
    if (html !== undefined)
      await writeFileAtomically(html, [new TextEncoder().encode(inspectionPage(inspection, title))]);
    if (json) await print(`${JSON.stringify({ model: flags.model, ...inspectionJson(inspection) })}\n`);
    else if (html === undefined) await print(colouredInspection(inspection, title, layer, paintsFor(process.stdout)));
    else await print(`${html}\n`);
  } finally {
    line.clear();
    model.dispose();
  }
}

/** What a sequence's state takes at 1K, 32K and 1M tokens, as far as the model can see, and what else there is to know of length. */
function stateLine(sizes: ModelSizes): string {
  const { stateBytes, stateBytesPerToken, stateWindows, longest, trainedLength } = sizes;
  if (stateBytesPerToken === 0 && stateWindows.length === 0) return `${formatBytes(stateBytes)} at any length`;
  const lengths = [
    [1000, '1K'],
    [32_000, '32K'],
    [1_000_000, '1M'],
  ] as const;
  const at = (tokens: number, name: string) => `${formatBytes(stateBytesAt(sizes, tokens))} at ${name}`;
  const within = lengths
    .filter(([tokens]) => tokens <= (longest ?? Infinity))
    .map(([tokens, name]) => at(tokens, name));
  if (longest !== null)
    within.push(`${at(longest, longest.toLocaleString('en-US'))}, the most that it has positions for`);
  const windows = stateWindows.map(({ tokens }) => tokens.toLocaleString('en-US')).join(' and ');
  const notes = [
    windows !== '' && `${stateBytesPerToken > 0 ? 'some layers see' : 'it sees'} the last ${windows} tokens`,
    longest === null &&
      trainedLength !== null &&
      `its configuration tells of ${trainedLength.toLocaleString('en-US')} positions: what it makes of longer texts is not known`,
  ].filter(Boolean);
  return [`${within.join(', ').replace(/ at (\S+?)(,|$)/, ' at $1 tokens$2')}`, ...notes].join('; ');
}

function report(sizes: ModelSizes, withTensors: boolean): string {
  const { title, type, parameters, vocabularySize, weightBytes } = sizes;
  const lines = [
    `${title} (${type})`,
    `parameters  ${parameters.toLocaleString('en-US')}`,
    `vocabulary  ${vocabularySize.toLocaleString('en-US')}`,
    `in memory   ${Object.entries(weightBytes)
      .map(([format, size]) => `${formatBytes(size)} as ${format === 'auto' ? 'stored' : format}`)
      .join(', ')}`,
    `state       ${stateLine(sizes)}`,
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

import { Command, InvalidArgumentError } from 'commander';
import { InputError } from '../core/errors.ts';
import { type BenchResult, bench } from '../platform/bench.ts';
import { expectWritable, writeFileAtomically } from '../platform/node-file.ts';
import { runBenchTasks } from './bench-tasks.ts';
import { formatBytes } from './bytes.ts';
import { costBars, costChart } from './cost-chart.ts';
import { integer, type ModelFlags, number, withModel } from './options.ts';
import { interruptSignal, ProgressLine, print, threadsInWords } from './terminal.ts';

interface BenchFlags extends ModelFlags {
  readonly prefill: number;
  readonly decode: number;
  readonly batch: number;
  readonly rounds: number;
  readonly curve?: boolean;
  readonly long?: boolean;
  readonly lengths?: number[];
  readonly svg?: string;
  readonly json?: boolean;
  readonly tasks?: string | true;
  readonly architectures?: string;
  readonly steps?: number;
  readonly learningRate?: number;
  readonly seed?: number;
}

const lengthList = (text: string): number[] =>
  text.split(',').map((part) => {
    const value = Number(part);
    if (!Number.isSafeInteger(value) || value < 1)
      throw new InvalidArgumentError('It must be whole numbers, such as 1024,4096.');
    return value;
  });

/** 1K to 256K, and to 1M. */
const usual = [1024, 4096, 16_384, 65_536, 262_144];
const long = [...usual, 1_048_576];

export function benchCommand(): Command {
  const command = new Command('bench')
    .description(
      'Measure a model on this machine: reading and generating, beside what products and memory allow; loading, memory, and the cost of a token by the length of the text.',
    )
    .option('--prefill <n>', 'tokens of the prompt', integer, 512)
    .option('--decode <n>', 'tokens generated', integer, 64)
    .option('--batch <n>', 'sequences generated together, on the curve too', integer, 1)
    .option('--rounds <n>', 'runs, of which the best counts', integer, 3)
    .option('--curve', 'the cost of one more token after 1K to 256K others (takes minutes)')
    .option('--long', 'the same up to 1M')
    .option('--lengths <list>', 'the same after these lengths, each once', lengthList)
    .option('--svg <file>', 'write the curve as a picture')
    .option(
      '--tasks [names]',
      'instead, train small models on made-up tasks that tell architectures apart (takes long)',
    )
    .option('--architectures <names>', 'with --tasks: those to compare, with commas between them')
    .option('--steps <n>', 'with --tasks: steps at most (default: 1000)', integer)
    .option('--learning-rate <x>', 'with --tasks: the highest rate (default: 0.01)', number)
    .option('--seed <n>', 'with --tasks: seed of initial values and examples (default: 0)', integer)
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nReading is told as a share of what the rate of products allows (multiply-adds of a token over it), generating of what memory\nallows (bytes of a token over its bandwidth), or products where that is less. Both are measured in the same run.\n\nExamples:\n  riverrun bench\n  riverrun bench --model ./my-mamba --weights q4 --threads 2 --prefill 1024 --decode 128\n  riverrun bench --curve --svg cost.svg\n  riverrun bench --batch 8 --json\n  riverrun bench --model ./my-llama --kv-cache f16 --lengths 1024,4096\n  riverrun bench --tasks induction-heads,parity --architectures mamba,delta_net-negative,llama',
    )
    .action(runBench);
  return withModel(command);
}

/** What `--tasks` takes. */
const taskOptions = ['tasks', 'architectures', 'steps', 'learningRate', 'seed', 'threads', 'json', 'quiet'];

async function runBench(flags: BenchFlags, command: Command): Promise<void> {
  const { tasks, architectures, steps, learningRate, seed } = flags;
  if (tasks !== undefined) {
    const idle = command.options.find((option) => {
      const name = option.attributeName();
      return command.getOptionValueSource(name) === 'cli' && !taskOptions.includes(name);
    });
    if (idle)
      throw new InputError(
        `${idle.long} does not go with --tasks, which trains models of its own and prints a table: leave it out`,
      );
    return await runBenchTasks({ ...flags, tasks });
  }
  if ([architectures, steps, learningRate, seed].some((value) => value !== undefined))
    throw new InputError('--architectures, --steps, --learning-rate and --seed go with --tasks');
  const { model, weights, kvCache, backend, revectorize, threads, tokenizer, adapter, revision, offline } = flags;
  const { prefill, decode, batch, rounds } = flags;
  if (flags.lengths && (flags.curve || flags.long))
    throw new InputError('--lengths names the lengths of the curve itself: leave --curve and --long out');
  const lengths = flags.lengths ?? (flags.long ? long : flags.curve || flags.svg ? usual : []);
  if (flags.svg !== undefined) await expectWritable(flags.svg);
  const line = new ProgressLine(flags.quiet);
  try {
    const result = await bench(model, {
      weights,
      backend,
      revectorize,
      prefill,
      decode,
      batch,
      rounds,
      lengths,
      signal: interruptSignal(),
      ...(kvCache !== undefined && { kvCache }),
      ...(threads !== undefined && { threads }),
      ...(tokenizer !== undefined && { tokenizer }),
      ...(adapter !== undefined && { adapter }),
      ...(revision !== undefined && { revision }),
      ...(offline !== undefined && { offline }),
      onProgress: (what) => line.show(what),
    });
    line.clear();
    await print(flags.json ? `${JSON.stringify(result)}\n` : report(result));
    if (flags.svg === undefined) return;
    if (result.costs.length === 0)
      throw new InputError(
        `${flags.svg} is not written: the model has no positions for texts of ${Math.min(...lengths)} tokens`,
      );
    await writeFileAtomically(flags.svg, [costChart(result)]);
  } finally {
    line.clear();
  }
}

function report(result: BenchResult): string {
  const { decodeTokensPerSecond: decode, decodeBound, bandwidthBound, productsBound, costs, batch } = result;
  const together = batch === 1 ? '' : `, ${batch} sequences together`;
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`;
  const ofMemory = `what memory allows (${bandwidthBound.toFixed(0)}: ${formatBytes(result.bytesPerToken)} a token at ${formatBytes(result.bandwidth)}/s)`;
  const ofProducts = `what products allow (${decodeBound.toFixed(0)}; memory ${bandwidthBound.toFixed(0)})`;
  const lines = [
    `${result.model} (${result.type}), ${(result.parameters / 1e6).toFixed(1)} M parameters, weights ${weightsInWords(result)}, ${result.kvCache === 'f16' ? 'keys and values f16, ' : ''}${result.backend}${result.machine.isRevectorized ? ', revectorized' : ''}, ${threadsInWords(result.threads)}`,
    `prefill    ${result.prefillTokensPerSecond.toFixed(0)} tokens/s: ${percent(result.prefillOfBound)} of what products allow (${productsBound.toFixed(0)}: ${(result.multiplyAddsPerToken / 1e6).toFixed(1)} M multiply-adds a token at ${(result.multiplyAddsPerSecond / 1e9).toFixed(1)} · 10⁹/s)`,
    `decode     ${decode.toFixed(1)} tokens/s${together}: ${percent(result.decodeOfBound)} of ${decodeBound < bandwidthBound ? ofProducts : ofMemory}`,
    `load       ${result.loadSeconds.toFixed(2)} s`,
    `memory     ${formatBytes(result.peakBytes)} at most`,
  ];
  const { notReached } = result;
  if (costs.length > 0) lines.push('', `cost of a token, by the tokens before it${together}`, ...costBars(costs));
  if (notReached) lines.push('', `not measured after ${notReached.lengths.join(', ')} tokens: ${notReached.reason}`);
  return `${lines.join('\n')}\n`;
}

/** `q4`, or `q4 (71 %), q8 (29 %)` of multiply-adds where matrices are held in several formats; those below one percent are left out. */
function weightsInWords({ weights, multiplyAddsByFormat }: BenchResult): string {
  const counts = Object.entries(multiplyAddsByFormat);
  const all = counts.reduce((sum, [, count]) => sum + count, 0);
  const shares = counts.map(([format, count]) => [format, Math.round((100 * count) / all)] as const);
  const told = shares.filter(([, percent]) => percent >= 1);
  return told.length < 2 ? weights : told.map(([format, percent]) => `${format} (${percent} %)`).join(', ');
}

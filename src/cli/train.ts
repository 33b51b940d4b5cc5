import { Command, Option } from 'commander';
import { type TrainOptions, trainModel } from '../platform/train.ts';
import { architecturesWith, newArchitectures, type OwnDimension } from '../train/configurations.ts';
import { collect, integer, number, rates } from './options.ts';
import { interruptSignal } from './terminal.ts';
import { printTraining } from './training-output.ts';

interface TrainFlags extends Omit<TrainOptions, 'architecture' | 'output' | 'signal' | 'onProgress' | 'onNotice'> {
  readonly arch: string;
  readonly out: string;
  readonly rate?: TrainOptions['rates'];
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** The description of an option that only some architectures have: which, and what it says. */
function of(dimension: OwnDimension, text: string): string {
  const having = architecturesWith(dimension);
  const others = newArchitectures.filter((type) => !having.includes(type));
  return `${others.length < having.length ? `all but ${others.join(', ')}` : having.join(', ')}: ${text}`;
}

export function trainCommand(): Command {
  return new Command('train')
    .description('Train a new language model from text. The result is a folder that every other command can load.')
    .addOption(new Option('-a, --arch <type>', 'architecture').choices(newArchitectures).default('mamba'))
    .option('--width <n>', 'width of the residual stream', integer, 256)
    .option('--layers <n>', 'layers', integer, 8)
    .option('--head-width <n>', of('headWidth', 'channels of a head (default: 64)'), integer)
    .option(
      '--inner <n>',
      of('inner', 'inner width of the MLP or channel mixing (default: 8/3 of the width, rwkv7: 4)'),
      integer,
    )
    .option(
      '--state <n>',
      of('state', 'size of the state, per channel in mamba (default: 16), per head in mamba2 (default: 64)'),
      integer,
    )
    .option('--negative-eigenvalues', of('negativeEigenvalues', 'eigenvalues from −1 to 1'))
    .requiredOption('-d, --data <path>', 'file or folder to learn from, or - ; may be given several times', collect)
    .option('-v, --validation <path>', 'file or folder to measure the loss on; may be given several times', collect)
    .option('--field <name>', 'field of JSONL, CSV and TSV that holds the text (default: text)')
    .requiredOption('-o, --out <folder>', 'where the model goes')
    .option('--tokenizer <name>', 'bytes, or a tokenizer.json (default: one is learned from the data)')
    .option('--vocabulary <n>', 'tokens of a tokenizer that is learned (default: 4096)', integer)
    .option('-n, --steps <n>', 'steps; 0 writes the model as it begins (default: one pass over the data)', integer)
    .option('-b, --batch <n>', 'windows of a step', integer, 8)
    .option('--together <n>', 'windows that run together; more take more memory (default: 2,048 tokens)', integer)
    .option('-l, --length <n>', 'tokens of a window', integer, 256)
    .option('--carry-state', 'read on from window to window in the state that was left (truncated back-propagation)')
    .option('--learning-rate <x>', 'the highest learning rate', number, 3e-3)
    .addOption(
      new Option('--schedule <name>', 'how the rate goes')
        .choices(['cosine', 'linear', 'wsd', 'constant'])
        .default('cosine'),
    )
    .option('--warmup <n>', 'steps in which the rate rises (default: 5 %, at most 200)', integer)
    .option('--final-rate <x>', 'what is left of the rate at the end (default: 0.1)', number)
    .option('--decay-steps <n>', 'wsd: steps of the decay (default: 20 %)', integer)
    .option('--weight-decay <x>', 'decoupled decay of matrices', number, 0.1)
    .option('--recompute', 'compute layers once more for their derivatives: less memory, a third more work')
    .option('--undecayed <pattern>', 'regular expression of parameters that do not decay; several times', collect)
    .option('--rate <pattern=x>', 'factor of the learning rate of parameters whose names fit; several times', rates)
    .option('--clip <x>', 'the most that a gradient may be long', number, 1)
    .option('--seed <n>', 'seed of initial values and of the order of data', integer, 0)
    .option('--evaluate-every <n>', 'steps between evaluations (default: a tenth)', integer)
    .option('--evaluation-windows <n>', 'the most windows of an evaluation (default: 64)', integer)
    .option('--evaluation-length <n>', 'tokens of its windows (default: --length)', integer)
    .option('--patience <n>', 'end after this many evaluations without a better loss', integer)
    .option('--checkpoint-every <n>', 'steps between checkpoints', integer, 100)
    .option('--resume', 'go on with the training in the folder')
    .option('--threads <n>', 'threads to compute with (default: one per core, at most 8)', integer)
    .option('--json', 'print one JSON object per step')
    .option('-q, --quiet', 'no progress on standard error')
    .addHelpText(
      'after',
      `
Examples:
  riverrun train --data book.txt --out my-model
  riverrun train --arch rwkv7 --width 256 --layers 6 --data texts/ --validation held-out.txt --out my-rwkv
  riverrun train --arch mamba --data chats.jsonl --field message --tokenizer bytes --steps 500 --out my-bytes
  riverrun train --arch gated_deltanet --data book.txt --carry-state --length 128 --out my-reader
  riverrun train --data book.txt --out my-model --resume
  riverrun train --data book.txt --schedule wsd --steps 20000 --out my-model --resume

Ctrl-C writes a checkpoint first; --resume with the same options goes on from it.
While the rate is still the same (wsd, constant), --resume also takes other --steps and --decay-steps.`,
    )
    .action(runTrain);
}

async function runTrain({ arch, out, json, quiet, rate, ...flags }: TrainFlags): Promise<void> {
  const signal = interruptSignal();
  await printTraining(
    out,
    (onProgress, onNotice) =>
      trainModel({ ...flags, rates: rate, architecture: arch, output: out, signal, onProgress, onNotice }),
    {
      json,
      quiet,
    },
  );
}

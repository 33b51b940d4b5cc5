import { Command, Option } from 'commander';
import { type FinetuneOptions, finetune } from '../platform/finetune.ts';
import { embeddedModel } from '../platform/node-load.ts';
import { methods } from '../train/method.ts';
import { collect, integer, number, rates } from './options.ts';
import { interruptSignal } from './terminal.ts';
import { printTraining, type TrainingOutputFlags } from './training-output.ts';

interface FinetuneFlags
  extends Omit<FinetuneOptions, 'output' | 'signal' | 'onProgress' | 'onNotice'>,
    TrainingOutputFlags {
  readonly out: string;
  readonly rate?: FinetuneOptions['rates'];
}

const list = (text: string): string[] => text.split(',').map((name) => name.trim());

export function finetuneCommand(): Command {
  return new Command('finetune')
    .description('Teach a model: to tell labels, to find answers in a text, or to go on as other texts do.')
    .option('-m, --model <name>', 'folder, checkpoint file, hub id (org/name) or embedded model', embeddedModel)
    .option('--tokenizer <name>', "in the place of the model's own: bytes, a tokenizer.json, or a folder with one")
    .requiredOption(
      '-d, --data <path>',
      'text, labelled examples, or answers (JSONL); may be given several times',
      collect,
    )
    .option('-v, --validation <path>', 'what is measured (default for examples: a tenth of them)', collect)
    .option('--field <name>', 'field of the texts (default: text)')
    .option('--label <name>', 'field of the labels: the model becomes a classifier')
    .option('--columns <names>', 'names of the columns of CSV and TSV files without a header, as a,b,c', list)
    .requiredOption('-o, --out <folder>', 'where the result goes')
    .addOption(new Option('--method <name>', 'what is learned').choices([...methods]).default('full'))
    .option('--rank <n>', 'lora: rank of the additions (default: 8)', integer)
    .option('--alpha <x>', 'lora: the additions are scaled by alpha / rank (default: 16)', number)
    .option(
      '--targets <pattern>',
      'lora: regular expression of matrices (default: all but embeddings, head, and what PEFT can not add to)',
    )
    .option('-e, --epochs <n>', 'passes over the data (default: 3, or what the steps take)', integer)
    .option('-n, --steps <n>', 'steps; beside epochs, the fewer are made', integer)
    .option('-b, --batch <n>', 'examples, or windows of text, of a step', integer, 16)
    .option(
      '--together <n>',
      'examples or windows that run together; more take more memory (default: 2,048 tokens)',
      integer,
    )
    .option('--recompute', 'compute layers once more for their derivatives: less memory, a third more work')
    .option('-l, --length <n>', 'tokens of a window; longer examples are cut', integer, 256)
    .option('--learning-rate <x>', 'the highest rate (default: full 0.001, lora 0.003, head 0.01, state 0.03)', number)
    .addOption(
      new Option('--schedule <name>', 'how the rate goes')
        .choices(['cosine', 'linear', 'wsd', 'constant'])
        .default('cosine'),
    )
    .option('--warmup <n>', 'steps in which the rate rises (default: 5 %, at most 200)', integer)
    .option('--final-rate <x>', 'what is left of the rate at the end (default: 0.1)', number)
    .option('--decay-steps <n>', 'wsd: steps of the decay (default: 20 %)', integer)
    .option('--weight-decay <x>', 'decoupled decay of matrices', number, 0.1)
    .option('--undecayed <pattern>', 'regular expression of parameters that do not decay; several times', collect)
    .option('--rate <pattern=x>', 'factor of the learning rate of parameters whose names fit; several times', rates)
    .option('--clip <x>', 'the most that a gradient may be long', number, 1)
    .option('--seed <n>', 'seed of the head, of what is kept for validation, and of the order', integer, 0)
    .option('--evaluate-every <n>', 'steps between evaluations (default: a tenth)', integer)
    .option('--patience <n>', 'end after this many evaluations that were no better', integer)
    .option('--checkpoint-every <n>', 'steps between checkpoints', integer, 100)
    .option('--resume', 'go on with the training in the folder')
    .option('--threads <n>', 'threads to compute with (default: one per core, at most 8)', integer)
    .option('--revision <name>', 'branch, tag or commit on the hub')
    .option('--offline', 'use only what is downloaded already')
    .option('--json', 'print one JSON object per step')
    .option('-q, --quiet', 'no progress on standard error')
    .addHelpText(
      'after',
      `
Examples:
  riverrun finetune --data intents.csv --label category --out my-classifier
  riverrun finetune --data SMSSpamCollection.tsv --columns label,text --label label --out spam
  riverrun finetune --data questions.jsonl --out my-answers     # {"prompt": "…", "completion": "…"}, or {"messages": [ … ]}
  riverrun finetune --data squad.jsonl --out my-reader         # {"question": …, "context": …, "answers": {"text": [ … ], "answer_start": [ … ]}}
  riverrun finetune --method lora --data letters.txt --out my-letters
  riverrun generate --adapter my-letters/adapter "Dear"
  riverrun finetune --method state --data poems.txt --out my-poems
  riverrun generate --load my-poems/initial.state "The river"

Ctrl-C writes a checkpoint first; --resume with the same options goes on from it.
While the rate is still the same (wsd, constant), --resume also takes other --steps, --epochs and --decay-steps.`,
    )
    .action(async ({ out, json, quiet, rate, ...flags }: FinetuneFlags) => {
      const signal = interruptSignal();
      await printTraining(
        out,
        (onProgress, onNotice) => finetune({ ...flags, rates: rate, output: out, signal, onProgress, onNotice }),
        {
          json,
          quiet,
        },
      );
    });
}

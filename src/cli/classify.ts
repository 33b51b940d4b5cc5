import { Command } from 'commander';
import { InputError } from '../core/errors.ts';
import type { Model } from '../runtime/model.ts';
import type { ReadOptions } from '../runtime/session.ts';
import { classify } from '../tasks/classify.ts';
import { LabelClassifier } from '../tasks/label-classifier.ts';
import { list, type ModelFlags, withModel, withState } from './options.ts';
import { interruptSignal, loadModel, ProgressLine, print, standardInputLines } from './terminal.ts';

interface ClassifyFlags extends ModelFlags {
  readonly labels?: string[];
  readonly template?: string;
  readonly multiLabel?: boolean;
  readonly json?: boolean;
}

export function classifyCommand(): Command {
  const command = new Command('classify')
    .description(
      'Say which labels fit texts: a trained model its own, any other by how much likelier each text makes a label.',
    )
    .argument('[texts...]', 'without any, every line of standard input is a text')
    .option(
      '--labels <list>',
      'the labels, separated by commas; not for a model that was trained to tell its own',
      list,
    )
    .option('--template <text>', 'what a label ends, {} being the label (default: "\\n\\nThis text is about {}.")')
    .option('--multi-label', 'several labels may fit: each has a probability of its own')
    .option('--json', 'print one JSON object a line, with all labels')
    .addHelpText(
      'after',
      `
Examples:
  riverrun classify --labels dogs,kings,ships "The captain set the sails."
  riverrun classify --labels praise,complaint --json < letters.txt
  riverrun classify --model ./my-classifier < letters.txt
  riverrun classify --labels dog,ship --template " This is the story of a {}." "Rex barked."`,
    )
    .action(runClassify);
  return withModel(withState(command));
}

async function runClassify(given: string[], flags: ClassifyFlags): Promise<void> {
  const signal = interruptSignal();
  const texts = textsOf(given, signal);
  const model = await loadModel(flags, signal);
  const line = new ProgressLine(flags.quiet);
  try {
    const probabilities = classifierOf(model, flags);
    let count = 0;
    for await (const text of texts) {
      const scores = await probabilities(text, { signal });
      scores.sort((a, b) => b.probability - a.probability);
      line.clear();
      const [{ label, probability }] = scores as [(typeof scores)[0]];
      if (flags.json) await print(`${JSON.stringify({ text, label, probability, labels: scores })}\n`);
      else await print(`${label}\t${probability.toFixed(3)}\t${text}\n`);
      line.show(`${++count} texts`);
    }
  } finally {
    line.clear();
    model.dispose();
  }
}

type Probabilities = (text: string, options: ReadOptions) => Promise<{ label: string; probability: number }[]>;

function classifierOf(model: Model, { labels, template, multiLabel }: ClassifyFlags): Probabilities {
  if (model.labels && !labels && template === undefined && !multiLabel)
    return (text, options) => classify(model, text, options);
  if (!labels) throw new InputError('name the labels with --labels a,b,c');
  const options = { ...(template !== undefined && { template }), ...(multiLabel && { multiLabel }) };
  const classifier = new LabelClassifier(
    model,
    labels.map((label) => label.trim()),
    options,
  );
  return (text, reading) => classifier.classify(text, reading);
}

/** The texts of the arguments, or the lines of standard input. */
export function textsOf(given: readonly string[], signal: AbortSignal): readonly string[] | AsyncGenerator<string> {
  if (given.some((text) => text.trim() === '')) throw new InputError('a text is empty');
  if (given.length > 0) return given;
  if (process.stdin.isTTY) throw new InputError('there is no text: give some as arguments, or on standard input');
  return givenLines(signal);
}

async function* givenLines(signal: AbortSignal): AsyncGenerator<string> {
  let isEmpty = true;
  for await (const line of standardInputLines(signal)) {
    isEmpty = false;
    yield line;
  }
  if (isEmpty) throw new InputError('there is no text: standard input has no line that is not empty');
}

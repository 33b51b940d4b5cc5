import { InputError, TrainingError } from '../core/errors.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import { type Example, exampleBatches } from '../train/examples.ts';
import { exampleContents } from './contents-digest.ts';
import { dataFiles, readRecords } from './data-files.ts';
import { type ExampleData, measuring, parted, TOGETHER } from './example-data.ts';

export interface LabelledDataOptions {
  readonly data: readonly string[];
  readonly validation?: readonly string[] | undefined;
  /** Field of the texts. Default `text`. */
  readonly field?: string | undefined;
  /** Field of the labels. */
  readonly label?: string | undefined;
  /** Names of the columns of CSV and TSV files that have no header. */
  readonly columns?: readonly string[] | undefined;
  /** Tokens after which a text is cut. */
  readonly length?: number | undefined;
  readonly batch?: number | undefined;
  /** Examples that run together. */
  readonly together?: number | undefined;
  readonly seed?: number | undefined;
}

export interface LabelledData extends ExampleData {
  readonly labels: readonly string[];
}

/** Reads examples with labels; without validation data a tenth of them, chosen by the seed, is kept for it. */
export async function labelledData(options: LabelledDataOptions, tokenizer: Tokenizer): Promise<LabelledData> {
  const { seed = 0, batch = 16, length = 256, together: most } = options;
  const read = async (paths: readonly string[]) => {
    const found: { text: string; label: string }[] = [];
    for await (const { fields, where } of readRecords(dataFiles(paths), options.columns)) {
      const [text, label] = [options.field ?? 'text', options.label!].map((name) => {
        const value = fields[name];
        if (value === undefined || value === null || value === '')
          throw new InputError(`${where} has no "${name}" (it has ${Object.keys(fields).join(', ')})`);
        return String(value);
      }) as [string, string];
      found.push({ text, label });
    }
    if (found.length === 0) throw new InputError(`${paths.join(', ')}: there are no examples`);
    return found;
  };
  let taught = await read(options.data);
  let held = options.validation && (await read(options.validation));
  if (!held) [taught, held] = parted(taught, seed);
  const labels = [...new Set(taught.map(({ label }) => label))].sort();
  if (labels.length < 2)
    throw new TrainingError(
      `all ${taught.length} examples are labelled ${JSON.stringify(labels[0])}: a classifier needs two labels at least`,
    );
  const examples = (rows: readonly { text: string; label: string }[]): Example[] =>
    rows.map(({ text, label }) => {
      const index = labels.indexOf(label);
      if (index < 0) throw new InputError(`the label ${JSON.stringify(label)} is in the validation data only`);
      const tokens = classifierTokens(tokenizer, text, length);
      return { tokens, rows: [tokens.length - 1], targets: [index] };
    });
  const [learned, measured] = [examples(taught), examples(held)];
  const contents = { data: exampleContents(learned, labels), validation: exampleContents(measured, labels) };
  const batches = exampleBatches(learned, { batch, together: Math.max(TOGETHER, length), most, seed });
  return { batches, contents, labels, evaluate: measuring(measured, batches, labels.length) };
}

/** A text as a classifier sees it: as any text, cut where it is too long; the label is told at its last token. */
function classifierTokens(tokenizer: Tokenizer, text: string, length: number): number[] {
  const tokens = tokenizer.encode(text).slice(0, length);
  return tokens.length > 0 ? tokens : [tokenizer.endOfText ?? 0];
}

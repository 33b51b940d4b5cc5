import { InputError, TrainingError } from '../core/errors.ts';
import { Pace } from '../runtime/pause.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import { type Example, exampleBatches } from '../train/examples.ts';
import { exampleContents } from './contents-digest.ts';
import { dataFiles, readRecords } from './data-files.ts';
import { type ExampleData, measuring, parted, TOGETHER, textsOf } from './example-data.ts';
import { plainField } from './record-fields.ts';

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
  readonly signal?: AbortSignal | undefined;
}

export interface LabelledData extends ExampleData {
  readonly labels: readonly string[];
}

interface Row {
  readonly text: string;
  readonly label: string;
}

/**
 * Reads examples with labels; without validation data a tenth of them, chosen by the seed, is kept for it, but for the only example of a label, which
 * could not be told without.
 */
export async function labelledData(options: LabelledDataOptions, tokenizer: Tokenizer): Promise<LabelledData> {
  const { seed = 0, batch = 16, length = 256, together: most, field = 'text', columns, signal } = options;
  const read = async (paths: readonly string[]) => {
    const found: Row[] = [];
    for await (const record of readRecords(dataFiles(paths), { field, columns, signal }))
      found.push({ text: plainField(record, field), label: plainField(record, options.label!) });
    if (found.length === 0) throw new InputError(`${paths.join(', ')}: there are no examples`);
    return found;
  };
  let taught = await read(options.data);
  const labels = [...new Set(taught.map(({ label }) => label))].sort();
  if (labels.length < 2)
    throw new TrainingError(
      `all ${taught.length} examples are labelled ${JSON.stringify(labels[0])}: a classifier needs two labels at least`,
    );
  let held = options.validation && (await read(options.validation));
  if (!held) [taught, held] = parted(taught, seed, ({ label }) => label);
  const index = new Map(labels.map((label, i) => [label, i]));
  const examples = async (rows: readonly Row[]): Promise<Example[]> => {
    const found: Example[] = [];
    const pace = new Pace();
    for (const { text, label } of rows) {
      const target = index.get(label);
      if (target === undefined)
        throw new InputError(`the label ${JSON.stringify(label)} is in the validation data only`);
      const tokens = classifierTokens(tokenizer, text, length);
      found.push({ tokens, rows: [tokens.length - 1], targets: [target] });
      signal?.throwIfAborted();
      await pace.breathe();
    }
    return found;
  };
  const [learned, measured] = [await examples(taught), await examples(held)];
  const contents = { data: exampleContents(learned, labels), validation: exampleContents(measured, labels) };
  const batches = exampleBatches(learned, { batch, together: Math.max(TOGETHER, length), most, seed });
  const texts = textsOf([...learned, ...measured]);
  return { batches, contents, texts, labels, evaluate: measuring(measured, batches, labels.length) };
}

/** A text as a classifier sees it: as any text, cut where it is too long; the label is told at its last token. */
function classifierTokens(tokenizer: Tokenizer, text: string, length: number): number[] {
  const tokens = tokenizer.encode(text).slice(0, length);
  return tokens.length > 0 ? tokens : [tokenizer.endOfText ?? 0];
}

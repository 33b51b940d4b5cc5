import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { Command } from 'commander';
import { InputError } from '../core/errors.ts';
import { encodeSafetensors } from '../formats/safetensors-writer.ts';
import { openFile, writeFileAtomically } from '../platform/node-file.ts';
import type { Model } from '../runtime/model.ts';
import type { Session } from '../runtime/session.ts';
import { type Chunk, textOf as decoded } from '../runtime/text-chunks.ts';
import { type Score, score } from '../tasks/score.ts';
import { encodeStream } from '../tokenizers/encode-stream.ts';
import { type ModelFlags, withModel, withState } from './options.ts';
import { interruptSignal, loadModel, ProgressLine, print, standardInput } from './terminal.ts';

interface ScoreFlags extends ModelFlags {
  readonly text?: string;
  readonly file?: string;
  readonly tokens?: string;
  readonly logits?: string;
  readonly json?: boolean;
  readonly summary?: boolean;
}

export function scoreCommand(): Command {
  const command = new Command('score')
    .description('Measure how well a model predicts a text: ln p of every token, and the perplexity.')
    .option('--text <text>', 'the text itself')
    .option('--file <path>', 'a UTF-8 text file of any length; - for standard input')
    .option('--tokens <path>', 'a JSON array of token ids; needs no tokenizer')
    .option('--logits <path>', 'write the logits [tokens, vocabulary] to a safetensors file')
    .option('--summary', 'print only the totals')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  riverrun score --text "The cat sat on the mat."
  riverrun score --file book.txt --summary
  riverrun score --model ./my-mamba --tokens ids.json --logits out.safetensors`,
    )
    .action(runScore);
  return withModel(withState(command));
}

async function runScore(flags: ScoreFlags): Promise<void> {
  const signal = interruptSignal();
  const given = [flags.text, flags.file, flags.tokens].filter((value) => value !== undefined).length;
  const piped = given === 0 && !process.stdin.isTTY;
  if (given > 1 || (given === 0 && !piped))
    throw new InputError('give one of --text, --file and --tokens, or a text on standard input');
  const ids = flags.tokens === undefined ? undefined : await readTokens(flags.tokens);
  if (flags.file !== undefined && flags.file !== '-') await (await openFile(flags.file)).close();
  const model = await loadModel(flags, signal);
  const line = new ProgressLine(flags.quiet);
  const size = flags.file === undefined || flags.file === '-' ? undefined : (await stat(flags.file)).size;
  const source = ids
    ? [ids]
    : encodeStream(
        model.tokenizer,
        textOf(flags, signal, (bytes) => (read += bytes)),
      );
  const rows = new Rows(model, flags);
  const so = { tokens: 0, scored: 0, logProbability: 0 };
  let read = 0;
  const onToken = (token: number, logProbability: number | undefined) => {
    so.tokens++;
    if (logProbability !== undefined) so.scored++;
    so.logProbability += logProbability ?? 0;
    line.show(`${so.tokens.toLocaleString('en-US')} tokens`, size && read, size);
    rows.add(token, logProbability);
  };
  const flush = () => rows.print();
  try {
    const session = model.session();
    const result = flags.logits
      ? await scoreToFile(session, source, flags.logits, signal, onToken)
      : await score(session, source, { signal, onToken, onLogits: flush });
    line.clear();
    await rows.end(result);
  } catch (error) {
    line.clear();
    // What was scored until then is not lost.
    if (signal.aborted && so.tokens > 0)
      await rows.end({ ...so, perplexity: Math.exp(-so.logProbability / so.scored) }, 'interrupted');
    throw error;
  } finally {
    line.clear();
    model.dispose();
  }
}

/** What is printed: a row for every token as it comes, and the totals. */
class Rows {
  readonly #model: Model;
  readonly #flags: ScoreFlags;
  #held = '';
  #count = 0;

  constructor(model: Model, flags: ScoreFlags) {
    this.#model = model;
    this.#flags = flags;
    if (flags.json) this.#held = `{"model":${JSON.stringify(flags.model)}${flags.summary ? '' : ',"rows":['}`;
  }

  add(token: number, logProbability: number | undefined): void {
    const { summary, json } = this.#flags;
    if (summary) return;
    const text = this.#model.hasTokenizer ? this.#model.tokenizer.decode([token]) : undefined;
    if (json) {
      const row = { token, ...(text !== undefined && { text }), logProbability: logProbability ?? null };
      this.#held += `${this.#count++ > 0 ? ',' : ''}${JSON.stringify(row)}`;
    } else
      this.#held += `${logProbability?.toFixed(4).padStart(9) ?? '        –'}  ${token}${text === undefined ? '' : `\t${JSON.stringify(text)}`}\n`;
  }

  async print(): Promise<void> {
    const text = this.#held;
    this.#held = '';
    if (text && !(this.#flags.json && this.#count === 0)) await print(text);
    else this.#held = text;
  }

  async end(result: Score, finishReason?: 'interrupted'): Promise<void> {
    const { summary, json } = this.#flags;
    const totals = JSON.stringify({ ...result, ...(finishReason && { finishReason }) }).slice(1);
    if (json) await print(`${this.#held}${summary ? '' : ']'},${totals}\n`);
    else await print(this.#held + inWords(result));
    this.#held = '';
  }
}

const inWords = ({ tokens, scored, logProbability, perplexity }: Score): string =>
  `tokens ${tokens}\nln p ${logProbability.toFixed(4)}\nmean ln p ${scored > 0 ? (logProbability / scored).toFixed(6) : '–'}\nperplexity ${scored > 0 ? perplexity.toFixed(4) : '–'}\n`;

/** Scores and writes the logits. The number of tokens stands in the file's header, so they are all encoded first. */
async function scoreToFile(
  session: Session,
  source: Iterable<ArrayLike<number>> | AsyncIterable<ArrayLike<number>>,
  path: string,
  signal: AbortSignal,
  onToken: (token: number, logProbability: number | undefined) => void,
): Promise<Score> {
  const tokens: number[] = [];
  for await (const piece of source) for (let i = 0; i < piece.length; i++) tokens.push(piece[i]!);
  const V = session.model.vocabularySize;
  let result: Score | undefined;
  async function* data(): AsyncGenerator<Uint8Array> {
    const pieces: Uint8Array[] = [];
    const onLogits = (logits: Float32Array) => void pieces.push(new Uint8Array(logits.buffer));
    for (let start = 0; start < tokens.length; start += 1024) {
      const part = await score(session, [tokens.slice(start, start + 1024)], { signal, onToken, onLogits });
      result = result ? combine(result, part) : part;
      yield* pieces.splice(0);
    }
  }
  if (tokens.length === 0) throw new InputError('there is nothing to score: the text is empty');
  await writeFileAtomically(
    path,
    encodeSafetensors([{ name: 'logits', type: 'f32', shape: [tokens.length, V], data }]),
  );
  return result!;
}

function combine(a: Score, b: Score): Score {
  const [scored, logProbability] = [a.scored + b.scored, a.logProbability + b.logProbability];
  return { tokens: a.tokens + b.tokens, scored, logProbability, perplexity: Math.exp(-logProbability / scored) };
}

async function readTokens(path: string): Promise<number[]> {
  await (await openFile(path)).close();
  let json: unknown;
  try {
    json = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new InputError(`${path} is not valid JSON: ${(cause as Error).message}`, { cause });
  }
  const valid = Array.isArray(json) && json.every((id) => Number.isSafeInteger(id));
  if (!valid) throw new InputError(`${path} is not a JSON array of token ids`);
  if ((json as number[]).length === 0) throw new InputError(`${path} is an empty array: there is nothing to score`);
  return json as number[];
}

/** The text of the options, in chunks; `onRead` is told the bytes of each. */
function textOf(
  { text, file }: ScoreFlags,
  signal: AbortSignal,
  onRead: (bytes: number) => void,
): AsyncIterable<string> {
  if (file === undefined && text === undefined) return standardInput(signal);
  if (file === '-') return standardInput(signal);
  async function* chunks(): AsyncGenerator<Chunk> {
    if (text !== undefined) return yield text;
    for await (const chunk of createReadStream(file!) as AsyncIterable<Buffer>) {
      onRead(chunk.length);
      yield chunk;
    }
  }
  return decoded(chunks(), { name: file ?? 'the text' });
}

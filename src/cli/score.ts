import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Command } from 'commander';
import { InputError } from '../core/errors.ts';
import { encodeSafetensors } from '../formats/safetensors-writer.ts';
import { openFile, writeFileAtomically } from '../platform/node-file.ts';
import type { Session } from '../runtime/session.ts';
import { type Score, score } from '../tasks/score.ts';
import { encodeStream } from '../tokenizers/encode-stream.ts';
import { type ModelFlags, withModel } from './options.ts';
import { interruptSignal, loadModel, ProgressLine, print } from './terminal.ts';

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
  return withModel(command);
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
  try {
    const session = model.session();
    const source = ids ? [ids] : encodeStream(model.tokenizer, textOf(flags));
    const rows: { token: number; text?: string; logProbability: number | null }[] = [];
    let printed = '';
    let tokens = 0;
    const onToken = (token: number, logProbability: number | undefined) => {
      line.show(`${++tokens} tokens`);
      if (flags.summary) return;
      const text = model.hasTokenizer ? model.tokenizer.decode([token]) : undefined;
      if (flags.json) rows.push({ token, ...(text !== undefined && { text }), logProbability: logProbability ?? null });
      else
        printed += `${logProbability?.toFixed(4).padStart(9) ?? '        –'}  ${token}${text === undefined ? '' : `\t${JSON.stringify(text)}`}\n`;
    };
    const flush = async () => {
      const text = printed;
      printed = '';
      if (text) await print(text);
    };
    const result = flags.logits
      ? await scoreToFile(session, source, flags.logits, signal, onToken)
      : await score(session, source, { signal, onToken, onLogits: flush });
    line.clear();
    await flush();
    if (flags.json)
      await print(`${JSON.stringify({ model: flags.model, ...result, ...(!flags.summary && { rows }) })}\n`);
    else await print(summary(result));
  } finally {
    line.clear();
    model.dispose();
  }
}

const summary = ({ tokens, scored, logProbability, perplexity }: Score): string =>
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

/** The text of the options, in chunks. */
async function* textOf({ text, file }: ScoreFlags): AsyncGenerator<string> {
  if (text !== undefined) {
    yield text;
    return;
  }
  const stream = file === undefined || file === '-' ? process.stdin : createReadStream(file);
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let position = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      yield decoder.decode(chunk, { stream: true });
      position += chunk.length;
    }
    yield decoder.decode();
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw new InputError(`${file ?? 'standard input'} is not UTF-8 text (after about ${position} bytes)`, { cause });
  }
}

import { Command } from 'commander';
import { InputError } from '../core/errors.ts';
import { expectWritable } from '../platform/node-file.ts';
import { saveState } from '../platform/state-files.ts';
import type { Session } from '../runtime/session.ts';
import { type ConstraintFlags, constraintOf, withConstraint } from './constraint-options.ts';
import { type ModelFlags, withModel } from './options.ts';
import { type SamplingFlags, samplingOptions, withSampling } from './sampling-options.ts';
import { interruptSignal, loadModel, ProgressLine, print, standardInput } from './terminal.ts';

export interface GenerateFlags extends ModelFlags, SamplingFlags, ConstraintFlags {
  readonly load?: string;
  readonly save?: string;
  readonly json?: boolean;
}

export function generateCommand(): Command {
  const command = new Command('generate')
    .description('Continue a text. The prompt may also come from standard input.')
    .argument('[prompt]', 'the text to continue')
    .option('--load <file>', 'go on from a saved state; the prompt may then be left out')
    .option('--save <file>', 'save the state when the text ends')
    .option('--json', 'print one JSON object instead of streaming text')
    .addHelpText(
      'after',
      `
Examples:
  riverrun generate "Once upon a time"
  riverrun generate --temperature 0 --max-tokens 40 "Tom and his dog"
  echo "The king" | riverrun generate --seed 7 --stop "." --json
  riverrun generate "Once upon a time" --save story.state
  riverrun generate --load story.state
  riverrun generate "The weather was" --choices " fine, bad, stormy"
  riverrun generate "Tom was" --regex " (one|two|three) years old\\."
  riverrun generate "The boy:" --json-schema '{"properties": {"name": {"type": "string", "maxLength": 9}}, "required": ["name"]}'`,
    )
    .action(runGenerate);
  return withModel(withConstraint(withSampling(command)));
}

export async function runGenerate(argument: string | undefined, flags: GenerateFlags): Promise<void> {
  const signal = interruptSignal();
  if (flags.save !== undefined) await expectWritable(flags.save);
  const constraint = await constraintOf(flags);
  const prompt = await readPrompt(argument, flags, signal);
  const model = await loadModel(flags, signal);
  try {
    const session = model.session();
    const tokens: number[] = [];
    const text = typeof prompt === 'string' ? prompt : undefined;
    const generation = session.generate(text, {
      ...samplingOptions(flags),
      ...(constraint && { constraint }),
      signal,
      onToken: (token) => tokens.push(token),
    });
    let generated = '';
    let finishReason: string;
    if (!flags.json && text !== undefined) await print(text);
    try {
      if (typeof prompt === 'object') await readLong(session, prompt, signal, flags.quiet);
      let next = await generation.next();
      for (; !next.done; next = await generation.next()) {
        generated += next.value;
        if (!flags.json) await print(next.value);
      }
      finishReason = next.value.finishReason;
    } catch (error) {
      if (!signal.aborted) throw error;
      finishReason = 'interrupted';
      process.exitCode = 130;
    }
    if (flags.json)
      await print(`${JSON.stringify({ model: flags.model, prompt: text, text: generated, tokens, finishReason })}\n`);
    else await print('\n');
    if (constraint && finishReason === 'length' && !flags.quiet)
      process.stderr.write(`riverrun: the text ended at --max-tokens ${tokens.length}, and may be cut off\n`);
    if (flags.save !== undefined) await saveState(flags.save, session.state.save());
  } finally {
    model.dispose();
  }
}

async function readLong(
  session: Session,
  source: AsyncIterable<string>,
  signal: AbortSignal,
  quiet: boolean | undefined,
): Promise<void> {
  const line = new ProgressLine(quiet);
  try {
    const onProgress = (tokens: number) => line.show(`reading: ${tokens.toLocaleString('en-US')} tokens`);
    await session.read(source, { signal, onProgress });
  } finally {
    line.clear();
  }
}

/** Longer texts on standard input are read as they come, and not repeated on standard output. */
const LONGEST_PROMPT = 1 << 16;

type Prompt = string | AsyncIterable<string> | undefined;

/** The text to continue; none where a saved state is gone on from as it is. */
async function readPrompt(argument: string | undefined, { load }: GenerateFlags, signal: AbortSignal): Promise<Prompt> {
  const prompt = argument ?? (await pipedPrompt(signal));
  if (load !== undefined && argument === undefined && !prompt) return undefined;
  if (prompt === undefined) throw new InputError('there is no prompt: give one as an argument, or on standard input');
  if (prompt === '') throw new InputError('the prompt is empty: there is nothing to continue');
  return prompt;
}

/** Standard input without the end of its last line: as a text, or as a stream where it is long. */
async function pipedPrompt(signal: AbortSignal): Promise<Prompt> {
  if (process.stdin.isTTY) return undefined;
  const input = standardInput(signal);
  let text = '';
  while (text.length <= LONGEST_PROMPT) {
    const next = await input.next();
    if (next.done) return text.replace(/\r?\n$/, '');
    text += next.value;
  }
  return withoutLastEnd(text, input);
}

async function* withoutLastEnd(begin: string, rest: AsyncIterable<string>): AsyncGenerator<string> {
  let held = begin;
  for await (const piece of rest) {
    const text = held + piece;
    held = /\r?\n?$/.exec(text)![0];
    yield text.slice(0, text.length - held.length);
  }
  yield held.replace(/\r?\n$/, '');
}

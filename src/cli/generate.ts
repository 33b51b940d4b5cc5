import { Command } from 'commander';
import { InputError } from '../core/errors.ts';
import { loadState, saveState } from '../platform/state-files.ts';
import type { GenerateOptions } from '../runtime/generate.ts';
import { collect, integer, type ModelFlags, number, withModel } from './options.ts';
import { interruptSignal, loadModel, print, readStandardInput } from './terminal.ts';

interface GenerateFlags extends ModelFlags {
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly typicalP?: number;
  readonly repetitionPenalty?: number;
  readonly frequencyPenalty?: number;
  readonly presencePenalty?: number;
  readonly seed?: number;
  readonly stop?: string[];
  readonly load?: string;
  readonly save?: string;
  readonly json?: boolean;
}

export function generateCommand(): Command {
  const command = new Command('generate')
    .description('Continue a text. The prompt may also come from standard input.')
    .argument('[prompt]', 'the text to continue')
    .option('-n, --max-tokens <n>', 'the most tokens to generate', integer, 256)
    .option('-t, --temperature <x>', '0 always takes the likeliest token', number, 0.8)
    .option('--top-k <k>', 'choose among the k likeliest tokens', integer)
    .option('--top-p <p>', 'choose among the likeliest tokens that together reach probability p', number)
    .option('--min-p <p>', 'choose among tokens at least p times as likely as the likeliest', number)
    .option('--typical-p <p>', 'choose among tokens of typical surprise with total probability p', number)
    .option('--repetition-penalty <x>', 'divide the logits of tokens seen before', number)
    .option('--frequency-penalty <x>', 'subtract x from a logit for every time its token was seen', number)
    .option('--presence-penalty <x>', 'subtract x from the logits of tokens seen before', number)
    .option('--seed <n>', 'repeat the same choices', integer)
    .option('--stop <text>', 'end before this text; may be given several times', collect)
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
  riverrun generate --load story.state`,
    )
    .action(runGenerate);
  return withModel(command);
}

async function runGenerate(argument: string | undefined, flags: GenerateFlags): Promise<void> {
  const signal = interruptSignal();
  const prompt = await readPrompt(argument, flags);
  const model = await loadModel(flags, signal);
  try {
    const session = model.session();
    if (flags.load !== undefined) await session.state.restore(await loadState(flags.load, model));
    const tokens: number[] = [];
    const generation = session.generate(prompt, {
      ...samplerOptions(flags),
      signal,
      onToken: (token) => tokens.push(token),
    });
    let text = '';
    let finishReason: string;
    if (!flags.json && prompt !== undefined) await print(prompt);
    try {
      let next = await generation.next();
      for (; !next.done; next = await generation.next()) {
        text += next.value;
        if (!flags.json) await print(next.value);
      }
      finishReason = next.value.finishReason;
    } catch (error) {
      if (!signal.aborted) throw error;
      finishReason = 'interrupted';
      process.exitCode = 130;
    }
    if (flags.json) await print(`${JSON.stringify({ model: flags.model, prompt, text, tokens, finishReason })}\n`);
    else await print('\n');
    if (flags.save !== undefined) await saveState(flags.save, session.state.save());
  } finally {
    model.dispose();
  }
}

/** The text to continue; none where a saved state is gone on from as it is. */
async function readPrompt(argument: string | undefined, { load }: GenerateFlags): Promise<string | undefined> {
  const prompt = argument ?? (await readStandardInput())?.replace(/\r?\n$/, '');
  if (load !== undefined && argument === undefined && !prompt) return undefined;
  if (prompt === undefined) throw new InputError('there is no prompt: give one as an argument, or on standard input');
  if (prompt === '') throw new InputError('the prompt is empty: there is nothing to continue');
  return prompt;
}

function samplerOptions(flags: GenerateFlags): GenerateOptions {
  const {
    maxTokens,
    temperature,
    topK,
    topP,
    minP,
    typicalP,
    repetitionPenalty,
    frequencyPenalty,
    presencePenalty,
    seed,
    stop,
  } = flags;
  const given = { topK, topP, minP, typicalP, repetitionPenalty, frequencyPenalty, presencePenalty, seed, stop };
  return {
    maxTokens,
    temperature,
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
  };
}

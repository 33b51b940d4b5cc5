import type { Message } from '../../chat/template.ts';
import { InputError } from '../../core/errors.ts';
import type { Model } from '../../runtime/model.ts';
import { beamSearch } from '../beam-search.ts';
import { complete } from '../complete.ts';
import { samples } from '../samples.ts';
import { checkGenerationOptions, nativeOptions, type PipelineGenerationOptions } from './generation-options.ts';

/** What is told the tokens as they come: transformers.js' `TextStreamer` is one. */
export interface Streamer {
  /** A batch of one: first the prompt's tokens, then one at a time. */
  put(tokens: bigint[][]): void;
  end(): void;
}

export interface TextGenerationOptions extends PipelineGenerationOptions {
  /** Whether the prompt is part of `generated_text`. Default true. */
  readonly return_full_text?: boolean;
  /** Whether the prompt begins with what the model was trained to see at the start of a text. Default true. */
  readonly add_special_tokens?: boolean;
  readonly streamer?: Streamer;
}

/** A text, or for a conversation its messages with the answer. */
export interface GeneratedText<Text = string> {
  readonly generated_text: Text;
}

export interface TextGenerator {
  (text: string, options?: TextGenerationOptions): Promise<GeneratedText[]>;
  (chat: readonly Message[], options?: TextGenerationOptions): Promise<GeneratedText<readonly Message[]>[]>;
  (texts: readonly string[], options?: TextGenerationOptions): Promise<GeneratedText[][]>;
  (
    chats: readonly (readonly Message[])[],
    options?: TextGenerationOptions,
  ): Promise<GeneratedText<readonly Message[]>[][]>;
}

export function textGenerator(model: Model): TextGenerator {
  const generate = async (
    input: string | readonly Message[] | readonly (string | readonly Message[])[],
    options: TextGenerationOptions = {},
  ): Promise<unknown> => {
    checkGenerationOptions(options, ['return_full_text', 'add_special_tokens', 'streamer']);
    checkStreamer(options.streamer);
    const { return_full_text: isFull = true } = options;
    if (typeof input === 'string')
      return (await continuations(model, input, options)).map((text) => ({
        generated_text: isFull ? input + text : text,
      }));
    if (!Array.isArray(input))
      throw new InputError(`the input is ${String(input)}: it must be a text, a conversation, or a list of them`);
    if (isChat(input)) {
      const texts = await continuations(model, model.chatTemplate.render(input), options);
      return texts.map((text) => {
        const answer = { role: 'assistant', content: text };
        return { generated_text: isFull ? [...input, answer] : [answer] };
      });
    }
    if (options.streamer) throw new InputError('a streamer is told of one text: give one, not a list');
    const all: unknown[] = [];
    for (const text of input as readonly (string | readonly Message[])[]) all.push(await generate(text, options));
    return all;
  };
  return generate as TextGenerator;
}

function checkStreamer(streamer: Streamer | undefined): void {
  for (const method of ['put', 'end'] as const)
    if (streamer && typeof streamer[method] !== 'function')
      throw new InputError(
        `the streamer has no function ${method}: it must have put(tokens) and end(), as TextStreamer has`,
      );
}

const isChat = (input: readonly unknown[]): input is readonly Message[] =>
  input.length > 0 && typeof input[0] === 'object' && input[0] !== null && !Array.isArray(input[0]);

/** The texts that follow a prompt. */
export async function continuations(
  model: Model,
  prompt: string,
  { add_special_tokens: addSpecialTokens = true, streamer, ...options }: TextGenerationOptions,
): Promise<string[]> {
  if (typeof prompt !== 'string') throw new InputError(`a text is ${String(prompt)}: it must be a string`);
  if (prompt === '') throw new InputError('the prompt is empty: there is nothing to continue');
  const tokens = model.tokenizer.encode(prompt, { addSpecialTokens });
  const native = nativeOptions(options, tokens.length);
  const strange = native.stopTokens?.find((id) => !(Number.isInteger(id) && id >= 0 && id < model.vocabularySize));
  if (strange !== undefined)
    throw new InputError(`eos_token_id is ${strange}: the model's tokens are 0 to ${model.vocabularySize - 1}`);
  const { num_beams: beams = 1, num_return_sequences: n = 1, length_penalty: lengthPenalty = 1 } = options;
  if (streamer && (beams > 1 || n > 1)) throw new InputError('a streamer is told of one text, not of several');
  const session = model.session();
  try {
    if (beams > 1) {
      const { maxTokens = 256, stopTokens = [], constraint, signal } = native;
      const given = { ...(constraint && { constraint }), ...(signal && { signal }) };
      const found = await beamSearch(session, tokens, { beams, n, maxTokens, lengthPenalty, stopTokens, ...given });
      return found.map(({ text }) => text);
    }
    if (n > 1) return (await samples(session, tokens, { ...native, n })).map(({ text }) => text);
    streamer?.put([tokens.map(BigInt)]);
    const onToken = (token: number) => streamer?.put([[BigInt(token)]]);
    const { text } = await complete(session.generate(tokens, { ...native, onToken }));
    streamer?.end();
    return [text];
  } finally {
    session.dispose();
  }
}

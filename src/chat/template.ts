import { Template } from '@huggingface/jinja';
import { FormatError, InputError } from '../core/errors.ts';

/** One message of a conversation. Templates may read further fields (tool calls …). */
export interface Message {
  /** Usually `system`, `user` or `assistant`; which there are is the template's business. */
  readonly role: string;
  readonly content: string;
  readonly [field: string]: unknown;
}

export interface RenderOptions {
  /** Ends with what an answer of the assistant begins with, so that the model goes on with the answer. Default true. */
  readonly addGenerationPrompt?: boolean | undefined;
  /** Tools that the model may call, as JSON schemas. */
  readonly tools?: readonly unknown[] | undefined;
  /** Further variables that the template reads, such as `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
}

/** A stretch of a rendered conversation. */
export interface Turn {
  readonly text: string;
  /** How many messages are complete where it ends. */
  readonly messages: number;
}

/** How a model was taught to see conversations as text. */
export interface ChatTemplate {
  /** The conversation as one text. InputError for conversations that the template refuses. */
  render(messages: readonly Message[], options?: RenderOptions): string;
  /**
   * The same text in pieces that end where messages do, so that a session's state can be kept there and is right for every
   * conversation that begins with those messages. Where a template writes a message differently depending on what follows,
   * pieces span several messages.
   */
  turns(messages: readonly Message[], options?: RenderOptions): Turn[];
}

/** Turns of any template: cut after every message whose rendering alone the whole begins with. */
function turnsOf(render: ChatTemplate['render'], messages: readonly Message[], options: RenderOptions): Turn[] {
  const whole = render(messages, options);
  const turns: Turn[] = [];
  let done = 0;
  for (let count = 1; count <= messages.length; count++) {
    const start = beginning(render, messages.slice(0, count), options);
    if (start === undefined || start.length <= done || !whole.startsWith(start)) continue;
    turns.push({ text: whole.slice(done, start.length), messages: count });
    done = start.length;
  }
  if (done < whole.length) turns.push({ text: whole.slice(done), messages: messages.length });
  return turns;
}

/** The first messages without a prompt for an answer; undefined where the template wants more of them. */
function beginning(
  render: ChatTemplate['render'],
  messages: readonly Message[],
  options: RenderOptions,
): string | undefined {
  try {
    return render(messages, { ...options, addGenerationPrompt: false });
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

function checkMessages(messages: readonly Message[]): void {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new InputError('a conversation is a list of at least one message, such as { role: "user", content: "…" }');
  for (const [i, message] of messages.entries()) {
    const { role, content } = (message ?? {}) as Partial<Message>;
    if (typeof role !== 'string' || role === '')
      throw new InputError(`message ${i + 1} of the conversation has no role: "user", "assistant" or "system"`);
    // A message that only calls tools says nothing.
    if (typeof content !== 'string' && content !== null)
      throw new InputError(`message ${i + 1} of the conversation (${role}) has no text as its content`);
  }
}

/** The texts of the tokens that templates write at the beginning and end of texts. */
export interface TemplateTokens {
  readonly bos_token?: string | undefined;
  readonly eos_token?: string | undefined;
}

/**
 * A template in Jinja, as `tokenizer_config.json` and GGUF files have it. FormatError where it is not in order.
 *
 * @param name what to call it in messages
 */
export function jinjaTemplate(source: string, tokens: TemplateTokens = {}, name = 'the chat template'): ChatTemplate {
  let template: Template;
  try {
    template = new Template(source);
  } catch (cause) {
    throw new FormatError(`${name} is not in order: ${(cause as Error).message}`, { cause });
  }
  const render = (messages: readonly Message[], options: RenderOptions = {}): string => {
    checkMessages(messages);
    const { addGenerationPrompt = true, tools, variables } = options;
    try {
      return template.render({
        bos_token: tokens.bos_token ?? '',
        eos_token: tokens.eos_token ?? '',
        ...variables,
        messages,
        add_generation_prompt: addGenerationPrompt,
        ...(tools && { tools }),
      });
    } catch (cause) {
      throw new InputError(`${name} refuses the conversation: ${(cause as Error).message}`, { cause });
    }
  };
  return { render, turns: (messages, options = {}) => turnsOf(render, messages, options) };
}

const speakers: Readonly<Record<string, string>> = { system: 'System', user: 'User', assistant: 'Assistant' };

/**
 * How RWKV's World models see conversations: `User: …`, an empty line, `Assistant: …`. Empty lines end a turn, so those inside a
 * message are left out. A prompt ends with `Assistant:` and no space.
 */
export function worldTemplate(): ChatTemplate {
  const render = (
    messages: readonly Message[],
    { addGenerationPrompt = true, tools, variables }: RenderOptions = {},
  ) => {
    checkMessages(messages);
    const unknown = [tools?.length ? 'tools' : undefined, ...Object.keys(variables ?? {})].find(Boolean);
    if (unknown) throw new InputError(`the template of RWKV World has no use for ${unknown}`);
    const turns = messages.map(({ role, content }) => {
      const speaker = speakers[role];
      if (!speaker)
        throw new InputError(
          `the template of RWKV World has no role "${role}"; known: ${Object.keys(speakers).join(', ')}`,
        );
      const text = content
        .replace(/\r\n?/g, '\n')
        .replace(/\n{2,}/g, '\n')
        .trim();
      return `${speaker}: ${text}\n\n`;
    });
    return turns.join('') + (addGenerationPrompt ? 'Assistant:' : '');
  };
  return { render, turns: (messages, options = {}) => turnsOf(render, messages, options) };
}

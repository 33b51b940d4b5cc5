import type { ChatTemplate, Message, RenderOptions, Turn } from '../chat/template.ts';
import { FormatError, InputError } from '../core/errors.ts';
import type { GenerateOptions, Generation } from '../runtime/generate.ts';
import type { Model } from '../runtime/model.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import type { Session } from '../runtime/session.ts';
import { State } from '../runtime/state.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';

export interface ChatOptions extends Pick<RenderOptions, 'tools' | 'variables'> {
  /** A first message that says how to behave. */
  readonly system?: string;
  /** How conversations are written. Default: as the model was taught; InputError where it was not. */
  readonly template?: ChatTemplate;
}

/** A place of the conversation that can be gone on from: where a message ends. */
interface Boundary {
  readonly text: string;
  readonly state: State;
}

/** So many are kept, at the end of each message: so many can be taken back without reading the conversation again. */
const BOUNDARIES = 8;

/**
 * A conversation with a model. Its state is kept where messages end, so that nothing of it is read twice, not the answers
 * either: they were read as they were written. Only a template that writes earlier messages anew once others follow has
 * them read again.
 */
export class Chat {
  readonly model: Model;
  readonly #session: Session;
  readonly #template: ChatTemplate;
  readonly #render: RenderOptions;
  #messages: readonly Message[];
  /** What of the conversation, as the template writes it, the session has read; unknown after a reading that was stopped. */
  #text: string | undefined = '';
  #boundaries: Boundary[] = [];
  #tokensRead = 0;
  #isBusy = false;

  constructor(model: Model, options: ChatOptions = {}) {
    refuseUnknownOptions(options, ['system', 'template', 'tools', 'variables']);
    const { system, template = model.chatTemplate, tools, variables } = options;
    this.model = model;
    this.#template = template;
    this.#render = { tools, variables };
    this.#messages = system === undefined ? [] : [{ role: 'system', content: system }];
    this.#session = model.session();
  }

  /** Goes on with a conversation that `save` gave; its messages are not read again. `system` is refused: it has one. */
  static async load(model: Model, saved: Uint8Array, options: Omit<ChatOptions, 'system'> = {}): Promise<Chat> {
    if ('system' in options) throw new InputError('a saved conversation has its system message already');
    const state = await State.load(saved, 'the conversation');
    const { messages, text } = notesOf(state);
    const chat = new Chat(model, options);
    try {
      if (state.position > 0) await chat.#session.state.restore(state);
    } catch (error) {
      chat.dispose();
      throw error;
    }
    chat.#messages = messages;
    chat.#text = text;
    return chat;
  }

  get messages(): readonly Message[] {
    return this.#messages;
  }

  /** Tokens of the conversation. */
  get position(): number {
    return this.#session.position;
  }

  /** Tokens read so far, without those generated. */
  get tokensRead(): number {
    return this.#tokensRead;
  }

  /**
   * Says something and yields the answer as it comes, up to where the template ends an answer. When it is stopped, by the signal
   * or by leaving the loop, what came until then is the answer. Penalties count the answer only.
   */
  async *send(content: string | Message, options: GenerateOptions = {}): AsyncGenerator<string, Generation, void> {
    if (this.#isBusy) throw new InputError('the chat is still answering: wait for the end, or stop it first');
    const message = typeof content === 'string' ? { role: 'user', content } : content;
    const before = this.#messages;
    const asked = [...before, message];
    const turns = this.#template.turns(asked, this.#render);
    const tokens: number[] = [];
    let text = '';
    let isDone = false;
    const generation = this.#session.generate(undefined, {
      ...options,
      ...this.#ends(asked, options),
      onToken: (token) => {
        tokens.push(token);
        options.onToken?.(token);
      },
    });
    this.#isBusy = true;
    try {
      await this.#read(turns, options.signal);
      const whole = this.#text!;
      try {
        for (;;) {
          const next = await generation.next();
          isDone = next.done === true;
          if (next.done) return next.value;
          text += next.value;
          yield next.value;
        }
      } finally {
        const answer = { role: 'assistant', content: text.trim() };
        this.#messages = isDone || answer.content !== '' ? [...asked, answer] : before;
        this.#text = whole + this.#written(asked, answer, whole, this.model.tokenizer.decode(tokens));
      }
    } finally {
      this.#isBusy = false;
    }
  }

  /** Takes the last question and its answer back. Returns the question. InputError where there is none. */
  undo(): Message {
    if (this.#isBusy) throw new InputError('the chat is still answering: wait for the end, or stop it first');
    const last = this.#messages.findLastIndex(({ role }) => role === 'user');
    if (last < 0) throw new InputError('there is nothing to take back');
    const question = this.#messages[last]!;
    this.#messages = this.#messages.slice(0, last);
    return question;
  }

  /**
   * The conversation and its state as a safetensors file: see `Chat.load`. Where a message was not read to its end, or an answer is
   * not in the conversation, it is the state of the last place that is.
   */
  save(): Uint8Array {
    const place = this.#lastPlace(this.#continued());
    const notes = { chat: JSON.stringify({ messages: this.#messages, text: place?.text ?? '' }) };
    if (place) return (place.state ?? this.#session.state).save({ notes });
    const empty = this.model.session();
    try {
      return empty.state.save({ notes });
    } finally {
      empty.dispose();
    }
  }

  dispose(): void {
    this.#session.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Reads what is new of a conversation, keeping the state after every message. */
  async #read(turns: readonly Turn[], signal: AbortSignal | undefined): Promise<void> {
    const session = this.#session;
    const whole = turns.map(({ text }) => text).join('');
    const known = await this.#goBack(whole);
    this.#text = undefined;
    // Where the last answer ended, or a conversation was loaded: should this reading be stopped, or taken back.
    if (known !== '') this.#keep(known);
    let [text, end] = [known, 0];
    for (const [i, turn] of turns.entries()) {
      end += turn.text.length;
      if (end <= text.length) continue;
      const from = session.position;
      await session.read(whole.slice(text.length, end), { signal });
      this.#tokensRead += session.position - from;
      text = whole.slice(0, end);
      // What an answer begins with ends no message.
      if (turn.messages > (turns[i - 1]?.messages ?? 0)) this.#keep(text);
    }
    this.#text = text;
  }

  /** Goes to the last known place that the conversation begins with; returns its text. */
  async #goBack(whole: string): Promise<string> {
    const place = this.#lastPlace(whole);
    if (!place) this.#session.reset();
    else if (place.state) await this.#session.state.restore(place.state);
    return place?.text ?? '';
  }

  /** The last known place that a text begins with: without a state, where the session is. */
  #lastPlace(whole: string): { readonly text: string; readonly state?: State } | undefined {
    const current = this.#text === undefined ? [] : [{ text: this.#text }];
    return [...current, ...this.#boundaries]
      .filter(({ text }) => text !== '' && whole.startsWith(text))
      .reduce<{ text: string; state?: State } | undefined>(
        (a, b) => (a && a.text.length >= b.text.length ? a : b),
        undefined,
      );
  }

  /** The conversation as it will be written once something more is said; as it is, where the template refuses that. */
  #continued(): string {
    const more = [...this.#messages, { role: 'user', content: 'Question' }];
    return this.#rendered(more) ?? this.#rendered(this.#messages) ?? '';
  }

  /** Messages as the template writes them; undefined where it refuses them, such as an answer after a system message. */
  #rendered(messages: readonly Message[]): string | undefined {
    try {
      return this.#template.render(messages, { ...this.#render, addGenerationPrompt: false });
    } catch (error) {
      if (error instanceof InputError) return undefined;
      throw error;
    }
  }

  /** What the template writes after an answer. */
  #closing(asked: readonly Message[]): string {
    const content = 'Answer';
    const whole = this.#rendered([...asked, { role: 'assistant', content }]) ?? '';
    const at = whole.lastIndexOf(content);
    return at < 0 ? '' : whole.slice(at + content.length);
  }

  /**
   * What the template writes of an answer that was said: up to where the model stopped, in the answer or in what closes it. Blanks do
   * not count, so that it is not read again where a template trims answers or takes empty lines from them.
   */
  #written(asked: readonly Message[], answer: Message, whole: string, said: string): string {
    const after = this.#closing(asked);
    const rendered = this.#rendered([...asked, answer]);
    if (!rendered?.startsWith(whole) || !rendered.endsWith(after)) return said;
    const body = rendered.slice(whole.length, rendered.length - after.length);
    for (let length = Math.min(after.length, said.length); length >= 0; length--) {
      const begun = after.slice(0, length);
      if (said.endsWith(begun) && sameWords(said.slice(0, said.length - length), body)) return body + begun;
    }
    return said;
  }

  #keep(text: string): void {
    this.#boundaries = this.#boundaries.filter((boundary) => boundary.text !== text).slice(1 - BOUNDARIES);
    this.#boundaries.push({ text, state: this.#session.state.copy() });
  }

  /** What ends an answer: the mark that the template writes after one, or the text that it does. */
  #ends(asked: readonly Message[], { stop = [], stopTokens = [] }: GenerateOptions): GenerateOptions {
    const { tokenizer } = this.model;
    const after = this.#closing(asked);
    const mark = firstSpecial(tokenizer, after);
    const texts = [
      ...(typeof stop === 'string' ? [stop] : stop),
      ...(mark === undefined && after !== '' ? [after] : []),
    ];
    return {
      ...(texts.length > 0 && { stop: texts }),
      stopTokens: mark === undefined ? stopTokens : [...stopTokens, mark],
    };
  }
}

const sameWords = (a: string, b: string): boolean => a.replace(/\s/gu, '') === b.replace(/\s/gu, '');

const firstSpecial = (tokenizer: Tokenizer, text: string): number | undefined =>
  tokenizer.encode(text, { addSpecialTokens: false }).find((token) => tokenizer.isSpecial(token));

function notesOf({ notes }: State): { messages: Message[]; text: string } {
  try {
    const { messages, text } = JSON.parse(notes['chat'] ?? '') as { messages: Message[]; text: string };
    if (Array.isArray(messages) && typeof text === 'string') return { messages, text };
  } catch {
    // Said below, together with what parses and is none.
  }
  throw new FormatError('the file is a state, but not one of a conversation');
}

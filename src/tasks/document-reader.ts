import type { Constraint } from '../constraints/constraint.ts';
import { InputError } from '../core/errors.ts';
import type { GenerateOptions, Generation } from '../runtime/generate.ts';
import type { Model } from '../runtime/model.ts';
import type { ReadOptions, Session } from '../runtime/session.ts';
import type { Source } from '../runtime/source.ts';
import { State } from '../runtime/state.ts';
import { complete } from './complete.ts';
import { refuseEmpty } from './refuse-empty.ts';

export interface AskOptions extends Omit<GenerateOptions, 'logprobs'> {
  /** How a question is put to the model after the document. Default: `Question: … Answer:` in paragraphs of their own. */
  readonly prompt?: (question: string) => string;
}

export interface Answer {
  /** The answer, without white space at its ends. */
  readonly text: string;
  /** ln p of its tokens together, as the model saw them. */
  readonly logProbability: number;
  readonly tokens: readonly number[];
  readonly finishReason: Generation['finishReason'];
}

const defaultPrompt = (question: string): string => `\n\nQuestion: ${question}\n\nAnswer:`;

/** A line with something in it. Where the model can end a text, that ends the line too. */
const oneLine = ({ tokenizer }: Model): Constraint => ({
  regex: tokenizer.endOfText === undefined ? / ?\S[^\n]*\n/u : / ?\S[^\n]*\n?/u,
});

/**
 * A document that was read once, to be asked many things: each question goes on from a copy of the state after the document,
 * so that it costs a question's time however long the document was.
 */
export class DocumentReader {
  readonly #session: Session;

  /** @param session has read the document; the reader disposes of it */
  constructor(session: Session) {
    this.#session = session;
  }

  /** Goes on from what `save` gave: the document is not read again. InputError where it is of another model. */
  static async load(model: Model, saved: Uint8Array | State): Promise<DocumentReader> {
    const session = model.session();
    try {
      await session.state.restore(saved instanceof Uint8Array ? await State.load(saved) : saved);
    } catch (error) {
      session.dispose();
      throw error;
    }
    return new DocumentReader(session);
  }

  /** Tokens of the document. */
  get tokens(): number {
    return this.#session.position;
  }

  /** Bytes that a question's copy takes. */
  get stateSize(): number {
    return this.#session.state.size;
  }

  /**
   * Answers a question, by default with the likeliest words up to the end of a line, of which there is at least one. All
   * options of generating apply; with `constraint: { choices }` the answer is one of a list.
   */
  async ask(question: string, options: AskOptions = {}): Promise<Answer> {
    return await complete(this.stream(question, options));
  }

  /** Like `ask`, and yields the answer as it comes. */
  async *stream(question: string, options: AskOptions = {}): AsyncGenerator<string, Answer, void> {
    if (typeof question !== 'string' || question.trim() === '') throw new InputError('the question is empty');
    const { prompt = defaultPrompt, ...given } = options;
    const session = this.#session.fork();
    try {
      const constraint = given.constraint ?? oneLine(session.model);
      const settings = { temperature: 0, maxTokens: 64, ...given, constraint, logprobs: 0 };
      const generation = session.generate(prompt(question), settings);
      const { text, tokens, logprobs, finishReason } = yield* generation;
      const logProbability = logprobs!.reduce((sum, { logprob }) => sum + logprob, 0);
      return { text: text.trim(), logProbability, tokens, finishReason };
    } finally {
      session.dispose();
    }
  }

  /** The state after the document as a safetensors file: see `load`. */
  save(): Uint8Array {
    return this.#session.state.save();
  }

  dispose(): void {
    this.#session.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Reads a document of any length, in the memory of one state: text, a stream, `{ file }`. All options of reading apply, such as
 * `onProgress`, `checkpointFile` and `cache`.
 */
export async function readDocument(model: Model, source: Source, options: ReadOptions = {}): Promise<DocumentReader> {
  model.expectTokens();
  const session = model.session();
  try {
    await session.read(source, options);
    refuseEmpty(session, 'the document');
    return new DocumentReader(session);
  } catch (error) {
    session.dispose();
    throw error;
  }
}

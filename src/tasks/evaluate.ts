import { InputError } from '../core/errors.ts';
import { logSumExp } from '../ops/cross-entropy.ts';
import type { Model } from '../runtime/model.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import type { Session } from '../runtime/session.ts';
import { matchAnswer } from './answer-match.ts';
import { answerSpans } from './answer-spans.ts';
import { readDocument } from './document-reader.ts';

/** A question to a model whose answer is known. */
export type Question =
  /** Which of several ends follows the prompt. */
  | { readonly kind: 'choice'; readonly prompt: string; readonly choices: readonly string[]; readonly answer: number }
  /** Which of two sentences is the likelier. */
  | { readonly kind: 'pair'; readonly good: string; readonly bad: string }
  /** How a text ends. */
  | { readonly kind: 'ending'; readonly prompt: string; readonly ending: string }
  /** The label that a classifier gives a text. */
  | { readonly kind: 'label'; readonly text: string; readonly label: string }
  /** What a context answers; any of `answers` is right, none where it can't be answered. */
  | {
      readonly kind: 'context';
      readonly question: string;
      readonly context: string;
      readonly answers: readonly string[];
    };

export interface Accuracy {
  readonly questions: number;
  readonly right: number;
  /** right / questions. */
  readonly accuracy: number;
  /** For labels: questions whose label is none of the model's, if there are any. They count as wrong. */
  readonly unknownLabels?: number;
  /** For endings: e to the mean surprise of the endings. */
  readonly perplexity?: number;
  /** For questions about a context, of which `right` counts the exact answers: the mean F1 of their words. */
  readonly f1?: number;
}

export interface EvaluateOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, right: number) => void) | undefined;
}

/**
 * Asks a model questions, each from an empty session, and counts what it gets right. InputError where there are none, or where they are none that the
 * model's head can tell.
 */
export async function evaluate(
  model: Model,
  questions: AsyncIterable<Question> | Iterable<Question>,
  options: EvaluateOptions = {},
): Promise<Accuracy> {
  refuseUnknownOptions(options, ['signal', 'onProgress']);
  const { signal, onProgress } = options;
  let [asked, right, surprise, endings, overlap, contexts, unknown] = [0, 0, 0, 0, 0, 0, 0];
  const strange = new Set<string>();
  for await (const question of questions) {
    signal?.throwIfAborted();
    const answer = await ask(model, question);
    asked++;
    if (answer.right) right++;
    if (answer.isUnknown && question.kind === 'label') {
      unknown++;
      strange.add(question.label);
    }
    if (answer.surprise !== undefined) {
      surprise += answer.surprise;
      endings++;
    }
    if (answer.f1 !== undefined) {
      overlap += answer.f1;
      contexts++;
    }
    onProgress?.(asked, right);
  }
  if (asked === 0) throw new InputError('there are no questions');
  if (unknown === asked)
    throw new InputError(
      `none of the data's labels (${shortened([...strange])}) is one of the model's (${shortened(model.labels!)}): name the field that holds them`,
    );
  return {
    questions: asked,
    right,
    accuracy: right / asked,
    ...(unknown > 0 && { unknownLabels: unknown }),
    ...(endings > 0 && { perplexity: Math.exp(surprise / endings) }),
    ...(contexts > 0 && { f1: overlap / contexts }),
  };
}

/** The first of some labels, for messages. */
const shortened = (labels: readonly string[]): string =>
  [
    ...labels.slice(0, 5).map((label) => JSON.stringify(label.slice(0, 40))),
    ...(labels.length > 5 ? [`… ${labels.length} in all`] : []),
  ].join(', ');

interface Answer {
  readonly right: boolean;
  /** Of a label that the model has not. */
  readonly isUnknown?: boolean;
  /** Of the ending, in nats. */
  readonly surprise?: number;
  readonly f1?: number;
}

async function ask(model: Model, question: Question): Promise<Answer> {
  if (question.kind === 'context') return await inContext(model, question);
  if (question.kind !== 'label') model.expectTokens();
  const session = model.session();
  try {
    switch (question.kind) {
      case 'label':
        return await labelled(session, question);
      case 'pair': {
        const other = model.session();
        const [good, bad] = [await surpriseOf(session, question.good), await surpriseOf(other, question.bad)];
        other.dispose();
        return { right: good < bad };
      }
      case 'ending':
        return await ending(session, question.prompt, question.ending);
      case 'choice': {
        await session.read(question.prompt);
        const found: number[] = [];
        for (const choice of question.choices) {
          const fork = session.fork();
          found.push((await continuation(fork, question.prompt, choice)).surprise);
          fork.dispose();
        }
        return { right: found.indexOf(Math.min(...found)) === question.answer };
      }
    }
  } finally {
    session.dispose();
  }
}

/** A head of spans finds the answer; a language model reads the context and writes one. */
async function inContext(
  model: Model,
  { question, context, answers }: Question & { kind: 'context' },
): Promise<Answer> {
  const text =
    model.predicts === 'spans'
      ? ((await answerSpans(model, question, context))[0]?.text ?? '')
      : await written(model, question, context);
  const { exact, f1 } = matchAnswer(text, answers);
  return { right: exact, f1 };
}

async function written(model: Model, question: string, context: string): Promise<string> {
  const reader = await readDocument(model, context);
  try {
    return (await reader.ask(question)).text;
  } finally {
    reader.dispose();
  }
}

async function labelled(session: Session, { text, label }: Question & { kind: 'label' }): Promise<Answer> {
  const { labels } = session.model;
  if (!labels) throw new InputError('the model is no classifier: it has no labels to tell');
  if (!labels.includes(label)) return { right: false, isUnknown: true };
  await session.read(text);
  const { logits } = session;
  return { right: labels[logits.indexOf(Math.max(...logits))] === label };
}

/** −ln p of a text's tokens after the first. */
async function surpriseOf(session: Session, text: string): Promise<number> {
  // After a text that a state was saved of, the first token is predicted too.
  if (session.position > 0) return (await following(session, encodedAfter(session, text))).surprise;
  const tokens = session.model.tokenizer.encode(text);
  // Texts begin with the token that ends texts, where the model knows one: so that the first word counts.
  const { endOfText, beginOfText } = session.model.tokenizer;
  const start = beginOfText ?? endOfText;
  if (start !== undefined && tokens[0] !== start) tokens.unshift(start);
  const logits = await session.logitsOf(tokens);
  return surprises(logits, tokens.slice(1), session.model.outputSize).sum;
}

async function ending(session: Session, prompt: string, end: string): Promise<Answer> {
  await session.read(prompt);
  const { surprise, isLikeliest } = await continuation(session, prompt, end);
  return { right: isLikeliest, surprise };
}

/** How a text that was read goes on with `text`: −ln p, and whether every token is the likeliest one. */
async function continuation(
  session: Session,
  prompt: string,
  text: string,
): Promise<{ surprise: number; isLikeliest: boolean }> {
  const { tokenizer } = session.model;
  const [before, whole] = [tokenizer.encode(prompt), tokenizer.encode(prompt + text)];
  // Where the tokens of the whole do not begin with the prompt's, the continuation is encoded alone.
  const joins = before.every((token, i) => whole[i] === token);
  return await following(session, joins ? whole.slice(before.length) : encodedAfter(session, text));
}

const encodedAfter = ({ model }: Session, text: string): number[] =>
  model.tokenizer.encode(text, { addSpecialTokens: false });

/** −ln p of tokens after what a session has read, and whether each is the likeliest one. */
async function following(
  session: Session,
  tokens: readonly number[],
): Promise<{ surprise: number; isLikeliest: boolean }> {
  const { outputSize } = session.model;
  if (tokens.length === 0) return { surprise: 0, isLikeliest: true };
  const first = session.logits.slice();
  const rest = tokens.length > 1 ? await session.logitsOf(tokens.slice(0, -1)) : new Float32Array(0);
  const all = new Float32Array(first.length + rest.length);
  all.set(first);
  all.set(rest, first.length);
  const { sum, likeliest } = surprises(all, tokens, outputSize);
  return { surprise: sum, isLikeliest: likeliest };
}

/** Surprise of each token under its row of logits. */
function surprises(logits: Float32Array, tokens: readonly number[], V: number): { sum: number; likeliest: boolean } {
  let sum = 0;
  let likeliest = true;
  for (const [i, token] of tokens.entries()) {
    const row = logits.subarray(i * V, (i + 1) * V);
    sum += logSumExp(row, 0, V) - row[token]!;
    for (let v = 0; likeliest && v < V; v++) if (row[v]! > row[token]!) likeliest = false;
  }
  return { sum, likeliest };
}

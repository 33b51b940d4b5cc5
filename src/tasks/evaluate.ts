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
  /** What is said after what is given: completions, or an assistant's messages. Each passage is encoded alone, as training does. */
  | { readonly kind: 'answers'; readonly passages: readonly Passage[] }
  /** The label that a classifier gives a text. */
  | { readonly kind: 'label'; readonly text: string; readonly label: string }
  /** What a context answers; any of `answers` is right, none where it can't be answered. */
  | {
      readonly kind: 'context';
      readonly question: string;
      readonly context: string;
      readonly answers: readonly string[];
    };

/** A part of a text, and whether it is an answer. */
export interface Passage {
  readonly text: string;
  readonly answers: boolean;
}

export interface Accuracy {
  readonly questions: number;
  /** Of endings and answers, those of which every token is the likeliest. */
  readonly right: number;
  /** right / questions. */
  readonly accuracy: number;
  /** For labels: questions whose label is none of the model's, if there are any. They count as wrong. */
  readonly unknownLabels?: number;
  /** For endings: e to the mean surprise of the endings. For answers: e to the loss. Not where there are both. */
  readonly perplexity?: number;
  /** For answers: their tokens, the mean of −ln p over them, and how many of them are the likeliest. */
  readonly tokens?: number;
  readonly loss?: number;
  readonly tokenAccuracy?: number;
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
  const said = { surprise: 0, tokens: 0, likeliest: 0 };
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
    if (answer.said !== undefined) {
      said.surprise += answer.said.surprise;
      said.tokens += answer.said.tokens;
      said.likeliest += answer.said.likeliest;
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
    ...(endings > 0 && said.tokens === 0 && { perplexity: Math.exp(surprise / endings) }),
    ...(said.tokens > 0 && {
      tokens: said.tokens,
      loss: said.surprise / said.tokens,
      ...(endings === 0 && { perplexity: Math.exp(said.surprise / said.tokens) }),
      tokenAccuracy: said.likeliest / said.tokens,
    }),
    ...(contexts > 0 && { f1: overlap / contexts }),
  };
}

/** The first of some labels, for messages. */
const shortened = (labels: readonly string[]): string =>
  [
    ...labels.slice(0, 5).map((label) => JSON.stringify(label.slice(0, 40))),
    ...(labels.length > 5 ? [`… ${labels.length} in all`] : []),
  ].join(', ');

/** Tokens of which each was predicted: −ln p of all, and how many were the likeliest. */
interface Said {
  readonly surprise: number;
  readonly tokens: number;
  readonly likeliest: number;
}

interface Answer {
  readonly right: boolean;
  /** Of a label that the model has not. */
  readonly isUnknown?: boolean;
  /** Of the ending, in nats. */
  readonly surprise?: number;
  readonly said?: Said;
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
      case 'answers':
        return await answers(session, question.passages);
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
  return surprises(logits, tokens.slice(1), session.model.outputSize).surprise;
}

/** Texts are joined as they stand, after the token that training has before them; without one, nothing predicts the first of all. */
async function answers(session: Session, passages: readonly Passage[]): Promise<Answer> {
  const { beginOfText, endOfText } = session.model.tokenizer;
  const start = beginOfText ?? endOfText;
  if (session.position === 0 && start !== undefined) await session.read([start]);
  const said = { surprise: 0, tokens: 0, likeliest: 0 };
  for (const { text, answers } of passages) {
    let tokens = encodedAfter(session, text);
    if (answers && session.position === 0 && tokens.length > 0) await session.read(tokens.splice(0, 1));
    if (answers) {
      const found = await following(session, tokens);
      said.surprise += found.surprise;
      said.tokens += tokens.length;
      said.likeliest += found.likeliest;
      tokens = tokens.slice(-1);
    }
    if (tokens.length > 0) await session.read(tokens);
  }
  return { right: said.tokens > 0 && said.likeliest === said.tokens, said };
}

async function ending(session: Session, prompt: string, end: string): Promise<Answer> {
  await session.read(prompt);
  const { surprise, tokens, likeliest } = await continuation(session, prompt, end);
  return { right: likeliest === tokens, surprise };
}

/** How a text that was read goes on with `text`. */
async function continuation(session: Session, prompt: string, text: string): Promise<Said> {
  const { tokenizer } = session.model;
  const [before, whole] = [tokenizer.encode(prompt), tokenizer.encode(prompt + text)];
  // Where the tokens of the whole do not begin with the prompt's, the continuation is encoded alone.
  const joins = before.every((token, i) => whole[i] === token);
  return await following(session, joins ? whole.slice(before.length) : encodedAfter(session, text));
}

const encodedAfter = ({ model }: Session, text: string): number[] =>
  model.tokenizer.encode(text, { addSpecialTokens: false });

/** What is said of tokens after what a session has read; the last of them is not read. */
async function following(session: Session, tokens: readonly number[]): Promise<Said> {
  const { outputSize } = session.model;
  if (tokens.length === 0) return { surprise: 0, tokens: 0, likeliest: 0 };
  const first = session.logits.slice();
  const rest = tokens.length > 1 ? await session.logitsOf(tokens.slice(0, -1)) : new Float32Array(0);
  const all = new Float32Array(first.length + rest.length);
  all.set(first);
  all.set(rest, first.length);
  return surprises(all, tokens, outputSize);
}

/** Tokens under a row of logits each. */
function surprises(logits: Float32Array, tokens: readonly number[], V: number): Said {
  let surprise = 0;
  let likeliest = 0;
  for (const [i, token] of tokens.entries()) {
    const row = logits.subarray(i * V, (i + 1) * V);
    surprise += logSumExp(row, 0, V) - row[token]!;
    if (row.every((logit) => !(logit > row[token]!))) likeliest++;
  }
  return { surprise, tokens: tokens.length, likeliest };
}

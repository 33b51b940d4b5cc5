import type { ChatTemplate } from '../chat/template.ts';
import type { Backend, WeightDeclaration, WeightFormat, Weights } from '../core/backend.ts';
import { DisposedError, InputError } from '../core/errors.ts';
import type { StateFormat } from '../core/state-format.ts';
import type { Checkpoint, StoredType } from '../formats/checkpoint.ts';
import type { Json } from '../models/config.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import { Batcher, type BatcherOptions } from './batcher.ts';
import { type Fingerprint, FingerprintedWeights } from './fingerprint.ts';
import { derivingWeights, foldConstants } from './fold.ts';
import { type ModelGraph, readWhole } from './graph.ts';
import { kvCacheOf, withKvCache } from './kv-cache.ts';
import { type LoadParametersOptions, loadParameters } from './load-parameters.ts';
import { matchModel } from './matched.ts';
import { type MultiplyAdds, multiplyAddsOf } from './multiply-adds.ts';
import { declareWeights } from './parameters.ts';
import { withoutRepeatedHead } from './repeated-head.ts';
import { Runner, type Stepper } from './runner.ts';
import { Session, type SessionOptions } from './session.ts';
import type { Files } from './source.ts';
import type { State } from './state.ts';
import { stateSize, type WindowSize } from './state-size.ts';
import { commonFormat, formatsAsStored, storedInFour } from './stored-formats.ts';

/** What a model is assembled from. */
export interface ModelSource {
  /** The configuration, as in config.json. */
  readonly config: Json;
  readonly checkpoint: Checkpoint;
  /** Types that tensors have in the file, by their names in the checkpoint, where these are others. */
  readonly types?: ReadonlyMap<string, StoredType> | undefined;
  readonly tokenizer?: Tokenizer | undefined;
  /** Why there is no tokenizer, where there is a reason. */
  readonly tokenizerProblem?: string | undefined;
  readonly chatTemplate?: ChatTemplate | undefined;
  /** Tokens that end a text besides the tokenizer's. */
  readonly endTokens?: readonly number[] | undefined;
}

export interface AssembleOptions extends LoadParametersOptions {
  /** How matrices are held in memory: all in a format, or each in that of its own type (`auto`). Default f32. */
  readonly weights?: WeightFormat | 'auto' | undefined;
  /** What to wait for before the backend is to compute; there is work to do until then. */
  readonly ready?: Promise<void> | undefined;
  /** How keys and values of attention are kept in sessions' states. Default f32; InputError where the model has none. */
  readonly kvCache?: StateFormat | undefined;
  /** Whether `dispose` of the model also disposes the backend. */
  readonly ownsBackend?: boolean | undefined;
  /** How sessions read files and write checkpoints; without it they can't. */
  readonly files?: Files | undefined;
}

interface Parts {
  readonly type: string;
  readonly title: string;
  readonly vocabularySize: number;
  readonly labels: readonly string[] | undefined;
  readonly predicts: Model['predicts'];
  readonly parameterCount: number;
  readonly graph: ModelGraph;
  readonly backend: Backend;
  readonly weights: Weights;
  readonly declarations: readonly WeightDeclaration[];
  readonly tokenizer: Tokenizer | undefined;
  readonly tokenizerProblem: string | undefined;
  readonly chatTemplate: ChatTemplate | undefined;
  readonly endTokens: readonly number[];
  /** The longest text, for models with a table of positions. */
  readonly longest: number;
  readonly ownsBackend: boolean;
  readonly fingerprint: () => Fingerprint;
  readonly files: Files | undefined;
}

/** A language model, ready to run. Any number of sessions share it; each holds the state of one text. */
export class Model {
  /** The architecture's `model_type`. */
  readonly type: string;
  /** The architecture's paper, for people. */
  readonly title: string;
  /** Number of tokens that it knows. */
  readonly vocabularySize: number;
  /** Numbers D of a token's hidden state. */
  readonly hiddenSize: number;
  /** What a classifier tells apart, in the order of its logits; none for a language model. */
  readonly labels: readonly string[] | undefined;
  /** What its logits are of: the next token; the labels of the text; whether a token is the first, and the last, of an answer. */
  readonly predicts: 'tokens' | 'labels' | 'spans';
  /** Number of logits: of the vocabulary, or of the labels, or 2 of spans. */
  readonly outputSize: number;
  /** Number of trained numbers. */
  readonly parameterCount: number;
  /** The longest text it can see: Infinity, but for models with a learned table of positions. */
  readonly longest: number;
  /** Tokens that end a text: generating stops at them. */
  readonly endTokens: readonly number[];
  /** What runs it, such as `wasm-relaxed`. */
  readonly backend: string;
  readonly threads: number;
  /** How sessions keep keys and values of attention; undefined for a model without. */
  readonly kvCache: StateFormat | undefined;
  readonly #parts: Parts;
  readonly #runner: Runner;
  readonly #sessions = new Set<Session>();
  #fingerprint: Fingerprint | undefined;
  #initial: State | undefined;
  #disposed = false;

  constructor(parts: Parts) {
    const { type, title, vocabularySize, parameterCount, longest, graph, backend, weights } = parts;
    this.longest = longest;
    this.endTokens = parts.endTokens;
    this.type = type;
    this.title = title;
    this.vocabularySize = vocabularySize;
    this.labels = parts.labels;
    this.predicts = parts.predicts;
    this.outputSize = graph.logits.shape[1] as number;
    this.backend = backend.name;
    this.threads = backend.threads;
    this.parameterCount = parameterCount;
    this.kvCache = kvCacheOf(graph.carries);
    this.#parts = parts;
    this.#runner = new Runner(backend, weights, graph, this.outputSize);
    this.hiddenSize = this.#runner.hiddenSize;
  }

  /**
   * What tells it from other models: states of another are refused. The first time, all weights are read for it, which takes a fraction of
   * the time of loading them.
   */
  get fingerprint(): Fingerprint {
    if (!this.#fingerprint && this.#disposed) throw new DisposedError('the model is disposed');
    return (this.#fingerprint ??= this.#parts.fingerprint());
  }

  /** The tokenizer; InputError when the model came without one. */
  get tokenizer(): Tokenizer {
    const { tokenizer, tokenizerProblem } = this.#parts;
    if (tokenizer) return tokenizer;
    const why = tokenizerProblem ?? 'no tokenizer.json and no rwkv_vocab*.txt beside it';
    throw new InputError(
      `the model has no tokenizer (${why}): name one (the option \`tokenizer\`, or --tokenizer), or pass token ids instead of text`,
    );
  }

  get hasTokenizer(): boolean {
    return this.#parts.tokenizer !== undefined;
  }

  /** How the model was taught to see conversations; InputError when it came without a chat template. */
  get chatTemplate(): ChatTemplate {
    const { chatTemplate } = this.#parts;
    if (!chatTemplate)
      throw new InputError(
        'the model has no chat template (none in tokenizer_config.json, no chat_template.jinja): it was hardly taught to chat',
      );
    return chatTemplate;
  }

  get hasChatTemplate(): boolean {
    return this.#parts.chatTemplate !== undefined;
  }

  /** InputError for a model with a head of its own in the place of the next token's. */
  expectTokens(): void {
    if (this.predicts === 'labels')
      throw new InputError('the model is a classifier: it tells labels, and generates no text');
    if (this.predicts === 'spans')
      throw new InputError('the model answers questions with a span of a text (answerSpans), and generates no text');
  }

  /** What sessions begin with; nothing where they begin empty. */
  get initialState(): State | undefined {
    return this.#initial;
  }

  /**
   * Lets all sessions that are opened from now on, those of every task too, begin with a state: one that was tuned (`finetune --method state`), or one after
   * a text. Undefined lets them begin empty again. InputError for a state of another model.
   */
  async beginWith(state: State | undefined): Promise<void> {
    const session = this.session();
    try {
      if (state) await session.state.restore(state);
    } finally {
      session.dispose();
    }
    this.#initial = state;
  }

  /** Bytes held: weights, states of open sessions, working memory. */
  get bytes(): { weights: number; states: number; working: number } {
    const states = [...this.#sessions].reduce((sum, session) => sum + session.bytes, 0);
    return { weights: this.#parts.weights.bytes, states, working: this.#runner.bytes };
  }

  /** Opens a session: an empty text. */
  session(options: SessionOptions = {}): Session {
    return this.#open(this.#runner, options);
  }

  /** Lets many sessions read and generate at the same time in packed steps: open them with `batcher.session()`. */
  batcher(options: BatcherOptions = {}): Batcher {
    return new Batcher(this.#runner, (stepper, sessionOptions) => this.#open(stepper, sessionOptions), options);
  }

  #open(stepper: Stepper, options: SessionOptions): Session {
    if (this.#disposed) throw new DisposedError('the model is disposed');
    const { backend, graph, longest, files } = this.#parts;
    const { outputSize } = this;
    const fingerprint = () => this.fingerprint;
    const { carries } = graph;
    const session: Session = new Session(
      {
        model: this,
        stepper,
        runner: this.#runner,
        graph,
        sequence: {
          carries,
          fingerprint,
          outputSize,
          longest,
          initial: this.#initial,
          slot: () => backend.slot(carries),
        },
        files,
        onDispose: (closed) => this.#sessions.delete(closed),
        onFork: (forked) => this.#sessions.add(forked),
      },
      options,
    );
    this.#sessions.add(session);
    return session;
  }

  /**
   * Reads `texts[i]` in `sessions[i]` for all i in one packed step, which costs little more than the longest alone.
   * Returns each session's logits [V] of its next token.
   */
  async readTogether(sessions: readonly Session[], texts: readonly ArrayLike<number>[]): Promise<Float32Array[]> {
    if (sessions.length !== texts.length)
      throw new InputError(`${sessions.length} sessions, but ${texts.length} texts`);
    const stranger = sessions.find((session) => session.model !== this);
    if (stranger) throw new InputError('a session of another model can not be read together with those of this one');
    if (sessions.length > 0) await Session.readTogether(this.#runner, sessions, texts);
    return sessions.map((session) => session.logits);
  }

  /**
   * Bytes that generating one token reads or writes at least: weights, a state, and for every token of the text, or for those of a
   * window, its keys and values.
   */
  get bytesPerToken(): { weights: number; state: number; statePerToken: number; windows: readonly WindowSize[] } {
    const { graph, weights } = this.#parts;
    const { stateBytes, stateBytesPerToken, stateWindows } = stateSize(graph.carries);
    const read = [...readWhole(graph)].reduce((sum, name) => sum + weights.bytesOf(name), 0);
    return { weights: read, state: 2 * stateBytes, statePerToken: stateBytesPerToken, windows: stateWindows };
  }

  /** Multiply-adds of products with matrices, by the format they are held in: of reading a token, and what the head adds where logits are asked for. */
  get multiplyAdds(): { readonly token: MultiplyAdds; readonly head: MultiplyAdds } {
    return multiplyAddsOf(this.#parts.graph, this.#parts.declarations);
  }

  /**
   * Adds the seconds that each kernel takes, from now on, to a map by the kernels' names; none for undefined. Steps are a
   * little slower meanwhile. UnsupportedError in the next step on a backend that can't tell.
   */
  profile(seconds: Map<string, number> | undefined): void {
    this.#runner.seconds = seconds;
  }

  /** Frees weights, sessions and threads. Using the model or its sessions afterwards is a DisposedError. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const session of [...this.#sessions]) session.dispose();
    this.#runner.dispose();
    this.#parts.weights.dispose();
    if (this.#parts.ownsBackend) this.#parts.backend.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Builds a model on a backend from its configuration and checkpoint. */
export async function assemble(source: ModelSource, backend: Backend, options: AssembleOptions = {}): Promise<Model> {
  const { config: json, tokenizer, tokenizerProblem, chatTemplate } = source;
  const checkpoint = await withoutRepeatedHead(json, source.checkpoint);
  const ends = [tokenizer?.endOfText, ...(source.endTokens ?? [])].filter((id) => id !== undefined);
  const { architecture, config, graph: traced, head, hasSpans, origins } = matchModel(json, checkpoint);
  const vocabularySize = architecture.vocabulary(config);
  const { type, title } = architecture;
  const graph = withKvCache(foldConstants(traced), options.kvCache, title);
  const { weights: wanted = 'f32' } = options;
  const formats = wanted === 'auto' ? formatsAsStored(graph, origins, source.types) : wanted;
  const declarations = declareWeights(graph, formats, storedInFour(origins));
  const format = wanted === 'auto' ? commonFormat(graph, declarations) : wanted;
  const weights = backend.weights(declarations);
  const deriving = derivingWeights(graph, weights, backend);
  const written = new FingerprintedWeights(deriving, declarations);
  try {
    await options.ready;
    await loadParameters(origins, checkpoint, written, options);
  } catch (error) {
    deriving.dispose();
    weights.dispose();
    throw error;
  }
  const longest = architecture.longest?.(config) ?? Infinity;
  return new Model({
    type,
    title,
    vocabularySize,
    labels: head?.labels,
    predicts: hasSpans ? 'spans' : head ? 'labels' : 'tokens',
    parameterCount: [...traced.parameters.values()].reduce(
      (sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1),
      0,
    ),
    graph,
    backend,
    weights,
    declarations,
    tokenizer,
    tokenizerProblem,
    chatTemplate,
    endTokens: [...new Set(ends)],
    longest,
    ownsBackend: options.ownsBackend ?? false,
    fingerprint: () => written.fingerprint(type, config, format, kvCacheOf(graph.carries)),
    files: options.files,
  });
}

import { InputError, UnsupportedError } from '../../core/errors.ts';
import { reachable } from '../../core/grad.ts';
import { type Counts, resolve } from '../../core/shape.ts';
import type { StateFormat } from '../../core/state-format.ts';
import type { Node, Tensor } from '../../core/tensor.ts';
import { logSumExp } from '../../ops/cross-entropy.ts';
import type { Tokenizer } from '../../tokenizers/tokenizer.ts';
import { abortable } from '../abortable.ts';
import { beginMarkLength } from '../begin-mark.ts';
import { blocksOf, startOfSource } from '../blocks.ts';
import type { ModelGraph } from '../graph.ts';
import { Pace } from '../pause.ts';
import type { Runner, Taps } from '../runner.ts';
import { refuseUnknownOptions } from '../sampler.ts';
import type { Sequence } from '../sequence.ts';
import { type Files, isTokens, openSource, type Source, type Surroundings } from '../source.ts';
import type { Inspection, LayerInspection } from './inspection.ts';
import { Observer } from './observer.ts';
import type { ProbedBlock, Tapped } from './probe.ts';
import { probes } from './probes.ts';
import { meanMap } from './read-map.ts';

export interface InspectOptions {
  /** Whether every head's quantities are kept, besides those of all heads of a layer together. Default false. */
  readonly heads?: boolean;
  /**
   * From which tokens each token read: none, a map for each layer (the mean of its heads), or every head's. They take time and
   * memory that grow with the square of the text's length. Default `layers` for texts of up to 128 tokens, `none` for longer ones.
   */
  readonly maps?: 'none' | 'layers' | 'heads';
  /** Stops; what was read until then stays read. */
  readonly signal?: AbortSignal | undefined;
  /** Told the number of tokens read so far. */
  readonly onProgress?: ((tokens: number) => void) | undefined;
}

/** The most tokens that are looked at in one go: numbers are kept for every one. */
export const MOST_TOKENS = 32_768;
/** The most tokens of a map, of which the square counts. */
export const MOST_MAP_TOKENS = 1_024;
/** The longest text of which maps are made unasked. */
const SHORT = 128;

/** What inspecting needs of a session. */
export interface Inspected {
  readonly type: string;
  readonly model: Surroundings['model'] & { readonly hasTokenizer: boolean; readonly outputSize: number };
  readonly graph: ModelGraph;
  readonly runner: Runner;
  readonly sequence: Sequence;
  readonly files: Files | undefined;
  /** Whether logits are of the vocabulary, so that they tell how likely the next token is. */
  readonly predictsTokens: boolean;
  /** Refuses a token that the model has not. */
  check(token: number): void;
  /** Refuses more tokens than the model has positions for. */
  room(tokens: number): void;
  /** Told that `tokens` more have been read. */
  moved(tokens: number): void;
}

/** Reads a source and tells what each layer did with each token of it. */
export async function inspectSource(target: Inspected, source: Source, options: InspectOptions): Promise<Inspection> {
  refuseUnknownOptions(options, ['heads', 'maps', 'signal', 'onProgress']);
  const { heads = false, signal } = options;
  if (options.maps !== undefined && !['none', 'layers', 'heads'].includes(options.maps))
    throw new InputError(`maps is ${String(options.maps)}; known: none, layers, heads`);
  // All of it first: whether maps are made depends on its length.
  const blocks = await readAll(target, source, options);
  const total = blocks.reduce((sum, { length }) => sum + length, 0);
  const maps = options.maps ?? (total <= SHORT ? 'layers' : 'none');
  if (maps !== 'none' && total > MOST_MAP_TOKENS)
    throw new InputError(
      `the text has ${total} tokens: maps are made for at most ${MOST_MAP_TOKENS}. Leave them out (maps: 'none'), or read what comes before first`,
    );
  target.room(total);
  const { position } = target.sequence;
  const layers = probedLayers(target.graph, maps !== 'none', heads);
  const surprise: number[] = [];
  const tokens: number[] = [];
  const pace = new Pace();
  for (const block of blocks) {
    signal?.throwIfAborted();
    surprise.push(...(await inspectBlock(target, layers, block)));
    tokens.push(...block);
    options.onProgress?.(tokens.length);
    await pace.breathe();
  }
  const { model } = target;
  const results: LayerInspection[] = [];
  for (const layer of layers) {
    signal?.throwIfAborted();
    results.push(resultOf(layer, maps));
    await pace.breathe();
  }
  return {
    type: target.type,
    position,
    tokens,
    pieces: model.hasTokenizer ? tokens.map((token) => pieceOf(model.tokenizer, token)) : [],
    surprise: Float32Array.from(surprise),
    layers: results,
  };
}

/** A token as text. Of one that is a part of a character only, the bytes are told: `\xF0\x9F`. */
function pieceOf(tokenizer: Tokenizer, token: number): string {
  const text = tokenizer.decode([token]);
  if (!text.includes('\ufffd') || tokenizer.isSpecial(token)) return text;
  const bytes = tokenizer.tokenBytes(token);
  if (new TextDecoder().decode(bytes).includes('\ufffd'))
    return Array.from(bytes, (byte) =>
      byte < 0x80 ? String.fromCharCode(byte) : `\\x${byte.toString(16).toUpperCase()}`,
    ).join('');
  return text;
}

/** The source's tokens, in the blocks that reading would take. */
async function readAll(target: Inspected, source: Source, { signal }: InspectOptions): Promise<number[][]> {
  const { model, sequence, files } = target;
  if (isTokens(source)) for (let i = 0; i < source.length; i++) target.check(source[i]!);
  const opened = openSource(source, { model, files, isStart: sequence.position === 0 });
  const blocks: number[][] = [];
  let total = 0;
  const reading = blocksOf(opened, startOfSource);
  for (;;) {
    const next = await abortable(reading.next(), signal);
    if (next.done) break;
    const { tokens } = next.value;
    for (const token of tokens) target.check(token);
    total += tokens.length;
    if (total > MOST_TOKENS)
      throw new InputError(
        `the text has more than ${MOST_TOKENS} tokens: read the beginning first, and inspect the part of interest`,
      );
    if (tokens.length > 0) blocks.push(tokens);
  }
  const begin = opened.unit !== 'tokens' && sequence.position === 0 ? beginMarkLength(model) : 0;
  if (total <= begin) throw new InputError('there is nothing to inspect: the text is empty');
  return blocks;
}

/** An op that looks along time, with what is tapped of it and what was seen. */
interface ProbedLayer {
  readonly node: Node;
  readonly observer: Observer;
  /** Its operands, by tap. */
  readonly taps: ReadonlyMap<string, { operand: string; tensor: Tensor }>;
  /** The names of its states, by operand, and how they keep numbers. */
  readonly states: ReadonlyMap<string, string>;
  readonly formats: Readonly<Record<string, StateFormat>>;
}

function probedLayers({ logits, carries }: ModelGraph, keepsMaps: boolean, byHead: boolean): ProbedLayer[] {
  const roots = [logits, ...carries.map(({ next }) => next)].map(({ node }) => node);
  const nodes = [...reachable(roots)].filter(({ op }) => op && op.name in probes).sort((a, b) => a.id - b.id);
  const formatOf = (name: string) => carries.find((carry) => carry.name === name)?.format ?? 'f32';
  if (nodes.length === 0) throw new UnsupportedError('the model has no layer that looks along time');
  return nodes.map((node, n) => {
    const taps = new Map<string, { operand: string; tensor: Tensor }>();
    const states = new Map<string, string>();
    for (const [operand, tensor] of Object.entries(node.inputs)) {
      const { leaf } = tensor.node;
      if (leaf?.kind === 'state') states.set(operand, leaf.name);
      else if (leaf?.kind !== 'input') taps.set(`${n} ${operand}`, { operand, tensor });
    }
    const formats = Object.fromEntries([...states].map(([operand, name]) => [operand, formatOf(name)]));
    return { node, observer: new Observer(probes[node.op!.name]!(node, keepsMaps), byHead), taps, states, formats };
  });
}

/** Takes the session past a block; returns how surprising its tokens were. */
async function inspectBlock(
  target: Inspected,
  layers: readonly ProbedLayer[],
  tokens: readonly number[],
): Promise<number[]> {
  const { runner, sequence } = target;
  const { position, slot } = sequence;
  const before = layers.map(({ states }) =>
    Object.fromEntries([...states].map(([operand, name]) => [operand, slot.read(name)])),
  );
  const values = new Map(layers.flatMap(({ taps }) => [...taps].map(([tap, { tensor }]) => [tap, tensor] as const)));
  const taps: Taps = { key: 'inspected', values };
  const segment = { slot, tokens, position, outputs: 'all' as const };
  const counts: Counts = { tokens: tokens.length, segments: 1, outputs: tokens.length };
  const surprise = await runner.tapped([segment], taps, (logits, value) => {
    for (const [n, { observer, taps, formats }] of layers.entries()) {
      const operands = Object.fromEntries(
        [...taps].map(([tap, { operand, tensor }]): [string, Tapped] => [
          operand,
          { shape: tensor.shape.map((dim) => resolve(dim, counts)), data: value(tap) },
        ]),
      );
      const block: ProbedBlock = { tokens: tokens.length, position, operands, states: before[n]!, formats };
      observer.observe(block);
    }
    const surprise = surpriseOf(target, tokens, logits);
    const size = target.model.outputSize;
    sequence.logits.set(logits.subarray((tokens.length - 1) * size, tokens.length * size));
    return surprise;
  });
  target.moved(tokens.length);
  return surprise;
}

function surpriseOf(target: Inspected, tokens: readonly number[], logits: Float32Array): number[] {
  const { predictsTokens, sequence, model } = target;
  if (!predictsTokens) return tokens.map(() => Number.NaN);
  const V = model.outputSize;
  return tokens.map((token, t) => {
    if (t > 0) return logSumExp(logits, (t - 1) * V, V) - logits[(t - 1) * V + token]!;
    return sequence.position > 0 ? logSumExp(sequence.logits, 0, V) - sequence.logits[token]! : Number.NaN;
  });
}

function resultOf({ node, observer }: ProbedLayer, maps: 'none' | 'layers' | 'heads'): LayerInspection {
  const { probe } = observer;
  const headMaps = function* () {
    for (let h = 0; h < probe.heads; h++) yield probe.map(h);
  };
  const kept = maps === 'heads' ? [...headMaps()] : undefined;
  return {
    path: node.path,
    op: node.op!.name,
    heads: probe.heads,
    ...observer.layer,
    byHead: observer.byHead,
    map: maps === 'none' ? undefined : meanMap(kept ?? headMaps()),
    headMaps: kept,
  };
}

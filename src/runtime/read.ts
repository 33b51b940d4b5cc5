import { InputError } from '../core/errors.ts';
import { abortable } from './abortable.ts';
import { type Block, blocksOf, startOfSource } from './blocks.ts';
import { Pace } from './pause.ts';
import type { PrefixCache } from './prefix-cache.ts';
import { type ReadCheckpoint, readCheckpoint } from './read-checkpoint.ts';
import { refuseUnknownOptions } from './sampler.ts';
import type { Sequence } from './sequence.ts';
import { type Files, isTokens, openSource, type Source, type Surroundings } from './source.ts';
import type { State } from './state.ts';

export interface ReadOptions {
  /** Stops the reading; what was read until then stays read. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Told the number of tokens of the source read so far, those before a checkpoint included; and, but with a cache, about how far
   * that is: bytes of a file, characters of text, tokens of tokens.
   */
  readonly onProgress?: ((tokens: number, place?: number) => void) | undefined;
  /**
   * Keeps the state and the place in the source in this file, and goes on from there when it exists: reading that was
   * ended at any moment, and begun again with the same source, gives the same state bit for bit. At the end the file stays,
   * so that a file that has grown since is read on. Where there are files only.
   */
  readonly checkpointFile?: string | undefined;
  /** Tokens between two writings of the checkpoint file. Default 8192. */
  readonly checkpointEvery?: number | undefined;
  /** What is known of other texts that begin like this one is not read again. For text or tokens that begin a session. */
  readonly cache?: PrefixCache | undefined;
  /**
   * Told the hidden states [tokens, D] of every block, after the last norm: what logits are made of. They are valid until it
   * returns. Not with a checkpointFile or a cache, which leave out what was read before.
   */
  readonly onHidden?: ((hidden: Float32Array) => void) | undefined;
}

const optionNames = ['signal', 'onProgress', 'checkpointFile', 'checkpointEvery', 'cache', 'onHidden'];

/** What reading needs of a session. */
export interface Reader {
  readonly model: Surroundings['model'];
  readonly sequence: Sequence;
  readonly files: Files | undefined;
  /** Reads at most BLOCK tokens. */
  block(tokens: readonly number[]): Promise<void>;
  /** Refuses a token that the model has not. */
  check(token: number): void;
}

/** Reads a source to its end, block by block. */
export async function readSource(reader: Reader, source: Source, options: ReadOptions): Promise<void> {
  refuseUnknownOptions(options, optionNames);
  const { signal } = options;
  const { sequence, model, files } = reader;
  if (options.onHidden && (options.checkpointFile !== undefined || options.cache))
    throw new InputError('onHidden is told of all that is read: not with a checkpointFile or a cache');
  // Before any is read; those of text are checked as they come, for the tokenizer may be of another model.
  if (isTokens(source)) for (let i = 0; i < source.length; i++) reader.check(source[i]!);
  if (options.cache) return await readThrough(options.cache, reader, source, options);
  const opened = openSource(source, { model, files, isStart: sequence.position === 0 });
  const checkpoint = readCheckpoint(sequence, files, opened, options);
  const progress = (await checkpoint?.resume()) ?? { place: startOfSource, tokens: 0 };
  if (progress.tokens > 0) options.onProgress?.(progress.tokens, progress.place.offset);
  const blocks = blocksOf(opened, progress.place);
  try {
    await readBlocks(reader, blocks, progress.tokens, checkpoint, options);
  } catch (error) {
    if (signal?.aborted) await checkpoint?.save();
    throw error;
  } finally {
    // A source that waits for more ends only when that comes; nobody waits for it.
    blocks.return(undefined).catch(() => {});
  }
  await checkpoint?.save();
}

async function readThrough(cache: PrefixCache, reader: Reader, source: Source, options: ReadOptions): Promise<void> {
  const { sequence, model } = reader;
  if (options.checkpointFile !== undefined)
    throw new InputError('a text is read with a cache or with a checkpointFile, not both');
  if (typeof source !== 'string' && !isTokens(source))
    throw new InputError('what is read with a cache must be text or tokens: of a stream the end is not known');
  if (!sequence.isEmpty) throw new InputError('a cache knows texts from their start: begin with a new session');
  const tokens = typeof source === 'string' ? model.tokenizer.encode(source) : Array.from(source);
  for (const token of tokens) reader.check(token);
  const pace = new Pace();
  const block = async (tokens: readonly number[]) => {
    await reader.block(tokens);
    await pace.breathe();
  };
  const snapshot = () => sequence.snapshot();
  const put = (state: State) => sequence.put(state);
  await cache.read({ model: sequence.fingerprint, block, snapshot, put }, tokens, options);
}

async function readBlocks(
  reader: Reader,
  blocks: AsyncGenerator<Block>,
  before: number,
  checkpoint: ReadCheckpoint | undefined,
  { signal, onProgress }: ReadOptions,
): Promise<void> {
  const pace = new Pace();
  let tokens = before;
  for (;;) {
    signal?.throwIfAborted();
    const next = await abortable(blocks.next(), signal);
    if (next.done) return;
    const block = next.value;
    if (block.tokens.length > 0) {
      for (const token of block.tokens) reader.check(token);
      await reader.block(block.tokens);
      tokens += block.tokens.length;
      onProgress?.(tokens, block.reached);
    }
    await checkpoint?.passed(block, tokens);
    await pace.breathe();
  }
}

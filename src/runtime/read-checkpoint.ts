import { Digest } from '../core/digest.ts';
import { FormatError, InputError, UnsupportedError } from '../core/errors.ts';
import { type Block, type SourcePlace, startOfSource } from './blocks.ts';
import type { Sequence } from './sequence.ts';
import type { Files, OpenSource } from './source.ts';
import { checkState, State } from './state.ts';

interface CheckpointOptions {
  readonly checkpointFile?: string | undefined;
  readonly checkpointEvery?: number | undefined;
}

/** How far a source was read. */
export interface ReadProgress {
  readonly place: SourcePlace;
  /** Tokens of the source read. */
  readonly tokens: number;
}

/** The checkpoint file that the options ask for, if they do. */
export function readCheckpoint(
  sequence: Sequence,
  files: Files | undefined,
  source: OpenSource,
  { checkpointFile, checkpointEvery = 8192 }: CheckpointOptions,
): ReadCheckpoint | undefined {
  if (!(checkpointEvery >= 1)) throw new InputError(`checkpointEvery is ${checkpointEvery}: it must be at least 1`);
  if (checkpointFile === undefined) return undefined;
  if (!files) throw new UnsupportedError(`there are no files here to keep ${checkpointFile} in: save session.state`);
  return new ReadCheckpoint(sequence, files, source, checkpointFile, checkpointEvery);
}

/** Keeps a file with the state of a session that is reading, and the place in the source that goes with it. */
export class ReadCheckpoint {
  readonly #sequence: Sequence;
  readonly #files: Files;
  readonly #source: OpenSource;
  readonly #path: string;
  readonly #every: number;
  /** Tokens that the session held when it began with the source. */
  readonly #start: number;
  #saved = 0;
  #last: { block: Block; tokens: number } | undefined;
  /** What was read of the source: its units before `offset`. */
  readonly #read = { digest: new Digest(), offset: 0 };

  constructor(sequence: Sequence, files: Files, source: OpenSource, path: string, every: number) {
    this.#sequence = sequence;
    this.#files = files;
    this.#source = source;
    this.#path = path;
    this.#every = every;
    this.#start = sequence.position;
  }

  /** Puts the session where the file says, if there is one. InputError when it is of another model or other reading. */
  async resume(): Promise<ReadProgress | undefined> {
    const bytes = await this.#files.read(this.#path);
    if (!bytes) return undefined;
    const state = await State.load(bytes, this.#path);
    checkState(state, this.#sequence, this.#path);
    const { 'source.unit': unit, 'source.start': start, 'source.digest': digest } = state.notes;
    if (unit === undefined || digest === undefined)
      throw new FormatError(`${this.#path} is a state, but no checkpoint of reading: it names no place in a source`);
    if (unit !== this.#source.unit)
      throw new InputError(
        `${this.#path} is of a source read in ${unit}, and this one is read in ${this.#source.unit}`,
      );
    if (Number(start) !== this.#start)
      throw new InputError(
        `${this.#path} is of a reading begun after ${start} tokens, and this session has read ${this.#start}`,
      );
    const [offset, skip, tokens] = ['offset', 'skip', 'tokens'].map((name) => this.#count(state, name));
    const { 'source.read': read } = state.notes;
    const found = await this.#digest(offset!);
    if (read !== undefined && found !== undefined && found !== read)
      throw new InputError(
        `${this.#path} is of another source: what this one has before the place where reading is to go on was not read. Give the one that it was made of, or another checkpoint file`,
      );
    this.#sequence.put(state);
    this.#saved = tokens!;
    return { place: { ...startOfSource, offset: offset!, skip: skip!, digest }, tokens: tokens! };
  }

  #count({ notes }: State, name: string): number {
    const value = Number(notes[`source.${name}`]);
    if (Number.isSafeInteger(value) && value >= 0) return value;
    throw new FormatError(`${this.#path}: source.${name} is ${notes[`source.${name}`]}`);
  }

  /** Digest of the source before a place not before the last one asked for; undefined of a stream. */
  async #digest(offset: number): Promise<string | undefined> {
    const read = this.#read;
    if (!this.#source.digest) return undefined;
    await this.#source.digest(read.digest, read.offset, offset);
    read.offset = offset;
    return read.digest.hex();
  }

  /** Told of every block when it has been read. */
  async passed(block: Block, tokens: number): Promise<void> {
    this.#last = { block, tokens };
    if (tokens - this.#saved >= this.#every) await this.save();
  }

  /** Writes the file, unless nothing was read since. */
  async save(): Promise<void> {
    if (!this.#last) return;
    const { block, tokens } = this.#last;
    const { offset, skip, digest } = block.place();
    const notes: Record<string, string> = {
      'source.unit': this.#source.unit,
      'source.start': String(this.#start),
      'source.offset': String(offset),
      'source.skip': String(skip),
      'source.digest': digest,
      'source.tokens': String(tokens),
    };
    const read = await this.#digest(offset);
    if (read !== undefined) notes['source.read'] = read;
    await this.#files.write(this.#path, this.#sequence.snapshot().save({ notes }));
    this.#saved = tokens;
    this.#last = undefined;
  }
}

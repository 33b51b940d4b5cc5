import { Digest } from '../core/digest.ts';
import { InputError } from '../core/errors.ts';
import type { OpenSource } from './source.ts';

/**
 * Tokens read in one step: enough that reading and expanding the weights is little beside their products, little memory. Sources are read in blocks of
 * just this length whatever pieces they come in, so that the same text always gives the same state, bit for bit.
 */
export const BLOCK = 256;

/**
 * A place in a source: after `offset` of its units and then `skip` tokens. `digest` is that of those tokens, by which the
 * source is known again.
 */
export interface SourcePlace {
  readonly offset: number;
  readonly skip: number;
  readonly digest: string;
}

export const startOfSource: SourcePlace = { offset: 0, skip: 0, digest: new Digest().hex() };

export interface Block {
  readonly tokens: number[];
  /** About where it ends, in the source's unit: as if all tokens of a piece were of one length. */
  readonly reached: number;
  /** Where the source goes on after it. */
  place(): SourcePlace;
}

/** Cuts a source into blocks, from a place on: all of BLOCK tokens but the last. */
export async function* blocksOf(source: OpenSource, from: SourcePlace): AsyncGenerator<Block> {
  let { offset, skip } = from;
  let tokens: number[] = [];
  const skipped = new Digest();
  for await (const piece of source.from(offset)) {
    let at = Math.min(skip, piece.tokens.length);
    if (skip > 0) skipped.words(Int32Array.from(firstOf(piece.tokens, at)));
    if (skip > 0 && at === skip) expectSame(skipped, from);
    skip -= at;
    while (at < piece.tokens.length) {
      const end = Math.min(at + BLOCK - tokens.length, piece.tokens.length);
      while (at < end) tokens.push(piece.tokens[at++]!);
      if (tokens.length < BLOCK) continue;
      const [pieceOffset, read] = [offset, at];
      const place = () => ({
        offset: pieceOffset,
        skip: read,
        digest: new Digest().words(Int32Array.from(firstOf(piece.tokens, read))).hex(),
      });
      const reached = pieceOffset + Math.round((piece.length * read) / piece.tokens.length);
      yield { tokens, reached, place };
      tokens = [];
    }
    offset += piece.length;
  }
  if (skip > 0) throw changed();
  const end = { ...startOfSource, offset };
  if (tokens.length > 0 || offset > from.offset) yield { tokens, reached: offset, place: () => end };
}

const firstOf = (tokens: ArrayLike<number>, count: number): number[] =>
  Array.prototype.slice.call(tokens, 0, count) as number[];

function expectSame(skipped: Digest, { digest }: SourcePlace): void {
  if (skipped.hex() !== digest) throw changed();
}

const changed = (): InputError =>
  new InputError('the source is not the one that was read before: where reading is to go on it has other tokens');

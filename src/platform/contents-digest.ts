import { createHash, type Hash } from 'node:crypto';
import type { Corpus } from '../train/corpus.ts';
import type { Learner } from '../train/learner.ts';
import type { TokenizerFiles } from './model-files.ts';

/** What a training learns from and is measured on, each as its amount and digest: others make it another training. */
export interface Contents {
  readonly data: string;
  readonly validation?: string | undefined;
}

const hex = (hash: Hash): string => hash.digest('hex').slice(0, 16);

/** The tokens of a corpus, and where its texts begin. */
export function corpusContents({ tokens, starts }: Corpus): string {
  const hash = createHash('sha256');
  for (const { buffer, byteOffset, byteLength } of [tokens, starts])
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  return `${tokens.length} tokens (${hex(hash)})`;
}

/** Examples, in their order, with the names of what they tell. */
export function exampleContents(examples: readonly object[], labels: readonly string[] = []): string {
  const hash = createHash('sha256').update(JSON.stringify(labels));
  for (const example of examples) hash.update(JSON.stringify(example));
  return `${examples.length} examples (${hex(hash)})`;
}

/** A tokenizer.json, or the tokens of RWKV's World. */
export function tokenizerContents({ json, world = [] }: Pick<TokenizerFiles, 'json' | 'world'>): string {
  const hash = createHash('sha256').update(JSON.stringify(json ?? null));
  for (const token of world) hash.update(`${token?.length}:`).update(token ?? '');
  return hex(hash);
}

/** What tells a tokenizer, with what its settings make of it, from others. */
export function tokenizerKey(files: TokenizerFiles): string {
  const hash = createHash('sha256').update(JSON.stringify(files.settings ?? null));
  return hash.update(tokenizerContents(files)).digest('hex');
}

/** The numbers of parameters, by their names. */
export function parameterContents(learner: Learner, names: Iterable<string>): string {
  const hash = createHash('sha256');
  for (const name of [...names].sort()) {
    const { buffer, byteOffset, byteLength } = learner.read(name);
    hash.update(`${name}:`).update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hex(hash);
}

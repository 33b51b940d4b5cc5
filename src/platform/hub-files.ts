import { nearest } from '../core/errors.ts';

/** The files of a repository that loading it takes. */
export interface FileChoice {
  /** Configuration, tokenizer, index of shards: small. */
  readonly companions: readonly string[];
  readonly weights: readonly string[];
  /** Why nothing fits, and what to do. */
  readonly problem?: string;
}

const companion =
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json$|^(merges|rwkv_vocab.*)\.txt$|^tokenizer\.model$|^chat_template\.\w+$/;
const shard = /^(.*)-(\d{5})-of-(\d{5})(\.\w+)$/;

export const isWeights = (name: string): boolean => /\.(safetensors|gguf|bin|pth|pt)$/.test(name);

/**
 * Chooses, from all names in a repository, those that loading its model takes: configuration and tokenizer, and the weights
 * once: safetensors rather than PyTorch's formats, all shards of a model that was cut. Of several models beside each other,
 * and of GGUF files, one must be named as `file`.
 */
export function chooseFiles(names: readonly string[], repo: string, file?: string): FileChoice {
  if (file !== undefined) return chooseNamed(names, repo, file);
  const companions = names.filter((name) => companion.test(name));
  const { weights, index, problem } = chooseWeights(names, repo);
  return { companions: index === undefined ? companions : [...companions, index], weights, problem };
}

/** The files that pass the caller's own test. */
export function filterFiles(names: readonly string[], repo: string, test: (name: string) => boolean): FileChoice {
  const chosen = names.filter(test);
  return {
    companions: chosen.filter((name) => !isWeights(name)),
    weights: chosen.filter(isWeights),
    ...(chosen.length === 0 && { problem: `none of the files of ${repo} is wanted: ${list(names)}` }),
  };
}

/** `names` with all shards of every model that one of them is a shard of: `x-00002-of-00003.gguf`. */
export const withAllShards = (names: readonly string[]): string[] => [...new Set(names.flatMap(shardsOf))];

/** All shards of the model that the shard `name` belongs to; only `name` if it is no shard. */
function shardsOf(name: string): string[] {
  const [, stem, , count, extension] = shard.exec(name) ?? [];
  if (count === undefined) return [name];
  return Array.from(
    { length: Number(count) },
    (_, i) => `${stem}-${String(i + 1).padStart(5, '0')}-of-${count}${extension}`,
  );
}

function chooseNamed(names: readonly string[], repo: string, file: string): FileChoice {
  if (!names.includes(file)) {
    const similar = nearest(file, names);
    const hint = similar.length > 0 ? `did you mean ${list(similar)}?` : `it has ${list(names)}`;
    return { companions: [], weights: [], problem: `${repo} has no file ${file}; ${hint}` };
  }
  if (!isWeights(file)) return { companions: [file], weights: [] };
  const weights = shardsOf(file);
  if (file.endsWith('.gguf')) return { companions: [], weights };
  const folder = file.slice(0, file.lastIndexOf('/') + 1);
  const beside = names.filter((name) => name.startsWith(folder) && companion.test(name.slice(folder.length)));
  return { companions: beside, weights };
}

interface Weights {
  readonly weights: readonly string[];
  readonly index?: string;
  readonly problem?: string;
}

function chooseWeights(names: readonly string[], repo: string): Weights {
  const root = names.filter((name) => !name.includes('/'));
  for (const [stem, extension] of [
    ['model', 'safetensors'],
    ['pytorch_model', 'bin'],
  ]) {
    const single = `${stem}.${extension}`;
    const index = `${single}.index.json`;
    const shards = root.filter((name) => name.startsWith(stem!) && name.endsWith(extension!) && shard.test(name));
    const others = extension === 'safetensors' ? root.filter((name) => name.endsWith('.safetensors')) : [];
    if (root.includes(single)) return { weights: [single] };
    if (root.includes(index) && shards.length > 0) return { weights: shards, index };
    if (others.length > 0) return onlyOne(others, repo);
  }
  const pth = root.filter((name) => name.endsWith('.pth'));
  if (pth.length > 0) return onlyOne(pth, repo);
  const gguf = names.filter((name) => name.endsWith('.gguf'));
  if (gguf.length > 0)
    return { weights: [], problem: `${repo} has GGUF files: name one, as ${repo}/${gguf[0]}; it has ${list(gguf)}` };
  const expected = 'weights that can be loaded (model.safetensors, pytorch_model.bin, *.pth or *.gguf)';
  return { weights: [], problem: `${repo} has no ${expected}; it has ${list(names)}` };
}

const onlyOne = (names: readonly string[], repo: string): Weights =>
  names.length === 1
    ? { weights: names }
    : { weights: [], problem: `${repo} holds several models: name one, as ${repo}/${names[0]}; it has ${list(names)}` };

function list(names: readonly string[]): string {
  const shown = names.slice(0, 12).join(', ');
  return names.length > 12 ? `${shown} and ${names.length - 12} more` : shown || 'no files';
}

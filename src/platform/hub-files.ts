import { InputError } from '../core/errors.ts';

/** A model on the hub: `org/name`, with a branch, tag or commit after `@`. */
export interface HubModel {
  readonly repo: string;
  readonly revision: string | undefined;
}

/** Reads `org/name` or `org/name@revision`. */
export function parseHubModel(id: string): HubModel {
  const match = /^([\w-][\w.-]*\/[\w-][\w.-]*)(?:@([\w.][\w./-]*))?$/.exec(id);
  if (!match || match[1]!.includes('..'))
    throw new InputError(`${JSON.stringify(id)} is no hub id: it should be org/name or org/name@revision`);
  return { repo: match[1]!, revision: match[2] };
}

const companions = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.json',
  'chat_template.jinja',
  'vocab.json',
  'merges.txt',
];

/** The files of a repository that a model needs: its configuration, its tokenizer, and one form of its weights. */
export function chooseFiles(files: readonly string[]): string[] {
  const top = files.filter((file) => !file.includes('/'));
  const small = top.filter((file) => companions.includes(file) || /^rwkv_vocab.*\.txt$/.test(file));
  return [...small, ...chooseWeights(top)];
}

/** safetensors if there are any, sharded or whole; else PyTorch files; else a single GGUF file. */
function chooseWeights(top: readonly string[]): string[] {
  const has = (file: string) => top.includes(file);
  for (const [whole, index, shard] of [
    ['model.safetensors', 'model.safetensors.index.json', /^model-\d+-of-\d+\.safetensors$/],
    ['pytorch_model.bin', 'pytorch_model.bin.index.json', /^pytorch_model-\d+-of-\d+\.bin$/],
  ] as const) {
    if (has(whole)) return [whole];
    if (has(index)) return [index, ...top.filter((file) => shard.test(file))];
  }
  for (const extension of ['.safetensors', '.pth', '.gguf']) {
    const found = top.filter((file) => file.endsWith(extension));
    if (found.length === 1) return found;
    if (found.length > 1)
      throw new InputError(
        `the repository holds several models (${found.slice(0, 6).join(', ')}): name one of the files`,
      );
  }
  throw new InputError(`the repository holds no weights in a known format (its files: ${top.slice(0, 10).join(', ')})`);
}

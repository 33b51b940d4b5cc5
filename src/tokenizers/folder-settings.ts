import type { Tokenizer } from './tokenizer.ts';

type Json = Readonly<Record<string, unknown>>;

/** What of a tokenizer goes into a folder. */
export interface WrittenTokenizer {
  readonly tokenizer: Tokenizer;
  /** The object of tokenizer.json. */
  readonly json: Json;
  /** The object of tokenizer_config.json, where there is one. */
  readonly settings?: Json | undefined;
}

/**
 * The object of tokenizer_config.json that goes with a tokenizer.json, so that transformers' AutoTokenizer has the same ids: without a class it takes that of
 * the model's architecture, which may normalise texts, and adds tokens that the model has not. Settings that name a class stay as they are. Padding,
 * where none is named, is the token that ends texts. Only marks are named: a token of text would be one no longer.
 */
export function folderSettings({ tokenizer, json, settings = {} }: WrittenTokenizer, config: Json): Json {
  if (settings['tokenizer_class'] !== undefined) return settings;
  const added = (json['added_tokens'] ?? []) as readonly { id: number; content: string; special?: boolean }[];
  const mark = (id: unknown) => added.find((token) => token.special && token.id === id)?.content;
  const end = mark(tokenizer.endOfText);
  const marks = {
    bos_token: mark(tokenizer.beginOfText) ?? mark(config['bos_token_id']),
    eos_token: end,
    pad_token: mark(config['pad_token_id']) ?? end,
  };
  const found = Object.entries(marks).filter(([, token]) => token !== undefined);
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    clean_up_tokenization_spaces: false,
    ...Object.fromEntries(found),
    ...settings,
  };
}

/**
 * The object of tokenizer.json with the marks that settings add to texts (`add_bos_token`, `add_eos_token`) as its post-processor: transformers takes no
 * notice of these settings beside a tokenizer.json. A file whose post-processor adds marks of its own stays as it is.
 */
export function folderTokenizer({ tokenizer, json, settings = {} }: WrittenTokenizer): Json {
  const processor = json['post_processor'] as { readonly type?: unknown } | null | undefined;
  if (settings['tokenizer_class'] !== undefined || (processor && processor.type !== 'ByteLevel')) return json;
  const added = (json['added_tokens'] ?? []) as readonly { id: number; content: string }[];
  const mark = (wanted: unknown, id: number | undefined) =>
    wanted === true ? added.find((token) => token.id === id) : undefined;
  const begin = mark(settings['add_bos_token'], tokenizer.beginOfText);
  const end = mark(settings['add_eos_token'], tokenizer.endOfText);
  if (!begin && !end) return json;
  const special = (token: { content: string } | undefined, type_id: number) =>
    token ? [{ SpecialToken: { id: token.content, type_id } }] : [];
  const text = (id: 'A' | 'B', type_id: number) => [
    ...special(begin, type_id),
    { Sequence: { id, type_id } },
    ...special(end, type_id),
  ];
  const marks = [begin, end].flatMap((token) => (token ? [token] : []));
  const template = {
    type: 'TemplateProcessing',
    single: text('A', 0),
    pair: [...text('A', 0), ...text('B', 1)],
    special_tokens: Object.fromEntries(
      marks.map(({ id, content }) => [content, { id: content, ids: [id], tokens: [content] }]),
    ),
  };
  return { ...json, post_processor: processor ? { type: 'Sequence', processors: [processor, template] } : template };
}

import { FormatError } from '../core/errors.ts';
import { type ChatTemplate, jinjaTemplate, worldTemplate } from './template.ts';

/** Where a model's files may have a chat template. */
export interface TemplateFiles {
  /** The object of `tokenizer_config.json`. */
  readonly settings?: Readonly<Record<string, unknown>> | undefined;
  /** The text of `chat_template.jinja`, which counts more. */
  readonly file?: string | undefined;
  /** Whether the tokenizer is RWKV World's, whose models have a template that no file says. */
  readonly isWorld?: boolean | undefined;
}

/** The text of a model's chat template; undefined where its files have none. Of several by name the one called `default` counts. */
export const templateSource = ({ settings = {}, file }: TemplateFiles, name: string): string | undefined =>
  file ?? named(settings['chat_template'], name);

/** The chat template of a model's files; undefined where there is none. */
export function findTemplate(files: TemplateFiles, name: string): ChatTemplate | undefined {
  const { settings = {}, isWorld } = files;
  const source = templateSource(files, name);
  if (source === undefined) return isWorld ? worldTemplate() : undefined;
  const tokens = { bos_token: text(settings['bos_token']), eos_token: text(settings['eos_token']) };
  return jinjaTemplate(source, tokens, `the chat template of ${name}`);
}

function named(value: unknown, name: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') return value;
  const list = Array.isArray(value) ? (value as readonly { name?: unknown; template?: unknown }[]) : [];
  const found = list.find((entry) => entry?.name === 'default') ?? (list.length === 1 ? list[0] : undefined);
  if (typeof found?.template === 'string') return found.template;
  throw new FormatError(`${name}: chat_template is neither a text nor a list with one that is called "default"`);
}

/** A token's text: settings have it as such or as an object. */
function text(token: unknown): string | undefined {
  const value = typeof token === 'object' && token !== null ? (token as { content?: unknown }).content : token;
  return typeof value === 'string' ? value : undefined;
}

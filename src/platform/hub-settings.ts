import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { InputError } from '../core/errors.ts';

/** Where the hub is, where its cache lies, and who asks. */
export interface HubSettings {
  /** Address of the hub, without a slash at the end. */
  readonly endpoint: string;
  /** The folder that holds `models--org--name`. */
  readonly cacheDir: string;
  readonly token: string | undefined;
  /** No request may be made. */
  readonly offline: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The settings of Hugging Face's own tools, from their environment variables: HF_ENDPOINT, HF_HUB_CACHE, HF_HOME,
 * XDG_CACHE_HOME, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE. What is given explicitly wins.
 */
export async function hubSettings(given: Partial<HubSettings>, env: Environment = process.env): Promise<HubSettings> {
  const home = expand(env['HF_HOME'] || join(env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'huggingface'));
  return {
    endpoint: checkEndpoint(given.endpoint ?? (env['HF_ENDPOINT'] || 'https://huggingface.co')),
    cacheDir: expand(given.cacheDir ?? (env['HF_HUB_CACHE'] || env['HUGGINGFACE_HUB_CACHE'] || join(home, 'hub'))),
    token: checkToken(
      given.token ?? (env['HF_TOKEN'] || env['HUGGING_FACE_HUB_TOKEN'] || (await savedToken(home, env))),
    ),
    offline: given.offline ?? (isOn(env['HF_HUB_OFFLINE']) || isOn(env['TRANSFORMERS_OFFLINE'])),
  };
}

/** The token that `hf auth login` left. */
async function savedToken(home: string, env: Environment): Promise<string> {
  const path = expand(env['HF_TOKEN_PATH'] || join(home, 'token'));
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return '';
    throw new InputError(`the hub's token can't be read from ${path}: ${error.message}`, { cause: error });
  });
  return text;
}

/** What a header may not hold is refused here, because the error of the transport would show the token. */
function checkToken(token = ''): string | undefined {
  const trimmed = token.trim();
  if (/[^\x21-\x7e]/.test(trimmed))
    throw new InputError("the hub's token (HF_TOKEN) holds characters that no token has");
  return trimmed || undefined;
}

function checkEndpoint(endpoint: string): string {
  if (!/^https?:$/.test(URL.canParse(endpoint) ? new URL(endpoint).protocol : ''))
    throw new InputError(`the hub's address is ${JSON.stringify(endpoint)}: it must be like https://huggingface.co`);
  return endpoint.replace(/\/+$/, '');
}

const expand = (path: string): string => path.replace(/^~(?=$|[/\\])/, homedir);

const isOn = (value: string | undefined): boolean => /^(1|on|yes|true)$/i.test(value ?? '');

import { InputError, RiverrunError } from '../core/errors.ts';
import { explain } from './node-file.ts';

export interface HubErrorOptions extends ErrorOptions {
  readonly status?: number;
  readonly isTransient?: boolean;
  readonly retryAfter?: number | undefined;
}

/** A model that could not be brought from the hub or from its cache. */
export class HubError extends RiverrunError {
  override name = 'HubError';
  /** The hub's HTTP status, where it answered. */
  readonly status: number | undefined;
  /** Whether the same request may succeed later: no connection, or a hub that is overloaded. */
  readonly isTransient: boolean;
  /** How long the hub asks to wait before the next request, in milliseconds. */
  readonly retryAfter: number | undefined;

  constructor(message: string, { cause, status, isTransient = false, retryAfter }: HubErrorOptions = {}) {
    super(message, { cause });
    this.status = status;
    this.isTransient = isTransient;
    this.retryAfter = retryAfter;
  }
}

/** What a request was for, so that its refusal can be put in words. */
export interface Subject {
  readonly endpoint: string;
  readonly repo: string;
  readonly revision: string;
  readonly file?: string;
  readonly hasToken: boolean;
}

/** The hub's answer in words when it is not the wanted thing. */
export function refusal({ status, headers }: Pick<Response, 'status' | 'headers'>, subject: Subject): HubError {
  const said = headers.get('x-error-message')?.slice(0, 200);
  const wait = retryAfter(headers.get('retry-after'));
  const error = (message: string, isTransient = false): HubError =>
    new HubError(message + (said ? `. The hub says: ${said}` : ''), { status, isTransient, retryAfter: wait });
  const code = headers.get('x-error-code');
  const { endpoint, repo, revision, file } = subject;
  if (status === 429) return error(tooMany(subject, wait), true);
  if (status === 408 || status >= 500) return error(`${endpoint} has a failure of its own (status ${status})`, true);
  if (code === 'GatedRepo' || status === 403) return error(gated(subject));
  if (status === 401) return error(unauthorised(subject));
  if (code === 'RevisionNotFound') return error(`${repo} has no branch, tag or commit ${revision}`);
  if (status === 404 && file !== undefined) return error(`${repo} has no file ${file} at revision ${revision}`);
  if (status === 404) return error(`${endpoint} has no model ${repo}`);
  return error(`${endpoint} answered with status ${status} when asked for ${file ?? 'the files'} of ${repo}`);
}

function tooMany({ endpoint, hasToken }: Subject, wait: number | undefined): string {
  const time = wait === undefined ? 'later' : `in ${Math.ceil(wait / 1000)} seconds`;
  return `${endpoint} counts too many requests: try again ${time}${hasToken ? '' : ', or set HF_TOKEN to be allowed more'}`;
}

function gated({ endpoint, repo, hasToken }: Subject): string {
  const page = `${endpoint}/${repo}`;
  return hasToken
    ? `this token has no access to ${repo}: accept its licence at ${page}, or use a token that may read it`
    : `${repo} is open to registered users only: accept its licence at ${page} and set HF_TOKEN to your token`;
}

/** The hub does not tell those without access whether a model exists. */
const unauthorised = ({ endpoint, repo, hasToken }: Subject): string =>
  hasToken
    ? `${endpoint} refuses the token, or there is no model ${repo}: check HF_TOKEN (or the token option) and the name`
    : `${endpoint} has no public model ${repo}: check the name; if it is private or gated, set HF_TOKEN to your token`;

/** The header is a number of seconds or a date (RFC 9110, section 10.2.3). */
function retryAfter(header: string | null): number | undefined {
  if (header === null) return undefined;
  const milliseconds = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(milliseconds) ? undefined : Math.max(0, milliseconds);
}

/** Runs what reads or writes the cache; a failure of the disk becomes an error that names the folder. */
export async function inCache<T>(cacheDir: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    // A file's own error has the system's as its cause.
    const failure = (error instanceof InputError ? error.cause : error) as NodeJS.ErrnoException | undefined;
    if (failure instanceof RiverrunError || failure?.syscall === undefined) throw error;
    const advice =
      failure.code === 'ENOSPC' || failure.code === 'EDQUOT'
        ? 'free some space and run it again: what was downloaded is kept'
        : 'HF_HOME can name another folder';
    const what = explain(failure, failure.path ?? cacheDir);
    throw new HubError(`the cache of models in ${cacheDir} can't be used: ${what}; ${advice}`, { cause: error });
  }
}

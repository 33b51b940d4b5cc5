import { setTimeout as pause } from 'node:timers/promises';
import { HubError, refusal, type Subject } from './hub-error.ts';

/** How failing requests are repeated. */
export interface Retry {
  /** Failures in a row, none of which brought a byte, before giving up. Default 5. */
  readonly attempts?: number;
  /** Wait after the first failure, in milliseconds; doubled after each further one. Default 500. */
  readonly delay?: number;
  /** How long a connection may bring nothing before it is dropped, in milliseconds. Default 30,000. */
  readonly stall?: number;
}

/** How requests are made: the transport, its patience, the token, and the signal that ends them. */
export interface Transport {
  readonly fetch: typeof fetch;
  readonly token: string | undefined;
  readonly signal: AbortSignal;
  readonly retry: Required<Retry>;
}

/** An answer whose body is read piece by piece. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** The next piece; undefined after the last. */
  read(): Promise<Uint8Array | undefined>;
  /** Drops the connection if the body was not read to its end. */
  close(): Promise<void>;
}

/** A hub that asks for more patience than this is not waited for. */
const longestWait = 120_000;

/** Makes one request. HubError, transient where it is worth repeating, unless the answer is a success. */
export async function request(
  url: string,
  headers: Readonly<Record<string, string>>,
  subject: Subject,
  { fetch, token, signal, retry }: Transport,
): Promise<Answer> {
  signal.throwIfAborted();
  const dropped = new AbortController();
  const timer = setTimeout(
    () => dropped.abort(new Error(`nothing arrived for ${retry.stall / 1000} seconds`)),
    retry.stall,
  );
  const network = async <T>(work: () => Promise<T>): Promise<T> => {
    timer.refresh();
    try {
      return await work();
    } catch (cause) {
      clearTimeout(timer);
      signal.throwIfAborted();
      throw new HubError(`the connection to ${subject.endpoint} failed: ${reason(cause)}`, {
        cause,
        isTransient: true,
      });
    }
  };
  // Ranges count the bytes of the file itself, so it must not come compressed.
  const identity = { 'accept-encoding': 'identity', 'user-agent': 'riverrun' };
  const authorization: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const response = await network(() =>
    fetch(url, {
      headers: { ...identity, ...authorization, ...headers },
      signal: AbortSignal.any([signal, dropped.signal]),
    }),
  );
  const reader = response.body?.getReader();
  const close = async (): Promise<void> => {
    clearTimeout(timer);
    await reader?.cancel().catch(() => {});
  };
  if (!response.ok) {
    await close();
    throw refusal(response, subject);
  }
  return {
    status: response.status,
    headers: response.headers,
    async read() {
      signal.throwIfAborted();
      return (await network(async () => reader?.read()))?.value;
    },
    close,
  };
}

/** Makes a request and reads its answer as JSON. */
export async function requestJson(url: string, subject: Subject, transport: Transport): Promise<unknown> {
  const answer = await request(url, { accept: 'application/json' }, subject, transport);
  const pieces: Uint8Array[] = [];
  try {
    for (let piece: Uint8Array | undefined; (piece = await answer.read()) !== undefined; ) pieces.push(piece);
  } finally {
    await answer.close();
  }
  try {
    return JSON.parse(Buffer.concat(pieces).toString('utf8'));
  } catch (cause) {
    // What a login page of a network answers in the hub's place.
    throw new HubError(`${url} answered with something that is not JSON: is that the hub?`, {
      cause,
      isTransient: true,
    });
  }
}

/** Repeats `work` while its failures are transient. One that `progressed` before it failed starts the count again. */
export async function withRetries<T>(
  { retry, signal }: Transport,
  work: () => Promise<T>,
  progressed: () => boolean = () => false,
): Promise<T> {
  for (let failures = 0; ; ) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof HubError) || !error.isTransient) throw error;
      failures = progressed() ? 1 : failures + 1;
      const wait = error.retryAfter ?? Math.min(retry.delay * 2 ** (failures - 1), 10_000);
      if (failures >= retry.attempts || wait > longestWait) throw error;
      await pause(wait, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}

/** The innermost cause of a failed fetch: its outermost message says only that it failed. */
function reason(error: unknown): string {
  const { cause, message, code } = error as { cause?: unknown; message?: string; code?: string };
  if (cause instanceof Error) return reason(cause);
  return message || code || String(error);
}

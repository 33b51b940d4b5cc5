import type { RemoteFile } from './hub-download.ts';
import { HubError, type Subject } from './hub-error.ts';
import { isSafePath, type ModelId } from './hub-id.ts';
import { requestJson, type Transport, withRetries } from './hub-request.ts';

/** A model's repository at one commit. */
export interface Listing {
  readonly commit: string;
  readonly files: ReadonlyMap<string, RemoteFile>;
}

/**
 * Asks the hub which commit a revision stands for, and which files it has. Names, hashes and the commit become paths of the
 * cache, so that what is not of their form is refused. Source: https://huggingface.co/docs/hub/api (model info with blobs)
 */
export async function listModel({ repo, revision }: ModelId, subject: Subject, transport: Transport): Promise<Listing> {
  const url = `${subject.endpoint}/api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`;
  const info = await withRetries(transport, () => requestJson(url, subject, transport));
  const { sha, siblings } = (info ?? {}) as { sha?: unknown; siblings?: unknown };
  if (typeof sha !== 'string' || !/^[0-9a-f]{40}$/.test(sha) || !Array.isArray(siblings))
    throw new HubError(`${url} answered without a commit and a list of files: is that the hub?`);
  return {
    commit: sha,
    files: new Map(siblings.map((sibling) => fileOf(sibling, url)).map((file) => [file.path, file])),
  };
}

function fileOf(sibling: unknown, url: string): RemoteFile {
  const { rfilename: path, size, blobId, lfs } = (sibling ?? {}) as Record<string, unknown>;
  const etag = (lfs as { sha256?: unknown } | null | undefined)?.sha256 ?? blobId;
  const isWhole =
    typeof path === 'string' && typeof etag === 'string' && Number.isSafeInteger(size) && Number(size) >= 0;
  if (!isWhole || !isSafePath(path) || !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(etag))
    throw new HubError(`${url} lists a file without a plain path, its size and its hash: ${JSON.stringify(sibling)}`);
  return { path, size: size as number, etag };
}

/** The address of a file's contents. */
export const fileUrl = (endpoint: string, repo: string, commit: string, path: string): string =>
  `${endpoint}/${repo}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`;

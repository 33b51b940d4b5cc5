import { InputError } from '../core/errors.ts';

/** What `org/name`, `org/name/file.gguf` and `org/name@revision` name on the Hugging Face hub. */
export interface ModelId {
  /** `org/name`. */
  readonly repo: string;
  /** A branch, a tag or a commit. */
  readonly revision: string;
  /** A file of the repository, if one was named: its path there. */
  readonly file: string | undefined;
}

const forms = 'a model on the hub is named org/name, org/name@revision or org/name/file.gguf';

/**
 * Reads a model's name on the hub. A revision is a branch, a tag or a commit, in the name or as `revision`; default `main`.
 * InputError for anything else, so that no name can reach outside the cache folder.
 */
export function parseModelId(id: string, revision?: string): ModelId {
  const [, repo, file, own] = /^([^/@]+\/[^/@]+)(?:\/([^@]+))?(?:@(.+))?$/s.exec(id) ?? [];
  if (repo === undefined || !repo.split('/').every(isName))
    throw new InputError(`${JSON.stringify(id)} is no model's name: ${forms}`);
  if (file !== undefined && !isSafePath(file))
    throw new InputError(`${JSON.stringify(id)}: ${JSON.stringify(file)} is no file's path in a repository; ${forms}`);
  if (own !== undefined && revision !== undefined && own !== revision)
    throw new InputError(`${id} names a revision, and the option asks for another: ${revision}`);
  const wanted = own ?? revision ?? 'main';
  if (!/^\w[\w.+-]*(\/\w[\w.+-]*)*$/.test(wanted) || wanted.includes('..'))
    throw new InputError(`${JSON.stringify(wanted)} is no revision: it must be a branch, a tag or a commit`);
  return { repo, revision: wanted, file };
}

/** The name that `parseModelId` reads as `model`. */
export const formatModelId = ({ repo, file, revision }: ModelId): string =>
  repo + (file === undefined ? '' : `/${file}`) + (revision === 'main' ? '' : `@${revision}`);

/** The hub's rule for organisations and repositories. The cache joins both with `--`, so that neither may hold it. */
const isName = (name: string): boolean => /^[A-Za-z0-9_]([\w.-]{0,94}\w)?$/.test(name) && !/--|\.\./.test(name);

/** Whether a path given by the hub or by a caller stays inside the folder that it is joined to. */
export const isSafePath = (path: string): boolean =>
  path !== '' && !/[\\:\0]/.test(path) && path.split('/').every((part) => part !== '' && part !== '.' && part !== '..');

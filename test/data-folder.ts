import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

/** A folder for a test file's data, which is the cache's too, until its tests have ended. */
export function dataFolder(name: string) {
  const folder = mkdtempSync(join(tmpdir(), `riverrun-${name}-`));
  process.env['XDG_CACHE_HOME'] = folder;
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const at = (path: string): string => join(folder, path);
  /** Writes a file, and tells where. */
  const file = (path: string, contents: string | Uint8Array): string => {
    writeFileSync(at(path), contents);
    return at(path);
  };
  return { folder, at, file };
}

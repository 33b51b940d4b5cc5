import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { describe, expect, test } from 'vitest';

/** What each folder of src may import besides itself. Imports point down only. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  core: [],
  ops: ['core'],
  layers: ['core', 'ops'],
  models: ['core', 'ops', 'layers'],
  'backends/reference': ['core', 'ops'],
  'backends/wasm': ['core', 'ops'],
  verification: ['core', 'ops'],
  formats: ['core'],
  tokenizers: ['core'],
  gguf: ['core', 'ops', 'formats', 'models', 'tokenizers'],
  chat: ['core'],
  constraints: ['core', 'tokenizers'],
  statespace: ['core'],
  runtime: ['core', 'ops', 'layers', 'models', 'formats', 'tokenizers', 'chat', 'constraints'],
  train: ['core', 'ops', 'layers', 'models', 'formats', 'tokenizers', 'runtime'],
  tasks: ['core', 'ops', 'chat', 'constraints', 'runtime', 'tokenizers'],
  platform: [
    'core',
    'backends/reference',
    'backends/wasm',
    'chat',
    'formats',
    'gguf',
    'models',
    'ops',
    'runtime',
    'tasks',
    'tokenizers',
    'train',
    'verification',
  ],
  server: ['*'],
  cli: ['*'],
  '.': ['*'],
};

/** Folders that may use Node's modules and globals. */
const nodeAllowed = ['platform', 'server', 'cli'];

const src = new URL('../src/', import.meta.url).pathname;
const files = readdirSync(src, { recursive: true })
  .map(String)
  .filter(
    (name) =>
      name.endsWith('.ts') && !name.includes('assembly/') && !name.includes('generated/') && !name.endsWith('.test.ts'),
  );

const folderOf = (file: string): string => {
  const folder = dirname(file);
  return folder.startsWith('backends/') ? folder.split('/').slice(0, 2).join('/') : folder.split('/')[0]!;
};

const imports = new Map(
  files.map((file) => {
    const text = readFileSync(join(src, file), 'utf8');
    const found = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(([, target]) => target!);
    const typeOnly = new Set([...text.matchAll(/import type [^;]*? from '([^']+)'/g)].map(([, target]) => target!));
    return [file, { text, found, typeOnly }] as const;
  }),
);

const resolveImport = (file: string, target: string): string =>
  normalize(relative(src, join(src, dirname(file), target)));

describe('layers', () => {
  test.each(files)('%s imports only what its layer may', (file) => {
    const folder = folderOf(file);
    expect(Object.keys(allowed), `${folder} is in the table`).toContain(folder);
    for (const target of imports.get(file)!.found) {
      if (!target.startsWith('.')) {
        if (target.startsWith('node:')) expect(nodeAllowed, `${file} imports ${target}`).toContain(folder);
        continue;
      }
      const other = folderOf(resolveImport(file, target));
      if (other === folder || allowed[folder]!.includes('*')) continue;
      expect(allowed[folder], `${file} imports ${target}`).toContain(other);
    }
  });

  test.each(files.filter((file) => !nodeAllowed.includes(folderOf(file))))(
    '%s uses no global of Node or of a page',
    (file) => {
      const code = imports.get(file)!.text.replace(/\/\*[\s\S]*?\*\/|\/\/.*|'[^']*'|`[^`]*`/g, '');
      expect(code).not.toMatch(/(?<![\w.#])(process|Buffer|document|window|navigator|localStorage)\s*[.(]/);
    },
  );

  test('no file imports itself through others', () => {
    const graph = new Map(
      files.map((file) => {
        const { found, typeOnly } = imports.get(file)!;
        return [
          file,
          found
            .filter((target) => target.startsWith('.') && !typeOnly.has(target))
            .map((target) => resolveImport(file, target)),
        ];
      }),
    );
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) throw new Error(`cycle: ${[...path.slice(path.indexOf(file)), file].join(' → ')}`);
      if (done.has(file)) return;
      for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
      done.add(file);
    };
    for (const file of files) visit(file, []);
  });

  test('no model is told its backend, and only entry points choose one', () => {
    for (const file of files) {
      const folder = folderOf(file);
      if (folder === 'platform' || folder.startsWith('backends/')) continue;
      for (const target of imports.get(file)!.found) {
        // Types of progress and options may be named; the backends themselves not.
        expect(resolveImport(file, target).startsWith('backends/'), `${file} imports ${target}`).toBe(false);
      }
    }
  });

  test('model files are at most 150 lines', () => {
    for (const file of files.filter((name) => folderOf(name) === 'models')) {
      expect(imports.get(file)!.text.split('\n').length, file).toBeLessThanOrEqual(151);
    }
  });
});

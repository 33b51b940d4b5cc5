import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { byteTokenizer } from '../src/tokenizers/bytes.ts';
import { goldenModel } from './assembled.ts';
import { continueEverywhere, type Given, type Told } from './browser-page.ts';
import { goldenFolder } from './golden.ts';

const browser = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
const folder = mkdtempSync(join(tmpdir(), 'riverrun-browser-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A model of every family of states: convolutions and a diagonal recurrence, shifts and matrices, keys and values. */
const names = ['mamba', 'rwkv7', 'llama'];

async function given(name: string): Promise<Given> {
  const model = await goldenModel(name, referenceBackend('f32'), { tokenizer: byteTokenizer() });
  const session = model.session();
  await session.read([72, 101, 108, 108, 111, 44, 32, 119].map((token) => token % model.vocabularySize));
  const state = Buffer.from(session.state.save()).toString('base64');
  model.dispose();
  return {
    config: JSON.parse(readFileSync(`${goldenFolder(name)}config.json`, 'utf8')),
    checkpoint: readFileSync(`${goldenFolder(name)}model.safetensors`).toString('base64'),
    state,
  };
}

/** The page's answer. It is opened as a file: pages so opened have no SharedArrayBuffer and one thread. */
async function inBrowser(data: Given): Promise<Told[]> {
  const source = join(import.meta.dirname, 'browser-page.ts');
  const { outputFiles } = await build({
    stdin: {
      contents: `import { continueEverywhere } from ${JSON.stringify(source)};
        const show = (text) => { document.body.textContent = text; };
        continueEverywhere(${JSON.stringify(data)}).then((told) => show(JSON.stringify({ told })), (error) => show(JSON.stringify({ error: String(error) })));`,
      resolveDir: import.meta.dirname,
    },
    bundle: true,
    format: 'iife',
    platform: 'browser',
    write: false,
  });
  const page = join(folder, 'page.html');
  writeFileSync(
    page,
    `<meta charset="utf-8"><body><script>${outputFiles[0]!.text.replaceAll('</script', '<\\/script')}</script>`,
  );
  const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run'];
  const profile = [`--user-data-dir=${join(folder, 'profile')}`, '--virtual-time-budget=60000'];
  const html = execFileSync(browser!, [...flags, ...profile, '--dump-dom', `file://${page}`], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: 60_000,
    // The page has the whole bundle in it.
    maxBuffer: 1 << 26,
  });
  const shown = /<body>(.*)<\/body>/s.exec(html)?.[1] ?? html;
  const { told, error } = JSON.parse(shown) as { told?: Told[]; error?: string };
  if (!told) throw new Error(error);
  return told;
}

if (!browser) console.warn('no Chromium is installed here: nothing is opened in a browser');

describe.each(names)('%s', (name) => {
  test('a state saved in Node goes on the same on each backend', async () => {
    const data = await given(name);
    const [wasm, reference] = (await continueEverywhere(data)) as [Told, Told];
    expect(wasm.state).toBe(data.state);
    expect(reference).toEqual({ ...wasm, backend: reference.backend });
    expect(wasm.constrained).toMatch(/^[a-c]{3}-[0-9]{2}$/);
  });

  test.skipIf(!browser)('and in a browser, without shared memory', { timeout: 120_000 }, async () => {
    const data = await given(name);
    const here = await continueEverywhere(data);
    expect(here[0]!.hasSharedMemory).toBe(true);
    const there = await inBrowser(data);
    expect(there.map(({ hasSharedMemory }) => hasSharedMemory)).toEqual([false, false]);
    expect(there).toEqual(
      here.map((told) => ({ ...told, backend: there[here.indexOf(told)]!.backend, hasSharedMemory: false })),
    );
  });
});

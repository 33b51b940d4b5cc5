import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { inspect, load } from '../src/index.ts';
import { goldenFolder } from './golden.ts';

const folder = mkdtempSync(join(tmpdir(), 'riverrun-unfinished-'));
afterAll(() => rmSync(folder, { recursive: true }));

test.each(['model.gguf', 'model.pth', 'model.safetensors'])('an empty %s says that it is empty', async (name) => {
  const path = join(folder, name);
  writeFileSync(path, '');
  cpSync(`${goldenFolder('llama')}config.json`, join(folder, 'config.json'));
  await expect(load(path)).rejects.toThrow(/is empty: it was not written or downloaded to its end; fetch it again/);
  await expect(inspect(path)).rejects.toThrow(/is empty/);
});

test('a .gguf file that is something else says how it begins', async () => {
  const path = join(folder, 'page.gguf');
  writeFileSync(path, '<html>not found</html>');
  await expect(load(path)).rejects.toThrow(/page\.gguf is no GGUF file: it begins with "<htm"/);
});

test('one file of several says which, and what to name instead', async () => {
  const part = join(folder, 'model-00002-of-00003.safetensors');
  writeFileSync(part, readFileSync(`${goldenFolder('llama')}model.safetensors`));
  await expect(load(part)).rejects.toThrow(
    /is file 2 of 3 of a model: its index model\.safetensors\.index\.json is not beside it; fetch that and the other files/,
  );
  const index = join(folder, 'model.safetensors.index.json');
  writeFileSync(index, '{}');
  await expect(inspect(part)).rejects.toThrow(`file 2 of 3 of a model: name ${index} or its folder`);
  const gguf = join(folder, 'big-00001-of-00002.gguf');
  writeFileSync(gguf, 'GGUF');
  await expect(load(gguf)).rejects.toThrow(
    /is file 1 of 2 of a model: join them first \(llama-gguf-split --merge big-/,
  );
  // One file of one is the whole.
  const whole = join(folder, 'model-00001-of-00001.safetensors');
  cpSync(`${goldenFolder('llama')}model.safetensors`, whole);
  expect((await inspect(whole)).type).toBe('llama');
});

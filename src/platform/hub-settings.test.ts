import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hubSettings } from './hub-settings.ts';

let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'riverrun-settings-'));
});
afterAll(() => rmSync(home, { recursive: true }));

describe('hubSettings', () => {
  test.each([
    [{}, join(homedir(), '.cache/huggingface/hub')],
    [{ HF_HOME: '' }, join(homedir(), '.cache/huggingface/hub')],
    [{ XDG_CACHE_HOME: '/x' }, '/x/huggingface/hub'],
    [{ XDG_CACHE_HOME: '/x', HF_HOME: '/h' }, '/h/hub'],
    [{ HF_HOME: '~/h' }, join(homedir(), 'h/hub')],
    [{ HF_HOME: '/h', HUGGINGFACE_HUB_CACHE: '/old' }, '/old'],
    [{ HF_HOME: '/h', HF_HUB_CACHE: '/c', HUGGINGFACE_HUB_CACHE: '/old' }, '/c'],
  ])('with %j the cache is %s', async (env, cacheDir) => {
    expect((await hubSettings({ token: 'x' }, env)).cacheDir).toBe(cacheDir);
  });

  test('what is given wins', async () => {
    const given = { endpoint: 'https://mirror/', cacheDir: '/g', token: 'given', offline: false };
    const env = { HF_ENDPOINT: 'https://other', HF_HUB_CACHE: '/c', HF_TOKEN: 'env', HF_HUB_OFFLINE: '1' };
    expect(await hubSettings(given, env)).toEqual({ ...given, endpoint: 'https://mirror' });
  });

  test.each([
    [{ HF_HUB_OFFLINE: '1' }, true],
    [{ TRANSFORMERS_OFFLINE: 'True' }, true],
    [{ HF_HUB_OFFLINE: '0' }, false],
    [{}, false],
  ])('%j', async (env, offline) => {
    expect((await hubSettings({ token: 'x' }, env)).offline).toBe(offline);
  });

  test('the token is in the environment or in a file', async () => {
    const token = async (env: Record<string, string>) => (await hubSettings({}, { HF_HOME: home, ...env })).token;
    expect(await token({})).toBeUndefined();
    writeFileSync(join(home, 'token'), 'saved\n');
    writeFileSync(join(home, 'other'), 'elsewhere');
    expect(await token({})).toBe('saved');
    expect(await token({ HF_TOKEN_PATH: join(home, 'other') })).toBe('elsewhere');
    expect(await token({ HF_TOKEN: ' env ' })).toBe('env');
  });

  test('a token or an address that can be none is refused, and the token not shown', async () => {
    const failure = hubSettings({ token: 'hf_secret\nx' }, {});
    await expect(failure).rejects.toThrow(/characters that no token has/);
    await expect(failure).rejects.not.toThrow(/secret/);
    for (const endpoint of ['huggingface.co', 'file:///x', ''])
      await expect(hubSettings({ endpoint, token: 'x' }, {})).rejects.toThrow(/must be like https/);
  });
});

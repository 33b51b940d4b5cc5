import { describe, expect, test } from 'vitest';
import { InputError } from '../core/errors.ts';
import { formatModelId, parseModelId } from './hub-id.ts';

describe('parseModelId', () => {
  test.each([
    ['state-spaces/mamba-130m-hf', 'state-spaces/mamba-130m-hf', 'main', undefined],
    ['a/b@refs/pr/1', 'a/b', 'refs/pr/1', undefined],
    ['a/b/q8/x.gguf@v1.0', 'a/b', 'v1.0', 'q8/x.gguf'],
    ['BlinkDL/rwkv-7-world/RWKV-x070 0.1B.pth', 'BlinkDL/rwkv-7-world', 'main', 'RWKV-x070 0.1B.pth'],
  ])('%s', (id, repo, revision, file) => {
    const model = parseModelId(id);
    expect(model).toEqual({ repo, revision, file });
    expect(formatModelId(model)).toBe(id);
  });

  test.each([
    '',
    'gpt2',
    'a/',
    '/b',
    '../etc',
    'a/..',
    'a/.b',
    'a/b.',
    'a--b/c',
    'a/b..c',
    'a b/c',
    'a/b@',
    'a/b@../x',
    'a/b@x..y',
    'a/b@/x',
    'a/b@x/',
    'a/b/../c',
    'a/b/c//d',
    'a/b/c\\d',
    'a/b/C:x',
    `a/${'b'.repeat(97)}`,
    'a/b\n',
    'https://huggingface.co/a/b',
  ])('refuses %j', (id) => {
    expect(() => parseModelId(id)).toThrow(InputError);
  });

  test('takes a revision from one place', () => {
    expect(parseModelId('a/b', 'v2').revision).toBe('v2');
    expect(parseModelId('a/b@v2', 'v2').revision).toBe('v2');
    expect(() => parseModelId('a/b@v1', 'v2')).toThrow(/another: v2/);
    expect(() => parseModelId('a/b', '../v2')).toThrow(InputError);
  });
});

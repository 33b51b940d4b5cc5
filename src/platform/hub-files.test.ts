import { describe, expect, test } from 'vitest';
import { chooseFiles, filterFiles, withAllShards } from './hub-files.ts';

const tokenizer = ['config.json', 'merges.txt', 'tokenizer.json', 'tokenizer_config.json', 'vocab.json'];
const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];

describe('chooseFiles', () => {
  test.each([
    ['safetensors rather than PyTorch', ['model.safetensors', 'pytorch_model.bin', 'x.pth'], ['model.safetensors']],
    [
      'a whole model rather than its shards',
      ['model.safetensors', 'model.safetensors.index.json', ...shards],
      ['model.safetensors'],
    ],
    ['the only safetensors, whatever its name', ['rwkv7.safetensors', 'pytorch_model.bin'], ['rwkv7.safetensors']],
    [
      'PyTorch where there is no other',
      ['pytorch_model.bin', 'flax_model.msgpack', 'tf_model.h5'],
      ['pytorch_model.bin'],
    ],
    ['the only .pth', ['RWKV-x070-0.1B.pth', 'README.md'], ['RWKV-x070-0.1B.pth']],
    ['nothing in folders', ['model.safetensors', 'onnx/model.safetensors', 'original/x.pth'], ['model.safetensors']],
  ])('takes %s', (_, names, weights) => {
    expect(chooseFiles(names, 'org/name')).toMatchObject({ companions: [], weights, problem: undefined });
  });

  test('takes all shards with their index, however they are named', () => {
    const index = 'model.safetensors.index.json';
    expect(chooseFiles([index, ...shards, 'x.safetensors'], 'org/name')).toMatchObject({
      companions: [index],
      weights: shards,
    });
    const dotted = shards.map((name) => name.replace('model-', 'model.safetensors-'));
    expect(chooseFiles([index, ...dotted], 'org/name').weights).toEqual(dotted);
    const bins = ['pytorch_model-00001-of-00002.bin', 'pytorch_model-00002-of-00002.bin'];
    expect(chooseFiles(['pytorch_model.bin.index.json', ...bins], 'org/name')).toMatchObject({
      companions: ['pytorch_model.bin.index.json'],
      weights: bins,
    });
  });

  test('takes configuration and tokenizer beside the weights', () => {
    const wanted = [...tokenizer, 'rwkv_vocab_v20230424.txt', 'chat_template.jinja', 'generation_config.json'];
    const others = ['README.md', '.gitattributes', 'training_args.bin', 'onnx/config.json', 'optimizer.pt'];
    expect(chooseFiles([...wanted, ...others, 'model.safetensors'], 'org/name')).toMatchObject({
      companions: wanted,
      weights: ['model.safetensors'],
    });
  });

  test.each([
    [['a.pth', 'b.pth'], 'org/name holds several models: name one, as org/name/a.pth; it has a.pth, b.pth'],
    [['a.safetensors', 'b.safetensors'], 'holds several models'],
    [['q4.gguf'], 'org/name has GGUF files: name one, as org/name/q4.gguf'],
    [['onnx/model.onnx'], 'org/name has no weights that can be loaded'],
    [[], 'it has no files'],
  ])('of %j is a problem', (names, problem) => {
    const choice = chooseFiles(names, 'org/name');
    expect(choice.problem).toContain(problem);
    expect(choice.weights).toEqual([]);
  });
});

describe('chooseFiles of a named file', () => {
  test('takes a GGUF file alone, with all its shards', () => {
    const names = ['config.json', 'a-00001-of-00002.gguf', 'a-00002-of-00002.gguf', 'b.gguf'];
    expect(chooseFiles(names, 'org/name', 'b.gguf')).toEqual({ companions: [], weights: ['b.gguf'] });
    expect(chooseFiles(names, 'org/name', names[1]).weights).toEqual(names.slice(1, 3));
  });

  test('takes other weights with what lies beside them', () => {
    const names = ['config.json', 'b/config.json', 'b/x.pth', 'b/y.pth', 'a.pth'];
    expect(chooseFiles(names, 'org/name', 'a.pth')).toEqual({ companions: ['config.json'], weights: ['a.pth'] });
    expect(chooseFiles(names, 'org/name', 'b/x.pth')).toEqual({ companions: ['b/config.json'], weights: ['b/x.pth'] });
  });

  test('takes any other file by itself', () => {
    expect(chooseFiles(['README.md', 'x.pth'], 'org/name', 'README.md')).toEqual({
      companions: ['README.md'],
      weights: [],
    });
  });

  test('that is not there names the nearest', () => {
    expect(chooseFiles(['q4.gguf', 'q8.gguf'], 'org/name', 'q5.gguf').problem).toBe(
      'org/name has no file q5.gguf; did you mean q4.gguf, q8.gguf?',
    );
    expect(chooseFiles(['q4.gguf'], 'org/name', 'something.else').problem).toContain('it has q4.gguf');
  });
});

test('filterFiles parts weights from the rest, and nothing is a problem', () => {
  const names = ['a.pth', 'b.txt', 'c.gguf'];
  expect(filterFiles(names, 'org/name', (name) => name < 'c')).toEqual({ companions: ['b.txt'], weights: ['a.pth'] });
  expect(filterFiles(names, 'org/name', () => false).problem).toContain('none of the files of org/name');
});

test('withAllShards completes models', () => {
  expect(withAllShards(['x-00002-of-00003.bin', 'y.bin'])).toEqual([
    'x-00001-of-00003.bin',
    'x-00002-of-00003.bin',
    'x-00003-of-00003.bin',
    'y.bin',
  ]);
});

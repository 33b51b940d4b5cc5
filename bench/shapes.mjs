// The shapes that are timed: sizes of published models, with random weights.
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { reachable } from '../dist/core/grad.js';
import { Random } from '../dist/core/random.js';
import { encodeSafetensors } from '../dist/formats/safetensors-writer.js';
import { architectures } from '../dist/models/index.js';
import { writeFileAtomically } from '../dist/platform/node-file.js';
import { traceModel } from '../dist/runtime/graph.js';

/** RWKV-7 is told by its tensors: those from which the sizes are read. */
const rwkv7Tensors = (V, D, layers, F) => ({
  'emb.weight': [V, D],
  [`blocks.${layers - 1}.ln1.weight`]: [D],
  'blocks.0.ffn.key.weight': [F, D],
  'blocks.0.att.r_k': [D / 64, 64],
  'blocks.0.att.w1': [D, 64],
  'blocks.0.att.a1': [D, 64],
  'blocks.0.att.v1': [D, 32],
  'blocks.0.att.g1': [D, 128],
});

export const shapes = {
  'mamba-130m': {
    config: { model_type: 'mamba', num_hidden_layers: 24, hidden_size: 768, state_size: 16, vocab_size: 50280 },
  },
  'mamba2-130m': {
    config: {
      model_type: 'mamba2',
      num_hidden_layers: 24,
      hidden_size: 768,
      state_size: 128,
      head_dim: 64,
      num_heads: 24,
      expand: 2,
      n_groups: 1,
      tie_word_embeddings: true,
      vocab_size: 50288,
    },
  },
  'rwkv7-0.19b': { config: { model_type: 'rwkv7' }, tensors: rwkv7Tensors(65536, 768, 12, 3072) },
  'llama-160m': {
    config: {
      model_type: 'llama',
      num_hidden_layers: 12,
      hidden_size: 768,
      intermediate_size: 2048,
      num_attention_heads: 12,
      max_position_embeddings: 8192,
      rms_norm_eps: 1e-5,
      tie_word_embeddings: false,
      vocab_size: 50304,
    },
  },
};

/** What a step of a shape computes. */
export function traceShape(name) {
  const { config, tensors = {} } = shapes[name];
  const known = new Map(Object.entries(tensors).map(([key, shape]) => [key, { shape }]));
  const architecture = architectures[config.model_type];
  return traceModel(architecture, architecture.config(config, known));
}

/** Multiply-adds that products with matrices make of a token that is read: all but those of the head, which only the last has. */
export function productsPerToken(name) {
  const { logits, carries } = traceShape(name);
  const roots = [logits, ...carries.map(({ next }) => next)].map((root) => root.node);
  return [...reachable(roots)]
    .filter(({ op, inputs }) => op?.name === 'linear' && inputs.x.shape[0] === 'tokens')
    .reduce((sum, { inputs }) => sum + inputs.w.shape.reduce((a, b) => a * b, 1), 0);
}

/**
 * Writes a shape as a folder that `load` and `convert` take, with a tokenizer of its size from `tokenizers` (llama.cpp does not run
 * without one); returns its number of parameters.
 */
export async function writeShape(name, folder, tokenizers) {
  const { config } = shapes[name];
  const { parameters } = traceShape(name);
  const random = new Random(1);
  const written = [...parameters.values()].map(({ name, shape, initial }) => ({
    name,
    type: 'f32',
    shape,
    data: () => [new Uint8Array(initialValues(shape, initial, random).buffer)],
  }));
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  await writeFileAtomically(join(folder, 'model.safetensors'), encodeSafetensors(written));
  const isWorld = config.model_type === 'rwkv7';
  copyFileSync(
    join(tokenizers, isWorld ? 'rwkv_vocab_v20230424.txt' : 'gpt-neox-20b.json'),
    join(folder, isWorld ? 'rwkv_vocab_v20230424.txt' : 'tokenizer.json'),
  );
  return written.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

function initialValues(shape, initial, random) {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  const draw = {
    zeros: () => 0,
    ones: () => 1,
    constant: () => initial.value,
    normal: () => initial.std * random.normal(),
    uniform: () => initial.low + (initial.high - initial.low) * random.uniform(),
    orthogonal: () => initial.gain * random.normal() * shape.at(-1) ** -0.5,
    formula: (n) => initial.value(indexOf(n, shape), random.uniform()),
  }[initial.kind];
  for (let n = 0; n < values.length; n++) values[n] = draw(n);
  return values;
}

function indexOf(n, shape) {
  const index = [];
  for (const length of shape.toReversed()) {
    index.unshift(n % length);
    n = Math.floor(n / length);
  }
  return index;
}

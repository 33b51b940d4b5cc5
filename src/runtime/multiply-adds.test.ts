import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { architectureOf } from '../models/index.ts';
import { traceModel } from './graph.ts';
import { multiplyAddsOf } from './multiply-adds.ts';
import { declareWeights } from './parameters.ts';

/** Those of a golden's model, whose matrices are held in a format. */
function counted(name: string, format: 'f32' | 'q4') {
  const config = JSON.parse(readFileSync(new URL(`../../test/goldens/${name}/config.json`, import.meta.url), 'utf8'));
  const architecture = architectureOf(config, new Map());
  const graph = traceModel(architecture, architecture.config(config, new Map()));
  const { token, head } = multiplyAddsOf(graph, declareWeights(graph, format));
  return { config, token: Object.fromEntries(token), head: Object.fromEntries(head) };
}

test('every matrix of a layer counts for each token, the head for each that has logits, tables not at all', () => {
  const { config, token, head } = counted('llama', 'f32');
  const { hidden_size: D, intermediate_size: F, num_hidden_layers: layers, vocab_size: V } = config;
  const shared = (D / config.num_attention_heads) * config.num_key_value_heads;
  expect(token).toEqual({ f32: layers * (2 * D * D + 2 * D * shared + 3 * D * F) });
  expect(head).toEqual({ f32: V * D });
});

test('matrices that lie as rows of inputs count too', () => {
  const { config, token, head } = counted('gpt2', 'f32');
  const { n_embd: D, n_layer: layers, vocab_size: V } = config;
  expect(token).toEqual({ f32: layers * 12 * D * D });
  expect(head).toEqual({ f32: V * D });
});

test('narrow matrices are told apart from those that are quantised', () => {
  const { config, token } = counted('mamba', 'q4');
  const { hidden_size: D, intermediate_size: E, num_hidden_layers: layers, state_size: N } = config;
  const R = config.time_step_rank;
  expect(token).toEqual({ q4: layers * 3 * D * E, bf16: layers * (E * (R + 2 * N) + R * E) });
});

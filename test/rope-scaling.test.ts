import { expect, test } from 'vitest';
import { ConfigError } from '../src/index.ts';
import { ConfigReader } from '../src/models/config.ts';
import { readRope } from '../src/models/rope-config.ts';

const K = 16;
const rope = (fields: object) => readRope(new ConfigReader(fields as Record<string, unknown>), K);

test('scaling that depends on the text’s length is refused with the reason, other kinds with what is known', () => {
  for (const fields of [
    { rope_parameters: { rope_type: 'dynamic', factor: 2 } },
    { rope_theta: 10000, rope_scaling: { type: 'dynamic', factor: 2 } },
  ]) {
    expect(() => rope(fields)).toThrow(ConfigError);
    expect(() => rope(fields)).toThrow(/is "dynamic": frequencies that change with the text's length are not built/);
  }
  expect(() => rope({ rope_scaling: { type: 'strange', factor: 2 } })).toThrow(/"strange".*known: .*"yarn"/);
});

test('YaRN is the same from either dialect, and between it and no scaling where its pairs say', () => {
  const yarn = { factor: 4, original_max_position_embeddings: 256 };
  const found = rope({ rope_parameters: { rope_type: 'yarn', rope_theta: 10000, ...yarn } });
  expect(rope({ rope_theta: 10000, rope_scaling: { type: 'yarn', ...yarn } })).toEqual(found);
  expect(
    rope({ rope_theta: 10000, max_position_embeddings: 1024, rope_scaling: { type: 'yarn', ...yarn, factor: null } }),
  ).toEqual(found);
  const plain = rope({ rope_theta: 10000 }).frequencies;
  expect(found.frequencies[0]).toBe(plain[0]);
  expect(found.frequencies.at(-1)).toBeCloseTo(plain.at(-1)! / 4, 15);
  expect(found.magnitude).toBeCloseTo(0.1 * Math.log(4) + 1, 12);
});

test('the original length is told beside the scaling, within it, or is the longest there is', () => {
  const llama3 = { rope_type: 'llama3', rope_theta: 10000, factor: 8 };
  const within = rope({ rope_parameters: { ...llama3, original_max_position_embeddings: 64 } });
  expect(rope({ rope_parameters: llama3, original_max_position_embeddings: 64 })).toEqual(within);
  expect(rope({ rope_parameters: llama3, max_position_embeddings: 64 })).toEqual(within);
  expect(rope({ rope_parameters: llama3 })).not.toEqual(within);
});

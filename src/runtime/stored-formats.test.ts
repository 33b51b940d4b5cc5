import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { StoredType } from '../formats/checkpoint.ts';
import { architectureOf } from '../models/index.ts';
import { foldConstants } from './fold.ts';
import { traceModel } from './graph.ts';
import { declareWeights, type Origin } from './parameters.ts';
import { commonFormat, formatOf, formatsAsStored, storedInFour } from './stored-formats.ts';

test('the format that loses least of a type', () => {
  const expected: readonly (readonly [string, readonly StoredType[]])[] = [
    ['q8', ['q8_0', 'q6_k', 'q5_k', 'q4_k', 'q3_k', 'q2_k', 'iq4_nl', 'iq4_xs', 'q5_1', 'q5_0', 'q4_1']],
    ['q4', ['q4_0']],
    ['f32', ['f32', 'f64', 'i64', 'i32', 'i16', 'i8', 'u8', 'bool']],
    ['f16', ['f16']],
    ['bf16', ['bf16']],
  ];
  for (const [format, types] of expected) for (const type of types) expect(formatOf(type), type).toBe(format);
});

/** A golden's graph, and its parameters' formats where all are of a type in the file. */
function stored(name: string, type: StoredType, inFile = type) {
  const config = JSON.parse(readFileSync(new URL(`../../test/goldens/${name}/config.json`, import.meta.url), 'utf8'));
  const architecture = architectureOf(config, new Map());
  const graph = foldConstants(traceModel(architecture, architecture.config(config, new Map())));
  const names = [...graph.parameters.keys(), ...graph.derived.flatMap(({ sources }) => [...sources.keys()])];
  const origins = new Map<string, Origin>(
    names.map((name) => [name, { stored: { name, type, shape: [], byteLength: 0 }, convert: undefined }]),
  );
  const formats = formatsAsStored(graph, origins, new Map(names.map((name) => [name, inFile])));
  return { graph, declarations: declareWeights(graph, formats) };
}

const formatOfMatrix = ({ declarations }: ReturnType<typeof stored>, name: RegExp) =>
  declarations.find((declaration) => name.test(declaration.name))!.format;

test('narrow matrices are in integers where these are the file’s, and otherwise in bf16', () => {
  const narrow = /0\.mixer\.dt_proj\.weight/;
  expect(formatOfMatrix(stored('mamba', 'q4_0'), narrow)).toBe('q4');
  expect(formatOfMatrix(stored('mamba', 'q6_k'), narrow)).toBe('bf16');
  // They appear as f32 where they are read in another order.
  expect(formatOfMatrix(stored('mamba', 'f32', 'q4_0'), narrow)).toBe('bf16');
  expect(formatOfMatrix(stored('mamba', 'f32', 'q4_0'), /0\.mixer\.in_proj\.weight/)).toBe('q4');
  expect(formatOfMatrix(stored('mamba', 'q4_0'), /A_log|norm/)).toBe('f32');
});

test('formats that are those of a name have it, others none', () => {
  for (const [type, format] of [
    ['f32', 'f32'],
    ['bf16', 'bf16'],
    ['q6_k', 'q8'],
    ['q4_0', 'auto'],
  ] as const) {
    const { graph, declarations } = stored('mamba', type);
    expect(commonFormat(graph, declarations), type).toBe(format);
  }
});

test('values that several heads of queries share are held in 8 bits where the rest is in 4, but not if the file has them in 4', () => {
  const golden = JSON.parse(readFileSync(new URL('../../test/goldens/llama/config.json', import.meta.url), 'utf8'));
  const traced = (heads: number) => {
    const json = { ...golden, hidden_size: 256, head_dim: 64, num_key_value_heads: heads };
    const architecture = architectureOf(json, new Map());
    return foldConstants(traceModel(architecture, architecture.config(json, new Map())));
  };
  const shared = traced(2);
  const inEight = (declarations: ReturnType<typeof declareWeights>) =>
    declarations.filter(({ format }) => format === 'q8').map(({ name }) => name);
  const values = [0, 1].map((layer) => `model.layers.${layer}.self_attn.v_proj.weight`);
  expect(inEight(declareWeights(shared, 'q4'))).toEqual(values);
  expect(inEight(declareWeights(traced(4), 'q4'))).toEqual([]);
  const origin = (type: StoredType): Origin => ({
    stored: { name: values[0]!, type, shape: [128, 256], byteLength: 0 },
    convert: undefined,
  });
  for (const [type, first] of [
    ['q4_0', []],
    ['q8_0', [values[0]]],
  ] as const) {
    const inFour = storedInFour(new Map([[values[0]!, origin(type)]]));
    expect(inEight(declareWeights(shared, 'q4', inFour))).toEqual([...first, values[1]]);
  }
  const all = new Set(values);
  for (const declarations of [declareWeights(shared, 'q4'), declareWeights(shared, 'q4', all)])
    expect(commonFormat(shared, declarations)).toBe('q4');
});

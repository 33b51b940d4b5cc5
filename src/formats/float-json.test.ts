import { expect, test } from 'vitest';
import { floatFields, floatJson } from './float-json.ts';

test('fields with a fraction, an exponent or an infinity are floats, and no others', () => {
  const text =
    '{"a": 1, "b": 1.0, "c": [0, 1e3], "d": {"e": -2, "f": -Infinity}, "g": "\\"h\\": 1.5", "i": [1, {"j": 2.5}]}';
  expect([...floatFields(text)].sort()).toEqual(['b', 'c', 'f', 'j']);
});

test('floats stay floats, infinities are written as transformers does, and large whole numbers have no exponent', () => {
  const floats = new Set(['scale', 'limits', 'ids']);
  const value = {
    scale: 1,
    steps: 1,
    limits: [0, Number.POSITIVE_INFINITY],
    ids: ['Infinity', -0.5, 1e-7],
    longest: 1e30,
    label: 'Infinity',
    nested: { time_step_scale: 1, known: { __float__: 'Infinity' } },
    absent: undefined,
    nothing: null,
    empty: [],
  };
  expect(floatJson(value, floats)).toBe(`{
  "scale": 1.0,
  "steps": 1,
  "limits": [
    0.0,
    {"__float__":"Infinity"}
  ],
  "ids": [
    {"__float__":"Infinity"},
    -0.5,
    1e-7
  ],
  "longest": 1000000000000000019884624838656,
  "label": "Infinity",
  "nested": {
    "time_step_scale": 1.0,
    "known": {"__float__":"Infinity"}
  },
  "nothing": null,
  "empty": []
}
`);
});

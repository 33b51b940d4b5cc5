import { InputError, nearest, UnsupportedError } from '../core/errors.ts';

export type JsonSchema = boolean | SchemaObject;
export type SchemaObject = Readonly<Record<string, unknown>>;

export const typeNames = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'] as const;
export type TypeName = (typeof typeNames)[number];

/** Keywords that speak of values of one type. */
export const keywordsOf: Readonly<Record<TypeName, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties', 'minProperties', 'maxProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  boolean: [],
  null: [],
};

/** Keywords that allow and forbid nothing by themselves. */
const annotations = [
  ...['$schema', '$id', '$comment', '$defs', 'definitions', 'title', 'description', 'default', 'examples'],
  ...['deprecated', 'readOnly', 'writeOnly'],
];

/** Keywords of JSON Schema that a generated text can't be held to here. */
const unsupported = [
  ...['not', 'if', 'then', 'else', 'dependentSchemas', 'dependentRequired', 'contains', 'minContains', 'maxContains'],
  ...['uniqueItems', 'multipleOf', 'patternProperties', 'propertyNames', 'unevaluatedItems', 'unevaluatedProperties'],
  ...[
    '$dynamicRef',
    '$dynamicAnchor',
    '$anchor',
    '$vocabulary',
    'contentEncoding',
    'contentMediaType',
    'additionalItems',
  ],
];

const known = [
  ...['type', 'enum', 'const', 'anyOf', 'oneOf', 'allOf', '$ref'],
  ...new Set(Object.values(keywordsOf).flat()),
  ...annotations,
];

/** Refuses keywords that are not known, or not supported, by name. */
export function checkKeywords(schema: SchemaObject, where: string): void {
  for (const name of Object.keys(schema)) {
    if (unsupported.includes(name))
      throw new UnsupportedError(`the JSON schema at ${where}: ${name} is not supported; known: ${known.join(', ')}`);
    if (known.includes(name)) continue;
    const near = nearest(name, known);
    throw new InputError(
      `the JSON schema at ${where} has an unknown keyword ${name}${near.length > 0 ? `: did you mean ${near.join(' or ')}?` : ''}`,
    );
  }
}

/** Refuses what stands beside a keyword that says all there is. */
export function checkAlone(schema: SchemaObject, keyword: string, where: string, beside: readonly string[] = []): void {
  const other = Object.keys(schema).find(
    (name) => name !== keyword && !annotations.includes(name) && !beside.includes(name),
  );
  if (other)
    throw new UnsupportedError(`the JSON schema at ${where}: ${keyword} together with ${other} is not supported`);
}

/** A keyword's whole number; `fallback` where it is not given. */
export function countOf(schema: SchemaObject, keyword: string, fallback: number, where: string): number {
  const value = schema[keyword] ?? fallback;
  if (value === fallback || (Number.isSafeInteger(value) && (value as number) >= 0)) return value as number;
  throw new InputError(`the JSON schema at ${where}: ${keyword} is ${JSON.stringify(value)}, expected a whole number`);
}

/** Whether no value can be of both schemas: they are of other types, or have other values of one property. */
export function areApart(a: unknown, b: unknown): boolean {
  const [first, second] = [a, b].map((schema) => (isObject(schema) ? schema : {})) as [SchemaObject, SchemaObject];
  const [values, others] = [valuesOf(first), valuesOf(second)];
  if (values && others) return !values.some((value) => others.includes(value));
  const [types, otherTypes] = [typesOf(first), typesOf(second)];
  if (types && otherTypes && !types.some((type) => otherTypes.some((other) => overlap(type, other)))) return true;
  const properties = isObject(first['properties']) ? first['properties'] : {};
  const others2 = isObject(second['properties']) ? second['properties'] : {};
  return Object.keys(properties).some(
    (name) =>
      isRequired(first, name) &&
      isRequired(second, name) &&
      isObject(properties[name]) &&
      isObject(others2[name]) &&
      areApart(properties[name], others2[name]),
  );
}

export const isObject = (value: unknown): value is SchemaObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isRequired = ({ required }: SchemaObject, name: string): boolean =>
  Array.isArray(required) && required.includes(name);

/** The values of an enumeration, as JSON. */
function valuesOf(schema: SchemaObject): string[] | undefined {
  if ('const' in schema) return [inOrder(schema['const'])];
  return Array.isArray(schema['enum']) ? schema['enum'].map(inOrder) : undefined;
}

/** JSON with the properties of objects in one order, so that equal values are equal texts. */
const inOrder = (value: unknown): string =>
  JSON.stringify(value, (_, inner: unknown) =>
    isObject(inner) ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1))) : inner,
  );

function typesOf({ type }: SchemaObject): string[] | undefined {
  if (typeof type === 'string') return [type];
  return Array.isArray(type) ? (type as string[]) : undefined;
}

const overlap = (a: string, b: string): boolean =>
  a === b || (a === 'integer' && b === 'number') || (a === 'number' && b === 'integer');

import { InputError, UnsupportedError } from '../core/errors.ts';
import { formats } from './json-formats.ts';
import {
  anyInteger,
  anyNumber,
  anyString,
  type Bounds,
  colon,
  comma,
  integerBetween,
  jsonCharacter,
  numberBetween,
  quoted,
  stringExcept,
} from './json-text.ts';
import { choice, type Pattern, repeat, rule, separated, sequence, text } from './pattern.ts';
import { searchPattern } from './regex.ts';
import {
  areApart,
  checkAlone,
  checkKeywords,
  countOf,
  isObject,
  keywordsOf,
  type SchemaObject,
  type TypeName,
  typeNames,
} from './schema-keywords.ts';

/**
 * JSON that a schema (draft 2020-12) allows. All texts of the pattern are valid, but not all that is valid is among them:
 * properties come in the order of the schema, further ones only where `additionalProperties` says so, numbers have at most
 * 15 digits, and there is no white space but single spaces after commas and colons.
 *
 * UnsupportedError names a keyword that texts can't be held to, InputError one that is unknown or not in order, each with the
 * place in the schema.
 */
export function jsonSchemaPattern(schema: unknown): { pattern: Pattern; rules: ReadonlyMap<string, Pattern> } {
  const reader = new SchemaReader(schema);
  return { pattern: reader.value(schema, '#'), rules: reader.rules };
}

class SchemaReader {
  readonly rules = new Map<string, Pattern>();
  readonly #root: unknown;

  constructor(root: unknown) {
    this.#root = root;
  }

  /** @param where the schema's place, as a JSON pointer: also the name of what is named after it */
  value(schema: unknown, where: string): Pattern {
    if (schema === true) return this.#any();
    if (schema === false) return choice();
    if (!isObject(schema)) throw new InputError(`the JSON schema at ${where} is neither an object nor true or false`);
    checkKeywords(schema, where);
    if ('$ref' in schema) return this.#reference(schema, where);
    if ('const' in schema || 'enum' in schema) return this.#enumeration(schema, where);
    for (const keyword of ['anyOf', 'oneOf', 'allOf'])
      if (keyword in schema) return this.#oneOfMany(schema, keyword, where);
    return choice(...this.#types(schema, where).map((type) => this.#ofType(type, schema, where)));
  }

  #any(): Pattern {
    if (!this.rules.has('any')) {
      this.rules.set('any', choice());
      this.rules.set('any', choice(...typeNames.map((type) => this.#ofType(type, {}, '#'))));
    }
    return rule('any');
  }

  /** The types that a schema allows: where it says none, those that its keywords speak of. */
  #types(schema: SchemaObject, where: string): readonly TypeName[] {
    const { type } = schema;
    if (type !== undefined) {
      const types = (Array.isArray(type) ? type : [type]) as TypeName[];
      const strange = types.find((name) => !typeNames.includes(name));
      if (strange !== undefined || types.length === 0)
        throw new InputError(
          `the JSON schema at ${where} has type ${JSON.stringify(type)}; known: ${typeNames.join(', ')}`,
        );
      this.#refuseUseless(schema, types, where);
      return types;
    }
    const meant = typeNames.filter(
      (name) => name !== 'integer' && keywordsOf[name].some((keyword) => keyword in schema),
    );
    return meant.length > 0 ? meant : typeNames.filter((name) => name !== 'integer');
  }

  /** A keyword of another type is allowed by the standard, and surely not what was meant. */
  #refuseUseless(schema: SchemaObject, types: readonly TypeName[], where: string): void {
    const ofThese = types.flatMap((type) => keywordsOf[type]);
    const useless = Object.values(keywordsOf)
      .flat()
      .find((keyword) => keyword in schema && !ofThese.includes(keyword));
    if (useless)
      throw new InputError(`the JSON schema at ${where}: ${useless} says nothing of the type ${types.join(' or ')}`);
  }

  #ofType(type: TypeName, schema: SchemaObject, where: string): Pattern {
    switch (type) {
      case 'object':
        return this.#object(schema, where);
      case 'array':
        return this.#array(schema, where);
      case 'string':
        return stringPattern(schema, where);
      case 'boolean':
        return choice(text('true'), text('false'));
      case 'null':
        return text('null');
      default:
        return numberPattern(type, schema, where);
    }
  }

  #reference(schema: SchemaObject, where: string): Pattern {
    checkAlone(schema, '$ref', where);
    const reference = schema['$ref'];
    if (typeof reference !== 'string' || !reference.startsWith('#'))
      throw new UnsupportedError(
        `the JSON schema at ${where}: $ref ${JSON.stringify(reference)} leads out of the schema`,
      );
    const { found, place } = this.#resolve(reference, where);
    if (!this.rules.has(place)) {
      this.rules.set(place, choice());
      this.rules.set(place, this.value(found, place));
    }
    return rule(place);
  }

  /** What a reference leads to, and its place. */
  #resolve(reference: string, where: string): { found: unknown; place: string } {
    let [found, place]: [unknown, string] = [this.#root, '#'];
    for (const part of reference.slice(1).split('/').slice(1)) {
      const name = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
      const inside = typeof found === 'object' && found !== null && Object.hasOwn(found, name);
      if (!inside) throw new InputError(`the JSON schema at ${where}: $ref ${reference} leads nowhere`);
      found = (found as SchemaObject)[name];
      place = within(place, name);
    }
    return { found, place };
  }

  #enumeration(schema: SchemaObject, where: string): Pattern {
    const keyword = 'const' in schema ? 'const' : 'enum';
    checkAlone(schema, keyword, where, ['type']);
    const values = keyword === 'const' ? [schema['const']] : schema['enum'];
    if (!Array.isArray(values) || values.length === 0)
      throw new InputError(`the JSON schema at ${where}: enum must be a list of at least one value`);
    const types = 'type' in schema ? this.#types(schema, where) : typeNames;
    const allowed = values.filter((value) => types.some((type) => isOfType(value, type)));
    return choice(...allowed.map((value) => text(JSON.stringify(value))));
  }

  #oneOfMany(schema: SchemaObject, keyword: string, where: string): Pattern {
    checkAlone(schema, keyword, where);
    const options = schema[keyword];
    if (!Array.isArray(options) || options.length === 0)
      throw new InputError(`the JSON schema at ${where}: ${keyword} must be a list of at least one schema`);
    if (keyword === 'allOf' && options.length > 1)
      throw new UnsupportedError(
        `the JSON schema at ${where}: allOf of more than one schema is not supported: merge them`,
      );
    if (keyword === 'oneOf' && !options.every((a, i) => options.slice(i + 1).every((b) => areApart(a, b))))
      throw new UnsupportedError(
        `the JSON schema at ${where}: oneOf is supported where no value can be of two of them, by their types or by a required property with const; write anyOf otherwise`,
      );
    return choice(...options.map((option, i) => this.value(option, `${where}/${keyword}/${i}`)));
  }

  #array(schema: SchemaObject, where: string): Pattern {
    const min = countOf(schema, 'minItems', 0, where);
    const max = countOf(schema, 'maxItems', Infinity, where);
    const { prefixItems = [], items = !('prefixItems' in schema) } = schema;
    if (!Array.isArray(prefixItems)) throw new InputError(`the JSON schema at ${where}: prefixItems must be a list`);
    const first = prefixItems.slice(0, max).map((item, i) => this.value(item, `${where}/prefixItems/${i}`));
    const left = items === false ? 0 : max - first.length;
    const least = Math.max(0, min - first.length);
    if (least > left) return choice();
    const rest = left === 0 ? sequence() : this.value(items, `${where}/items`);
    if (first.length === 0) return brackets(separated(rest, comma, least, left));
    const begin = sequence(first[0]!, ...first.slice(1).map((item) => sequence(comma, item)));
    return brackets(sequence(begin, repeat(sequence(comma, rest), least, left)));
  }

  #object(schema: SchemaObject, where: string): Pattern {
    const { properties = {}, required = [], additionalProperties } = schema;
    if (!isObject(properties)) throw new InputError(`the JSON schema at ${where}: properties must be an object`);
    if (!Array.isArray(required) || !required.every((name) => typeof name === 'string'))
      throw new InputError(`the JSON schema at ${where}: required must be a list of names`);
    const isMap = Object.keys(properties).length + required.length === 0;
    // Properties that are not named are allowed by the standard; a model left free to invent them seldom stops.
    const others = additionalProperties ?? (isMap && !('properties' in schema));
    const free = isObject(others) || others === true ? this.value(others, `${where}/additionalProperties`) : undefined;
    const names = [...new Set([...Object.keys(properties), ...(required as string[])])];
    const further = free && sequence(stringExcept(names), colon, free);
    const [min, max] = [countOf(schema, 'minProperties', 0, where), countOf(schema, 'maxProperties', Infinity, where)];
    if (isMap) {
      if (min > max || (min > 0 && !further)) return choice();
      if (min > 1)
        throw new UnsupportedError(
          `the JSON schema at ${where}: minProperties is ${min}, and a name that comes twice is one property: more than 1 is not supported; name them in properties and required`,
        );
      if (!further) return text('{}');
      return sequence(text('{'), separated(further, comma, min, max), text('}'));
    }
    if (min > 0 || max < Infinity)
      throw new UnsupportedError(
        `the JSON schema at ${where}: minProperties and maxProperties beside properties are not supported`,
      );
    const members = names.map((name) => ({
      isRequired: required.includes(name),
      pattern: sequence(
        text(JSON.stringify(name)),
        colon,
        this.value(
          Object.hasOwn(properties, name) ? properties[name] : (additionalProperties ?? true),
          within(`${where}/properties`, name),
        ),
      ),
    }));
    return sequence(text('{'), this.#members(members, further, where, 0, false), text('}'));
  }

  /** The members from the i-th on. They are rules, for each is reached with and without one before it. */
  #members(
    members: readonly Member[],
    further: Pattern | undefined,
    where: string,
    i: number,
    isAfter: boolean,
  ): Pattern {
    if (i === members.length) {
      if (!further) return sequence();
      return isAfter ? repeat(sequence(comma, further), 0, Infinity) : separated(further, comma, 0, Infinity);
    }
    const name = `members ${i} ${isAfter} ${where}`;
    if (!this.rules.has(name)) {
      const { isRequired, pattern } = members[i]!;
      const withIt = sequence(
        ...(isAfter ? [comma] : []),
        pattern,
        this.#members(members, further, where, i + 1, true),
      );
      this.rules.set(
        name,
        isRequired ? withIt : choice(withIt, this.#members(members, further, where, i + 1, isAfter)),
      );
    }
    return rule(name);
  }
}

interface Member {
  readonly isRequired: boolean;
  readonly pattern: Pattern;
}

/** A place in a schema, as a JSON pointer (RFC 6901). */
const within = (place: string, name: string): string => `${place}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;

const brackets = (inside: Pattern): Pattern => sequence(text('['), inside, text(']'));

function stringPattern(schema: SchemaObject, where: string): Pattern {
  const [min, max] = [countOf(schema, 'minLength', 0, where), countOf(schema, 'maxLength', Infinity, where)];
  const said = ['pattern', 'format', 'minLength', 'maxLength'].filter((keyword) => keyword in schema);
  const expression = said.find((keyword) => keyword === 'pattern' || keyword === 'format');
  if (!expression) return min > max ? choice() : anyString(min, max);
  if (said.length > 1)
    throw new UnsupportedError(`the JSON schema at ${where}: ${said.join(' together with ')} is not supported`);
  const value = schema[expression];
  if (typeof value !== 'string') throw new InputError(`the JSON schema at ${where}: ${expression} must be a text`);
  if (expression === 'pattern') return quoted(searchPattern(value, jsonCharacter));
  if (!formats[value])
    throw new UnsupportedError(
      `the JSON schema at ${where}: format ${value} is not supported; known: ${Object.keys(formats).join(', ')}`,
    );
  return quoted(searchPattern(`^(${formats[value]})$`, jsonCharacter));
}

function numberPattern(type: 'number' | 'integer', schema: SchemaObject, where: string): Pattern {
  const bound = (keyword: string): number | undefined => {
    const value = schema[keyword];
    if (value === undefined || (typeof value === 'number' && Number.isFinite(value))) return value;
    throw new InputError(`the JSON schema at ${where}: ${keyword} is ${JSON.stringify(value)}, expected a number`);
  };
  const [low, above] = [bound('minimum') ?? -Infinity, bound('exclusiveMinimum') ?? -Infinity];
  const [high, below] = [bound('maximum') ?? Infinity, bound('exclusiveMaximum') ?? Infinity];
  const bounds: Bounds = {
    low: Math.max(low, above),
    high: Math.min(high, below),
    withoutLow: above >= low,
    withoutHigh: below <= high,
  };
  if (bounds.low === -Infinity && bounds.high === Infinity) return type === 'integer' ? anyInteger : anyNumber;
  return type === 'integer' ? integerBetween(bounds) : numberBetween(bounds);
}

function isOfType(value: unknown, type: TypeName): boolean {
  if (type === 'null') return value === null;
  if (type === 'array') return Array.isArray(value);
  if (type === 'object') return isObject(value);
  if (type === 'integer') return Number.isInteger(value);
  return typeof value === type;
}

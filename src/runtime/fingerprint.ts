import {
  holdsIntegers,
  type RowsFound,
  type StoredRows,
  type StoredRowsType,
  type WeightDeclaration,
  type WeightFormat,
} from '../core/backend.ts';
import { Digest } from '../core/digest.ts';
import { float16ToNumber } from '../core/float16.ts';
import { QUANTISATION_GROUP, quantiseQ4, quantiseQ8 } from '../core/quantise.ts';
import type { StateFormat } from '../core/state-format.ts';
import { decodeRows } from '../formats/stored-rows.ts';
import type { DerivingWeights } from './fold.ts';
import type { ParameterSink, RowIntake } from './load-parameters.ts';

/** What tells one model from another, so that a state is only ever continued by the model that made it. */
export interface Fingerprint {
  /** The architecture's `model_type`. */
  readonly type: string;
  /** Digest of the configuration: sizes, epsilons, frequencies. */
  readonly configuration: string;
  /** Digest of every parameter's name and numbers, as they were loaded. */
  readonly parameters: string;
  /** How matrices are held, `auto` where each is in a format of its own; `f32` wherever these very numbers are held exactly. */
  readonly weights: WeightFormat | 'auto';
  /** How keys and values of attention are kept; `f32` where there are none. */
  readonly kvCache: StateFormat;
}

/** Fields that say how a file stores the model, and change nothing of it. */
const storageFields = ['dialect', 'bakedDecay'];

/**
 * Where parameters are written as they are loaded. Of parameters whose numbers are held exactly the digest is taken from memory when it
 * is first asked for, of others on the way.
 */
export class FingerprintedWeights implements ParameterSink {
  readonly #weights: Omit<DerivingWeights, 'dispose'>;
  readonly #declarations: ReadonlyMap<string, WeightDeclaration>;
  readonly #digests = new Map<string, Digest>();
  /** Parameters of which no digest was taken yet. */
  readonly #later = new Set<string>();
  #exact = true;

  constructor(weights: Omit<DerivingWeights, 'dispose'>, declarations: readonly WeightDeclaration[]) {
    this.#weights = weights;
    this.#declarations = new Map(declarations.map((declaration) => [declaration.name, declaration]));
  }

  /** Stores numbers of a parameter, which must come in order. */
  write(name: string, values: Float32Array, start?: number): void | Promise<void> {
    const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
    this.#digest(name).words(words);
    const declaration = this.#declarations.get(name);
    if (declaration) this.#exact &&= holdsExactly(declaration, values, words);
    return this.#weights.write(name, values, start);
  }

  /** Groups of a transposed matrix run across rows, of which pieces have a few: those are not taken. */
  takes(name: string): boolean {
    const { layout, format } = this.#declarations.get(name) ?? {};
    const isAcross = layout === 'linearTransposed' && (format === 'q8' || format === 'q4');
    return layout !== undefined && !isAcross && this.#weights.takes(name);
  }

  /** The same for rows as files have them, which must come in order, too. */
  intake(bytes: number): RowIntake | undefined {
    const intake = this.#weights.intake?.(bytes);
    return (
      intake && {
        rooms: intake.rooms,
        store: (name, rows, start) => {
          const declaration = this.#declarations.get(name)!;
          if (holdsType(declaration, rows.type)) {
            this.#later.add(name);
            return intake.store(name, rows, start);
          }
          const found = intake.store(name, rows, start, this.#digest(name));
          this.#exact &&= holdsRowsExactly(declaration, rows, found);
          return found;
        },
        dispose: () => intake.dispose(),
      }
    );
  }

  #digest(name: string): Digest {
    const digest = this.#digests.get(name) ?? new Digest().text(name);
    this.#digests.set(name, digest);
    return digest;
  }

  /** The fingerprint of the model whose parameters have all been written, and are still held. */
  fingerprint(type: string, config: unknown, format: WeightFormat | 'auto', kvCache: StateFormat = 'f32'): Fingerprint {
    this.#takeLater();
    const parameters = new Digest();
    for (const name of [...this.#digests.keys()].sort()) parameters.text(this.#digests.get(name)!.hex());
    return {
      type,
      configuration: new Digest().text(canonical(config)).hex(),
      parameters: parameters.hex(),
      weights: this.#exact ? 'f32' : format,
      kvCache,
    };
  }

  #takeLater(): void {
    const later = new Map([...this.#later].map((name) => [name, this.#digest(name)]));
    this.#later.clear();
    if (this.#weights.digest) this.#weights.digest(later);
    else for (const [name, digest] of later) digest.words(new Uint32Array(this.#weights.read(name).buffer));
  }
}

/** Whether a parameter's format has all numbers of a type. */
function holdsType(declaration: WeightDeclaration, type: StoredRowsType): boolean {
  const { format } = declaration;
  return format === 'f32' || format === type || holdsIntegers(declaration, type);
}

/** Whether a parameter's format has the very numbers of rows. */
function holdsRowsExactly(declaration: WeightDeclaration, rows: StoredRows, { largest, fit16 }: RowsFound): boolean {
  const { format } = declaration;
  if (largest === Infinity) return false;
  return format === 'q8' || format === 'q4' ? isQuantised(declaration, decodeRows(rows), format) : fit16;
}

/** Whether a parameter's format has these very numbers. */
function holdsExactly(declaration: WeightDeclaration, values: Float32Array, words: Uint32Array): boolean {
  const { format } = declaration;
  if (format === 'f32') return true;
  if (format === 'bf16') return isBf16(words);
  return format === 'f16' ? isF16(values, words) : isQuantised(declaration, values, format);
}

function isBf16(words: Uint32Array): boolean {
  let bits = 0;
  for (let i = 0; i < words.length; i++) bits |= words[i]!;
  return (bits & 0xffff) === 0;
}

function isF16(values: Float32Array, words: Uint32Array): boolean {
  for (let i = 0; i < values.length; i++) {
    const magnitude = Math.abs(values[i]!);
    // Below 2^-14 f16 has the multiples of 2^-24, above it 11 significant bits.
    const exact = magnitude < 2 ** -14 ? Number.isInteger(magnitude * 2 ** 24) : (words[i]! & 0x1fff) === 0;
    if (!exact || magnitude > 65504) return false;
  }
  return true;
}

/** Groups of each piece of a matrix that are looked at: other numbers than quantised ones fit none of them. */
const GROUPS_LOOKED_AT = 64;

/** Whether numbers were quantised in just this way before, so that quantising them again changes nothing. */
function isQuantised({ shape, layout }: WeightDeclaration, values: Float32Array, format: 'q8' | 'q4'): boolean {
  const columns = shape[1]!;
  const quantise = format === 'q8' ? quantiseQ8 : quantiseQ4;
  const integers = new Int8Array(QUANTISATION_GROUP);
  const group = new Float32Array(QUANTISATION_GROUP);
  // Groups run along the axis that is summed over.
  const [inputs, step] = layout === 'linear' ? [columns, 1] : [values.length / columns, columns];
  const count = Math.min(QUANTISATION_GROUP, inputs);
  const outputs = values.length / inputs;
  for (let o = 0; o < Math.min(outputs, GROUPS_LOOKED_AT); o++) {
    const start = layout === 'linear' ? o * columns : o;
    for (let k = 0; k < count; k++) group[k] = values[start + k * step]!;
    const scale = float16ToNumber(quantise(group, count, integers));
    for (let k = 0; k < count; k++) if (Math.fround(integers[k]! * scale) !== group[k]) return false;
  }
  return true;
}

/** A configuration as text: fields in order, numbers to single precision, which is as much as some formats keep. */
function canonical(value: unknown): string {
  if (typeof value === 'number') return String(Math.fround(value));
  if (value === null || typeof value !== 'object') return JSON.stringify(value) ?? 'undefined';
  if (Array.isArray(value) || value instanceof Set) return `[${[...value].map(canonical).join(',')}]`;
  const fields = Object.entries(value).filter(([name, field]) => field !== undefined && !storageFields.includes(name));
  return `{${fields
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, field]) => `${name}:${canonical(field)}`)
    .join(',')}}`;
}

/** What keeps `given`, a state's model, from being `model`; nothing when they are the same. */
export function difference(given: Fingerprint, model: Fingerprint): string | undefined {
  if (given.type !== model.type) return `of a model of type ${given.type}, and this one is ${model.type}`;
  if (given.configuration !== model.configuration)
    return `of another ${model.type}: its configuration (sizes, epsilons …) is not this model's`;
  if (given.parameters !== model.parameters)
    return `of another ${model.type} of the same sizes: its parameters are not this model's (another training or fine-tune)`;
  if (given.weights !== model.weights)
    return `of this model with its matrices held as ${given.weights}, and here they are held as ${model.weights}: load the model with weights: '${given.weights}', or make the state anew (a model with weights: 'f32' has the same states on every backend)`;
  if (given.kvCache !== model.kvCache)
    return `of this model with keys and values kept in ${given.kvCache}, and here they are kept in ${model.kvCache}: load the model with kvCache: '${given.kvCache}' (--kv-cache ${given.kvCache}), or make the state anew`;
  return undefined;
}

import type { StoredType } from './checkpoint.ts';

/** What a GGUF file begins with: the letters, read as a little-endian number. */
export const ggufMagic = 0x46554747;

/** Tensor data begins, and every tensor in it, at a multiple of this unless `general.alignment` says otherwise. */
export const defaultAlignment = 32;

export const alignUp = (offset: number, alignment: number): number => Math.ceil(offset / alignment) * alignment;

/** Types of metadata values; a type's number in the file is its place here. */
export const ggufValueTypes = [
  'u8',
  'i8',
  'u16',
  'i16',
  'u32',
  'i32',
  'f32',
  'bool',
  'string',
  'array',
  'u64',
  'i64',
  'f64',
] as const;

export type GgufValueType = (typeof ggufValueTypes)[number];

/** The types of tensors that can be decoded, by their number in the file (`enum ggml_type`). */
export const ggufTensorTypes: ReadonlyMap<number, StoredType> = new Map([
  [0, 'f32'],
  [1, 'f16'],
  [2, 'q4_0'],
  [3, 'q4_1'],
  [6, 'q5_0'],
  [7, 'q5_1'],
  [8, 'q8_0'],
  [10, 'q2_k'],
  [11, 'q3_k'],
  [12, 'q4_k'],
  [13, 'q5_k'],
  [14, 'q6_k'],
  [20, 'iq4_nl'],
  [23, 'iq4_xs'],
  [24, 'i8'],
  [25, 'i16'],
  [26, 'i32'],
  [27, 'i64'],
  [28, 'f64'],
  [30, 'bf16'],
]);

/** Names of the types that can't be decoded, for the message that says so. */
export const otherTensorTypes: ReadonlyMap<number, string> = new Map([
  [9, 'Q8_1'],
  [15, 'Q8_K'],
  [16, 'IQ2_XXS'],
  [17, 'IQ2_XS'],
  [18, 'IQ3_XXS'],
  [19, 'IQ1_S'],
  [21, 'IQ3_S'],
  [22, 'IQ2_S'],
  [29, 'IQ1_M'],
  [34, 'TQ1_0'],
  [35, 'TQ2_0'],
  [39, 'MXFP4'],
]);

export type { WeightFormat } from './core/backend.ts';
export {
  ConfigError,
  DisposedError,
  FormatError,
  InputError,
  RiverrunError,
  ShapeError,
  UnsupportedError,
  WeightError,
} from './core/errors.ts';
export { type Converted, type ConvertOptions, convert } from './platform/convert.ts';
export { embeddedModel, inspect, type LoadOptions, load } from './platform/node-load.ts';
export type { GenerateOptions, Generation } from './runtime/generate.ts';
export type { Model } from './runtime/model.ts';
export type { LoadProgress } from './runtime/parameters.ts';
export type { SamplerOptions } from './runtime/sampler.ts';
export type { ReadOptions, Session, Source } from './runtime/session.ts';
export type { ModelSizes, TensorRow } from './runtime/sizes.ts';
export type { DecodeOptions, EncodeOptions, StreamDecoder, Tokenizer } from './tokenizers/tokenizer.ts';

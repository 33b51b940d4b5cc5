import { ConfigError, UnsupportedError } from '../core/errors.ts';
import type { Checkpoint } from '../formats/checkpoint.ts';
import { readF32 } from '../formats/read-f32.ts';
import type { Json } from '../models/config.ts';
import { refuseContradictions } from './agreement.ts';
import type { Dialect, Heads } from './dialect.ts';
import { gptNeox } from './gpt-neox.ts';
import { gpt2 } from './gpt2.ts';
import { llama, qwen2 } from './llama.ts';
import { mamba } from './mamba.ts';
import { mamba2 } from './mamba2.ts';
import { Metadata } from './metadata.ts';
import { type GgufParameters, parametersOf } from './parameters.ts';
import { rwkv6, unscaled } from './rwkv6.ts';
import { rwkv7 } from './rwkv7.ts';

/** The architectures that llama.cpp's files can be of. */
export const dialects: readonly Dialect<never>[] = [mamba, mamba2, rwkv6, rwkv7, llama, qwen2, gptNeox, gpt2];

/** A GGUF file as a model: the configuration it stands for, and its tensors as the parameters of that model. */
export interface GgufModel extends GgufParameters {
  readonly config: Json;
}

/**
 * Reads a GGUF file as the model that it is of. UnsupportedError for architectures that are not built, ConfigError for
 * metadata that are missing or of another type.
 */
export async function ggufModel(file: Checkpoint): Promise<GgufModel> {
  const metadata = new Metadata(file);
  const dialect = dialects.find(({ architecture }) => architecture === metadata.architecture);
  if (!dialect)
    throw new UnsupportedError(
      `${file.name} is of architecture "${metadata.architecture}"; known: ${dialects.map(({ architecture }) => architecture).join(', ')}`,
    );
  const config: Json = { ...dialect.config(metadata, file.tensors), ...tokens(metadata) };
  const scaled = await ropeScaling(file, config['rope_scaling'] as Json | undefined);
  const heads = headsOf(metadata);
  const table = unscaled(dialect.tensors(heads), metadata);
  const parameters = parametersOf(file, table);
  const complete = { ...config, ...scaled };
  refuseContradictions(metadata, dialect, complete, parameters.checkpoint.tensors);
  return { config: complete, ...parameters };
}

function headsOf(metadata: Metadata): Heads {
  const H = metadata.integer('attention.head_count', 0);
  return { H, G: metadata.integer('attention.head_count_kv', metadata.integer('ssm.group_count', H)) };
}

/** A file has a scaled rotary embedding as a factor for every pair of channels, besides what its metadata say. */
async function ropeScaling(file: Checkpoint, linear: Json | undefined): Promise<Json> {
  const stored = file.tensors.get('rope_freqs.weight');
  if (!stored) return {};
  if (linear?.['rope_type'] === 'yarn')
    throw new UnsupportedError(
      `${file.name} has factors of its rotary embedding (rope_freqs.weight) beside YaRN: not built`,
    );
  const whole = Number(linear?.['factor'] ?? 1);
  const factors = Array.from(await readF32(file, stored), (factor) => factor * whole);
  if (!factors.every((factor) => factor > 0))
    throw new ConfigError(`${file.name}: rope_freqs.weight has a factor that is not above zero`);
  return {
    rope_scaling: { rope_type: 'longrope', short_factor: factors, long_factor: factors, attention_factor: 1 },
  };
}

function tokens(metadata: Metadata): Json {
  const ids = { bos_token_id: 'bos', eos_token_id: 'eos', pad_token_id: 'padding' };
  return Object.fromEntries(
    Object.entries(ids)
      .map(([field, name]) => [field, `tokenizer.ggml.${name}_token_id`] as const)
      .filter(([, key]) => metadata.has(key))
      .map(([field, key]) => [field, metadata.integer(key)]),
  );
}

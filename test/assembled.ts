import { readdirSync, readFileSync } from 'node:fs';
import type { Backend } from '../src/core/backend.ts';
import { bytesSource } from '../src/formats/byte-source.ts';
import { openSafetensors } from '../src/formats/safetensors.ts';
import { type AssembleOptions, assemble, type Model, type ModelSource } from '../src/runtime/model.ts';
import { goldenFolder } from './golden.ts';

/** Every architecture's fixture: a small random model with answers, in test/goldens. */
export const goldenNames = readdirSync(goldenFolder('.'), { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && readdirSync(goldenFolder(entry.name)).includes('golden.safetensors'))
  .map(({ name }) => name);

/** The model of a fixture, assembled through the engine's own reader. */
export async function goldenModel(
  name: string,
  backend: Backend,
  options: AssembleOptions & Partial<Pick<ModelSource, 'tokenizer' | 'config'>> = {},
): Promise<Model> {
  const folder = goldenFolder(name);
  const config = { ...JSON.parse(readFileSync(`${folder}config.json`, 'utf8')), ...options.config };
  const checkpoint = await openSafetensors(bytesSource(readFileSync(`${folder}model.safetensors`), name));
  return await assemble({ config, checkpoint, tokenizer: options.tokenizer }, backend, options);
}

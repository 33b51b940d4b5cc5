import { join } from 'node:path';
import { floatJson } from '../formats/float-json.ts';
import type { Json } from '../models/config.ts';
import { folderSettings, folderTokenizer } from '../tokenizers/folder-settings.ts';
import { worldVocabularyFile } from '../tokenizers/rwkv-world.ts';
import type { ModelFiles } from './model-files.ts';
import { makeFolder, writeFileAtomically } from './node-file.ts';

/** What stands beside a model's numbers in its folder. */
export interface Companions
  extends Pick<ModelFiles, 'tokenizer' | 'tokenizerFiles'>,
    Partial<Pick<ModelFiles, 'templateSource' | 'generation' | 'floats'>> {
  readonly config: Json;
}

/**
 * Writes what stands beside a model's numbers, as Hugging Face has it: config.json, the tokenizer with its settings and chat template, and
 * generation_config.json; or the vocabulary of RWKV World.
 */
export async function writeCompanions(output: string, companions: Companions): Promise<void> {
  const { config, tokenizer, tokenizerFiles, templateSource, generation, floats } = companions;
  makeFolder(output);
  const write = (name: string, text: string) => writeFileAtomically(join(output, name), [text]);
  await write('config.json', floatJson(config, floats));
  if (generation) await write('generation_config.json', floatJson(generation, floats));
  const { json, world } = tokenizerFiles;
  const settings =
    json && tokenizer ? folderSettings({ ...tokenizerFiles, tokenizer, json }, config) : tokenizerFiles.settings;
  if (json) {
    const whole = tokenizer ? folderTokenizer({ ...tokenizerFiles, tokenizer, json }) : json;
    await write('tokenizer.json', JSON.stringify(whole));
  }
  if (world) await write('rwkv_vocab.txt', worldVocabularyFile(world));
  if (settings && Object.keys(settings).length > 0) await write('tokenizer_config.json', floatJson(settings, floats));
  if (templateSource !== undefined && settings?.['chat_template'] !== templateSource)
    await write('chat_template.jinja', templateSource);
}

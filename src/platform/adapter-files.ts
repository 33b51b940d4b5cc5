import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { encodeSafetensors, type WrittenTensor } from '../formats/safetensors-writer.ts';
import { tensor } from '../train/checkpoint.ts';
import type { Learner } from '../train/learner.ts';
import { adaptedMatrices, lastModule, loraNames, loraOf, type MethodOptions } from '../train/method.ts';
import { removeLeftovers, writeFileAtomically } from './node-file.ts';

export interface AdapterOptions extends MethodOptions {
  readonly output: string;
  /** The model that the additions are for. */
  readonly model: string;
}

/** What an adapter says beside its matrices. */
export interface AdapterModel {
  readonly predicts: keyof typeof taskTypes;
  /** Names of the parameters of a new head, which PEFT saves whole. */
  readonly head: readonly string[];
  /** What Hugging Face's class for the task calls a parameter, where it is not the architecture's own name. */
  readonly nameOf?: ((name: string) => string) | undefined;
}

/**
 * The folder of a taught model that its adapter is in: beside the merged model, where transformers would take it for one that is still to be
 * added, and add it again.
 */
export const ADAPTER = 'adapter';

/** What PEFT calls what a model predicts. */
const taskTypes = { tokens: 'CAUSAL_LM', labels: 'SEQ_CLS', spans: 'QUESTION_ANS' } as const;

/**
 * The additions, and a new head whole, as the PEFT library has them: `adapter/adapter_model.safetensors` and `adapter_config.json`. Names are
 * those of Hugging Face's class for the task, behind `base_model.model.`.
 */
export async function writeAdapter(
  options: AdapterOptions,
  learner: Learner,
  { predicts, head, nameOf = (name) => name }: AdapterModel,
): Promise<void> {
  const { rank, scale } = loraOf(options);
  const targets = adaptedMatrices(learner.parameters.keys());
  const parts = [...targets.flatMap((name) => Object.values(loraNames(name))), ...head];
  const tensors = parts.map(
    (part): WrittenTensor =>
      tensor(`base_model.model.${nameOf(part)}`, learner.parameters.get(part)!.shape, learner.read(part)),
  );
  const config = {
    peft_type: 'LORA',
    task_type: taskTypes[predicts],
    base_model_name_or_path: options.model,
    r: rank,
    lora_alpha: scale * rank,
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    target_modules: targetModules(targets, [...learner.parameters.keys()], nameOf),
    ...(head.length > 0 && { modules_to_save: [...new Set(head.map((name) => name.replace(/\.\w+$/, '')))] }),
  };
  const folder = join(options.output, ADAPTER);
  mkdirSync(folder, { recursive: true });
  await removeLeftovers(folder);
  await writeFileAtomically(join(folder, 'adapter_model.safetensors'), encodeSafetensors(tensors, { format: 'pt' }));
  await writeFileAtomically(join(folder, 'adapter_config.json'), [`${JSON.stringify(config, null, 2)}\n`]);
}

/**
 * The modules that have additions. PEFT takes the end of a name for all modules whose names end with it: where some of these have no
 * additions, every one that has is named in full.
 */
function targetModules(targets: readonly string[], all: readonly string[], nameOf: (name: string) => string): string[] {
  const modules = targets.map((name) => {
    const last = lastModule(name);
    const isWhole = all.every((other) => !other.endsWith(`.${last}.weight`) || targets.includes(other));
    return isWhole ? last : nameOf(name).replace(/\.weight$/, '');
  });
  return [...new Set(modules)].sort();
}

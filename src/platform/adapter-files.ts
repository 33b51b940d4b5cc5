import { join } from 'node:path';
import { encodeSafetensors, type WrittenTensor } from '../formats/safetensors-writer.ts';
import { tensor } from '../train/checkpoint.ts';
import type { Learner } from '../train/learner.ts';
import { adaptedMatrices, loraNames, loraOf, type MethodOptions } from '../train/method.ts';
import { writeFileAtomically } from './node-file.ts';

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

/** What PEFT calls what a model predicts. */
const taskTypes = { tokens: 'CAUSAL_LM', labels: 'SEQ_CLS', spans: 'QUESTION_ANS' } as const;

/**
 * The additions, and a new head whole, as the PEFT library has them: `adapter_model.safetensors` and `adapter_config.json`. Names are
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
  const modules = [
    ...new Set(
      targets.map(
        (name) =>
          name
            .replace(/\.weight$/, '')
            .split('.')
            .at(-1)!,
      ),
    ),
  ].sort();
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
    target_modules: modules,
    ...(head.length > 0 && { modules_to_save: [...new Set(head.map((name) => name.replace(/\.\w+$/, '')))] }),
  };
  await writeFileAtomically(
    join(options.output, 'adapter_model.safetensors'),
    encodeSafetensors(tensors, { format: 'pt' }),
  );
  await writeFileAtomically(join(options.output, 'adapter_config.json'), [`${JSON.stringify(config, null, 2)}\n`]);
}

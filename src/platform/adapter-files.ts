import { join } from 'node:path';
import { encodeSafetensors, type WrittenTensor } from '../formats/safetensors-writer.ts';
import { tensor } from '../train/checkpoint.ts';
import type { Learner } from '../train/learner.ts';
import { lastModule, loraNames, loraOf, type MatrixLayout, type MethodOptions } from '../train/method.ts';
import { makeFolder, removeLeftovers, writeFileAtomically } from './node-file.ts';

export interface AdapterOptions extends MethodOptions {
  readonly output: string;
  /** The model that the additions are for. */
  readonly model: string;
}

/** What an adapter says beside its matrices. */
export interface AdapterModel {
  readonly predicts: keyof typeof taskTypes;
  /** The matrices that have additions. */
  readonly targets: ReadonlyMap<string, MatrixLayout>;
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
  { predicts, targets, head, nameOf = (name) => name }: AdapterModel,
): Promise<void> {
  const { rank, scale } = loraOf(options);
  const part = (name: string, layout: MatrixLayout = 'linear'): WrittenTensor => {
    const [{ shape }, values] = [learner.parameters.get(name)!, learner.read(name)];
    const saved = `base_model.model.${nameOf(name)}`;
    return layout === 'linear'
      ? tensor(saved, shape, values)
      : tensor(saved, [...shape].reverse(), across(shape, values));
  };
  const additions = [...targets].flatMap(([name, layout]) =>
    Object.values(loraNames(name)).map((one) => part(one, layout)),
  );
  const tensors = [...additions, ...head.map((name) => part(name))];
  const config = {
    peft_type: 'LORA',
    task_type: taskTypes[predicts],
    base_model_name_or_path: options.model,
    r: rank,
    lora_alpha: scale * rank,
    lora_dropout: 0,
    bias: 'none',
    // Where matrices are stored as [inputs, outputs] (GPT-2), PEFT adds (B A)ᵀ to them.
    fan_in_fan_out: [...targets.values()].includes('linearTransposed'),
    inference_mode: true,
    target_modules: targetModules([...targets.keys()], [...learner.parameters.keys()], nameOf),
    ...(head.length > 0 && { modules_to_save: [...new Set(head.map((name) => name.replace(/\.\w+$/, '')))] }),
  };
  const folder = join(options.output, ADAPTER);
  makeFolder(folder);
  await removeLeftovers(folder);
  await writeFileAtomically(join(folder, 'adapter_model.safetensors'), encodeSafetensors(tensors, { format: 'pt' }));
  await writeFileAtomically(join(folder, 'adapter_config.json'), [`${JSON.stringify(config, null, 2)}\n`]);
}

/** A matrix's numbers column by column. */
function across([rows, columns]: readonly number[], values: Float32Array): Float32Array {
  return Float32Array.from(values, (_, n) => values[(n % rows!) * columns! + Math.floor(n / rows!)]!);
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

// transformers.js on ONNX Runtime's build for this processor: what the comparisons need of it.
import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onnxTypes, writeLlamaOnnx } from './llama-onnx.mjs';
import { generation } from './transformers-js-generation.mjs';

export const hasTransformersJs = existsSync(
  fileURLToPath(new URL('./node_modules/@huggingface/transformers', import.meta.url)),
);

/**
 * Opens a Llama shape as one of the types of ONNX files, which is written beside it where it isn't yet.
 * @param type of `onnxTypes`
 */
export async function openTransformersJs(folder, { type, threads }) {
  const { AutoModelForCausalLM, DynamicCache, Tensor, env } = await import('@huggingface/transformers');
  const out = `${folder}-onnx`;
  await writeLlamaOnnx(folder, out, [type]);
  const { file, dtype, name = 'model' } = onnxTypes[type];
  env.allowRemoteModels = false;
  env.localModelPath = dirname(out);
  const start = performance.now();
  const model = await AutoModelForCausalLM.from_pretrained(basename(out), {
    dtype,
    device: 'cpu',
    model_file_name: name,
    session_options: { intraOpNumThreads: threads, interOpNumThreads: 1 },
  });
  const loadSeconds = (performance.now() - start) / 1000;
  return {
    version: env.version,
    loadSeconds,
    fileBytes: statSync(join(out, 'onnx', file)).size,
    ...generation(model, { DynamicCache, Tensor }),
    close: () => model.dispose(),
  };
}

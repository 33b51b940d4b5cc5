// Makes an embedded model from a Hugging Face folder: matrices in 8 bits, everything else as it is stored.
//   node scripts/embed-model.mjs ../shared/models/tiny-books-mamba-13m models/tiny-books-mamba-13m
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { quantiseQ8, scalesSuffix } from '../dist/formats/quantised.js';
import { readF32 } from '../dist/formats/read-f32.js';
import { openSafetensors } from '../dist/formats/safetensors.js';
import { encodeSafetensors } from '../dist/formats/safetensors-writer.js';
import { architectureOf } from '../dist/models/index.js';
import { openFile, writeFileAtomically } from '../dist/platform/node-file.js';
import { traceModel } from '../dist/runtime/graph.js';

const GROUP = 64;
const [from, to] = process.argv.slice(2);
if (!from || !to) throw new Error('usage: embed-model.mjs FROM_FOLDER TO_FOLDER');
mkdirSync(to, { recursive: true });
const config = JSON.parse(readFileSync(join(from, 'config.json'), 'utf8'));
const checkpoint = await openSafetensors(await openFile(join(from, 'model.safetensors')));
const architecture = architectureOf(config, checkpoint.tensors);
const { layouts } = traceModel(architecture, architecture.config(config, checkpoint.tensors));

const tensors = [];
for (const stored of checkpoint.tensors.values()) {
  const { name, type, shape, byteLength } = stored;
  if (layouts.get(name) === 'linear') {
    const { integers, scales } = quantiseQ8(await readF32(checkpoint, stored), shape, GROUP);
    tensors.push({ name, type: 'i8', shape, data: new Uint8Array(integers.buffer) });
    const groups = Math.ceil(shape[1] / GROUP);
    tensors.push({
      name: name + scalesSuffix,
      type: 'f16',
      shape: [shape[0], groups],
      data: new Uint8Array(scales.buffer),
    });
  } else {
    const data = new Uint8Array(byteLength);
    await checkpoint.read(name, data);
    tensors.push({ name, type, shape, data });
  }
}
await writeFileAtomically(
  join(to, 'model.safetensors'),
  encodeSafetensors(tensors, { format: 'riverrun-q8', group: String(GROUP) }),
);
copyFileSync(join(from, 'config.json'), join(to, 'config.json'));
copyFileSync(join(from, 'tokenizer.json'), join(to, 'tokenizer.json'));
// The model was trained on documents that begin with the end of the one before.
const mark = '<|endoftext|>';
writeFileSync(
  join(to, 'tokenizer_config.json'),
  `${JSON.stringify({ bos_token: mark, eos_token: mark, add_bos_token: true }, null, 2)}\n`,
);
await checkpoint.close();

// PyTorch through transformers, in a Python process: what the comparisons need of it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasModules, openPython } from './python.mjs';

/** Models that transformers have. */
const known = ['llama', 'mamba', 'mamba2'];

/** Opens a shape with random weights; undefined where Python has no PyTorch, or transformers no such model. */
export async function openPyTorch(python, { folder, bits, threads }) {
  const { model_type: type } = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  if (!known.includes(type) || !hasModules(python, 'torch', 'transformers')) return undefined;
  const program = openPython(python, 'pytorch.py', folder, bits, threads);
  return { versions: await program.answer(), ask: program.ask, close: program.close };
}

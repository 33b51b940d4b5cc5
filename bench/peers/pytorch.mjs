// PyTorch through transformers, in a Python process: what the comparisons need of it.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** Models that transformers have. */
const known = ['llama', 'mamba', 'mamba2'];

/** Opens a shape with random weights; undefined where Python has no PyTorch, or transformers no such model. */
export async function openPyTorch(python, { folder, bits, threads }) {
  const { model_type: type } = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  if (!existsSync(python) || !known.includes(type)) return undefined;
  const script = fileURLToPath(new URL('./pytorch.py', import.meta.url));
  const child = spawn(python, [script, folder, bits, String(threads)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error('the Python program ended');
    return JSON.parse(value);
  };
  return {
    versions: await answer(),
    async ask(question) {
      child.stdin.write(`${JSON.stringify(question)}\n`);
      return await answer();
    },
    close: () => child.stdin.end(),
  };
}

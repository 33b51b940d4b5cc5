// A Python program of this folder that is asked one question at a time: a line of JSON for each, and one for each answer.
import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The option that names the interpreter: the one on the path unless another is given. */
export const pythonOption = { type: 'string', default: 'python3' };

/** Whether an interpreter is there and has these modules. */
export const hasModules = (python, ...modules) =>
  spawnSync(python, ['-c', `import ${modules.join(', ')}`], { stdio: 'ignore' }).status === 0;

/** Starts a program. */
export function openPython(python, name, ...args) {
  const script = fileURLToPath(new URL(name, import.meta.url));
  const child = spawn(python, [script, ...args.map(String)], { stdio: ['pipe', 'pipe', 'inherit'] });
  let failure;
  child.once('error', (cause) => (failure = new Error(`${python} can't be started: ${cause.message}`, { cause })));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  /** What it says next. */
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done) throw failure ?? new Error(`${name} ended before it answered`);
    return JSON.parse(value);
  };
  return {
    pid: child.pid,
    answer,
    async ask(question) {
      child.stdin.write(`${JSON.stringify(question)}\n`);
      return await answer();
    },
    close: () => child.stdin.end(),
  };
}

import { Command } from 'commander';
import { loadState } from '../platform/state-files.ts';
import type { State } from '../runtime/state.ts';
import { formatBytes } from './bytes.ts';
import { print } from './terminal.ts';

export function stateCommand(): Command {
  const command = new Command('state').description('Look into saved states.');
  command
    .command('info')
    .description('Say what model and text a state is of, and what it holds.')
    .argument('<file>', 'a saved state')
    .option('--tensors', 'list every tensor')
    .option('--json', 'print one JSON object')
    .action(runInfo);
  command
    .command('diff')
    .description(
      'Compare two states: root mean square of the difference, against that of the first. Ends with 1 if they differ.',
    )
    .argument('<first>', 'a saved state')
    .argument('<second>', 'another')
    .option('--json', 'print one JSON object')
    .action(runDiff);
  return command.addHelpText(
    'after',
    `
Examples:
  riverrun generate "Once upon a time" --save king.state
  riverrun state info king.state --tensors
  riverrun state diff king.state queen.state`,
  );
}

async function runInfo(path: string, { tensors, json }: { tensors?: boolean; json?: boolean }): Promise<void> {
  const state = await loadState(path);
  const rows = [...numbersOf(state)].map(([name, { shape, values }]) => ({ name, shape, rms: rms(values) }));
  const { model, position, size, notes } = state;
  if (json) {
    await print(`${JSON.stringify({ file: path, model, position, size, notes, tensors: rows })}\n`);
    return;
  }
  const lines = [
    `model       ${model.type}, matrices held as ${model.weights}`,
    `parameters  ${model.parameters}`,
    `sizes       ${model.configuration}`,
    `position    ${position.toLocaleString('en-US')} tokens`,
    `size        ${formatBytes(size)} in ${rows.length} tensors`,
    ...Object.entries(notes).map(
      ([name, text]) => `${name.padEnd(11)} ${text.length > 80 ? `${text.slice(0, 80)}…` : text}`,
    ),
  ];
  if (tensors) {
    const width = Math.max(...rows.map(({ name }) => name.length));
    for (const row of rows)
      lines.push(`${row.name.padEnd(width)}  [${row.shape.join(', ')}]  rms ${row.rms.toPrecision(4)}`);
  }
  await print(`${lines.join('\n')}\n`);
}

async function runDiff(first: string, second: string, { json }: { json?: boolean }): Promise<void> {
  const [a, b] = [await loadState(first), await loadState(second)];
  const fields: [string, string | number, string | number][] = [
    ['model', a.model.type, b.model.type],
    ['sizes', a.model.configuration, b.model.configuration],
    ['parameters', a.model.parameters, b.model.parameters],
    ['weights', a.model.weights, b.model.weights],
    ['position', a.position, b.position],
  ];
  const unlike = fields.filter(([, x, y]) => x !== y);
  const tensors = differences(a, b);
  const isSame = unlike.length === 0 && tensors.every(({ problem, distance }) => !problem && distance === 0);
  if (!isSame) process.exitCode = 1;
  if (json) {
    const differing = Object.fromEntries(unlike.map(([name, x, y]) => [name, [x, y]]));
    await print(`${JSON.stringify({ same: isSame, ...differing, tensors })}\n`);
    return;
  }
  const width = Math.max(...tensors.map(({ name }) => name.length));
  const lines = [
    ...(isSame ? ['the same, bit for bit'] : []),
    ...unlike.map(([name, x, y]) => `${name.padEnd(width)}  ${x} against ${y}`),
    ...tensors.filter(() => !isSame).map((row) => `${row.name.padEnd(width)}  ${inWords(row)}`),
  ];
  await print(`${lines.join('\n')}\n`);
}

interface Difference {
  readonly name: string;
  /** Why they can't be compared. */
  readonly problem?: string;
  /** rms(a − b), and rms(a). */
  readonly distance?: number;
  readonly rms?: number;
}

const inWords = ({ problem, distance, rms }: Difference): string =>
  problem ?? (distance === 0 ? 'same' : `rms ${distance!.toExponential(2)} of ${rms!.toExponential(2)}`);

function differences(a: State, b: State): Difference[] {
  const [inA, inB] = [numbersOf(a), numbersOf(b)];
  return [...new Set([...inA.keys(), ...inB.keys()])].map((name) => {
    const [x, y] = [inA.get(name), inB.get(name)];
    if (!x || !y) return { name, problem: `only in the ${x ? 'first' : 'second'}` };
    if (x.values.length !== y.values.length)
      return { name, problem: `[${x.shape.join(', ')}] against [${y.shape.join(', ')}]` };
    return { name, distance: rms(x.values.map((value, i) => value - y.values[i]!)), rms: rms(x.values) };
  });
}

/** All numbers of a state, the logits among them. */
function numbersOf({ tensors, logits }: State): Map<string, { shape: readonly number[]; values: Float32Array }> {
  const all = new Map(tensors);
  if (logits) all.set('logits', { shape: [logits.length], values: logits });
  return all;
}

const rms = (values: Float32Array): number =>
  Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / Math.max(1, values.length));

import { Command, Option } from 'commander';
import { InputError } from '../core/errors.ts';
import { expectWritable, openFile } from '../platform/node-file.ts';
import { loadState, saveState } from '../platform/state-files.ts';
import { beginMarkLength } from '../runtime/begin-mark.ts';
import type { ReadOptions } from '../runtime/session.ts';
import type { Source } from '../runtime/source.ts';
import type { SaveOptions, State } from '../runtime/state.ts';
import { formatBytes } from './bytes.ts';
import { withConstraint } from './constraint-options.ts';
import { runGenerate } from './generate.ts';
import { type ModelFlags, withModel } from './options.ts';
import { withSampling } from './sampling-options.ts';
import { interruptSignal, loadModel, ProgressLine, print, standardInput } from './terminal.ts';

export function stateCommand(): Command {
  const command = new Command('state').description('Make states of texts, go on from them, and look into them.');
  withModel(
    command
      .command('save')
      .description('Read a text of any length, and save the state after it.')
      .argument('<file>', 'where the state goes; for a text of --file that was read in part, the state to go on from')
      .argument('[text]', 'the text; without it and --file, standard input')
      .option('--file <path>', 'a UTF-8 text file of any length')
      .option('--from <state>', 'read on from another saved state')
      .addOption(
        new Option('--precision <format>', 'f16 takes half the space, and goes on closely rather than exactly')
          .choices(['f32', 'f16'])
          .default('f32'),
      )
      .option('--json', 'print one JSON object')
      .addHelpText(
        'after',
        `
Examples:
  riverrun state save king.state "Once upon a time there was a king who"
  riverrun state save book.state --file book.txt      # again after an interruption: goes on
  cat more.txt | riverrun state save all.state --from book.state`,
      ),
  ).action(runSave);
  withModel(
    withConstraint(
      withSampling(
        command
          .command('load')
          .description('Go on with a text from a saved state.')
          .argument('<file>', 'a saved state, or a tuned state of an RWKV')
          .argument('[text]', 'a text to read first')
          .option('--save <file>', 'save the state when the text ends')
          .option('--json', 'print one JSON object instead of streaming text')
          .addHelpText(
            'after',
            `
Examples:
  riverrun state load king.state " One day" --max-tokens 40
  riverrun state load king.state --choices " lived, died" --save later.state`,
          ),
      ),
    ),
  ).action((file: string, text: string | undefined, flags) => runGenerate(text, { ...flags, load: file }));
  command
    .command('info')
    .description('Say what model and text a state is of, and what it holds.')
    .argument('<file>', 'a saved state')
    .option('--tensors', 'list every tensor')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  riverrun state info king.state --tensors
  riverrun state info king.state --json`,
    )
    .action(runInfo);
  command
    .command('diff')
    .description(
      'Compare two states: root mean square of the difference, against that of the first. Ends with 1 if they differ.',
    )
    .argument('<first>', 'a saved state')
    .argument('<second>', 'another')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  riverrun state diff king.state queen.state
  riverrun state diff before.state after.state --json`,
    )
    .action(runDiff);
  return command.addHelpText(
    'after',
    `
Examples:
  riverrun state save king.state "Once upon a time there was a king who"
  riverrun state save book.state --file book.txt      # again after an interruption: goes on
  riverrun state load king.state " One day" --max-tokens 40
  riverrun state info king.state --tensors
  riverrun state diff king.state queen.state`,
  );
}

interface SaveFlags extends ModelFlags {
  readonly file?: string;
  readonly from?: string;
  readonly precision: NonNullable<SaveOptions['precision']>;
  readonly json?: boolean;
}

async function runSave(path: string, text: string | undefined, flags: SaveFlags): Promise<void> {
  const signal = interruptSignal();
  const { file, from, precision, json, quiet } = flags;
  if (text !== undefined && file !== undefined) throw new InputError('give a text or --file, not both');
  if (text === '') throw new InputError('the text is empty: there is nothing to read');
  if (text === undefined && file === undefined && process.stdin.isTTY)
    throw new InputError('there is no text: give one as an argument, with --file, or on standard input');
  await expectWritable(path);
  const size = file === undefined ? undefined : await sizeOf(file);
  if (size === 0) throw new InputError(`${file} is empty: there is nothing to read`);
  const model = await loadModel(flags, signal);
  const line = new ProgressLine(quiet);
  try {
    const session = model.session();
    if (from !== undefined) await session.state.restore(await loadState(from, model));
    const begin = session.position === 0 ? beginMarkLength(model) : session.position;
    const source: Source = text ?? (file === undefined ? standardInput(signal) : { file });
    const onProgress: ReadOptions['onProgress'] = (tokens, place) =>
      line.show(`reading: ${tokens.toLocaleString('en-US')} tokens`, place, size);
    // The state of a file tells where it ends, so that the file can be read on. Rounded numbers would not go on exactly.
    const checkpointFile = file !== undefined && precision === 'f32' ? path : undefined;
    let failure: unknown;
    try {
      await session.read(source, { signal, onProgress, checkpointFile });
    } catch (error) {
      if (!signal.aborted) throw error;
      failure = error;
    }
    line.clear();
    if (session.position <= begin) throw failure ?? new InputError('the text is empty: there is nothing to read');
    if (checkpointFile === undefined) await saveState(path, session.state.save({ precision }));
    const { position } = session;
    const bytes = await sizeOf(path);
    if (json) await print(`${JSON.stringify({ file: path, position, bytes, isWhole: failure === undefined })}\n`);
    else await print(`${path}: ${formatBytes(bytes)} after ${position.toLocaleString('en-US')} tokens\n`);
    if (failure !== undefined) throw failure;
  } finally {
    line.clear();
    model.dispose();
  }
}

/** Bytes of a file. InputError where there is none. */
async function sizeOf(path: string): Promise<number> {
  const file = await openFile(path);
  await file.close();
  return file.size;
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
    `model       ${model.type}, matrices held as ${model.weights}${model.kvCache === 'f32' ? '' : `, keys and values in ${model.kvCache}`}`,
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
    ['kvCache', a.model.kvCache, b.model.kvCache],
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

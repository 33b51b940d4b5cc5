import { TrainingError } from '../core/errors.ts';
import { benchTasks, type TaskResult, type TaskTraining, taskTrainings } from '../platform/bench-tasks.ts';
import { interruptSignal, ProgressLine, print } from './terminal.ts';

export interface BenchTasksFlags {
  /** Names with commas between them, or true for all. */
  readonly tasks: string | true;
  readonly architectures?: string;
  readonly steps?: number;
  readonly learningRate?: number;
  readonly seed?: number;
  readonly threads?: number;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

const names = (text: string | true | undefined): string[] | undefined =>
  typeof text === 'string' ? text.split(',').map((name) => name.trim()) : undefined;

/** Trains small models on made-up tasks, and prints a line as each is done. Exit code 1 where one diverged, 130 after Ctrl-C, which leaves the one in hand out. */
export async function runBenchTasks(flags: BenchTasksFlags): Promise<void> {
  const line = new ProgressLine(flags.quiet);
  const signal = interruptSignal();
  const chosen = { tasks: names(flags.tasks), architectures: names(flags.architectures) };
  const trainings = taskTrainings(chosen);
  const running = benchTasks({
    ...chosen,
    steps: flags.steps,
    learningRate: flags.learningRate,
    seed: flags.seed,
    threads: flags.threads,
    signal,
    onStep: (row) => line.show(`${row.task} · ${row.architecture} · step ${row.step} · loss ${row.loss.toFixed(3)}`),
  });
  let [done, diverged] = [0, 0];
  try {
    for await (const result of running) {
      line.clear();
      const { task } = trainings[done]!;
      if (flags.json) await print(`${JSON.stringify(result)}\n`);
      else {
        if (task !== trainings[done - 1]?.task) await print(heading(task));
        await print(row(result));
      }
      done++;
      if (result.diverged !== undefined) diverged++;
    }
  } catch (error) {
    line.clear();
    if (signal.aborted && error === signal.reason)
      process.stderr.write(stopped(trainings.slice(done), trainings.length));
    throw error;
  }
  line.clear();
  if (diverged > 0)
    throw new TrainingError(
      `${diverged} of ${trainings.length} trainings diverged, and have no accuracy: try a lower --learning-rate`,
    );
}

const heading = ({ name, measured }: TaskTraining['task']): string =>
  `\n${name}: accuracy in %, by tokens\n${''.padEnd(24)}${measured.map((length) => String(length).padStart(8)).join('')}   parameters   steps      time\n`;

function row({ architecture, accuracy, parameters, steps, seconds, diverged }: TaskResult): string {
  const name = architecture.padEnd(24);
  if (diverged !== undefined) return `${name} ${diverged}\n`;
  return `${name}${accuracy.map((one) => (100 * one.accuracy).toFixed(1).padStart(8)).join('')}${String(parameters).padStart(13)}${String(steps).padStart(8)}${`${seconds.toFixed(0)} s`.padStart(10)}\n`;
}

/** What is told after Ctrl-C: the trainings that have no row. */
function stopped(left: readonly TaskTraining[], all: number): string {
  const tasks = [...new Set(left.map(({ task }) => task.name))];
  const told = tasks.map((name) => {
    const those = left.filter(({ task }) => task.name === name).map(({ architecture }) => architecture);
    return `  ${name}: ${those.join(', ')}\n`;
  });
  return `riverrun: stopped; ${left.length} of ${all} trainings are not done, nor is anything of them kept:\n${told.join('')}`;
}

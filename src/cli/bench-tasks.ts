import { benchTasks, type TaskResult } from '../platform/bench-tasks.ts';
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

/** Trains small models on made-up tasks, and prints a line as each is done. */
export async function runBenchTasks(flags: BenchTasksFlags): Promise<void> {
  const line = new ProgressLine(flags.quiet);
  let task = '';
  const running = benchTasks({
    tasks: names(flags.tasks),
    architectures: names(flags.architectures),
    steps: flags.steps,
    learningRate: flags.learningRate,
    seed: flags.seed,
    threads: flags.threads,
    signal: interruptSignal(),
    onStep: (row) => line.show(`${row.task} · ${row.architecture} · step ${row.step} · loss ${row.loss.toFixed(3)}`),
  });
  for await (const result of running) {
    line.clear();
    if (flags.json) await print(`${JSON.stringify(result)}\n`);
    else {
      if (result.task !== task) await print(heading(result));
      task = result.task;
      await print(row(result));
    }
  }
  line.clear();
}

const heading = ({ task, accuracy }: TaskResult): string =>
  `\n${task}: accuracy in %, by tokens\n${''.padEnd(24)}${accuracy.map(({ length }) => String(length).padStart(8)).join('')}   parameters   steps      time\n`;

const row = ({ architecture, accuracy, parameters, steps, seconds }: TaskResult): string =>
  `${architecture.padEnd(24)}${accuracy.map((one) => (100 * one.accuracy).toFixed(1).padStart(8)).join('')}${String(parameters).padStart(13)}${String(steps).padStart(8)}${`${seconds.toFixed(0)} s`.padStart(10)}\n`;

import { loggedSteps, type Trained } from '../platform/training-run.ts';
import type { TrainRecord } from '../train/trainer.ts';
import { lossCurve } from './loss-curve.ts';
import { ProgressLine, print, terminalWidth } from './terminal.ts';

export interface TrainingOutputFlags {
  readonly json?: boolean | undefined;
  readonly quiet?: boolean | undefined;
}

/**
 * Runs a training in the folder `output` and prints its records: evaluations as lines, steps as a line that replaces itself, or all as
 * JSON. A terminal gets the curve of the losses too, of all steps in the folder's log, however the training ends.
 */
export async function printTraining(
  output: string,
  start: (
    onProgress: (what: string, done?: number, total?: number) => void,
    onNotice: (what: string) => void,
  ) => AsyncGenerator<TrainRecord, Trained>,
  { json, quiet }: TrainingOutputFlags,
): Promise<void> {
  const line = new ProgressLine(quiet);
  const secondsLeft = timeLeft();
  const running = start(
    (what, done, total) => {
      const left = secondsLeft(done, total);
      line.show(left === undefined ? what : `${what} · ${duration(left)} left`, done, total);
    },
    (what) => {
      line.clear();
      if (!quiet) process.stderr.write(`${what}\n`);
    },
  );
  let next: IteratorResult<TrainRecord, Trained>;
  let hasStepped = false;
  try {
    for (next = await running.next(); !next.done; next = await running.next()) {
      const record = next.value;
      hasStepped = true;
      if (json) await print(`${JSON.stringify(record)}\n`);
      else {
        line.show(progress(record));
        if (record.evaluation) {
          line.clear();
          await print(`${evaluation(record)}\n`);
        }
      }
    }
  } catch (error) {
    // Where nothing can be printed any more, the training is left as by Ctrl-C: with a checkpoint.
    await running.return(undefined as never);
    throw error;
  } finally {
    line.clear();
    const width = json || quiet || !hasStepped ? undefined : terminalWidth();
    if (width !== undefined) process.stderr.write(lossCurve(loggedSteps(output), width));
  }
  if (json) await print(`${JSON.stringify(next.value)}\n`);
  else await print(`${ending(next.value)}\n`);
  if (next.value.interrupted) process.exitCode = 130;
}

const progress = ({ step, steps, loss, tokensPerSecond, secondsLeft }: TrainRecord): string =>
  `step ${step} of ${steps} · loss ${loss.toFixed(3)} · ${Math.round(tokensPerSecond)} tokens/s · ${duration(secondsLeft)} left`;

const percent = (fraction: number): string => `${(100 * fraction).toFixed(2)} %`;

function evaluation({ step, loss, evaluation }: TrainRecord): string {
  const { loss: found, accuracy, isBest } = evaluation!;
  const right = accuracy === undefined ? '' : `, accuracy ${percent(accuracy)}`;
  return `step ${step}: loss ${loss.toFixed(4)}, validation ${found.toFixed(4)}${right}${isBest ? ' (best)' : ''}`;
}

function ending({ output, step, steps, tokens, best, interrupted }: Trained): string {
  if (interrupted) return `stopped after step ${step} of ${steps}: the same command with --resume goes on`;
  const found = best && `; best at step ${best.step}: validation ${best.loss.toFixed(4)}`;
  const right = best?.accuracy === undefined ? '' : `, accuracy ${percent(best.accuracy)}`;
  return `${output}: ${tokens} tokens seen${found ?? ''}${right}`;
}

/** Tells how many seconds are left of a work of which so much is done, by the time since it was told of first; nothing where that is not known. */
export function timeLeft(now = () => performance.now()): (done?: number, total?: number) => number | undefined {
  let first: { readonly done: number; readonly at: number } | undefined;
  return (done, total) => {
    if (done === undefined || total === undefined) return undefined;
    if (first === undefined || done < first.done) first = { done, at: now() };
    if (done === first.done) return undefined;
    return (((now() - first.at) / 1000) * (total - done)) / (done - first.done);
  };
}

/** Seconds for people. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** A step of a training's log. */
export interface LoggedStep {
  readonly step: number;
  readonly tokens: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  readonly evaluation?: { readonly loss: number; readonly accuracy?: number } | undefined;
}

/** The log as a table: one row a step. */
export function lossTable(steps: readonly LoggedStep[]): string {
  const rows = steps.map(({ step, tokens, loss, learningRate, gradientNorm, evaluation }) =>
    [step, tokens, loss, learningRate, gradientNorm, evaluation?.loss ?? '', evaluation?.accuracy ?? ''].join(','),
  );
  return `${['step,tokens,loss,learningRate,gradientNorm,validation,accuracy', ...rows].join('\n')}\n`;
}

const [WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM] = [720, 400, 56, 28, 16, 44];

/** The most stretches of steps, and the most evaluations, that are drawn: more than there are points across. */
const DRAWN = 1000;

/** A list in stretches of the same length, one after the other: as few steps in each as make at most `most` of them. */
export function stretches<T>(list: readonly T[], most = DRAWN): T[][] {
  const size = Math.ceil(list.length / most);
  return Array.from({ length: Math.ceil(list.length / (size || 1)) }, (_, i) => list.slice(i * size, (i + 1) * size));
}

/**
 * The losses as a picture: of the steps in a thin line, their running mean in a thick one, evaluations as dots. Of long trainings the thin
 * line has the least and the greatest loss of every stretch of steps, and dots are the best evaluation of every stretch.
 */
export function lossChart(steps: readonly LoggedStep[]): string {
  const last = Math.max(1, steps.at(-1)?.step ?? 1);
  let [least, most] = [Infinity, -Infinity];
  for (const { loss, evaluation } of steps) {
    least = Math.min(least, loss, evaluation?.loss ?? loss);
    most = Math.max(most, loss, evaluation?.loss ?? loss);
  }
  const span = most - least || 1;
  const x = (step: number) => LEFT + ((WIDTH - LEFT - RIGHT) * step) / last;
  const y = (loss: number) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (loss - least) / span);
  const point = (step: number, loss: number) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`;
  let mean = steps[0]?.loss ?? 0;
  const smooth = stretches(steps).map((stretch) => {
    for (const { loss } of stretch) mean += 0.05 * (loss - mean);
    return point(stretch.at(-1)!.step, mean);
  });
  const line = stretches(steps).flatMap((stretch) => {
    const [low, high] = [extreme(stretch, -1), extreme(stretch, 1)];
    const ends = low === high ? [low] : low.step < high.step ? [low, high] : [high, low];
    return ends.map(({ step, loss }) => point(step, loss));
  });
  const ticks = Array.from({ length: 5 }, (_, i) => least + (span * i) / 4);
  const lines = ticks.map(
    (loss) =>
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(loss).toFixed(1)}" y2="${y(loss).toFixed(1)}" class="grid"/><text x="${LEFT - 6}" y="${(y(loss) + 4).toFixed(1)}" text-anchor="end">${loss.toFixed(2)}</text>`,
  );
  const marks = Array.from({ length: 5 }, (_, i) => Math.round((last * i) / 4)).map(
    (step) => `<text x="${x(step).toFixed(1)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${step}</text>`,
  );
  const dots = stretches(steps.flatMap(({ step, evaluation }) => (evaluation ? [{ step, loss: evaluation.loss }] : [])))
    .map((stretch) => extreme(stretch, -1))
    .map(
      ({ step, loss }) =>
        `<circle cx="${x(step).toFixed(1)}" cy="${y(loss).toFixed(1)}" r="3.5"><title>step ${step}: validation ${loss.toFixed(4)}</title></circle>`,
    );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="12">
<style>text{fill:#555}.grid{stroke:#8884;stroke-width:1}.steps{fill:none;stroke:#4c78a855}.mean{fill:none;stroke:#4c78a8;stroke-width:2}circle{fill:#e4572e}</style>
<text x="${LEFT}" y="16">loss, nats a token: steps, their running mean, and evaluations (dots)</text>
${lines.join('\n')}
${marks.join('\n')}
<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 8}" text-anchor="middle">step</text>
<polyline class="steps" points="${line.join(' ')}"/>
<polyline class="mean" points="${smooth.join(' ')}"/>
${dots.join('\n')}
</svg>
`;
}

/** The step of the least loss (`sign` −1), or of the greatest (1). */
const extreme = <T extends { readonly loss: number }>(steps: readonly T[], sign: 1 | -1): T =>
  steps.reduce((found, one) => (sign * one.loss > sign * found.loss ? one : found));

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

/** The losses as a picture: of the steps in a thin line, their running mean in a thick one, evaluations as dots. */
export function lossChart(steps: readonly LoggedStep[]): string {
  const last = Math.max(1, steps.at(-1)?.step ?? 1);
  const values = steps.flatMap(({ loss, evaluation }) => (evaluation ? [loss, evaluation.loss] : [loss]));
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const span = most - least || 1;
  const x = (step: number) => LEFT + ((WIDTH - LEFT - RIGHT) * step) / last;
  const y = (loss: number) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (loss - least) / span);
  const point = (step: number, loss: number) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`;
  let mean = steps[0]?.loss ?? 0;
  const smooth = steps.map(({ step, loss }) => {
    mean += 0.05 * (loss - mean);
    return point(step, mean);
  });
  const ticks = Array.from({ length: 5 }, (_, i) => least + (span * i) / 4);
  const lines = ticks.map(
    (loss) =>
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(loss).toFixed(1)}" y2="${y(loss).toFixed(1)}" class="grid"/><text x="${LEFT - 6}" y="${(y(loss) + 4).toFixed(1)}" text-anchor="end">${loss.toFixed(2)}</text>`,
  );
  const marks = Array.from({ length: 5 }, (_, i) => Math.round((last * i) / 4)).map(
    (step) => `<text x="${x(step).toFixed(1)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${step}</text>`,
  );
  const dots = steps
    .filter(({ evaluation }) => evaluation)
    .map(
      ({ step, evaluation }) =>
        `<circle cx="${x(step).toFixed(1)}" cy="${y(evaluation!.loss).toFixed(1)}" r="3.5"><title>step ${step}: validation ${evaluation!.loss.toFixed(4)}</title></circle>`,
    );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="12">
<style>text{fill:#555}.grid{stroke:#8884;stroke-width:1}.steps{fill:none;stroke:#4c78a855}.mean{fill:none;stroke:#4c78a8;stroke-width:2}circle{fill:#e4572e}</style>
<text x="${LEFT}" y="16">loss, nats a token: steps, their running mean, and evaluations (dots)</text>
${lines.join('\n')}
${marks.join('\n')}
<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 8}" text-anchor="middle">step</text>
<polyline class="steps" points="${steps.map(({ step, loss }) => point(step, loss)).join(' ')}"/>
<polyline class="mean" points="${smooth.join(' ')}"/>
${dots.join('\n')}
</svg>
`;
}

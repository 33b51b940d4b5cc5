import { type LoggedStep, stretches } from '../train/loss-chart.ts';

/** Lines of the picture, and dots of a character: braille has two beside each other, four above each other. */
const [LINES, ACROSS, DOWN] = [9, 2, 4];
/** Characters of a line's label, and what stands between it and the picture. */
const [LABEL, AXIS] = [7, 2];
/** The most characters that the picture is wide, and the least: its title has as many. */
const [WIDEST, NARROWEST] = [100, 30];
/** A curve is drawn of as many steps as this. */
const FEWEST = 3;

/** The bits of a braille character's dots (U+2800), by column and line. */
const DOTS = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
] as const;

interface Point {
  readonly step: number;
  readonly loss: number;
}

/**
 * The losses of a training as text, in lines of fewer than `columns` characters: those of the steps as a line of braille dots, of which
 * each column has the mean of its stretch of steps, those of evaluations as ●. Nothing for fewer than three steps, or 40 columns.
 */
export function lossCurve(steps: readonly LoggedStep[], columns: number): string {
  const width = Math.min(WIDEST, columns - LABEL - AXIS - 1);
  const taught = steps.filter(({ loss }) => Number.isFinite(loss));
  if (taught.length < FEWEST || width < NARROWEST) return '';
  const measured = steps.flatMap(({ step, evaluation }) =>
    evaluation && Number.isFinite(evaluation.loss) ? [{ step, loss: evaluation.loss }] : [],
  );
  const means = stretches(taught, ACROSS * width).map(mean);
  const losses = [...means, ...measured].map(({ loss }) => loss);
  const [least, most] = [losses.reduce((a, b) => Math.min(a, b)), losses.reduce((a, b) => Math.max(a, b))];
  const span = most - least || 1;
  const [first, last] = [taught[0]!.step, taught.at(-1)!.step];
  const picture = new Picture(width, ({ step, loss }) => [(step - first) / (last - first), (most - loss) / span]);
  for (const [i, point] of means.entries()) picture.line(means[i - 1] ?? point, point);
  const lines = picture.lines(measured).map((line, i) => {
    const isLabelled = i % ((LINES - 1) / 2) === 0;
    const text = isLabelled ? label(most - (span * i) / (LINES - 1), span) : '';
    return `${text.padStart(LABEL)} ${isLabelled ? '┤' : '│'}${line}`.trimEnd();
  });
  const between = width - `${first}${last}`.length;
  const title = `loss in nats: ⠤ training${measured.length > 0 ? ', ● validation' : ''}`;
  const indent = ' '.repeat(LABEL + 1);
  const axis = `${first}${'steps'.padStart(Math.floor((between + 5) / 2)).padEnd(between)}${last}`;
  return [title, ...lines, `${indent}└${'─'.repeat(width)}`, `${indent} ${axis}`, ''].join('\n');
}

/** Lines and marks on a grid of braille dots. */
class Picture {
  readonly #dots: Uint8Array[];
  readonly #place: (point: Point) => [number, number];

  /** @param at where a point is, from the left and from the top, as parts of the whole */
  constructor(width: number, at: (point: Point) => readonly [number, number]) {
    this.#dots = Array.from({ length: LINES }, () => new Uint8Array(width));
    this.#place = (point) => {
      const [x, y] = at(point);
      return [Math.round(x * (ACROSS * width - 1)), Math.round(y * (DOWN * LINES - 1))];
    };
  }

  line(from: Point, to: Point): void {
    const [[x, y], [toX, toY]] = [this.#place(from), this.#place(to)];
    const count = Math.max(1, Math.abs(toX - x), Math.abs(toY - y));
    for (let k = 0; k <= count; k++)
      this.#dot(Math.round(x + (k * (toX - x)) / count), Math.round(y + (k * (toY - y)) / count));
  }

  #dot(x: number, y: number): void {
    this.#dots[Math.floor(y / DOWN)]![Math.floor(x / ACROSS)]! |= DOTS[x % ACROSS]![y % DOWN]!;
  }

  /** The picture's lines, with marks over them. */
  lines(marks: readonly Point[]): string[] {
    const lines = this.#dots.map((line) =>
      Array.from(line, (bits) => (bits === 0 ? ' ' : String.fromCharCode(0x2800 + bits))),
    );
    for (const mark of marks) {
      const [x, y] = this.#place(mark);
      lines[Math.floor(y / DOWN)]![Math.floor(x / ACROSS)] = '●';
    }
    return lines.map((line) => line.join(''));
  }
}

/** A loss, at most as long as a label: with two digits after the point, four where all are close together. */
const label = (loss: number, span: number): string =>
  loss < 1e4 ? loss.toFixed(span < 0.1 && loss < 100 ? 4 : 2) : loss.toExponential(1);

/** The middle of a stretch of steps, and their mean loss. */
const mean = (stretch: readonly Point[]): Point => ({
  step: (stretch[0]!.step + stretch.at(-1)!.step) / 2,
  loss: stretch.reduce((sum, { loss }) => sum + loss / stretch.length, 0),
});

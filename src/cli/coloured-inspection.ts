import type { Inspection, LayerInspection } from '../runtime/inspection/inspection.ts';

/** Colours a text by a number between 0 and 1, or leaves it as it is where there are no colours. */
export type Paint = (text: string, intensity: number) => string;

/** Backgrounds of the 256 colours that terminals have, from next to nothing to much. */
const ramp = [236, 53, 89, 125, 161, 167, 173, 179, 221];

/** How to colour what goes to a stream: undefined where it is no terminal, or colours are not wanted (no-color.org). */
export function paintsFor({ isTTY }: { readonly isTTY?: boolean }): Paint | undefined {
  if (!isTTY || process.env['NO_COLOR'] || process.env['TERM'] === 'dumb') return undefined;
  return (text, intensity) => {
    const step = Math.min(ramp.length - 1, Math.max(0, Math.floor(intensity * ramp.length)));
    const ink = step >= 5 ? 16 : 255;
    // A line's end keeps its own background.
    return text.replace(/[^\n]+/g, (part) => `\x1b[48;5;${ramp[step]};38;5;${ink}m${part}\x1b[0m`);
  };
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** A token's numbers: of one layer, or of all: the median of their memories, the means of the rest. */
function rowOf({ surprise, layers }: Inspection, t: number, layer: number | undefined) {
  const chosen = layer === undefined ? layers : [layers[layer]!];
  const of = (name: 'write' | 'keep' | 'memory' | 'erase' | 'past') => chosen.map((one) => one[name][t]!);
  return {
    surprise: surprise[t]!,
    write: mean(of('write')),
    memory: median(of('memory')),
    erase: mean(of('erase')),
    past: mean(of('past')),
  };
}

type Row = ReturnType<typeof rowOf>;

const meanings: Readonly<Record<keyof Row, string>> = {
  surprise: 'surprise: −ln p of the word, given all before',
  write: 'write: share of the state that the word put there',
  memory: 'memory: words until 1/e of the state is left, if all let it fade like this one',
  erase: 'erase: what was taken out of the state before writing',
  past: 'past: share of what was read that came from before the word',
};

/** Where a number lies between 0 and 1: surprise up to 12 nats, memory by its logarithm up to 1,023 tokens. */
const intensity: Readonly<Record<keyof Row, (x: number) => number>> = {
  surprise: (x) => (Number.isNaN(x) ? 0 : x / 12),
  write: (x) => x,
  memory: (x) => Math.log2(x + 1) / 10,
  erase: (x) => x,
  past: (x) => x,
};

const number = (x: number, digits: number): string => {
  if (Number.isNaN(x)) return '–';
  return x === Infinity ? '∞' : x >= 1000 ? Math.round(x).toLocaleString('en-US') : x.toFixed(digits);
};

/**
 * An inspection for a terminal: the text once for each quantity, coloured; without colours a line for each token. Then a line
 * for each layer.
 */
export function colouredInspection(
  inspection: Inspection,
  title: string,
  layer: number | undefined,
  paint: Paint | undefined,
): string {
  const { tokens, pieces, layers } = inspection;
  const pieceOf = (t: number) => pieces[t] ?? `[${tokens[t]}]`;
  const rows = tokens.map((_, t) => rowOf(inspection, t, layer));
  const names = (Object.keys(meanings) as (keyof Row)[]).filter(
    (name) =>
      (name !== 'erase' || rows.some(({ erase }) => erase > 0)) &&
      (name !== 'surprise' || rows.some(({ surprise }) => !Number.isNaN(surprise))),
  );
  const where = layer === undefined ? `${layers.length} layers` : layers[layer]!.path;
  const lines = [`${title}, ${where}, ${tokens.length} tokens`, ''];
  if (paint) {
    for (const name of names) {
      const text = rows.map((row, t) => paint(pieceOf(t), intensity[name](row[name]))).join('');
      lines.push(meanings[name], text, '');
    }
  } else {
    lines.push(`${names.map((name) => name.padStart(9)).join('')}  token`);
    for (const [t, row] of rows.entries()) {
      const digits = (name: keyof Row) => (name === 'memory' ? 1 : 3);
      lines.push(
        `${names.map((name) => number(row[name], digits(name)).padStart(9)).join('')}  ${JSON.stringify(pieceOf(t))}`,
      );
    }
    lines.push('');
  }
  return `${[...lines, ...layerTable(layers)].join('\n')}\n`;
}

/** What each layer did on the whole. */
function layerTable(layers: readonly LayerInspection[]): string[] {
  const width = Math.max(5, ...layers.map(({ path }) => path.length));
  return [
    `${'layer'.padEnd(width)}    write   memory     past   (means; median of memory)`,
    ...layers.map(
      ({ path, write, memory, past }) =>
        `${path.padEnd(width)} ${[mean([...write]), median([...memory]), mean([...past])].map((x, i) => number(x, i === 1 ? 1 : 3).padStart(8)).join(' ')}`,
    ),
  ];
}

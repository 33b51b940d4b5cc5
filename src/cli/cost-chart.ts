import type { BenchResult, CostAtLength } from '../platform/bench.ts';
import { formatBytes } from './bytes.ts';

const [WIDTH, HEIGHT, MARGIN] = [640, 360, 56];

/** The cost of a token against the length of the text, as an SVG picture: lengths by their logarithm, cost from zero. */
export function costChart({ model, type, costs }: BenchResult): string {
  const lengths = costs.map(({ length }) => Math.log2(length));
  const [first, last] = [Math.min(...lengths), Math.max(...lengths)];
  const most = 1.1 * Math.max(...costs.map(({ millisecondsPerToken }) => millisecondsPerToken));
  const x = (length: number) =>
    MARGIN + ((WIDTH - 2 * MARGIN) * (Math.log2(length) - first)) / Math.max(1e-9, last - first);
  const y = (cost: number) => HEIGHT - MARGIN - ((HEIGHT - 2 * MARGIN) * cost) / most;
  const text = (at: number, height: number, words: string, anchor = 'middle') =>
    `<text x="${at.toFixed(1)}" y="${height.toFixed(1)}" text-anchor="${anchor}">${escaped(words)}</text>`;
  const points = costs.map(({ length, millisecondsPerToken }) => [x(length), y(millisecondsPerToken)] as const);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => part * most);
  const digits = digitsAfterPoint(ticks[1]!, 2);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>
${text(WIDTH / 2, 24, `${model} (${type}): milliseconds per token by the tokens before it`)}
${ticks.map((tick) => `<line x1="${MARGIN}" x2="${WIDTH - MARGIN}" y1="${y(tick).toFixed(1)}" y2="${y(tick).toFixed(1)}" stroke="#ddd"/>${text(MARGIN - 6, y(tick) + 4, tick.toFixed(digits), 'end')}`).join('\n')}
${costs.map(({ length }) => text(x(length), HEIGHT - MARGIN + 18, length.toLocaleString('en-US'))).join('\n')}
<polyline fill="none" stroke="#1668a8" stroke-width="2" points="${points.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(' ')}"/>
${points.map(([px, py]) => `<circle cx="${px.toFixed(1)}" cy="${py.toFixed(1)}" r="3.5" fill="#1668a8"/>`).join('\n')}
</svg>
`;
}

/** Columns of the longest bar. */
const BAR = 40;

/** The same in text: a bar for each length. */
export function costBars(costs: readonly CostAtLength[]): string[] {
  const all = costs.map(({ millisecondsPerToken }) => millisecondsPerToken);
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const digits = Math.max(2, digitsAfterPoint(least, 3));
  return costs.map(({ length, millisecondsPerToken: cost, stateBytes }) => {
    const filled = '█'.repeat(Math.max(1, Math.round((BAR * cost) / most)));
    return `${String(length).padStart(9)}  ${filled.padEnd(BAR)}  ${cost.toFixed(digits)} ms, state ${formatBytes(stateBytes)}`;
  });
}

/** Digits after the point with which a positive number has as many that count: 0.0123 has two of them with three. */
const digitsAfterPoint = (x: number, significant: number): number =>
  Math.min(20, Math.max(0, significant - 1 - Math.floor(Math.log10(x))));

const entities: Readonly<Record<string, string>> = { '<': '&lt;', '>': '&gt;', '&': '&amp;', '"': '&quot;' };
const escaped = (words: string): string => words.replace(/[<>&"]/g, (character) => entities[character]!);

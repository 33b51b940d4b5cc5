import { type Inspection, quantityNames } from '../runtime/inspection/inspection.ts';
import { inspectionScript } from './inspection-script.ts';
import { inspectionStyle } from './inspection-style.ts';

/** Four significant digits; null for what is no number or endless. */
const rounded = (x: number): number | null => (Number.isFinite(x) ? Number(x.toPrecision(4)) : null);

/** What an inspection holds, as plain JSON: arrays of numbers, null for NaN and infinity. */
export function inspectionJson(inspection: Inspection): Record<string, unknown> {
  const numbers = (x: Float32Array) => Array.from(x, rounded);
  const quantities = (layer: Inspection['layers'][number] | NonNullable<Inspection['layers'][number]['byHead']>) =>
    Object.fromEntries(quantityNames.map((name) => [name, numbers(layer[name])]));
  const map = (one: Inspection['layers'][number]['map']) =>
    one && { weights: numbers(one.weights), before: numbers(one.before) };
  const { type, position, tokens, pieces, surprise, layers } = inspection;
  return {
    type,
    position,
    tokens,
    pieces,
    surprise: numbers(surprise),
    layers: layers.map((layer) => ({
      path: layer.path,
      op: layer.op,
      heads: layer.heads,
      ...quantities(layer),
      ...(layer.byHead && { byHead: quantities(layer.byHead) }),
      ...(layer.map && { map: map(layer.map) }),
      ...(layer.headMaps && { headMaps: layer.headMaps.map(map) }),
    })),
  };
}

/**
 * An inspection as an HTML page that needs nothing else: the words coloured by what the model did with them, a heat map of
 * layers × tokens, and for every word from which others it was read.
 */
export function inspectionPage(inspection: Inspection, title = inspection.type): string {
  // In a script element only `</` and `<!--` could end or change it.
  const data = JSON.stringify(inspectionJson(inspection)).replaceAll('<', '\\u003c');
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}: what it kept and forgot</title>
<style>${inspectionStyle}</style>
<header>
  <h1>${escaped(title)}</h1>
  <p id="about"></p>
</header>
<nav>
  <fieldset id="quantities"><legend>colour by</legend></fieldset>
  <label>layer <select id="layer"></select></label>
  <label id="heads" hidden>head <select id="head"></select></label>
</nav>
<main>
  <p id="meaning"></p>
  <section id="words" aria-label="the text, coloured"></section>
  <div id="scale"></div>
  <section>
    <h2>Layers × tokens</h2>
    <div id="grid"><div id="rows"></div><div id="sheet"><canvas id="heat"></canvas></div></div>
  </section>
  <section id="reading" hidden>
    <h2>Read from</h2>
    <p id="reader"></p>
    <section id="sources" aria-label="the text, coloured by how much of it was read"></section>
  </section>
</main>
<div id="tip" role="status" hidden></div>
<script id="data" type="application/json">${data}</script>
<script>${inspectionScript}</script>
</html>
`;
}

const entities: Readonly<Record<string, string>> = { '<': '&lt;', '>': '&gt;', '&': '&amp;', '"': '&quot;' };
const escaped = (text: string): string => text.replace(/[<>&"]/g, (character) => entities[character]!);

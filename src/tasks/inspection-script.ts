/** What the inspection page does, as the browser gets it. It reads the JSON beside it and asks the network for nothing. */
export const inspectionScript = String.raw`
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const $ = (id) => document.getElementById(id);
const T = data.tokens.length;
const L = data.layers.length;
const meanings = {
  surprise: 'How unlikely the word was to the model, given all before: −ln p, in nats.',
  write: 'Share of the state after the word that the word put there: 100 % replaces everything, 0 % leaves no trace.',
  memory: 'At the rate at which this word lets the state fade, how many such words it takes until 1/e is left.',
  erase: 'How much of the state a delta rule took out before it wrote, against all that was there.',
  read: 'Length of what the layer read from its state at this word.',
  past: 'Share of what was read that came from before the word: 100 % is memory, 0 % is the word itself.',
};
const whole = new Set(['write', 'past', 'erase']);
const known = Object.keys(meanings).filter((name) =>
  name === 'surprise' ? data.surprise.some((x) => x !== null) : name !== 'erase' || data.layers.some((layer) => layer.erase.some((x) => x > 0)));
const chosen = { quantity: known[0], layer: -1, head: -1, pinned: -1 };

const columnsOf = (l) => (chosen.head >= 0 && data.layers[l].byHead ? data.layers[l].byHead : data.layers[l]);
const rowOf = (l, name) => {
  const values = columnsOf(l)[name];
  const H = data.layers[l].heads;
  return chosen.head >= 0 && data.layers[l].byHead
    ? Array.from({ length: T }, (_, t) => values[t * H + Math.min(chosen.head, H - 1)])
    : values;
};
/** Endless memory is longer than any text. */
const number = (name, x) => (x === null ? (name === 'memory' ? Infinity : NaN) : x);
const valuesOf = (name, layer) => {
  if (name === 'surprise') return data.surprise.map((x) => number(name, x));
  if (layer >= 0) return rowOf(layer, name).map((x) => number(name, x));
  const rows = data.layers.map((_, l) => rowOf(l, name));
  return Array.from({ length: T }, (_, t) => {
    const column = rows.map((row) => number(name, row[t])).filter((x) => !Number.isNaN(x));
    if (name === 'memory') return column.sort((a, b) => a - b)[column.length >> 1];
    return column.reduce((a, b) => a + b, 0) / column.length;
  });
};

/** Where a number lies between 0 and 1: memory by its logarithm, shares as they are, all else against the largest. */
const place = (name, x, most) => {
  if (Number.isNaN(x)) return NaN;
  if (name === 'memory') return x === Infinity ? 1 : Math.log(x + 1) / Math.log(Math.max(most, 15) + 1);
  return whole.has(name) ? Math.min(1, x) : most > 0 ? x / most : 0;
};
const dark = matchMedia('(prefers-color-scheme: dark)');
const stops = { light: [[255, 255, 255], [253, 228, 170], [246, 158, 88], [205, 68, 76], [96, 22, 84]], dark: [[29, 32, 36], [62, 38, 92], [150, 44, 104], [232, 98, 70], [252, 208, 120]] };
const colour = (x) => {
  const ramp = stops[dark.matches ? 'dark' : 'light'];
  if (Number.isNaN(x)) return ramp[0];
  const at = Math.min(0.9999, Math.max(0, x)) * (ramp.length - 1);
  const i = Math.floor(at);
  return ramp[i].map((c, n) => Math.round(c + (ramp[i + 1][n] - c) * (at - i)));
};
const css = (rgb) => 'rgb(' + rgb.join(',') + ')';
const inkOn = ([r, g, b]) => (0.3 * r + 0.59 * g + 0.11 * b > 140 ? '#17181a' : '#fff');
const percent = (x) => (100 * x).toFixed(x < 0.1 ? 1 : 0) + ' %';
const shown = (name, x) => {
  if (Number.isNaN(x)) return '–';
  if (whole.has(name)) return percent(x);
  if (x === Infinity) return 'for ever';
  if (name === 'memory') return (x < 10 ? x.toFixed(1) : Math.round(x).toLocaleString('en')) + ' tokens';
  return x.toPrecision(3);
};

const pieceOf = (t) => (data.pieces.length ? data.pieces[t] : '[' + data.tokens[t] + ']');
const words = [];
const sources = [];
const fill = (section, list) => {
  for (let t = 0; t < T; t++) {
    const word = document.createElement('span');
    word.className = 'word';
    word.tabIndex = section.id === 'words' ? 0 : -1;
    word.textContent = pieceOf(t) || '∅';
    word.dataset.t = t;
    if (!pieceOf(t)) word.classList.add('mark');
    section.append(word);
    list.push(word);
  }
};
fill($('words'), words);
fill($('sources'), sources);
const paint = (list, values) => list.forEach((word, t) => {
  const rgb = colour(values[t]);
  word.style.background = css(rgb);
  word.style.color = inkOn(rgb);
});

const largest = (values) => values.reduce((a, b) => (Number.isFinite(b) ? Math.max(a, b) : a), 0);
const short = (path) => path.replace(/\/\w+$/, '').replace(/^(model|backbone|rwkv|transformer|gpt_neox)\./, '');

let cell = 8;
const height = Math.max(6, Math.min(22, Math.floor(420 / L)));
function drawGrid() {
  const name = chosen.quantity === 'surprise' ? 'write' : chosen.quantity;
  const canvas = $('heat');
  cell = Math.max(3, Math.min(22, Math.floor(($('sheet').clientWidth || 900) / T)));
  canvas.width = T * cell;
  canvas.height = L * height;
  const pen = canvas.getContext('2d');
  const rows = data.layers.map((_, l) => rowOf(l, name).map((x) => number(name, x)));
  const most = largest(rows.map(largest));
  rows.forEach((row, l) => row.forEach((x, t) => {
    pen.fillStyle = css(colour(place(name, x, most)));
    pen.fillRect(t * cell, l * height, cell - (cell > 5 ? 1 : 0), height - 1);
  }));
  if (chosen.pinned >= 0) {
    pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue('--accent');
    pen.lineWidth = 2;
    pen.strokeRect(chosen.pinned * cell, 0, cell, L * height);
  }
}

/** The map of the chosen layer and head; of all layers, their mean. */
function mapRow(t) {
  const maps = (chosen.layer >= 0 ? [data.layers[chosen.layer]] : data.layers)
    .map((layer) => (chosen.head >= 0 && layer.headMaps ? layer.headMaps[Math.min(chosen.head, layer.heads - 1)] : layer.map))
    .filter(Boolean);
  if (!maps.length) return undefined;
  const mean = (pick) => maps.reduce((sum, map) => sum + pick(map), 0) / maps.length;
  return { weights: Array.from({ length: T }, (_, s) => mean((map) => map.weights[t * T + s])), before: mean((map) => map.before[t]) };
}

function drawReading() {
  const row = chosen.pinned >= 0 ? mapRow(chosen.pinned) : undefined;
  $('reading').hidden = !data.layers.some((layer) => layer.map);
  if (!row) {
    $('reader').textContent = 'Point at a word, or click it, to see from which words it was read.';
    paint(sources, Array(T).fill(0));
    return;
  }
  const where = chosen.layer >= 0 ? short(data.layers[chosen.layer].path) : 'the mean of all layers';
  $('reader').textContent = '“' + pieceOf(chosen.pinned).trim() + '” (token ' + (data.position + chosen.pinned) + '), ' + where
    + (row.before > 0 ? ': ' + percent(row.before) + ' from before this text' : '');
  const most = Math.max(...row.weights);
  paint(sources, row.weights.map((x) => Math.sqrt(x / most)));
  sources.forEach((word, t) => word.classList.toggle('pinned', t === chosen.pinned));
}

function draw() {
  const { quantity, layer } = chosen;
  for (const button of $('quantities').querySelectorAll('button')) button.setAttribute('aria-pressed', button.value === quantity);
  $('meaning').textContent = meanings[quantity] + (quantity === 'surprise' ? ' Below: what was written.' : '');
  const values = valuesOf(quantity, layer);
  const most = largest(values);
  paint(words, values.map((x) => place(quantity, x, most)));
  words.forEach((word, t) => word.classList.toggle('pinned', t === chosen.pinned));
  const ramp = Array.from({ length: 9 }, (_, i) => css(colour(i / 8))).join(',');
  const end = quantity === 'memory' ? shown('memory', Math.max(most, 15)) : whole.has(quantity) ? '100 %' : shown(quantity, most);
  $('scale').replaceChildren('0', Object.assign(document.createElement('i'), { style: 'background:linear-gradient(90deg,' + ramp + ')' }), end);
  [...$('rows').children].forEach((row, l) => row.classList.toggle('chosen', l === layer));
  const H = layer >= 0 ? data.layers[layer].heads : Math.max(...data.layers.map(({ heads }) => heads));
  $('heads').hidden = !data.layers.some(({ byHead, headMaps }) => byHead || headMaps);
  if ($('head').options.length !== H + 1) {
    $('head').replaceChildren(...Array.from({ length: H + 1 }, (_, h) => new Option(h ? String(h - 1) : 'all', h - 1)));
    chosen.head = Math.min(chosen.head, H - 1);
    $('head').value = chosen.head;
  }
  drawGrid();
  drawReading();
}

function tip(event, t, l) {
  const rows = ['surprise', 'write', 'memory', 'erase', 'read', 'past'].filter((name) => known.includes(name))
    .map((name) => '<tr><td>' + name + '<td>' + shown(name, valuesOf(name, l)[t]));
  const box = $('tip');
  box.innerHTML = '<b></b><span></span><table>' + rows.join('') + '</table>';
  box.firstChild.textContent = pieceOf(t).trim() || '(a mark)';
  box.children[1].textContent = ' · token ' + (data.position + t) + ' · ' + (l >= 0 ? short(data.layers[l].path) : 'all layers');
  box.hidden = false;
  const { width, height: tall } = box.getBoundingClientRect();
  box.style.left = Math.max(8, Math.min(event.clientX + 14, innerWidth - width - 8)) + 'px';
  box.style.top = (event.clientY + tall + 24 > innerHeight ? event.clientY - tall - 12 : event.clientY + 16) + 'px';
}

for (const name of known) {
  const button = Object.assign(document.createElement('button'), { value: name, textContent: name, type: 'button' });
  button.onclick = () => { chosen.quantity = name; draw(); };
  $('quantities').append(button);
}
$('layer').append(new Option('all', -1), ...data.layers.map(({ path }, l) => new Option(short(path), l)));
$('layer').onchange = (event) => { chosen.layer = Number(event.target.value); draw(); };
$('head').onchange = (event) => { chosen.head = Number(event.target.value); draw(); };
$('rows').style.gridTemplateRows = 'repeat(' + L + ',' + height + 'px)';
data.layers.forEach(({ path }, l) => {
  const row = Object.assign(document.createElement('span'), { textContent: short(path) });
  row.onclick = () => { chosen.layer = chosen.layer === l ? -1 : l; $('layer').value = chosen.layer; draw(); };
  $('rows').append(row);
});
const pin = (t) => { chosen.pinned = t; draw(); };
let held = false;
for (const list of [words, sources]) list.forEach((word, t) => {
  word.onmousemove = (event) => tip(event, t, chosen.layer);
  word.onmouseenter = () => { if (!held && list === words) { chosen.pinned = t; words.forEach((w, i) => w.classList.toggle('pinned', i === t)); drawReading(); } };
  word.onmouseleave = () => { $('tip').hidden = true; };
  word.onclick = () => { held = !(held && chosen.pinned === t); pin(held ? t : -1); };
  word.onkeydown = (event) => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); word.onclick(); } };
});
const at = (event) => {
  const { left, top } = $('heat').getBoundingClientRect();
  return [Math.min(T - 1, Math.floor((event.clientX - left) / cell)), Math.min(L - 1, Math.floor((event.clientY - top) / height))];
};
$('heat').onmousemove = (event) => tip(event, ...at(event));
$('heat').onmouseleave = () => { $('tip').hidden = true; };
$('heat').onclick = (event) => { const [t, l] = at(event); held = true; chosen.layer = l; $('layer').value = l; pin(t); };
$('about').textContent = T.toLocaleString('en') + ' tokens' + (data.position ? ' after ' + data.position.toLocaleString('en') : '') + ' · '
  + L + ' layers of ' + [...new Set(data.layers.map(({ op }) => op))].join(' and ');
dark.onchange = draw;
addEventListener('resize', drawGrid);
draw();
`;

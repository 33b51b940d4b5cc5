// Ours beside transformers.js in a browser: the Llama shape in q8 and q4, on one thread and on two, in turns in one page, both as
// WebAssembly in a worker. Prints and saves speeds and ratios.
//   node bench/browser.mjs [--types q8,q4] [--threads 1,2] [--prefill 1024] [--after 16] [--decode 32] [--rounds 3] [--folder DIR]
//                          [--browser PATH] [--out bench/results/browser.json]
// FILE keeps what other runs found of other types and threads. Needs node bench/peers/install.mjs, npm run build, and Chromium.
import { spawn } from 'node:child_process';
import {
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { cpus, tmpdir } from 'node:os';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { load } from '../dist/index.js';
import { riverrun } from './command-line.mjs';
import { distance } from './distance.mjs';
import { onnxTypes, writeLlamaOnnx } from './peers/llama-onnx.mjs';
import { hasTransformersJs } from './peers/transformers-js.mjs';
import { writeShape } from './shapes.mjs';

const { values } = parseArgs({
  options: {
    types: { type: 'string', default: 'q8,q4' },
    threads: { type: 'string', default: '1,2' },
    prefill: { type: 'string', default: '1024' },
    after: { type: 'string', default: '16' },
    decode: { type: 'string', default: '32' },
    rounds: { type: 'string', default: '3' },
    folder: { type: 'string', default: join(tmpdir(), 'riverrun-shapes') },
    tokenizers: { type: 'string', default: '../shared/tokenizers' },
    browser: { type: 'string', default: '/usr/bin/chromium' },
    out: { type: 'string' },
  },
});
const SHAPE = 'llama-160m';
if (!hasTransformersJs) throw new Error('transformers.js is not installed: node bench/peers/install.mjs');
const here = dirname(fileURLToPath(import.meta.url));
const shape = join(values.folder, SHAPE);
if (!existsSync(join(shape, 'config.json'))) await writeShape(SHAPE, shape, values.tokenizers);
const work = mkdtempSync(join(tmpdir(), 'riverrun-browser-'));
const tokens = Array.from({ length: Number(values.prefill) }, (_, i) => (i * 7919) % 50000);

async function bundled() {
  const { outputFiles } = await build({
    entryPoints: [join(here, 'browser-worker.mjs')],
    bundle: true,
    format: 'esm',
    platform: 'browser',
    nodePaths: [join(here, 'peers/node_modules')],
    write: false,
    logLevel: 'error',
  });
  return outputFiles[0].text;
}

const contentTypes = { html: 'text/html', js: 'text/javascript', mjs: 'text/javascript', wasm: 'application/wasm' };

/** Serves the page, its worker, and files below some folders; calls `told` with what the page sends. */
function serve(pages, folders, told) {
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url, 'http://localhost').pathname);
    response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
    response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    response.setHeader('Content-Type', contentTypes[path.split('.').at(-1)] ?? 'application/octet-stream');
    if (request.method === 'POST') {
      let body = '';
      request.on('data', (piece) => (body += piece));
      request.on('end', () => {
        response.end();
        told(JSON.parse(body));
      });
      return;
    }
    if (pages[path] !== undefined) return response.end(pages[path]);
    const [prefix, folder] = Object.entries(folders).find(([name]) => path.startsWith(name)) ?? [];
    const file = folder && join(folder, path.slice(prefix.length));
    if (!file || !existsSync(file)) return response.writeHead(404).end();
    response.setHeader('Content-Length', statSync(file).size);
    if (request.method === 'HEAD') return response.end();
    return createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

/** What a page tells that compares with these options. */
async function inBrowser(worker, options) {
  const script = `new Worker('/worker.js', { type: 'module' }).postMessage(${JSON.stringify(options)})`;
  const pages = { '/index.html': `<meta charset="utf-8"><script>${script}</script>`, '/worker.js': worker };
  const folders = {
    '/models/onnx/': `${shape}-onnx`,
    '/models/': work,
    '/onnxruntime/': join(here, 'peers/node_modules/onnxruntime-web/dist'),
  };
  let child;
  const { promise, resolve, reject } = deferred();
  const server = await serve(pages, folders, resolve);
  try {
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run'];
    const url = `http://127.0.0.1:${server.address().port}/index.html`;
    child = spawn(values.browser, [...flags, `--user-data-dir=${join(work, 'profile')}`, url], { stdio: 'ignore' });
    process.once('exit', () => child.kill());
    child.once('error', reject);
    child.once('exit', (status) => reject(new Error(`${values.browser} ended with ${status} before the page told`)));
    const told = await promise;
    if (told.error) throw new Error(told.error);
    return told;
  } finally {
    await stop(child);
    server.close();
    server.closeAllConnections();
  }
}

function deferred() {
  let functions;
  const promise = new Promise((resolve, reject) => (functions = { resolve, reject }));
  return { promise, ...functions };
}

/** Ends the browser; its profile is only left alone when it has ended. */
const stop = (child) =>
  new Promise((resolve) => {
    if (!child || child.exitCode !== null) return resolve();
    child.removeAllListeners('exit');
    child.once('exit', resolve);
    child.kill();
  });

/** Logits of our f32, in Node. */
async function plainLogits() {
  const model = await load(shape, { weights: 'f32' });
  const session = model.session();
  await session.read(tokens.slice(0, 40));
  const logits = session.logits.slice();
  model.dispose();
  return logits;
}

// Without these a signal would leave the browser behind.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
const rows = [];
try {
  const types = values.types.split(',');
  await writeLlamaOnnx(shape, `${shape}-onnx`, types);
  const wanted = await plainLogits();
  const worker = await bundled();
  for (const type of types) {
    const { bits, dtype, name } = onnxTypes[type];
    if (!existsSync(join(work, bits))) riverrun('convert', shape, join(work, bits), '--type', bits, '-q');
    for (const threads of values.threads.split(',').map(Number)) {
      const steps = { context: Number(values.after), steps: Number(values.decode), rounds: Number(values.rounds) };
      const { version, logits, told } = await inBrowser(worker, {
        bits,
        type: { dtype, name },
        threads,
        tokens,
        ...steps,
      });
      const of = (who, kind) => told.filter(([name]) => name === who).map(([, speeds]) => speeds[kind]);
      const row = { shape: SHAPE, bits, type, threads, version, speeds: {}, ratios: {}, difference: {} };
      for (const kind of ['read', 'generate']) {
        row.speeds[kind] = {};
        for (const who of ['ours', 'transformers.js'])
          row.speeds[kind][who] = { best: Math.max(...of(who, kind)), worst: Math.min(...of(who, kind)) };
        row.ratios[kind] = row.speeds[kind].ours.best / row.speeds[kind]['transformers.js'].best;
      }
      for (const [who, found] of Object.entries(logits)) row.difference[who] = distance(found, wanted);
      rows.push(row);
      const line = Object.entries(row.speeds).map(
        ([kind, { ours, 'transformers.js': theirs }]) =>
          `${kind} ${ours.best.toFixed(1)} : ${theirs.best.toFixed(1)} tok/s = ${row.ratios[kind].toFixed(2)}×`,
      );
      console.log(`${bits} beside ${type} on ${threads} threads: ${line.join(' · ')}`);
    }
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
if (values.out) {
  const before = existsSync(values.out) ? JSON.parse(readFileSync(values.out, 'utf8')).rows : [];
  const isAnew = (row) => rows.some((one) => one.type === row.type && one.threads === row.threads);
  mkdirSync(dirname(values.out), { recursive: true });
  const machine = { cpu: cpus()[0].model, cores: cpus().length };
  const all = { machine, rows: [...before.filter((row) => !isAnew(row)), ...rows] };
  writeFileSync(values.out, `${JSON.stringify(all, null, 2)}\n`);
}
process.exit(0);

// What browser.mjs runs in a worker of its page: ours and transformers.js in turns. Bundled for browsers.
import { AutoModelForCausalLM, DynamicCache, env, Tensor } from '@huggingface/transformers';
import { wasmBackend } from '../dist/backends/wasm/index.js';
import { bytesSource } from '../dist/formats/byte-source.js';
import { dequantised } from '../dist/formats/quantised.js';
import { openSafetensors } from '../dist/formats/safetensors.js';
import { assemble } from '../dist/runtime/model.js';
import { generation } from './peers/transformers-js-generation.mjs';

/** Threads of our engine: web workers. */
function spawn(source, data, ended) {
  const code = `${source}\nonmessage = ({ data }) => start(data);`;
  const worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })));
  worker.onerror = ({ message }) => ended(new Error(message));
  worker.postMessage(data);
  return worker;
}

async function openOurs(folder, bits, threads) {
  const config = await (await fetch(`${folder}/config.json`)).json();
  const bytes = new Uint8Array(await (await fetch(`${folder}/model.safetensors`)).arrayBuffer());
  const backend = await wasmBackend({ threads, spawn });
  if (backend.threads !== threads) throw new Error(`our engine has ${backend.threads} threads, not ${threads}`);
  const checkpoint = dequantised(await openSafetensors(bytesSource(bytes, `${folder}/model.safetensors`)));
  return await assemble({ config, checkpoint }, backend, { weights: bits, ownsBackend: true });
}

const openTransformersJs = async ({ dtype, name = 'model' }) =>
  await AutoModelForCausalLM.from_pretrained('onnx', { dtype, device: 'wasm', model_file_name: name });

const seconds = async (run) => {
  const start = performance.now();
  await run();
  return (performance.now() - start) / 1000;
};

async function ours(model, { tokens, context, steps }) {
  const session = model.session();
  const reading = await seconds(() => session.read(tokens));
  session.dispose();
  const other = model.session();
  await other.read(tokens.slice(0, context));
  const generating = await seconds(async () => {
    for (let n = 0; n < steps; n++) await other.step(tokens[n]);
  });
  other.dispose();
  return { read: tokens.length / reading, generate: steps / generating };
}

async function theirs(peer, { tokens, context, steps }) {
  const { read } = await peer.generate(tokens, 0);
  const { generate } = await peer.generate(tokens.slice(0, context), steps);
  return { read, generate };
}

/** Speeds of the rounds of both, and their logits after 40 tokens. */
async function compare({ bits, type, threads, rounds, ...work }) {
  if (!crossOriginIsolated) throw new Error('the page is not isolated: it has no shared memory');
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = '/models/';
  env.useBrowserCache = false;
  const build = '/onnxruntime/ort-wasm-simd-threaded.asyncify';
  env.backends.onnx.wasm.wasmPaths = { mjs: `${build}.mjs`, wasm: `${build}.wasm` };
  env.backends.onnx.wasm.numThreads = threads;
  const own = await openOurs(`/models/${bits}`, bits, threads);
  const model = await openTransformersJs(type);
  const peer = generation(model, { DynamicCache, Tensor });
  const few = work.tokens.slice(0, 40);
  const session = own.session();
  await session.read(few);
  const logits = { ours: [...session.logits], 'transformers.js': [...(await peer.logits(few))] };
  session.dispose();
  const turns = [
    async () => ['ours', await ours(own, work)],
    async () => ['transformers.js', await theirs(peer, work)],
  ];
  const told = [];
  for (let round = 0; round < rounds; round++)
    for (const run of round % 2 === 1 ? turns.toReversed() : turns) told.push(await run());
  return { version: env.version, logits, told };
}

addEventListener('message', async ({ data }) => {
  const told = await compare(data).catch((error) => ({ error: String(error?.stack ?? error) }));
  await fetch('/told', { method: 'POST', body: JSON.stringify(told) });
});

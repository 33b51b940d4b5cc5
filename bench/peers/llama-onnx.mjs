// Writes a Llama model of safetensors as the ONNX files that transformers.js takes, in the form of those published for it: as
// onnxruntime-genai's model builder makes them for CPUs, in 4 bits too, and in 8 bits as transformers.js' scripts/quantize.py does.
//   node bench/peers/llama-onnx.mjs FOLDER OUT [--types f32,q8,q4,q4-f32]
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { transposeLast } from '../../dist/core/transpose.js';
import { readF32 } from '../../dist/formats/read-f32.js';
import { openSafetensors } from '../../dist/formats/safetensors.js';
import { openFile, writeFileAtomically } from '../../dist/platform/node-file.js';
import { encodeOnnx } from './onnx-format.mjs';

/**
 * The types: as many bits as which of ours, the file's name and what transformers.js calls it by, and how matrices are held and
 * multiplied. `q4` multiplies rows of integers, as the model builder asks for on CPUs; `q4-f32` has the same numbers and multiplies
 * f32, as scripts/quantize.py leaves it.
 */
export const onnxTypes = {
  f32: { bits: 'f32', file: 'model.onnx', dtype: 'fp32', product: plainProduct, embedding: plainEmbedding },
  q8: { bits: 'q8', file: 'model_quantized.onnx', dtype: 'q8', product: q8Product, embedding: q8Embedding },
  q4: {
    file: 'model_q4.onnx',
    bits: 'q4',
    dtype: 'q4',
    product: (...of) => q4Product(...of, { accuracy_level: 4 }),
    embedding: plainEmbedding,
  },
  'q4-f32': {
    file: 'plain_q4.onnx',
    bits: 'q4',
    dtype: 'q4',
    name: 'plain',
    product: (...of) => q4Product(...of, {}),
    embedding: plainEmbedding,
  },
};
const VERSIONS = { '': 21, 'com.microsoft': 1 };
const contributed = 'com.microsoft';
/** Weights that share a scale in q4. */
const BLOCK = 32;

/** A graph that grows: nodes are named after their first output. */
function newGraph() {
  const graph = { nodes: [], inputs: [], outputs: [], weights: [] };
  return {
    ...graph,
    /** Adds a node; returns the name of its (first) output. */
    add(name, op, inputs, attributes = {}, { domain, outputs = [name] } = {}) {
      graph.nodes.push({ op, domain, inputs, outputs, attributes });
      return outputs[0];
    },
    weight(name, type, shape, data) {
      graph.weights.push({ name, type, shape, data });
      return name;
    },
    numbers(name, values, shape = [values.length]) {
      return this.weight(name, 'i64', shape, () => BigInt64Array.from(values, BigInt));
    },
  };
}

/** y = x · wᵀ of a matrix w [outputs, inputs]. */
function plainProduct(graph, name, x, { shape, read }) {
  const w = graph.weight(`${name}.weight`, 'f32', shape.toReversed(), async () => transposeLast(await read(), shape));
  return graph.add(name, 'MatMul', [x, w]);
}

/**
 * y = (x₈ − zero) · w₈ᵀ · scales: rows as unsigned bytes with one scale and zero for all of them, found as they come; w as signed
 * bytes with one scale for the matrix.
 */
function q8Product(graph, name, x, { shape, read }) {
  const { w, scale, zero } = q8Weight(graph, name, shape, read, { isTransposed: true });
  const outputs = [`${name}.x`, `${name}.x.scale`, `${name}.x.zero`];
  graph.add(name, 'DynamicQuantizeLinear', [x], {}, { outputs });
  const sum = graph.add(`${name}.sum`, 'MatMulInteger', [outputs[0], w, outputs[2], zero]);
  const scales = graph.add(`${name}.scales`, 'Mul', [outputs[1], scale]);
  return graph.add(name, 'Mul', [graph.add(`${name}.cast`, 'Cast', [sum], { to: 1 }), scales]);
}

function q8Weight(graph, name, shape, read, { isTransposed }) {
  const quantised = once(async () => quantiseQ8(await read()));
  const w = graph.weight(`${name}.weight`, 'i8', isTransposed ? shape.toReversed() : shape, async () => {
    const { values } = await quantised();
    return isTransposed ? Int8Array.from(transposeLast(values, shape)) : values;
  });
  const scale = graph.weight(`${name}.scale`, 'f32', [], async () => Float32Array.of((await quantised()).scale));
  return { w, scale, zero: graph.weight(`${name}.zero`, 'i8', [], () => Int8Array.of(0)) };
}

/** y = x · wᵀ, w in blocks of 32 numbers of 4 bits and a scale along the inputs: w ≈ (w₄ − 8) · scale. */
function q4Product(graph, name, x, { shape, read }, attributes) {
  const [N, K] = shape;
  if (K % BLOCK > 0) throw new Error(`${name} has ${K} inputs, which are not whole blocks of ${BLOCK}`);
  const quantised = once(async () => quantiseQ4(await read()));
  const bytes = async () => (await quantised()).bytes;
  const scales = async () => (await quantised()).scales;
  const w = graph.weight(`${name}.weight`, 'u8', [N, K / BLOCK, BLOCK / 2], bytes);
  const s = graph.weight(`${name}.scales`, 'f32', [(N * K) / BLOCK], scales);
  const all = { K, N, bits: 4, block_size: BLOCK, ...attributes };
  return graph.add(name, 'MatMulNBits', [x, w, s], all, { domain: contributed });
}

function plainEmbedding(graph, name, ids, { shape, read }) {
  return graph.add(name, 'Gather', [graph.weight(`${name}.weight`, 'f32', shape, read), ids]);
}

function q8Embedding(graph, name, ids, { shape, read }) {
  const { w, scale, zero } = q8Weight(graph, name, shape, read, { isTransposed: false });
  return graph.add(name, 'DequantizeLinear', [graph.add(`${name}.bytes`, 'Gather', [w, ids]), scale, zero]);
}

/** One scale for all numbers: the largest is 127. */
function quantiseQ8(numbers) {
  let largest = 0;
  for (const number of numbers) largest = Math.max(largest, Math.abs(number));
  const scale = largest / 127;
  const values = new Int8Array(numbers.length);
  for (let n = 0; n < numbers.length; n++) values[n] = Math.round(numbers[n] / scale);
  return { values, scale };
}

/** A scale for each 32 numbers: the largest in size is −8 of −8 to 7; the even of two is in the lower half of their byte. */
function quantiseQ4(numbers) {
  const bytes = new Uint8Array(numbers.length / 2);
  const scales = new Float32Array(numbers.length / BLOCK);
  for (let b = 0; b < scales.length; b++) {
    const start = b * BLOCK;
    let extreme = 0;
    for (let n = start; n < start + BLOCK; n++) if (Math.abs(numbers[n]) > Math.abs(extreme)) extreme = numbers[n];
    const scale = extreme / -8;
    scales[b] = scale;
    const inverse = scale === 0 ? 0 : 1 / scale;
    for (let n = start; n < start + BLOCK; n++)
      bytes[n >> 1] |= Math.min(15, Math.max(0, Math.round(numbers[n] * inverse + 8))) << (n % 2 === 0 ? 0 : 4);
  }
  return { bytes, scales };
}

function once(compute) {
  let result;
  return () => (result ??= compute());
}

/** The graph of a Llama model: ids, a mask and the keys and values of earlier tokens → logits, and the keys and values of all. */
function llamaGraph(config, checkpoint, { product, embedding }) {
  const { hidden_size: D, num_attention_heads: H, num_hidden_layers: layers, vocab_size: V } = config;
  const { num_key_value_heads: G = H, rms_norm_eps: epsilon, max_position_embeddings: longest } = config;
  const K = D / H;
  const graph = newGraph();
  graph.inputs.push({ name: 'input_ids', type: 'i64', shape: ['batch_size', 'sequence_length'] });
  graph.inputs.push({ name: 'attention_mask', type: 'i64', shape: ['batch_size', 'total_sequence_length'] });
  graph.inputs.push({ name: 'num_logits_to_keep', type: 'i64', shape: [] });
  graph.outputs.push({ name: 'logits', type: 'f32', shape: ['batch_size', 'num_logits', V] });

  /** Matrices below one another as one. */
  const matrix = (...names) => {
    const stored = names.map((name) => checkpoint.tensors.get(`${name}.weight`));
    const rows = stored.reduce((sum, { shape }) => sum + shape[0], 0);
    const read = async () => {
      const values = new Float32Array(rows * stored[0].shape[1]);
      let start = 0;
      for (const tensor of stored) {
        const part = await readF32(checkpoint, tensor);
        values.set(part, start);
        start += part.length;
      }
      return values;
    };
    return { shape: [rows, stored[0].shape[1]], read };
  };
  const vector = (name) =>
    graph.weight(`${name}.weight`, 'f32', [D], () => readF32(checkpoint, checkpoint.tensors.get(`${name}.weight`)));
  const norm = { epsilon: [epsilon] };
  /** h + x, and its norm. */
  const addedNorm = (name, h, x) => {
    const outputs = [`${name}.normed`, '', '', `${name}.sum`];
    graph.add(name, 'SkipSimplifiedLayerNormalization', [h, x, vector(name)], norm, { domain: contributed, outputs });
    return { normed: outputs[0], h: outputs[3] };
  };

  // How many tokens there are of each text, less one, and in all.
  const sum = graph.add('mask.sum', 'ReduceSum', ['attention_mask', graph.numbers('axis.1', [1])], { keepdims: 0 });
  const lengths = graph.add('lengths.less', 'Sub', [sum, graph.numbers('one', [1])]);
  const total = graph.add('mask.length', 'Gather', [
    graph.add('mask.shape', 'Shape', ['attention_mask']),
    graph.numbers('axis', [1], []),
  ]);
  const tokens = [graph.add('lengths', 'Cast', [lengths], { to: 6 }), graph.add('total', 'Cast', [total], { to: 6 })];
  const angle = (n) => Math.floor(n / (K / 2)) * (config.rope_theta ?? 10000) ** ((-2 * (n % (K / 2))) / K);
  const table = (name, of) =>
    graph.weight(name, 'f32', [longest, K / 2], () =>
      Float32Array.from({ length: (longest * K) / 2 }, (_, n) => of(angle(n))),
    );
  const rotary = [table('rotary.cos', Math.cos), table('rotary.sin', Math.sin)];

  let h = embedding(graph, 'model.embed_tokens', 'input_ids', matrix('model.embed_tokens'));
  let x = graph.add(
    'model.layers.0.input',
    'SimplifiedLayerNormalization',
    [h, vector('model.layers.0.input_layernorm')],
    {
      axis: -1,
      stash_type: 1,
      ...norm,
    },
  );
  for (let layer = 0; layer < layers; layer++) {
    const at = `model.layers.${layer}`;
    const [key, value] = ['key', 'value'].map((kind) => {
      const shape = (length) => ['batch_size', G, length, K];
      const past = `past_key_values.${layer}.${kind}`;
      graph.inputs.push({ name: past, type: 'f32', shape: shape('past_sequence_length') });
      graph.outputs.push({ name: `present.${layer}.${kind}`, type: 'f32', shape: shape('total_sequence_length') });
      return past;
    });
    const parts = ['q', 'k', 'v'].map((part) => `${at}.self_attn.${part}_proj`);
    const qkv = product(graph, `${at}.self_attn.qkv_proj`, x, matrix(...parts));
    const mixed = graph.add(
      `${at}.self_attn`,
      'GroupQueryAttention',
      [qkv, '', '', key, value, ...tokens, ...rotary],
      { num_heads: H, kv_num_heads: G, scale: [K ** -0.5], do_rotary: 1, rotary_interleaved: 0 },
      { domain: contributed, outputs: [`${at}.self_attn`, `present.${layer}.key`, `present.${layer}.value`] },
    );
    const attended = product(graph, `${at}.self_attn.o_proj`, mixed, matrix(`${at}.self_attn.o_proj`));
    const middle = addedNorm(`${at}.post_attention_layernorm`, h, attended);
    const [gate, up] = ['gate_proj', 'up_proj'].map((part) =>
      product(graph, `${at}.mlp.${part}`, middle.normed, matrix(`${at}.mlp.${part}`)),
    );
    const opened = graph.add(`${at}.mlp.silu`, 'Mul', [gate, graph.add(`${at}.mlp.sigmoid`, 'Sigmoid', [gate])]);
    const inner = graph.add(`${at}.mlp.inner`, 'Mul', [opened, up]);
    const out = product(graph, `${at}.mlp.down_proj`, inner, matrix(`${at}.mlp.down_proj`));
    const isLast = layer === layers - 1;
    const next = isLast ? 'model.norm' : `model.layers.${layer + 1}.input_layernorm`;
    ({ normed: x, h } = addedNorm(next, middle.h, out));
  }
  // The last so many tokens' rows; with 0 all: −0 is the first.
  const first = graph.add('kept.first', 'Neg', ['num_logits_to_keep']);
  const starts = graph.add('kept.starts', 'Unsqueeze', [first, graph.numbers('axis.0', [0])]);
  const ends = graph.numbers('kept.ends', [Number.MAX_SAFE_INTEGER]);
  const kept = graph.add('kept', 'Slice', [x, starts, ends, 'axis.1']);
  const head = product(graph, 'lm_head', kept, matrix(config.tie_word_embeddings ? 'model.embed_tokens' : 'lm_head'));
  graph.add('logits', 'Identity', [head]);
  return graph;
}

/** Writes the files of `types` that aren't there yet, in a folder as transformers.js wants it. */
export async function writeLlamaOnnx(folder, out, types = Object.keys(onnxTypes)) {
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  if (
    config.model_type !== 'llama' ||
    config.rope_scaling ||
    config.attention_bias ||
    config.mlp_bias ||
    config.head_dim
  )
    throw new Error(`${folder} is no plain Llama: only those are written as ONNX`);
  mkdirSync(join(out, 'onnx'), { recursive: true });
  writeFileSync(join(out, 'config.json'), JSON.stringify({ architectures: ['LlamaForCausalLM'], ...config }));
  copyFileSync(join(folder, 'tokenizer.json'), join(out, 'tokenizer.json'));
  const checkpoint = await openSafetensors(await openFile(join(folder, 'model.safetensors')));
  for (const type of types) {
    const path = join(out, 'onnx', onnxTypes[type].file);
    if (existsSync(path)) continue;
    await writeFileAtomically(path, encodeOnnx(llamaGraph(config, checkpoint, onnxTypes[type]), VERSIONS));
  }
  await checkpoint.close();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({ options: { types: { type: 'string' } }, allowPositionals: true });
  await writeLlamaOnnx(...positionals, values.types?.split(','));
}

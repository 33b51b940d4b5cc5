import type { StoredParameter } from './architecture.ts';
import { authorsName } from './rwkv-names.ts';

/** Which dialect names the tensors of an RWKV-6. */
export type Rwkv6Dialect = 'blinkdl' | 'fla' | 'rwkv.cpp';

/** What fla stacks in the order r, w, k, v, g lies here in the author's: w, k, v, r, g. */
const flaOrder = [1, 2, 3, 0, 4];

const flaLayers: Readonly<Record<string, string>> = { pre_norm: 'ln0', attn_norm: 'ln1', ffn_norm: 'ln2' };
const flaOthers: Readonly<Record<string, string>> = { embeddings: 'emb', norm: 'ln_out' };
const flaAttention: Readonly<Record<string, string>> = {
  'r_proj.weight': 'receptance.weight',
  'k_proj.weight': 'key.weight',
  'v_proj.weight': 'value.weight',
  'g_proj.weight': 'gate.weight',
  'o_proj.weight': 'output.weight',
  'g_norm.weight': 'ln_x.weight',
  'g_norm.bias': 'ln_x.bias',
  'x_proj.0.mu': 'time_maa_x',
  'x_proj.0.weight': 'time_maa_w1',
  'x_proj.2.weight': 'time_maa_w2',
  x_bias: 'time_maa',
  'w_proj.lora.0.weight': 'time_decay_w1',
  'w_proj.lora.2.weight': 'time_decay_w2',
  'w_proj.lora.2.bias': 'time_decay',
  bonus: 'time_faaaa',
};
const flaChannelMixing: Readonly<Record<string, string>> = { 'key.mu': 'time_maa_k', 'receptance.mu': 'time_maa_r' };

/** The parameter that a tensor of any dialect holds; the canonical names are BlinkDL's. */
export function rwkv6Names(stored: string, dialect: Rwkv6Dialect): string | StoredParameter {
  if (dialect === 'fla') return flaParameter(flaName(stored));
  const name = authorsName(stored);
  if (dialect === 'blinkdl') return name;
  if (/_w[12]$/.test(name)) return { name, convert: transposeLast };
  return /time_(maa|decay|faaaa)/.test(name) ? { name, convert: (x) => x } : name;
}

function flaName(name: string): string {
  if (name === 'lm_head.weight') return 'head.weight';
  const other = /^model\.(embeddings|norm)\.(weight|bias)$/.exec(name);
  if (other) return `${flaOthers[other[1]!]}.${other[2]}`;
  const match = /^model\.layers\.(\d+)\.(\w+)\.(.+)$/.exec(name);
  if (!match) return name;
  const [, layer, part, rest] = match as unknown as [string, string, string, string];
  const own = rest.replace('linear.', '');
  if (part === 'attn') return `blocks.${layer}.att.${flaAttention[own] ?? own}`;
  if (part === 'ffn') return `blocks.${layer}.ffn.${flaChannelMixing[own] ?? own}`;
  return `blocks.${layer}.${flaLayers[part] ?? part}.${rest}`;
}

/** fla's low-rank matrices are [outputs, inputs]; vectors have one axis. */
function flaParameter(name: string): string | StoredParameter {
  const rowBlocks = (values: Float32Array, block: number) =>
    Float32Array.from(values, (_, i) => values[flaOrder[Math.floor(i / block)]! * block + (i % block)]!);
  if (name.endsWith('.time_maa')) return { name, convert: (values, [, D]) => rowBlocks(values, D!) };
  if (name.endsWith('.time_maa_w1'))
    return { name, convert: (values, shape) => transposeLast(rowBlocks(values, values.length / 5), shape) };
  if (name.endsWith('.time_maa_w2'))
    return {
      name,
      // [D, 5 R] → [5, R, D].
      convert: (values, [D, columns]) => rowBlocks(transposeLast(values, [D!, columns!]), values.length / 5),
    };
  if (/\.time_decay_w[12]$/.test(name)) return { name, convert: transposeLast };
  return /\.time_(maa_[xkr]|decay)$/.test(name) ? { name, convert: (x) => x } : name;
}

/** Swaps the last two axes. */
function transposeLast(values: Float32Array, shape: readonly number[]): Float32Array {
  const [rows, columns] = shape.slice(-2) as [number, number];
  const size = rows * columns;
  return Float32Array.from(
    values,
    (_, n) => values[Math.floor(n / size) * size + ((n % size) % rows) * columns + Math.floor((n % size) / rows)]!,
  );
}

import type { StoredParameter } from './architecture.ts';
import type { Rwkv7Config } from './rwkv7-config.ts';

const flaAttention: Readonly<Record<string, string>> = {
  'r_proj.weight': 'receptance.weight',
  'k_proj.weight': 'key.weight',
  'v_proj.weight': 'value.weight',
  'o_proj.weight': 'output.weight',
  'g_norm.weight': 'ln_x.weight',
  'g_norm.bias': 'ln_x.bias',
};

const flaNorms: Readonly<Record<string, string>> = { pre_norm: 'ln0', attn_norm: 'ln1', ffn_norm: 'ln2' };
const flaOthers: Readonly<Record<string, string>> = { embeddings: 'emb', norm: 'ln_out' };

/** The parameter that a tensor of any dialect holds; the canonical names are BlinkDL's. */
export function rwkv7Names(name: string, c: Rwkv7Config): string | StoredParameter | null {
  const own = c.dialect === 'fla' ? fromFla(name) : name;
  // Layer 0 is where the first values come from: it has nothing to mix them with.
  if (/^blocks\.0\.att\.v[012]$/.test(own)) return null;
  const isLowRank = /\.att\.[wavg][12]$/.test(own);
  if (c.dialect !== 'blinkdl' && isLowRank) return { name: own, convert: transposed };
  // Vectors are stored as [D] or [1, 1, D].
  if (/\.att\.([wav]0|k_k|k_a|r_k|x_\w)$|\.ffn\.x_k$/.test(own)) return { name: own, convert: (values) => values };
  return own;
}

function fromFla(name: string): string {
  if (name === 'lm_head.weight') return 'head.weight';
  const other = /^model\.(embeddings|norm)\.(weight|bias)$/.exec(name);
  if (other) return `${flaOthers[other[1]!]}.${other[2]}`;
  const match = /^model\.layers\.(\d+)\.(\w+)\.(.+)$/.exec(name);
  if (!match) return name;
  const [, layer, part, rest] = match as unknown as [string, string, string, string];
  const block = `blocks.${layer}.`;
  if (flaNorms[part]) return `${block}${flaNorms[part]}.${rest}`;
  if (part === 'ffn') return `${block}ffn.${rest}`;
  const lora = /^([wavg])_lora\.lora\.(?:(0)\.weight|2\.(weight|bias))$/.exec(rest);
  if (lora) return `${block}att.${lora[1]}${lora[2] ? 1 : lora[3] === 'weight' ? 2 : 0}`;
  return `${block}att.${flaAttention[rest] ?? rest}`;
}

function transposed(values: Float32Array, shape: readonly number[]): Float32Array {
  const [rows, columns] = shape as [number, number];
  return Float32Array.from(values, (_, n) => values[(n % rows) * columns + Math.floor(n / rows)]!);
}

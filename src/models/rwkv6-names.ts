import { transposeLast } from '../core/transpose.ts';
import type { StoredParameter } from './architecture.ts';
import { authorsName, flaAuthorsName, flaTimeMixing } from './rwkv-names.ts';

/** Which dialect names the tensors of an RWKV-6. */
export type Rwkv6Dialect = 'blinkdl' | 'fla' | 'rwkv.cpp';

/** What fla stacks in the order r, w, k, v, g lies here in the author's: w, k, v, r, g. */
const flaOrder = [1, 2, 3, 0, 4];

const flaAttention: Readonly<Record<string, string>> = {
  ...flaTimeMixing,
  'g_proj.weight': 'gate.weight',
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
  const own = (part: string) => part.replace('linear.', '');
  return flaAuthorsName(
    name,
    (part) => flaAttention[own(part)] ?? own(part),
    (part) => flaChannelMixing[own(part)] ?? own(part),
  );
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

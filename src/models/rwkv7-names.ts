import { transposeLast } from '../core/transpose.ts';
import type { StoredParameter } from './architecture.ts';
import { flaAuthorsName, flaTimeMixing } from './rwkv-names.ts';
import type { Rwkv7Config } from './rwkv7-config.ts';

/** The parameter that a tensor of any dialect holds; the canonical names are BlinkDL's. */
export function rwkv7Names(name: string, c: Rwkv7Config): string | StoredParameter | null {
  const own = c.dialect === 'fla' ? fromFla(name) : name;
  // Layer 0 is where the first values come from: it has nothing to mix them with.
  if (/^blocks\.0\.att\.v[012]$/.test(own)) return null;
  const isLowRank = /\.att\.[wavg][12]$/.test(own);
  if (c.dialect !== 'blinkdl' && isLowRank) return { name: own, convert: transposeLast };
  // Vectors are stored as [D] or [1, 1, D].
  if (/\.att\.([wav]0|k_k|k_a|r_k|x_\w)$|\.ffn\.x_k$/.test(own)) return { name: own, convert: (values) => values };
  return own;
}

const fromFla = (name: string): string =>
  flaAuthorsName(name, (part) => {
    const lora = /^([wavg])_lora\.lora\.(?:(0)\.weight|2\.(weight|bias))$/.exec(part);
    if (lora) return `${lora[1]}${lora[2] ? 1 : lora[3] === 'weight' ? 2 : 0}`;
    return flaTimeMixing[part] ?? part;
  });

/** The author's name (BlinkDL's) of a tensor of RWKV-5 or 6 that Hugging Face's code named. */
export const authorsName = (name: string): string =>
  name
    .replace(/^rwkv\./, '')
    .replace(/^embeddings\./, 'emb.')
    .replace('.pre_ln.', '.ln0.')
    .replace('.attention.', '.att.')
    .replace('.feed_forward.', '.ffn.')
    .replace(/time_mix_(key|value|receptance|gate)$/, (_, part: string) => `time_mix_${part[0]}`);

const flaNorms: Readonly<Record<string, string>> = { pre_norm: 'ln0', attn_norm: 'ln1', ffn_norm: 'ln2' };
const flaOthers: Readonly<Record<string, string>> = { embeddings: 'emb', norm: 'ln_out' };

/**
 * The author's name of a tensor of RWKV-6 or 7 that flash-linear-attention named; `time` and `channels` name what is in the time
 * mixing and in the channel mixing of a layer.
 */
export function flaAuthorsName(
  name: string,
  time: (part: string) => string,
  channels: (part: string) => string = (part) => part,
): string {
  if (name === 'lm_head.weight') return 'head.weight';
  const other = /^model\.(embeddings|norm)\.(weight|bias)$/.exec(name);
  if (other) return `${flaOthers[other[1]!]}.${other[2]}`;
  const match = /^model\.layers\.(\d+)\.(\w+)\.(.+)$/.exec(name);
  if (!match) return name;
  const [, layer, part, rest] = match as unknown as [string, string, string, string];
  const block = `blocks.${layer}.`;
  if (part === 'attn') return `${block}att.${time(rest)}`;
  if (part === 'ffn') return `${block}ffn.${channels(rest)}`;
  return `${block}${flaNorms[part] ?? part}.${rest}`;
}

/** fla's names of what RWKV-6 and 7 both have in the time mixing. */
export const flaTimeMixing: Readonly<Record<string, string>> = {
  'r_proj.weight': 'receptance.weight',
  'k_proj.weight': 'key.weight',
  'v_proj.weight': 'value.weight',
  'o_proj.weight': 'output.weight',
  'g_norm.weight': 'ln_x.weight',
  'g_norm.bias': 'ln_x.bias',
};

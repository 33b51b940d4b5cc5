/** The author's name (BlinkDL's) of a tensor of RWKV-5 or 6 that Hugging Face's code named. */
export const authorsName = (name: string): string =>
  name
    .replace(/^rwkv\./, '')
    .replace(/^embeddings\./, 'emb.')
    .replace('.pre_ln.', '.ln0.')
    .replace('.attention.', '.att.')
    .replace('.feed_forward.', '.ffn.')
    .replace(/time_mix_(key|value|receptance|gate)$/, (_, part: string) => `time_mix_${part[0]}`);

import type { Architecture } from './architecture.ts';
import { ConfigReader } from './config.ts';
import { hasTensors } from './fla-config.ts';
import { type LlamaConfig, llama, llamaConfig } from './llama.ts';

/** Qwen2: Llama with biases on queries, keys and values. Yang et al. 2024, arXiv 2407.10671. */
export const qwen2: Architecture<LlamaConfig> = {
  ...llama,
  type: 'qwen2',
  title: 'Qwen2 (Yang et al. 2024)',
  aliases: [],
  detect: (tensors) =>
    hasTensors(tensors, ['.self_attn.q_proj.bias', '.mlp.gate_proj.weight'], ['.self_attn.o_proj.bias']),
  config(json, tensors) {
    const c = new ConfigReader(json, tensors);
    // Only the layers from max_window_layers on would have the window: with it on for none, all see everything.
    const windowed =
      c.boolean('use_sliding_window', false) && c.integer('max_window_layers', 0, 0) < c.layers('num_hidden_layers');
    if (windowed) c.only('use_sliding_window', [false], 'a window in some layers only is not built');
    return { ...llamaConfig(c), bias: { qkv: true, out: false, mlp: false } };
  },
};

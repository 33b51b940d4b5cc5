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
    const base = { ...llamaConfig(c), bias: { qkv: true, out: false, mlp: false } };
    if (!c.boolean('use_sliding_window', false)) return base;
    // The first layers see everything and those from max_window_layers on a window, unless each layer's kind is listed.
    const first = c.integer('max_window_layers', 28, 0);
    const kinds = c.has('layer_types') ? c.strings('layer_types', ['full_attention', 'sliding_attention']) : undefined;
    const layers = Array.from({ length: base.layers }, (_, layer) => layer);
    const fullLayers = layers.filter((layer) => (kinds ? kinds[layer] === 'full_attention' : layer < first));
    return { ...base, window: c.integer('sliding_window', 4096), fullLayers };
  },
};

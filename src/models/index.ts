import { ConfigError } from '../core/errors.ts';
import type { Architecture, TensorShapes } from './architecture.ts';
import { bamba } from './bamba.ts';
import type { Json } from './config.ts';
import { deltaNet } from './delta-net.ts';
import { falconMamba } from './falcon-mamba.ts';
import { gatedDeltaNet } from './gated-deltanet.ts';
import { gla } from './gla.ts';
import { gptNeox } from './gpt-neox.ts';
import { gpt2 } from './gpt2.ts';
import { linearAttention } from './linear-attention.ts';
import { llama } from './llama.ts';
import { mamba } from './mamba.ts';
import { mamba2 } from './mamba2.ts';
import { qwen2 } from './qwen2.ts';
import { retnet } from './retnet.ts';
import { rwkv4 } from './rwkv4.ts';
import { rwkv5 } from './rwkv5.ts';
import { rwkv6 } from './rwkv6.ts';
import { rwkv7 } from './rwkv7.ts';

/** Every architecture, by the `model_type` of its checkpoints. */
export const architectures = {
  mamba,
  falcon_mamba: falconMamba,
  mamba2,
  rwkv: rwkv4,
  rwkv5,
  rwkv6,
  rwkv7,
  linear_attn: linearAttention,
  retnet,
  gla,
  delta_net: deltaNet,
  gated_deltanet: gatedDeltaNet,
  bamba,
  gpt2,
  gpt_neox: gptNeox,
  llama,
  qwen2,
} satisfies Record<string, Architecture>;

/**
 * The architecture of a checkpoint: of those its tensors' names fit, the one that the configuration names; the
 * configuration alone where no names are known, and the first that fits where the configuration has no `model_type`.
 */
export function architectureOf(json: Json, tensors: TensorShapes): Architecture {
  const all = Object.values<Architecture>(architectures);
  const fitting = all.filter((architecture) => architecture.detect(tensors));
  const type = json['model_type'];
  const named = all.find(
    (architecture) => architecture.type === type || architecture.aliases?.includes(type as string),
  );
  if (named && (fitting.includes(named) || tensors.size === 0)) return named;
  if (fitting[0]) {
    const [{ aliases, title, type: own }] = fitting as [Architecture];
    if (type === undefined || !aliases) return fitting[0];
    if (named)
      throw new ConfigError(
        `model_type is "${type}", but the checkpoint's tensors are named like those of ${title}: one of the two is of another model`,
      );
    throw new ConfigError(
      `model_type ${JSON.stringify(type)} is not known: its tensors are named like those of ${title}, but what it computes may differ. If it is the same, set model_type to "${own}" in config.json`,
    );
  }
  const known = all.map((architecture) => architecture.type).join(', ');
  if (named)
    throw new ConfigError(
      `model_type is "${type}", but the checkpoint's tensors are not named like those of ${named.title}`,
    );
  throw new ConfigError(
    `${type === undefined ? 'no model_type' : `unknown model_type ${JSON.stringify(type)}`}, and the tensors' names fit no known architecture; known: ${known}`,
  );
}

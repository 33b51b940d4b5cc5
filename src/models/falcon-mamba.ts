import type { Architecture } from './architecture.ts';
import { ConfigReader } from './config.ts';
import { type MambaConfig, mamba } from './mamba.ts';

/** Falcon-Mamba: Mamba with weightless norms on Δ, B and C. Zuo et al. 2024, arXiv 2410.05355. */
export const falconMamba: Architecture<MambaConfig> = {
  ...mamba,
  type: 'falcon_mamba',
  title: 'Falcon-Mamba (Zuo et al. 2024)',
  config: (json, tensors) => ({
    ...mamba.config(json, tensors),
    mixerEpsilon: new ConfigReader(json).number('mixer_rms_eps', 1e-6),
  }),
};

import { enableWasmFeatures } from '../src/platform/node.ts';

enableWasmFeatures();

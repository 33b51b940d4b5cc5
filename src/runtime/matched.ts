import { ConfigError } from '../core/errors.ts';
import type { Checkpoint } from '../formats/checkpoint.ts';
import type { Architecture } from '../models/architecture.ts';
import type { Json } from '../models/config.ts';
import { architectureOf } from '../models/index.ts';
import { type ModelGraph, traceModel } from './graph.ts';
import { matchParameters, type Origin } from './parameters.ts';

/** A checkpoint matched with its architecture: nothing but headers is read. */
export interface MatchedModel {
  readonly architecture: Architecture;
  /** The parsed configuration. */
  readonly config: unknown;
  readonly graph: ModelGraph;
  /** Where each parameter's numbers come from. */
  readonly origins: ReadonlyMap<string, Origin>;
}

/** Finds a checkpoint's architecture and matches its tensors with the parameters, strictly both ways. */
export function matchModel(json: Json, checkpoint: Checkpoint): MatchedModel {
  const architecture = architectureOf(json, checkpoint.tensors);
  const config = architecture.config(json, checkpoint.tensors);
  const { layers } = config as { readonly layers: number };
  // Before the layers are made: a damaged number may ask for billions.
  if (layers > checkpoint.tensors.size)
    throw new ConfigError(
      `the configuration has ${layers} layers, but ${checkpoint.name} holds only ${checkpoint.tensors.size} tensors`,
    );
  const graph = traceModel(architecture, config);
  return { architecture, config, graph, origins: matchParameters(architecture, config, graph, checkpoint) };
}

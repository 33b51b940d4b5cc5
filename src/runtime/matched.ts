import { ConfigError } from '../core/errors.ts';
import type { Checkpoint } from '../formats/checkpoint.ts';
import type { Architecture } from '../models/architecture.ts';
import type { Json } from '../models/config.ts';
import { architectureOf } from '../models/index.ts';
import { type Head, type ModelGraph, traceModel } from './graph.ts';
import { type LabelHead, labelHead } from './label-head.ts';
import { matchParameters, type Origin } from './parameters.ts';
import { hasSpanHead, spanHead } from './span-head.ts';

/** A checkpoint matched with its architecture: nothing but headers is read. */
export interface MatchedModel {
  readonly architecture: Architecture;
  /** The parsed configuration. */
  readonly config: unknown;
  readonly graph: ModelGraph;
  /** The head of labels that a classifier has in the place of the next token's. */
  readonly head: LabelHead | undefined;
  /** Whether it has a head of spans in that place: where answers begin and end. */
  readonly hasSpans: boolean;
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
  const head = labelHead(json);
  const hasSpans = hasSpanHead(json);
  const own: Head | undefined = hasSpans ? spanHead : head;
  const graph = traceModel(architecture, config, { head: own });
  const origins = matchParameters(architecture, config, graph, checkpoint, own);
  return { architecture, config, graph, head, hasSpans, origins };
}

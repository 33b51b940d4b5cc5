import { formatOfIntegers, type WeightLayout } from '../core/backend.ts';
import type { Checkpoint, StoredTensor } from '../formats/checkpoint.ts';
import { readF32 } from '../formats/read-f32.ts';
import type { Architecture, StoredParameter } from '../models/architecture.ts';
import type { Json } from '../models/config.ts';
import { sharedValues } from './graph.ts';
import { matchModel } from './matched.ts';

/** Elements read at a time. */
const PIECE = 1 << 20;

/** A parameter to be written elsewhere. */
export interface ConvertedParameter {
  readonly name: string;
  readonly shape: readonly number[];
  /** How kernels read it; what is not read by rows may be held in fewer bits. */
  readonly layout: WeightLayout;
  readonly stored: StoredTensor;
  /** Whether it makes values that several heads of queries share, so that 4 bits are too few. */
  readonly makesSharedValues: boolean;
  /** Its numbers, row-major, in pieces of whole rows. */
  pieces(): AsyncIterable<Float32Array>;
  /** The numbers of the stored tensor, whose shape and order may be others. */
  storedPieces(): AsyncIterable<Float32Array>;
  /** The same in ggml's blocks, where the checkpoint has them in blocks of a format that our files can keep as they are. */
  storedBlocks(format: 'q8' | 'q4'): AsyncIterable<Uint8Array> | undefined;
}

/** A checkpoint matched with its architecture, ready to be written in another form. */
export interface Conversion {
  readonly architecture: Architecture;
  /** The architecture's `model_type`. */
  readonly type: string;
  readonly title: string;
  /** The parsed configuration. */
  readonly parsed: unknown;
  readonly vocabularySize: number;
  readonly parameters: ReadonlyMap<string, ConvertedParameter>;
}

/** Matches a checkpoint with its architecture, strictly both ways; nothing is read yet. */
export function conversion(config: Json, checkpoint: Checkpoint): Conversion {
  const { architecture, config: parsed, graph, origins } = matchModel(config, checkpoint);
  const shared = sharedValues(graph);
  const parameters = new Map<string, ConvertedParameter>();
  for (const [name, { stored, convert }] of origins) {
    parameters.set(name, {
      name,
      shape: graph.parameters.get(name)!.shape,
      layout: graph.layouts.get(name) ?? 'rows',
      stored,
      makesSharedValues: shared.has(name),
      pieces: () => piecesOf(checkpoint, stored, convert),
      storedPieces: () => piecesOf(checkpoint, stored, undefined),
      storedBlocks: (format) => (convert ? undefined : blocksOf(checkpoint, stored, format)),
    });
  }
  const { type, title } = architecture;
  return { architecture, type, title, parsed, vocabularySize: architecture.vocabulary(parsed), parameters };
}

function blocksOf(
  checkpoint: Checkpoint,
  { name, type, byteLength }: StoredTensor,
  format: 'q8' | 'q4',
): AsyncIterable<Uint8Array> | undefined {
  if ((type !== 'q8_0' && type !== 'q4_0') || formatOfIntegers[type] !== format) return undefined;
  return (async function* () {
    const bytes = new Uint8Array(byteLength);
    await checkpoint.read(name, bytes);
    yield bytes;
  })();
}

async function* piecesOf(
  checkpoint: Checkpoint,
  stored: StoredTensor,
  convert: StoredParameter['convert'],
): AsyncIterable<Float32Array> {
  const length = stored.shape.reduce((a, b) => a * b, 1);
  if (convert) {
    yield convert(await readF32(checkpoint, stored), stored.shape);
    return;
  }
  const width = Math.max(1, stored.shape.at(-1) ?? 1);
  const piece = Math.max(1, Math.floor(PIECE / width)) * width;
  for (let start = 0; start < length; start += piece)
    yield await readF32(checkpoint, stored, start, Math.min(piece, length - start));
}

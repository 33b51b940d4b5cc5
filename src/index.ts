export {
  type ChatTemplate,
  jinjaTemplate,
  type Message,
  type RenderOptions,
  type Turn,
  worldTemplate,
} from './chat/template.ts';
export type { Constraint } from './constraints/constraint.ts';
export type { WeightFormat } from './core/backend.ts';
export {
  ConfigError,
  DisposedError,
  FormatError,
  InputError,
  RiverrunError,
  ShapeError,
  TrainingError,
  UnsupportedError,
  WeightError,
} from './core/errors.ts';
export type { StateFormat } from './core/state-format.ts';
export { type BenchOptions, type BenchResult, bench } from './platform/bench.ts';
export { type BenchTasksOptions, benchTasks, type TaskResult } from './platform/bench-tasks.ts';
export { type Converted, type ConvertOptions, convert } from './platform/convert.ts';
export { type Device, device } from './platform/device.ts';
export { diskStates } from './platform/disk-states.ts';
export { type FinetuneOptions, finetune } from './platform/finetune.ts';
export { embeddedModel, inspect, type LoadOptions, load } from './platform/node-load.ts';
export { type Pipeline, type PipelineOptions, type PipelineProgress, pipeline } from './platform/pipeline.ts';
export { loadState, saveState } from './platform/state-files.ts';
export { type TrainOptions, trainModel } from './platform/train.ts';
export type { RunOptions, Trained } from './platform/training-run.ts';
export type { Batcher, BatcherOptions } from './runtime/batcher.ts';
export type { Checkpoint, Checkpoints, CheckpointsOptions } from './runtime/checkpoints.ts';
export type { Fingerprint } from './runtime/fingerprint.ts';
export type { GenerateOptions, Generation } from './runtime/generate.ts';
export type { InspectOptions } from './runtime/inspection/inspect.ts';
export type { Inspection, LayerInspection, LayerQuantities, ReadMap } from './runtime/inspection/inspection.ts';
export type { LoadProgress } from './runtime/load-parameters.ts';
export type { TokenProbability } from './runtime/logprobs.ts';
export type { Model } from './runtime/model.ts';
export { PrefixCache, type PrefixCacheOptions, type StateStore } from './runtime/prefix-cache.ts';
export { rwkvState } from './runtime/rwkv-state.ts';
export type { SamplerOptions } from './runtime/sampler.ts';
export type { ReadOptions, Session, SessionOptions, Source } from './runtime/session.ts';
export { type ModelSizes, modelSizes, type TensorRow } from './runtime/sizes.ts';
export type { FileSource } from './runtime/source.ts';
export { type SaveOptions, type SessionState, State } from './runtime/state.ts';
export { type StateSize, stateBytesAt, type WindowSize } from './runtime/state-size.ts';
export { type AnswerSpan, type AnswerSpansOptions, answerSpans } from './tasks/answer-spans.ts';
export { type Beam, type BeamSearchOptions, beamSearch } from './tasks/beam-search.ts';
export { Chat, type ChatOptions } from './tasks/chat.ts';
export { classify } from './tasks/classify.ts';
export { type Answer, type AskOptions, DocumentReader, readDocument } from './tasks/document-reader.ts';
export { type EmbedOptions, embed } from './tasks/embed.ts';
export { type Accuracy, type EvaluateOptions, evaluate, type Question } from './tasks/evaluate.ts';
export { type EvaluateTextsOptions, evaluateTexts, type TextEvaluation } from './tasks/evaluate-texts.ts';
export { inspectionJson, inspectionPage } from './tasks/inspection-page.ts';
export { LabelClassifier, type LabelClassifierOptions, type LabelProbability } from './tasks/label-classifier.ts';
export type { PipelineTask, PipelineTasks } from './tasks/pipeline/tasks.ts';
export { type SamplesOptions, samples } from './tasks/samples.ts';
export { type Score, type ScoreOptions, score } from './tasks/score.ts';
export { type SummarizeOptions, summarize } from './tasks/summarize.ts';
export type { TextPiece } from './tokenizers/encode-stream.ts';
export type { DecodeOptions, EncodeOptions, StreamDecoder, Tokenizer } from './tokenizers/tokenizer.ts';
export type { Best, Evaluation, TrainRecord } from './train/trainer.ts';

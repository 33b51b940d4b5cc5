import { InputError, nearest } from '../../core/errors.ts';
import type { Model } from '../../runtime/model.ts';
import { type QuestionAnswerer, questionAnswerer, type Summarizer, summarizer } from './answers.ts';
import { type TextClassifier, textClassifier, type ZeroShotClassifier, zeroShotClassifier } from './classification.ts';
import { type FeatureExtractor, featureExtractor } from './feature-extraction.ts';
import { type TextGenerator, textGenerator } from './text-generation.ts';

/** What each task's pipeline is called with. */
export interface PipelineTasks {
  'text-generation': TextGenerator;
  'text-classification': TextClassifier;
  'zero-shot-classification': ZeroShotClassifier;
  'question-answering': QuestionAnswerer;
  'feature-extraction': FeatureExtractor;
  summarization: Summarizer;
  /** Another name of text-classification. */
  'sentiment-analysis': TextClassifier;
  /** Another name of feature-extraction. */
  embeddings: FeatureExtractor;
}

export type PipelineTask = keyof PipelineTasks;

const makers: { readonly [Task in PipelineTask]: (model: Model) => PipelineTasks[Task] } = {
  'text-generation': textGenerator,
  'text-classification': textClassifier,
  'zero-shot-classification': zeroShotClassifier,
  'question-answering': questionAnswerer,
  'feature-extraction': featureExtractor,
  summarization: summarizer,
  'sentiment-analysis': textClassifier,
  embeddings: featureExtractor,
};

/** Refuses tasks that there are not. */
export function checkTask(task: string): asserts task is PipelineTask {
  if (typeof task === 'string' && Object.hasOwn(makers, task)) return;
  const near = nearest(String(task), Object.keys(makers));
  throw new InputError(
    `there is no task ${task}${near.length > 0 ? `: did you mean ${near.join(' or ')}?` : `; there are ${Object.keys(makers).join(', ')}`}`,
  );
}

/** What does a task with a model. */
export const pipelineOf = <Task extends PipelineTask>(task: Task, model: Model): PipelineTasks[Task] =>
  makers[task](model);

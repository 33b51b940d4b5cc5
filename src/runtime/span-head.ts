import type { Json } from '../models/config.ts';
import type { Head } from './graph.ts';

/** What Hugging Face calls the parameters of a head of spans: [2, D] and [2]. */
export const SPAN_WEIGHT = 'qa_outputs.weight';
export const SPAN_BIAS = 'qa_outputs.bias';

/** The logits that each token is the first and the last of the answer: softmax over the tokens of the context. */
export const spanHead: Head = { name: SPAN_WEIGHT, bias: SPAN_BIAS, size: 2 };

/** Whether a configuration tells of a head of spans, by its `architectures`. */
export const hasSpanHead = (json: Json): boolean => {
  const names = json['architectures'];
  return Array.isArray(names) && /ForQuestionAnswering$/.test(String(names[0]));
};

import { AttentionProbe } from './attention-probe.ts';
import type { ProbeMaker } from './probe.ts';
import { RecurrenceProbe } from './recurrence-probe.ts';
import { Wkv4Probe } from './wkv4-probe.ts';

/** The ops that carry state along time, but those that only look a few tokens back. */
export const probes: Readonly<Record<string, ProbeMaker>> = {
  attention: (node, keepsMaps) => new AttentionProbe(node, keepsMaps),
  recurrence: (node, keepsMaps) => new RecurrenceProbe(node, keepsMaps),
  wkv4: (node, keepsMaps) => new Wkv4Probe(node, keepsMaps),
};

/**
 * Every error that a user can cause. A message says what is wrong, what was got against what was expected, where, and
 * what to do; the command line prints it without a stack trace.
 */
export class RiverrunError extends Error {
  override name = 'RiverrunError';
}

/** Shapes that do not fit together, found while a model is traced. */
export class ShapeError extends RiverrunError {
  override name = 'ShapeError';
}

/** Parameters that are missing, unexpected, of another shape, or not finite. */
export class WeightError extends RiverrunError {
  override name = 'WeightError';
}

/** A model's `config.json` (or its equivalent in another format) that can't be understood. */
export class ConfigError extends RiverrunError {
  override name = 'ConfigError';
}

/** Bytes that are not what their format promises: truncated, corrupt or hostile files. */
export class FormatError extends RiverrunError {
  override name = 'FormatError';
}

/** Something valid that this build, backend or platform can't do. */
export class UnsupportedError extends RiverrunError {
  override name = 'UnsupportedError';
}

/** A value that the caller passed: an option, a prompt, a token id. */
export class InputError extends RiverrunError {
  override name = 'InputError';
}

/** A training that can not go on: its loss is no number any more, or its data does not fit. */
export class TrainingError extends RiverrunError {
  override name = 'TrainingError';
}

/** Use of a model or session after `dispose()`. */
export class DisposedError extends RiverrunError {
  override name = 'DisposedError';
}

/** The names in `known` most like `name`, nearest first: for "did you mean" in messages. */
export function nearest(name: string, known: Iterable<string>, count = 3): string[] {
  const limit = Math.max(2, Math.ceil(name.length / 3));
  return [...known]
    .map((candidate) => ({ candidate, distance: editDistance(name, candidate) }))
    .filter(({ distance }) => distance <= limit)
    .sort((a, b) => a.distance - b.distance || (a.candidate < b.candidate ? -1 : 1))
    .slice(0, count)
    .map(({ candidate }) => candidate);
}

/** Levenshtein's distance: the least number of insertions, deletions and substitutions. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(previous[j]! + 1, current[j - 1]! + 1, substitution));
    }
    previous = current;
  }
  return previous[b.length]!;
}

/**
 * JSON for readers that tell whole numbers from others, as Python does: it reads 1.0 as a float and 1 as an int, which JavaScript writes both as 1.
 * What a field is goes by its name.
 */

/** Fields that Hugging Face's configurations declare as floats. */
const declared = [
  ...['layer_norm_epsilon', 'layer_norm_eps', 'rms_norm_eps', 'mixer_rms_eps', 'norm_eps', 'group_norm_eps'],
  ...['key_norm_eps', 'initializer_range', 'time_step_scale', 'time_step_min', 'time_step_max', 'time_step_floor'],
  ...['time_step_limit', 'z_loss_coefficient', 'attention_dropout', 'hidden_dropout', 'classifier_dropout'],
  ...['resid_pdrop', 'embd_pdrop', 'attn_pdrop', 'summary_first_dropout', 'lora_dropout'],
  ...['rope_theta', 'partial_rotary_factor', 'rotary_pct', 'factor', 'attention_factor', 'beta_fast', 'beta_slow'],
  ...['short_factor', 'long_factor', 'low_freq_factor', 'high_freq_factor', 'expand_k', 'expand_v'],
];

const TOKEN = /"(?:[^"\\]|\\.)*"(\s*:)?|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|-?Infinity|NaN/g;

/** Names of the fields of a JSON text that have a number with a fraction or an exponent, or a list with one. */
export function floatFields(text: string): Set<string> {
  const found = new Set<string>();
  let field: string | undefined;
  for (const [token, colon] of text.matchAll(TOKEN)) {
    if (colon !== undefined) field = JSON.parse(token.slice(0, -colon.length)) as string;
    else if (field !== undefined && /^-?(\d+(\.|[eE])|Infinity|NaN)/.test(token)) found.add(field);
  }
  return found;
}

/**
 * A value as indented JSON, in which the numbers of fields that are floats, by Hugging Face's configurations or by `floats`, are written as such. JSON has
 * no infinity: it is written as transformers does, `{"__float__": "Infinity"}`.
 */
export function floatJson(value: object, floats: ReadonlySet<string> = new Set()): string {
  const known = new Set([...declared, ...floats]);
  return `${written(value, false, '', known)}\n`;
}

function written(value: unknown, isFloat: boolean, indent: string, floats: ReadonlySet<string>): string {
  const inner = `${indent}  `;
  const block = (parts: readonly string[], [open, close]: string): string =>
    parts.length === 0 ? `${open}${close}` : `${open}\n${inner}${parts.join(`,\n${inner}`)}\n${indent}${close}`;
  if (typeof value === 'number') return Number.isFinite(value) ? numeral(value, isFloat) : marked(value);
  if (isFloat && (value === 'Infinity' || value === '-Infinity')) return marked(Number(value));
  if (Array.isArray(value))
    return block(
      value.map((item) => written(item, isFloat, inner, floats)),
      '[]',
    );
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  if (entries.length === 1 && entries[0]![0] === '__float__') return JSON.stringify(value);
  return block(
    entries.map(([name, item]) => `${JSON.stringify(name)}: ${written(item, floats.has(name), inner, floats)}`),
    '{}',
  );
}

/** Whole numbers that are no floats have no exponent, however large. */
function numeral(value: number, isFloat: boolean): string {
  if (!isFloat)
    return Number.isInteger(value) && Math.abs(value) >= 1e21 ? String(BigInt(value)) : JSON.stringify(value);
  const text = JSON.stringify(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

const marked = (value: number): string => JSON.stringify({ __float__: String(value) });

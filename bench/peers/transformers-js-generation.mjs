/**
 * What is asked of a model of transformers.js, in Node and in a browser alike.
 * @param library transformers.js' `DynamicCache` and `Tensor`
 */
export function generation(model, { DynamicCache, Tensor }) {
  const tensor = (values) => new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length]);
  const ones = (length) => tensor(new Uint8Array(length).fill(1));
  const onlyLast = new Tensor('int64', [1n], []);
  return {
    /** Logits after the last of `tokens`. */
    async logits(tokens) {
      const { logits } = await model.forward({
        input_ids: tensor(tokens),
        attention_mask: ones(tokens.length),
        num_logits_to_keep: onlyLast,
      });
      return logits.data;
    },
    /**
     * `generate`, as its users call it: reads tokens, and generates `steps` more of the likeliest after the first, which follows from
     * reading. Tokens a second of both; and of `forward`, where asked for, of as many steps that follow, on given tokens.
     */
    async generate(tokens, steps, { isForwardToo = false } = {}) {
      const times = [];
      const start = performance.now();
      const { past_key_values: past } = await model.generate({
        input_ids: tensor(tokens),
        attention_mask: ones(tokens.length),
        max_new_tokens: steps + 1,
        streamer: { put: () => times.push(performance.now()), end() {} },
        return_dict_in_generate: true,
      });
      // The prompt is put first.
      const [, first] = times;
      if (times.length !== steps + 2) throw new Error(`${times.length - 1} tokens came, not ${steps + 1}`);
      const found = {
        read: (1000 * tokens.length) / (first - start),
        generate: (1000 * steps) / (times.at(-1) - first),
      };
      if (!isForwardToo) return found;
      let cache = past;
      const startOfForward = performance.now();
      for (let n = 0; n < steps; n++) {
        const told = await model.forward({
          input_ids: tensor([tokens[n % tokens.length]]),
          attention_mask: ones(tokens.length + steps + n + 1),
          past_key_values: cache,
          num_logits_to_keep: onlyLast,
        });
        const present = Object.entries(told).filter(([key]) => key.startsWith('present.'));
        cache = new DynamicCache(
          Object.fromEntries(present.map(([key, value]) => [key.replace('present', 'past_key_values'), value])),
        );
      }
      return { ...found, forward: (1000 * steps) / (performance.now() - startOfForward) };
    },
  };
}

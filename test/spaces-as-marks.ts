/** SentencePiece's normalizer, as a tokenizer.json has it: spaces are ▁, and every text begins with one. */
export const spacesAsMarks = {
  type: 'Sequence',
  normalizers: [
    { type: 'Prepend', prepend: '▁' },
    { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
  ],
};

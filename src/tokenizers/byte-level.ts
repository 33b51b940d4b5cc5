/**
 * GPT-2's names of the bytes (Radford et al. 2019): every byte as a printable character. Printable ones are themselves, the others follow from
 * U+0100 on.
 */
export const byteLevelNames: readonly string[] = (() => {
  let other = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCharCode(isPrintable ? byte : other++);
  });
})();

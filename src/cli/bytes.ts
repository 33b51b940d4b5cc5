/** Bytes in the unit that suits them. */
export function formatBytes(n: number): string {
  const units = ['bytes', 'KB', 'MB', 'GB', 'TB'];
  const unit = n === 0 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(n) / 3));
  return `${unit === 0 ? n : (n / 1000 ** unit).toFixed(n / 1000 ** unit < 10 ? 2 : 1)} ${units[unit]}`;
}

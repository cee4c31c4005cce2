/** Exponential back-off with full jitter in its upper half, from 100 ms to 5 s. */
export function backoffDelay(attempt: number, random: () => number): number {
  const ceiling = Math.min(5_000, 100 * 2 ** Math.min(attempt, 10));
  return Math.round(ceiling / 2 + (random() * ceiling) / 2);
}

const WIDTH = 40;
/** Upper bounds of the bars, ms. */
const BOUNDS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, Infinity];

/** Times as lines of text: quantiles, and a bar for each range that has any. */
export function describeTimes(times: readonly number[]): string[] {
  if (times.length === 0) return ['no times'];
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share: number): string => sorted[Math.ceil(sorted.length * share) - 1]!.toFixed(1);
  const lines = [`p50 ${at(0.5)} ms, p95 ${at(0.95)} ms, p99 ${at(0.99)} ms, longest ${sorted.at(-1)!.toFixed(1)} ms`];
  const counts = BOUNDS.map((bound, i) => {
    const from = BOUNDS[i - 1] ?? 0;
    return sorted.filter((time) => time >= from && time < bound).length;
  });
  const most = Math.max(...counts);
  const first = counts.findIndex((count) => count > 0);
  const last = counts.findLastIndex((count) => count > 0);
  for (let i = first; i <= last; i++) {
    const bound = BOUNDS[i]!;
    const label = bound === Infinity ? `${BOUNDS[i - 1]} ms and more` : `below ${bound} ms`;
    const bar = '█'.repeat(Math.ceil((WIDTH * counts[i]!) / most));
    lines.push(`${label.padStart(16)} ${String(counts[i]).padStart(8)} ${bar}`);
  }
  return lines;
}

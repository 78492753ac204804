/** Maps with at most `bound` calls in flight; keeps the order. */
export async function mapBounded<T, R>(items: readonly T[], bound: number, map: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      results[index] = await map(items[index]!);
    }
  };
  await Promise.all(Array.from({ length: Math.min(bound, items.length) }, work));
  return results;
}

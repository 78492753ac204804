/** Something that can be due. `dueAt` is written by {@link Deadlines} alone. */
export interface Scheduled {
  dueAt: number | undefined;
}

const WIDTH_MS = 1_000;

/**
 * Items by the time at which they are due, in buckets of a second: setting, removing and asking cost nothing for the
 * items that are not due, so that a sweep over 100,000 quiet channels is free. `due` is exact, buckets only find.
 */
export class Deadlines<T extends Scheduled> {
  private readonly buckets = new Map<number, Set<T>>();
  /** No bucket before this one holds an item. */
  private lowest = Infinity;

  /** Makes the item due at a time, instead of the time it had. */
  set(item: T, at: number): void {
    this.delete(item);
    item.dueAt = at;
    const index = Math.floor(at / WIDTH_MS);
    const bucket = this.buckets.get(index);
    if (bucket) bucket.add(item);
    else this.buckets.set(index, new Set([item]));
    this.lowest = Math.min(this.lowest, index);
  }

  /** Makes the item never due. */
  delete(item: T): void {
    if (item.dueAt === undefined) return;
    this.remove(item, Math.floor(item.dueAt / WIDTH_MS));
  }

  /** Takes out the items that are due. */
  takeDue(now: number): T[] {
    const last = Math.floor(now / WIDTH_MS);
    const taken: T[] = [];
    for (const index of this.passed(last)) {
      for (const item of this.buckets.get(index) ?? []) {
        if (item.dueAt === undefined || item.dueAt > now) continue;
        this.remove(item, index);
        taken.push(item);
      }
    }
    if (last > this.lowest) this.lowest = last;
    return taken;
  }

  /** The buckets up to `last`: counted up, or picked where there are fewer buckets than seconds to count. */
  private passed(last: number): number[] {
    const seconds = last - this.lowest + 1;
    if (seconds <= 0) return [];
    if (seconds <= this.buckets.size) return Array.from({ length: seconds }, (_, i) => this.lowest + i);
    return [...this.buckets.keys()].filter((index) => index <= last);
  }

  private remove(item: T, index: number): void {
    item.dueAt = undefined;
    const bucket = this.buckets.get(index);
    bucket?.delete(item);
    if (bucket?.size === 0) this.buckets.delete(index);
  }
}

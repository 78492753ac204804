/** What a histogram holds. */
export interface HistogramStats {
  /** The upper bounds of the buckets, ascending, each inclusive. */
  readonly bounds: readonly number[];
  /** How many values were in each bucket; one more than there are bounds, for the values above all. */
  readonly counts: readonly number[];
  readonly sum: number;
  readonly count: number;
}

/** Seconds, for what is done within this process. */
export const FAST_SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1] as const;
/** Seconds, for what waits for others. */
export const WAIT_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;
/** Seconds, for what lasts. */
export const LIFE_SECONDS = [1, 10, 60, 300, 900, 3_600, 14_400, 86_400] as const;

/** Counts values by the bucket that they fall into. */
export class Histogram {
  readonly #counts: number[];
  #sum = 0;

  constructor(private readonly bounds: readonly number[]) {
    this.#counts = new Array<number>(bounds.length + 1).fill(0);
  }

  /** Counts a value. What is below zero, as clocks differ, counts as zero. */
  observe(value: number): void {
    const { bounds } = this;
    const known = value > 0 ? value : 0;
    let i = 0;
    while (i < bounds.length && known > bounds[i]!) i++;
    this.#counts[i]!++;
    this.#sum += known;
  }

  get stats(): HistogramStats {
    const counts = [...this.#counts];
    return { bounds: this.bounds, counts, sum: this.#sum, count: counts.reduce((all, count) => all + count, 0) };
  }
}

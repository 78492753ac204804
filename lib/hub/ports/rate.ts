/** How long a bucket takes to fill, ms: it holds twice what is let through a second. */
const BURST_MS = 2_000;
/** More than what rounding makes of the costs in a bucket, and less than any of them. */
const ROUNDING_MS = 1e-6;

/**
 * How often something may happen: token buckets that hold twice what they get per second. A bucket is one number, the
 * time at which it is full again, so that it needs no timer and costs nothing while nothing happens. The numbers are of
 * {@link Rate.now}; a bucket that is full is anything that is not after it, such as 0.
 */
export class Rate {
  readonly #costMs: number;
  readonly #origin: number;

  constructor(
    /** `Infinity`: as often as it likes. */
    readonly perSecond: number,
    private readonly clock: { now(): number },
  ) {
    this.#costMs = 1_000 / perSecond;
    this.#origin = clock.now();
  }

  /** Whether there is a limit at all. */
  get limited(): boolean {
    return this.#costMs > 0;
  }

  /** Small numbers, so that fractions of milliseconds add up. */
  now(): number {
    return this.clock.now() - this.#origin;
  }

  /** How long one more has to wait; 0: it may happen. */
  waitMs(fullAt: number, now: number): number {
    const wait = this.#bounded(fullAt, now) + this.#costMs - now - BURST_MS;
    return wait < ROUNDING_MS ? 0 : wait;
  }

  /** The bucket after `count` more; at most empty. */
  spend(fullAt: number, now: number, count = 1): number {
    return this.#bounded(this.#bounded(fullAt, now) + count * this.#costMs, now);
  }

  /** No bucket is more than full or empty: the clock may have been set back. */
  #bounded(fullAt: number, now: number): number {
    return Math.min(Math.max(fullAt, now), now + BURST_MS);
  }
}

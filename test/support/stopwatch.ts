const PROBE_MS = 5;
/** What a probe may be late for: longer is a pause of the machine, or work of this process. */
const LATE_MS = 20;

/**
 * Measures how long something takes while this process runs: how long it waits, not how long the machine lets it wait.
 * For bounds of what has to happen soon.
 */
export class Stopwatch {
  #elapsedMs = 0;
  #last = performance.now();
  readonly #timer = setInterval(() => this.#probe(), PROBE_MS).unref();

  get elapsedMs(): number {
    this.#probe();
    return this.#elapsedMs;
  }

  /** Ends the measurement; ms. */
  stop(): number {
    clearInterval(this.#timer);
    return this.elapsedMs;
  }

  #probe(): void {
    const now = performance.now();
    this.#elapsedMs += Math.min(now - this.#last, PROBE_MS + LATE_MS);
    this.#last = now;
  }
}

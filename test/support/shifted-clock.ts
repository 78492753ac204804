import { systemClock, type Clock } from '../../lib/hub/ports/clock.js';
import { ManualClock } from '../../lib/testing/manual-clock.js';

/** The real clock, but for intervals and what time it is, which move where a test says so. */
export class ShiftedClock implements Clock {
  readonly #intervals = new ManualClock(0);

  now(): number {
    return systemClock.now() + this.#intervals.now();
  }

  after(delayMs: number, fn: () => void): () => void {
    return systemClock.after(delayMs, fn);
  }

  every(intervalMs: number, fn: () => void): () => void {
    return this.#intervals.every(intervalMs, fn);
  }

  turn(fn: () => void): void {
    systemClock.turn(fn);
  }

  /** Lets time pass, in steps, with whatever happens between them. */
  async pass(ms: number, stepMs = 1_000): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      this.#intervals.advance(Math.min(stepMs, left));
      await new Promise(setImmediate);
    }
  }
}

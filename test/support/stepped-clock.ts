import { systemClock, type Clock } from '../../lib/hub/ports/clock.js';
import { ManualClock } from './manual-clock.js';

/** The real clock, but for intervals, which run where a test says so: for heartbeats of peers behind real sockets. */
export class SteppedClock implements Clock {
  readonly #intervals = new ManualClock(0);

  /** How much time has passed for the intervals, ms. */
  get passedMs(): number {
    return this.#intervals.now();
  }

  now(): number {
    return systemClock.now();
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

  /** Lets so much time pass for the intervals. */
  advance(ms: number): void {
    this.#intervals.advance(ms);
  }
}

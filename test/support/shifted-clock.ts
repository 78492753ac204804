import { SteppedClock } from './stepped-clock.js';

/** The real clock, but for intervals and what time it is, which move where a test says so. */
export class ShiftedClock extends SteppedClock {
  override now(): number {
    return super.now() + this.passedMs;
  }

  /** Lets time pass, in steps, with whatever happens between them. */
  async pass(ms: number, stepMs = 1_000): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      this.advance(Math.min(stepMs, left));
      await new Promise(setImmediate);
    }
  }
}

import type { Backoff } from './backoff.js';
import type { ClientClock } from './clock.js';

/** Lets through what its links ask the hub by themselves: no more than the budget has room for, in order. */
export class Pace {
  readonly #clock: ClientClock;
  readonly #backoff: Backoff;
  readonly #waiting = new Set<() => void>();
  #cancel: (() => void) | undefined;

  constructor(clock: ClientClock, backoff: Backoff) {
    this.#clock = clock;
    this.#backoff = backoff;
  }

  /** Runs `fn`, not within this call, when it has waited so long and its turn has come. Returns what cancels it. */
  after(ms: number, fn: () => void): () => void {
    const cancel = this.#clock.after(ms, () => {
      this.#waiting.add(fn);
      this.#next();
    });
    return () => {
      cancel();
      this.#waiting.delete(fn);
      if (this.#waiting.size === 0) this.#cancel?.();
    };
  }

  #next(): void {
    this.#cancel?.();
    for (const fn of this.#waiting) {
      const now = this.#clock.now();
      const waitMs = this.#backoff.waitMs(now);
      if (waitMs > 0) {
        this.#cancel = this.#clock.after(waitMs, () => this.#next());
        return;
      }
      this.#backoff.take(now);
      this.#waiting.delete(fn);
      fn();
    }
  }
}

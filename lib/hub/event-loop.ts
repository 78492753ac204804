import { monitorEventLoopDelay, type IntervalHistogram } from 'node:perf_hooks';

/** How often it is looked whether the event loop comes round, ms: each look wakes an idle process. */
const RESOLUTION_MS = 50;

/** How late the event loop is: the longest time that something had to wait for it, of the last second. */
export class EventLoop {
  #delays: IntervalHistogram | undefined;
  #lagMs = 0;

  start(): void {
    this.#delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
    this.#delays.enable();
  }

  /** Call once a second. */
  sweep(): void {
    this.#lagMs = this.#seenMs;
    this.#delays?.reset();
  }

  stop(): void {
    this.#delays?.disable();
    this.#delays = undefined;
  }

  /** ms. */
  get lagMs(): number {
    return Math.max(this.#lagMs, this.#seenMs);
  }

  get #seenMs(): number {
    return Math.max(0, (this.#delays?.max ?? 0) / 1e6 - RESOLUTION_MS);
  }
}

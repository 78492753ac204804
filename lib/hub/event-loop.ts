/** How often it is looked whether the event loop comes round, ms: each look wakes an idle process. */
const LOOK_MS = 50;

/** How late the event loop is: the longest time that something had to wait for it, of the last second. */
export class EventLoop {
  #timer: NodeJS.Timeout | undefined;
  #lookedAt = 0;
  /** The longest wait since the last sweep, and of the second before it, ms. */
  #worst = 0;
  #before = 0;

  start(): void {
    this.#lookedAt = performance.now();
    this.#timer = setInterval(() => {
      this.#worst = this.#seenMs;
      this.#lookedAt = performance.now();
    }, LOOK_MS).unref();
  }

  /** Call once a second. */
  sweep(): void {
    this.#before = this.#worst;
    this.#worst = 0;
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#worst = this.#before = 0;
  }

  /** ms. */
  get lagMs(): number {
    return Math.max(this.#before, this.#seenMs);
  }

  /** The wait that is not over counts too: whoever asks right behind it comes before the look. */
  get #seenMs(): number {
    const late = this.#timer === undefined ? 0 : performance.now() - this.#lookedAt - LOOK_MS;
    return Math.max(this.#worst, late, 0);
  }
}

/** How a client comes back. */
export interface BackoffOptions {
  /**
   * Least wait before an attempt after a failure; every wait is drawn at random between this floor and a ceiling that
   * doubles with each failure. Milliseconds.
   * @defaultValue 500
   */
  minMs?: number;
  /**
   * Highest ceiling of a wait: after many failures waits lie anywhere between `minMs` and this. Milliseconds.
   * @defaultValue 20_000
   */
  maxMs?: number;
  /**
   * Bounds the attempts over all transports in any 10 s: half of them may be made at once, the others follow evenly
   * (with 10: five, then one per 2 s). An attempt above it waits, whatever asked for it.
   * @defaultValue 10
   */
  attemptsPer10s?: number;
}

const WINDOW_MS = 10_000;

/** Draws waits between attempts and keeps the budget of attempts. */
export class Backoff {
  readonly #minMs: number;
  readonly #maxMs: number;
  readonly #burst: number;
  readonly #intervalMs: number;
  readonly #random: () => number;
  /** When the budget is full again, seen from the last attempt. */
  #fullAt = 0;

  constructor(options: BackoffOptions, random: () => number) {
    this.#minMs = options.minMs ?? 500;
    this.#maxMs = Math.max(this.#minMs, options.maxMs ?? 20_000);
    const attempts = Math.max(1, Math.floor(options.attemptsPer10s ?? 10));
    this.#burst = Math.ceil(attempts / 2);
    this.#intervalMs = WINDOW_MS / Math.max(1, attempts - this.#burst);
    this.#random = random;
  }

  /** A wait after the given number of failures in a row (1 and more): full jitter above the floor. */
  delayMs(failures: number): number {
    const ceiling = Math.min(this.#maxMs, this.#minMs * 2 ** Math.min(failures, 30));
    return this.#minMs + this.#random() * (ceiling - this.#minMs);
  }

  /** How long the budget asks to wait; 0 if an attempt may be made now. */
  waitMs(now: number): number {
    // A clock that was set back must not postpone the next attempt by more than the budget itself would.
    this.#fullAt = Math.min(this.#fullAt, now + this.#burst * this.#intervalMs);
    return Math.max(0, this.#fullAt - (this.#burst - 1) * this.#intervalMs - now);
  }

  /** Takes one attempt out of the budget. */
  take(now: number): void {
    this.#fullAt = Math.max(this.#fullAt, now) + this.#intervalMs;
  }
}

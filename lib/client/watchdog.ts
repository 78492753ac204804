import type { ClientClock } from './clock.js';

/** Notices a link that went silent: a cut cable closes no socket. One timer, not one per frame. */
export class Watchdog {
  readonly #clock: ClientClock;
  readonly #onSilence: () => void;
  /** When something came from the hub last. */
  heardAt = 0;
  #limitMs = 0;
  #heard = true;
  #cancel: (() => void) | undefined;

  constructor(clock: ClientClock, onSilence: () => void) {
    this.#clock = clock;
    this.#onSilence = onSilence;
  }

  /** Starts to watch: `onSilence` is called once nothing was heard for `limitMs`; 0 stops. */
  watch(limitMs: number): void {
    this.#limitMs = limitMs;
    this.heard();
    this.check();
  }

  /** Something came from the hub. */
  heard(): void {
    this.#heard = true;
    this.heardAt = this.#clock.now();
  }

  /** Something must come within `ms`, or `onSilence` is called. */
  expect(ms: number): void {
    if (!this.#heard) return; // something is expected already
    this.#heard = false;
    this.#cancel?.();
    this.#cancel = this.#clock.after(ms, () => (this.#heard ? this.check() : this.#onSilence()));
  }

  /** Looks at once, and again when the time is up: timers stand still while a device sleeps. */
  check(): void {
    this.#cancel?.();
    if (this.#limitMs <= 0) return;
    const leftMs = this.heardAt + this.#limitMs - this.#clock.now();
    if (leftMs > 0) this.#cancel = this.#clock.after(leftMs, () => this.check());
    else {
      this.#limitMs = 0;
      this.#onSilence();
    }
  }
}

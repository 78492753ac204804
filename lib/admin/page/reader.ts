import type { Model } from './model.js';
import type { Refused } from './wire.js';

/** How often it is read anew, ms. */
const REFRESH_MS = 5_000;
const BROKER_AWAY = 'The broker is away. The page goes on by itself when it is back.';

/** What a view does with what it asks the server for. */
export interface Reading<T> {
  readonly ask: () => Promise<T>;
  readonly show: (found: T) => void;
  /** It cannot be shown, for what is told instead. */
  readonly told: (problem: string, code: string) => void;
  /** Whether it is not read anew for now. */
  readonly paused?: () => boolean;
}

/** Reads something now and then, and as soon as the broker is back. While it is away an answer takes long: that is told at once. */
export class Reader<T> {
  readonly #timer: ReturnType<typeof setInterval>;
  #asked = 0;
  #waiting = false;
  #away = false;
  /** Whether there was an answer since the broker went away: another node may have it. */
  #answered = false;

  constructor(
    private readonly model: Model,
    private readonly reading: Reading<T>,
  ) {
    this.#timer = setInterval(() => {
      if (!document.hidden && !this.#waiting && reading.paused?.() !== true) this.load();
    }, REFRESH_MS);
    this.load();
  }

  /** Asks; an older answer that comes late is passed over. */
  load(): void {
    const mine = ++this.#asked;
    const { ask, show, told } = this.reading;
    this.#waiting = true;
    ask()
      .then(
        (found) => {
          if (mine !== this.#asked) return;
          this.#answered = true;
          show(found);
        },
        (error: unknown) => {
          const { code, message } = error as Refused;
          if (mine === this.#asked) told(code === 'broker_unavailable' ? BROKER_AWAY : message, code);
        },
      )
      .finally(() => {
        if (mine === this.#asked) this.#waiting = false;
      });
  }

  /** Call when the model has changed. */
  check(): void {
    const away = this.model.brokerAway;
    if (away !== this.#away) {
      this.#away = away;
      this.#answered = false;
      if (!away) this.load();
    }
    if (away && !this.#answered) this.reading.told(BROKER_AWAY, 'broker_unavailable');
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#asked++;
  }
}

import type { Clock } from '../hub/ports/clock.js';

interface Timer {
  at: number;
  readonly everyMs: number | undefined;
  readonly fn: () => void;
}

/**
 * A clock that stands still until a test moves it, for an application and for clients: timers and intervals run only
 * where a method says so, each in the order of their times. Turns of the event loop end by themselves.
 *
 * @example
 * const clock = new ManualClock();
 * const module = await Test.createTestingModule({ imports: [AppModule] })
 *   .overrideProvider(REALTIME_CLOCK)
 *   .useValue(clock)
 *   .compile();
 */
export class ManualClock implements Clock {
  /** In the order of their making, which breaks ties. */
  readonly #timers = new Set<Timer>();
  #time: number;
  #turns = 0;

  /** @param now - The time at first, ms since 1970. */
  constructor(now: number = Date.now()) {
    this.#time = now;
  }

  now(): number {
    return this.#time;
  }

  after(delayMs: number, fn: () => void): () => void {
    return this.#add({ at: this.#time + Math.max(0, delayMs), everyMs: undefined, fn });
  }

  every(intervalMs: number, fn: () => void): () => void {
    if (!(intervalMs > 0)) throw new RangeError(`An interval of ${intervalMs} ms never lets time pass`);
    return this.#add({ at: this.#time + intervalMs, everyMs: intervalMs, fn });
  }

  turn(fn: () => void): void {
    this.#turns++;
    setImmediate(() => {
      this.#turns--;
      fn();
    });
  }

  /** How many timers and intervals wait. */
  get waiting(): number {
    return this.#timers.size;
  }

  /**
   * Moves the time by so many ms, running each timer at its time, in order; no promise is settled between them. Peers
   * behind sockets have no time to answer meanwhile: to them it is what a heartbeat asks for that counts, see
   * {@link ManualClock.jump}.
   */
  advance(ms: number): void {
    const end = this.#time + ms;
    for (let timer = this.#next(end); timer; timer = this.#next(end)) this.#fire(timer);
    this.#time = end;
  }

  /**
   * Moves the time by so many ms at once, as if the process had stood still: what is due runs once, intervals too. Credentials, grace
   * periods and histories end by it; a heartbeat notices no more than one of its steps, so that peers stay.
   */
  jump(ms: number): void {
    this.#time += ms;
    const due = [...this.#timers].filter(({ at }) => at <= this.#time).sort((a, b) => a.at - b.at);
    for (const timer of due) if (this.#timers.has(timer)) this.#fire(timer);
  }

  /** Moves the time as {@link ManualClock.advance} does, and settles before the first timer, after each, and at the end. */
  async pass(ms: number): Promise<void> {
    const end = this.#time + ms;
    await this.settle();
    for (let timer = this.#next(end); timer; timer = this.#next(end)) {
      this.#fire(timer);
      await this.settle();
    }
    this.#time = end;
    await this.settle();
  }

  /** Resolves when no turn and no promise has anything left to do at this time. What comes by a socket is not waited for. */
  async settle(): Promise<void> {
    // All microtasks run before an immediate does, those that microtasks add too.
    do await new Promise((resolve) => setImmediate(resolve));
    while (this.#turns > 0);
  }

  #add(timer: Timer): () => void {
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  #next(end: number): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.at <= end && (!next || timer.at < next.at)) next = timer;
    }
    return next;
  }

  #fire(timer: Timer): void {
    this.#time = Math.max(this.#time, timer.at);
    this.#timers.delete(timer);
    if (timer.everyMs !== undefined) {
      timer.at = this.#time + timer.everyMs;
      this.#timers.add(timer);
    }
    timer.fn();
  }
}

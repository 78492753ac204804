import type { Clock } from '../../lib/hub/ports/clock.js';

interface Timer {
  at: number;
  readonly everyMs: number | undefined;
  readonly fn: () => void;
}

/** A clock that stands still until a test moves it. Timers and turns run only where a method says so. */
export class ManualClock implements Clock {
  /** In the order of their making, which breaks ties. */
  private readonly timers = new Set<Timer>();
  private turns: (() => void)[] = [];

  constructor(private time = 1_700_000_000_000) {}

  now(): number {
    return this.time;
  }

  after(delayMs: number, fn: () => void): () => void {
    return this.add({ at: this.time + Math.max(0, delayMs), everyMs: undefined, fn });
  }

  every(intervalMs: number, fn: () => void): () => void {
    if (!(intervalMs > 0)) throw new RangeError(`An interval of ${intervalMs} ms never lets time pass`);
    return this.add({ at: this.time + intervalMs, everyMs: intervalMs, fn });
  }

  turn(fn: () => void): void {
    this.turns.push(fn);
  }

  /** How many timers and intervals wait. */
  get waiting(): number {
    return this.timers.size;
  }

  /** Moves the time, running each timer at its time, in order; no microtask runs between them. */
  advance(ms: number): void {
    const end = this.time + ms;
    for (let timer = this.next(end); timer; timer = this.next(end)) this.fire(timer);
    this.time = end;
  }

  /** Moves the time as {@link advance} does, and settles before the first timer, after each, and at the end. */
  async pass(ms: number): Promise<void> {
    const end = this.time + ms;
    await this.settle();
    for (let timer = this.next(end); timer; timer = this.next(end)) {
      this.fire(timer);
      await this.settle();
    }
    this.time = end;
    await this.settle();
  }

  /** Ends the turn: runs what waits for it, not what is added meanwhile. */
  runTurn(): void {
    const turns = this.turns;
    this.turns = [];
    for (const fn of turns) fn();
  }

  /** Ends turns and runs microtasks until nothing is left to do at this time. */
  async settle(): Promise<void> {
    do {
      this.runTurn();
      // All microtasks run before an immediate does, those that microtasks add too.
      await new Promise((resolve) => setImmediate(resolve));
    } while (this.turns.length > 0);
  }

  private add(timer: Timer): () => void {
    this.timers.add(timer);
    return () => void this.timers.delete(timer);
  }

  private next(end: number): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.timers) {
      if (timer.at <= end && (!next || timer.at < next.at)) next = timer;
    }
    return next;
  }

  private fire(timer: Timer): void {
    this.time = Math.max(this.time, timer.at);
    this.timers.delete(timer);
    if (timer.everyMs !== undefined) {
      timer.at += timer.everyMs;
      this.timers.add(timer);
    }
    timer.fn();
  }
}

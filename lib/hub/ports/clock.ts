/** Time, as the hub sees it. Tests give a manual one: see `REALTIME_CLOCK`. */
export interface Clock {
  /** Wall time, ms since 1970. */
  now(): number;
  /** Runs `fn` once after `delayMs`; returns what cancels it. The timer does not keep the process alive. */
  after(delayMs: number, fn: () => void): () => void;
  /** Runs `fn` every `intervalMs`; returns what stops it. The timer does not keep the process alive. */
  every(intervalMs: number, fn: () => void): () => void;
  /** Runs `fn` at the end of this turn of the event loop. */
  turn(fn: () => void): void;
}

/** The process's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  after(delayMs, fn) {
    const timer = setTimeout(fn, delayMs).unref();
    return () => clearTimeout(timer);
  },
  every(intervalMs, fn) {
    const timer = setInterval(fn, intervalMs).unref();
    return () => clearInterval(timer);
  },
  turn: (fn) => void setImmediate(fn),
};

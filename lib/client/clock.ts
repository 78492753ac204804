/** Time, as the client sees it. Tests give a manual one. */
export interface ClientClock {
  /** Wall time, ms since 1970: it goes on while a device sleeps. */
  now(): number;
  /** Runs `fn` once after `delayMs`; returns what cancels it. */
  after(delayMs: number, fn: () => void): () => void;
}

/** Timers of engines run at once when they are set for longer. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The clock of the browser or the process. */
export const systemClock: ClientClock = {
  now: () => Date.now(),
  after(delayMs, fn) {
    const timer = setTimeout(fn, Math.min(delayMs, MAX_TIMER_MS));
    return () => clearTimeout(timer);
  },
};

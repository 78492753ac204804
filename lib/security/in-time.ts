import type { Clock } from '../hub/ports/clock.js';

/** How long whatever is asked about one request may take, ms: an authenticator, guards, a page that is made. */
export const STEP_TIMEOUT_MS = 10_000;

/** A step that rejects where it takes longer than {@link STEP_TIMEOUT_MS}: one that does not end would hold its request. */
export function inTime<T>(clock: Clock, what: string, step: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(STEP_TIMEOUT_MS, () => {
      reject(new Error(`${what} took longer than ${STEP_TIMEOUT_MS} ms: it was refused`));
    });
    step.finally(cancel).then(resolve, reject);
  });
}

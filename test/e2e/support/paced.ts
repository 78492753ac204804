import { setTimeout as delay } from 'node:timers/promises';

/**
 * Calls an action so many times, spread over time: at most one call per `everyMs`, and never ahead of `progress`, which
 * tells from 0 to 1 how much of the stream is due.
 */
export async function paced(
  count: number,
  { everyMs, progress }: { everyMs: number; progress: () => number },
  act: (index: number) => Promise<unknown>,
): Promise<void> {
  for (let index = 0; index < count;) {
    await delay(everyMs);
    if (index < count * progress()) await act(index++);
  }
}

const PROBE_MS = 10;
const LONGER = 4;

/** How a test of times is tried. */
export interface UnhurriedOptions {
  /** The unit of the first run. */
  readonly unitMs: number;
  /** The longest unit that is tried. */
  readonly maxUnitMs: number;
  /** For which share of a unit the process may stand still without any effect on what the test sees. */
  readonly pause: number;
  /** Called between two runs. */
  readonly reset?: () => Promise<void>;
}

/**
 * Runs a test whose subject keeps to times, all of them multiples of a unit. Where this process stood still for longer
 * than the subject can bear, a failure says nothing of it: the test is run anew with a longer unit. A test that fails
 * in a run without such a pause has failed.
 */
export async function unhurried(
  { unitMs, maxUnitMs, pause, reset }: UnhurriedOptions,
  act: (unitMs: number) => Promise<void>,
): Promise<void> {
  let longestMs = 0;
  let last = performance.now();
  const probe = (): void => {
    const now = performance.now();
    longestMs = Math.max(longestMs, now - last - PROBE_MS);
    last = now;
  };
  const timer = setInterval(probe, PROBE_MS);
  try {
    await act(unitMs);
    return;
  } catch (error) {
    probe();
    if (longestMs < unitMs * pause || unitMs * LONGER > maxUnitMs) throw error;
  } finally {
    clearInterval(timer);
  }
  await reset?.();
  const options = { unitMs: unitMs * LONGER, maxUnitMs, pause };
  await unhurried(reset ? { ...options, reset } : options, act);
}

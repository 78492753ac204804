import type fc from 'fast-check';

/**
 * How properties run: `PROPERTY_SEED=random` or a number instead of the fixed seed, `PROPERTY_SCALE=10` for ten times
 * the runs. A failure prints its seed and path.
 */
export function runs(count: number): fc.Parameters<unknown> {
  const { PROPERTY_SEED: seed, PROPERTY_SCALE: scale = '1' } = process.env;
  return {
    numRuns: Math.ceil(count * Number(scale)),
    ...(seed === 'random' ? {} : { seed: Number(seed ?? 20_260_101) }),
    ...(process.env.PROPERTY_PATH === undefined ? {} : { path: process.env.PROPERTY_PATH }),
  };
}

/** A test's time limit: properties take as long as their runs. */
export const TIMEOUT_MS = 600_000;

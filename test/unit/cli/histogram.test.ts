import { describe, expect, it } from '@jest/globals';
import { describeTimes } from '../../../lib/cli/histogram.js';

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);

describe('describeTimes', () => {
  it('gives as a quantile the shortest time that so many of a hundred do not exceed', () => {
    for (const [times, line] of [
      [upTo(100), 'p50 50.0 ms, p95 95.0 ms, p99 99.0 ms, longest 100.0 ms'],
      [upTo(100).reverse(), 'p50 50.0 ms, p95 95.0 ms, p99 99.0 ms, longest 100.0 ms'],
      [upTo(1_000), 'p50 500.0 ms, p95 950.0 ms, p99 990.0 ms, longest 1000.0 ms'],
      [[1, 1_000], 'p50 1.0 ms, p95 1000.0 ms, p99 1000.0 ms, longest 1000.0 ms'],
      [upTo(3), 'p50 2.0 ms, p95 3.0 ms, p99 3.0 ms, longest 3.0 ms'],
      [[7], 'p50 7.0 ms, p95 7.0 ms, p99 7.0 ms, longest 7.0 ms'],
    ] as const) {
      expect(describeTimes(times)[0]).toBe(line);
    }
    expect(describeTimes([])).toEqual(['no times']);
  });
});

import { describe, expect, test } from '@jest/globals';
import { Backoff } from '../../../lib/client/backoff.js';
import { seededRandom } from './fake-transport.js';

describe('the wait between attempts', () => {
  test('lies between the floor and a ceiling that doubles with each failure, up to 20 s', () => {
    const ceilings = [1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000];
    for (let seed = 0; seed < 200; seed++) {
      const backoff = new Backoff({}, seededRandom(seed));
      ceilings.forEach((ceiling, index) => {
        const wait = backoff.delayMs(index + 1);
        expect(wait).toBeGreaterThanOrEqual(500);
        expect(wait).toBeLessThanOrEqual(ceiling);
      });
    }
  });

  test('uses the whole range', () => {
    const lowest = new Backoff({}, () => 0);
    const highest = new Backoff({}, () => 0.999999);
    expect(lowest.delayMs(10)).toBe(500);
    expect(highest.delayMs(10)).toBeCloseTo(20_000, 0);
    expect(highest.delayMs(100_000)).toBeLessThanOrEqual(20_000);
  });

  test('never has a ceiling below the floor', () => {
    const backoff = new Backoff({ minMs: 300, maxMs: 100 }, () => 0.5);
    expect(backoff.delayMs(1)).toBe(300);
  });
});

describe('the budget of attempts', () => {
  test('allows five attempts at once, then one per 2 s', () => {
    const backoff = new Backoff({}, () => 0);
    const waits: number[] = [];
    let now = 1_000_000;
    for (let attempt = 0; attempt < 9; attempt++) {
      const wait = backoff.waitMs(now);
      waits.push(wait);
      now += wait;
      backoff.take(now);
    }
    expect(waits).toEqual([0, 0, 0, 0, 0, 2_000, 2_000, 2_000, 2_000]);
  });

  test.each([1, 2, 3, 7, 10, 100])('never allows more than %d attempts in any 10 s', (attemptsPer10s) => {
    for (let seed = 0; seed < 50; seed++) {
      const random = seededRandom(seed);
      const backoff = new Backoff({ attemptsPer10s }, random);
      const attempts: number[] = [];
      let now = 5_000;
      for (let step = 0; step < 400; step++) {
        if (backoff.waitMs(now) === 0) {
          backoff.take(now);
          attempts.push(now);
        }
        // Rushes and pauses of all lengths, some exactly as long as the budget says.
        const kind = random();
        if (kind < 0.3) now += Math.floor(random() * 50);
        else if (kind < 0.6) now += backoff.waitMs(now);
        else if (kind < 0.97) now += Math.floor(random() * 1_500);
        else now += Math.floor(random() * 30_000);
      }
      for (const start of attempts) {
        const inWindow = attempts.filter((at) => at >= start && at < start + 10_000).length;
        expect(inWindow).toBeLessThanOrEqual(attemptsPer10s);
      }
    }
  });

  test('is not stuck after the clock was set back', () => {
    const backoff = new Backoff({}, () => 0);
    for (let attempt = 0; attempt < 5; attempt++) backoff.take(1_000_000_000);
    expect(backoff.waitMs(1_000)).toBeLessThanOrEqual(2_000);
  });
});

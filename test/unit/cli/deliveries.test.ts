import { describe, expect, it } from '@jest/globals';
import { Deliveries } from '../../../lib/cli/deliveries.js';

describe('Deliveries', () => {
  it('match what was published, before its position is known and after', () => {
    const deliveries = new Deliveries();
    deliveries.arrived('p1', 12);
    deliveries.arrived('p1', 13);
    deliveries.arrived('of somebody else', 14);
    expect(deliveries.delays).toEqual([]);
    deliveries.sent('p1', 10);
    expect(deliveries.delays).toEqual([2, 3]);
    deliveries.arrived('p1', 20);
    deliveries.sent('p2', 20);
    expect([deliveries.delays, deliveries.published]).toEqual([[2, 3, 10], 2]);
  });

  it('are told with the one that is waited for', async () => {
    const deliveries = new Deliveries();
    deliveries.sent('p1', 0);
    let reached = false;
    const waiting = deliveries.reach(2).then(() => (reached = true));
    deliveries.arrived('p1', 1);
    await Promise.resolve();
    expect(reached).toBe(false);
    deliveries.arrived('p1', 2);
    await waiting;
    await deliveries.reach(2);
  });
});

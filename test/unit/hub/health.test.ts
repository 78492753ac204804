import { afterEach, describe, expect, it } from '@jest/globals';
import { EventLoop } from '../../../lib/hub/event-loop.js';
import { healthOf, type HubState } from '../../../lib/hub/health.js';
import { until } from '../../support/redis-server.js';

describe('the health of a hub', () => {
  const of = (state: HubState, available: boolean, lagMs = 0): object =>
    healthOf(state, { available }, { settings: { broker: { name: 'b' } }, loop: { lagMs }, connections: { size: 3 } });

  it('is up, degraded for named reasons while peers are served, and down where they are not', () => {
    expect(of('open', true, 999.6)).toEqual({
      status: 'up',
      reasons: [],
      ready: true,
      broker: { name: 'b', available: true },
      eventLoopLagMs: 1_000,
      connections: 3,
    });
    expect(of('open', false)).toMatchObject({ status: 'degraded', reasons: ['broker'], ready: true });
    expect(of('open', true, 1_001)).toMatchObject({ status: 'degraded', reasons: ['event_loop'], ready: true });
    expect(of('open', false, 5_000)).toMatchObject({ status: 'degraded', reasons: ['broker', 'event_loop'] });
    expect(of('starting', true)).toMatchObject({ status: 'down', reasons: [], ready: false });
    expect(of('closed', false, 5_000)).toMatchObject({ status: 'down', reasons: [], ready: false });
  });

  it('is not ready while the hub drains, though peers are still served', () => {
    expect(of('draining', true)).toMatchObject({ status: 'up', ready: false });
    expect(of('draining', false)).toMatchObject({ status: 'degraded', ready: false });
  });
});

describe('the event loop', () => {
  const loop = new EventLoop();
  afterEach(() => loop.stop());

  it('tells how long something had to wait, until the second sweep after', async () => {
    loop.start();
    await until(() => loop.lagMs > 0, 'first look');
    const end = performance.now() + 300;
    while (performance.now() < end);
    await until(() => loop.lagMs >= 250, 'look after the wait');
    loop.sweep();
    expect(loop.lagMs).toBeGreaterThanOrEqual(250);
    loop.stop();
    loop.sweep();
    expect(loop.lagMs).toBe(0);
  });
});

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

  /** Keeps everything waiting. */
  function block(ms: number): void {
    const end = performance.now() + ms;
    while (performance.now() < end);
  }

  it('tells how long something had to wait, until the second sweep after', async () => {
    loop.start();
    block(600);
    expect(loop.lagMs).toBeGreaterThanOrEqual(549);
    await new Promise((resolve) => setTimeout(resolve));
    loop.sweep();
    expect(loop.lagMs).toBeGreaterThanOrEqual(549);
    loop.sweep();
    await until(() => loop.lagMs < 500, 'end of the memory');
    loop.stop();
    expect(loop.lagMs).toBe(0);
  });

  it('tells each of waits that follow one another, with a sweep before or within each', async () => {
    loop.start();
    for (let i = 0; i < 4; i++) {
      if (i % 2 === 0) loop.sweep();
      block(200);
      if (i % 2 === 1) loop.sweep();
      expect(loop.lagMs).toBeGreaterThanOrEqual(149);
      await new Promise((resolve) => setTimeout(resolve));
      expect(loop.lagMs).toBeGreaterThanOrEqual(149);
    }
  });
});

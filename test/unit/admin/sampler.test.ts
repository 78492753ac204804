import { beforeEach, describe, expect, it } from '@jest/globals';
import { KEPT_SAMPLES, Sampler } from '../../../lib/admin/sampler.js';
import { SAMPLE_MS } from '../../../lib/admin/snapshot.js';
import { Meter } from '../../../lib/hub/ports/meter.js';

describe('the samples of a node', () => {
  let meter: Meter;
  let sampler: Sampler;
  let now: number;

  beforeEach(() => {
    meter = new Meter();
    now = 1_000 * SAMPLE_MS;
    sampler = new Sampler({ meter, loop: { lagMs: 3.4 }, connections: { size: 7 }, now: () => now });
  });

  function next(elapsedMs = SAMPLE_MS): ReturnType<Sampler['take']> {
    now += elapsedMs;
    return sampler.take();
  }

  it('are rates per second of what was counted since the last one', () => {
    for (let i = 0; i < 5; i++) meter.event('$publish').add(10);
    meter.unknown.add(10);
    meter.bad.add(10);
    meter.unread.add(10);
    meter.sent.answer.add(10);
    const tally = meter.channel('chat.:room');
    tally.published = 4;
    tally.delivered = 399;
    meter.error('forbidden');
    meter.refused.add('unauthenticated', 3);
    expect(next()).toEqual({
      slot: 1_001,
      connections: 7,
      received: 4,
      sent: 200,
      published: 2,
      delivered: 199.5,
      errors: 0.5,
      refused: 1.5,
      lagMs: 3,
      fanOutMs: null,
      deliveryMs: null,
    });
    expect(next()).toMatchObject({ received: 0, sent: 0, published: 0, delivered: 0, errors: 0, refused: 0 });
  });

  it('do not count what nodes tell each other', () => {
    meter.channel('$admin.nodes').published = 10;
    expect(next()).toMatchObject({ published: 0 });
  });

  it('have the latencies of their interval alone', () => {
    for (let i = 0; i < 100; i++) meter.delivery.observe(0.004);
    expect(next()).toMatchObject({ fanOutMs: null, deliveryMs: [3.75, 4.98] }); // within 2.5 to 5 ms
    for (let i = 0; i < 98; i++) meter.delivery.observe(0.0001);
    for (let i = 0; i < 2; i++) meter.delivery.observe(60);
    expect(next().deliveryMs).toEqual([expect.any(Number), 10_000]); // the last bound stands for all above
    expect(sampler.samples.at(-1)!.deliveryMs![0]).toBeLessThan(0.5);
    expect(next().deliveryMs).toBeNull();
  });

  it('have each a number of their own, also where the clock jumps', () => {
    const slots = [next().slot, next(SAMPLE_MS - 5).slot, next(-10 * SAMPLE_MS).slot, next(20 * SAMPLE_MS).slot];
    expect(slots).toEqual([1_001, 1_002, 1_003, 1_011]);
  });

  it('are those of five minutes, and no more', () => {
    for (let i = 0; i < KEPT_SAMPLES + 10; i++) next();
    expect(sampler.samples).toHaveLength(KEPT_SAMPLES);
    expect(KEPT_SAMPLES * SAMPLE_MS).toBe(300_000);
    expect(sampler.samples[0]!.slot).toBe(1_011);
  });
});

import { describe, expect, test } from '@jest/globals';
import { memoryBroker } from '../../../lib/brokers/memory.broker.js';
import type { Retention } from '../../../lib/hub/ports/broker.js';
import { parsePosition } from '../../../lib/protocol/position.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';
import { MAX_REVOCATIONS } from '../../../lib/hub/ports/revocation.js';
import { RecordingNode } from '../../support/recording-node.js';

const HOUR_MS = 3_600_000;
const KEEP: Retention = { size: 100, ttlMs: HOUR_MS, metaTtlMs: 24 * HOUR_MS };
const item = (data: string, key?: string): { event: string; data: string; key?: string } => {
  return key === undefined ? { event: 'e', data } : { event: 'e', data, key };
};

/** What the collection of garbage may cost besides, ms. */
const SLACK_MS = 1_000;

/** The processor's time that something takes: as much on a machine that is busy otherwise. */
async function cpuMsOf(act: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await act();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

describe('memoryBroker', () => {
  test.each([0, -1, NaN])('refuses metaTtlMs: %d', (metaTtlMs) => {
    expect(() => memoryBroker({ metaTtlMs })).toThrow(/metaTtlMs.*not/);
  });

  test('keeps the log of a channel that is only read for its own metaTtlMs', async () => {
    const clock = new ManualClock();
    const { session } = await RecordingNode.open(memoryBroker({ clock, metaTtlMs: 1_000 }), 'a');
    const first = await session.tops(['c']);
    clock.advance(999);
    expect(await session.tops(['c'])).toEqual(first);
    clock.advance(1_000);
    expect(await session.tops(['c'])).not.toEqual(first);
  });

  test('takes epochs from the given numbers', async () => {
    const { session } = await RecordingNode.open(memoryBroker({ random: () => 0 }), 'a');
    expect(await session.tops(['c'])).toEqual(['000000-0-0']);
  });

  test('has two values that know nothing of each other', async () => {
    const [a, b] = [await RecordingNode.open(memoryBroker(), 'a'), await RecordingNode.open(memoryBroker(), 'b')];
    await Promise.all([a.session.subscribe('c'), b.session.subscribe('c')]);
    await a.session.append('c', KEEP, 'k1', [item('1')]);
    expect(a.envelopes).toHaveLength(1);
    expect(b.envelopes).toEqual([]);
  });

  test('W12 takes no more than 100,000 revocations, but those of what is revoked already', async () => {
    const clock = new ManualClock();
    const { session } = await RecordingNode.open(memoryBroker({ clock }), 'a');
    const until = clock.now() + 1_000;
    await session.revoke(Array.from({ length: MAX_REVOCATIONS }, (_, i) => ({ token: `token ${i}`, until })));
    const more = session.revoke([{ user: 'ann', until, before: 1 }]);
    await expect(more).rejects.toMatchObject({ code: 'broker_unavailable' });
    await session.revoke([{ token: 'token 7', until: until + 1 }]);
    clock.advance(1_000);
    expect(await session.revocations()).toEqual([{ token: 'token 7', until: until + 1 }]);
  });

  test('announces during the call, before it is answered', async () => {
    const broker = memoryBroker();
    const [a, b] = [await RecordingNode.open(broker, 'a'), await RecordingNode.open(broker, 'b')];
    await Promise.all([a.session.subscribe('c'), b.session.subscribe('c')]);
    const call = a.session.append('c', KEEP, 'k1', [item('1')]);
    expect([a.envelopes.length, b.envelopes.length]).toEqual([1, 1]);
    await call;
  });

  test('tells everyone of a step before it tells what a listener made of it', async () => {
    const broker = memoryBroker();
    const [a, b] = [await RecordingNode.open(broker, 'a'), await RecordingNode.open(broker, 'b')];
    await Promise.all([a.session.subscribe('c'), b.session.subscribe('c')]);
    const order: string[] = [];
    a.onTold = () => {
      order.push('a');
      if (order.length > 1) return;
      void a.session.append('c', KEEP, 'k2', [item('2')]);
      void a.session.append('c', KEEP, 'k3', [item('3')]);
    };
    b.onTold = () => order.push('b');
    await a.session.append('c', KEEP, 'k1', [item('1')]);
    expect(order).toEqual(['a', 'b', 'a', 'b', 'a', 'b']);
    for (const node of [a, b]) {
      expect(node.envelopes.map(({ envelope }) => envelope.tag)).toEqual(['k1', 'k2', 'k3']);
    }
  });

  test('goes on after a listener that threw', async () => {
    const broker = memoryBroker();
    const [a, b] = [await RecordingNode.open(broker, 'a'), await RecordingNode.open(broker, 'b')];
    await Promise.all([a.session.subscribe('c'), b.session.subscribe('c')]);
    a.onTold = () => {
      throw new Error('a defect of the hub');
    };
    await expect(a.session.append('c', KEEP, 'k1', [item('1')])).rejects.toThrow('a defect');
    a.onTold = () => undefined;
    await a.session.append('c', KEEP, 'k2', [item('2')]);
    expect(b.envelopes.map(({ envelope }) => envelope.tag)).toContain('k2');
  });

  test('frees a channel in a sweep after its meta has expired, and not before', async () => {
    const clock = new ManualClock();
    const broker = memoryBroker({ clock });
    const { session } = await RecordingNode.open(broker, 'a');
    for (let i = 0; i < 100; i++) await session.append(`c${i}`, KEEP, 'k1', [item('1', 'x')]);
    await session.tops(['read only']);
    for (let hour = 0; hour < 23; hour++) {
      clock.advance(HOUR_MS);
      await session.sweep();
    }
    expect(broker.logs.size).toBe(101);
    await session.tops(['c7']);
    clock.advance(HOUR_MS);
    await session.sweep();
    expect(broker.logs.size).toBe(1);
    clock.advance(23 * HOUR_MS);
    await session.sweep();
    expect(broker.logs.size).toBe(0);
  });

  test('forgets the expired log whether or not it was swept', async () => {
    const clock = new ManualClock();
    const broker = memoryBroker({ clock });
    const { session } = await RecordingNode.open(broker, 'a');
    const { epoch } = await session.append('c', KEEP, 'k1', [item('1')]);
    clock.advance(24 * HOUR_MS);
    const [top] = await session.tops(['c']);
    expect(parsePosition(top)?.epoch).not.toBe(epoch);
    await session.sweep();
    expect(await session.tops(['c'])).toEqual([top]);
    expect(broker.logs.size).toBe(1);
  });

  test('sweeps 100,000 quiet channels at no cost', async () => {
    const sweeping = async (channels: number): Promise<number> => {
      const clock = new ManualClock();
      const { session } = await RecordingNode.open(memoryBroker({ clock }), 'a');
      for (let i = 0; i < channels; i++) void session.append(`c${i}`, KEEP, 'k1', [item('1')]);
      return cpuMsOf(async () => {
        for (let i = 0; i < 3_000; i++) {
          clock.advance(1_000);
          await session.sweep();
        }
      });
    };
    const few = await sweeping(10);
    expect(await sweeping(100_000)).toBeLessThan(3 * few + SLACK_MS);
  });

  test('keeps a history of 100,000 at the cost of a small one', async () => {
    const { session } = await RecordingNode.open(memoryBroker(), 'a');
    const appending = (channel: string, size: number): Promise<number> =>
      cpuMsOf(async () => {
        for (let i = 0; i < 300_000; i++) void session.append(channel, { ...KEEP, size }, 'k1', [item('1')]);
        await session.tops([channel]);
      });
    const small = await appending('small', 100);
    expect(await appending('c', 100_000)).toBeLessThan(3 * small + SLACK_MS);
    const { items } = await session.newest('c', 1_000_000);
    expect([items.length, items[0]?.offset, items.at(-1)?.offset]).toEqual([100_001, 200_000, 300_000]);
  });
});

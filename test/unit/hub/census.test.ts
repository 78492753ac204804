import { describe, expect, it } from '@jest/globals';
import { Census, type CensusLimits } from '../../../lib/hub/census.js';
import type { Place } from '../../../lib/hub/ports/arrival.js';
import { RealtimeException } from '../../../lib/protocol/errors.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';

const OFF: CensusLimits = { maxConnections: Infinity, connectionsPerAddress: Infinity, connectionsPerUser: Infinity };

/** A census, and what other nodes have. */
class Rig {
  readonly clock = new ManualClock();
  readonly census: Census;
  /** What was asked of the others. */
  readonly asked: string[][] = [];
  available = true;
  elsewhere: Record<string, number> | 'silent' | 'away' = {};

  constructor(limits: Partial<CensusLimits>, shared = true) {
    this.census = new Census({ ...OFF, ...limits }, this.clock, shared ? this : undefined);
  }

  countElsewhere(subjects: readonly string[]): Promise<number[]> {
    this.asked.push([...subjects]);
    const { elsewhere } = this;
    if (elsewhere === 'silent') return new Promise(() => undefined);
    if (elsewhere === 'away') return Promise.reject(new RealtimeException('broker_unavailable'));
    return Promise.resolve(subjects.map((subject) => elsewhere[subject] ?? 0));
  }

  /** Enters and identifies. */
  async take(ip: string, user?: string): Promise<Place> {
    const place = this.census.enter(ip);
    try {
      await this.census.identify(place, user);
      return place;
    } catch (error) {
      this.census.leave(place);
      throw error;
    }
  }
}

const tooMany = { code: 'too_many_connections' };

describe('a census', () => {
  it('bounds all connections, the connections of an address, and those of a user', async () => {
    const rig = new Rig({ maxConnections: 5, connectionsPerAddress: 3, connectionsPerUser: 2 });
    await rig.take('1.1.1.1', 'ann');
    const second = await rig.take('1.1.1.1', 'ann');
    await expect(rig.take('2.2.2.2', 'ann')).rejects.toMatchObject({
      ...tooMany,
      message: 'The user has too many connections',
    });
    await rig.take('1.1.1.1', 'bob');
    expect(() => rig.census.enter('1.1.1.1')).toThrow('The address has too many connections');
    await rig.take('2.2.2.2', 'bob');
    await rig.take('2.2.2.2');
    expect(() => rig.census.enter('3.3.3.3')).toThrow('This node has too many connections');
    rig.census.leave(second);
    rig.census.leave(second);
    await rig.take('1.1.1.1', 'ann');
    expect(() => rig.census.enter('3.3.3.3')).toThrow('This node has too many connections');
  });

  it('counts from the arrival on, before it is known who the peer is', () => {
    const rig = new Rig({ connectionsPerAddress: 2 });
    rig.census.enter('1.1.1.1');
    const slow = rig.census.enter('1.1.1.1');
    expect(() => rig.census.enter('1.1.1.1')).toThrow(expect.objectContaining(tooMany));
    rig.census.leave(slow);
    rig.census.enter('1.1.1.1');
  });

  it('asks to come back after a random time of 5 to 10 s', () => {
    const rig = new Rig({ maxConnections: 1 });
    rig.census.enter('');
    for (let i = 0; i < 20; i++) {
      try {
        rig.census.enter('');
      } catch (error) {
        const { retryAfterMs } = error as RealtimeException;
        expect(retryAfterMs).toBeGreaterThanOrEqual(5_000);
        expect(retryAfterMs).toBeLessThanOrEqual(10_000);
      }
    }
  });

  it('does not bound peers whose address nobody knows by it', () => {
    const rig = new Rig({ connectionsPerAddress: 1 });
    for (let i = 0; i < 10; i++) rig.census.enter('');
  });

  it('asks the other nodes once per connection, for what is limited', async () => {
    const rig = new Rig({ connectionsPerAddress: 10, connectionsPerUser: 10 });
    await rig.take('1.1.1.1', 'ann');
    await rig.take('2001:db8::1');
    expect(rig.asked).toEqual([['a:1.1.1.1', 'u:ann'], ['a:2001:db8:0:0::/64']]);
    const noAddress = new Rig({ connectionsPerUser: 10 });
    await noAddress.take('1.1.1.1', 'ann');
    await noAddress.take('1.1.1.1');
    expect(noAddress.asked).toEqual([['u:ann']]);
    const alone = new Rig({ connectionsPerUser: 10 }, false);
    await alone.take('1.1.1.1', 'ann');
    expect(alone.asked).toEqual([]);
  });

  it('adds what other nodes have', async () => {
    const rig = new Rig({ connectionsPerAddress: 10, connectionsPerUser: 3 });
    rig.elsewhere = { 'a:1.1.1.1': 8, 'u:ann': 2 };
    await rig.take('9.9.9.9', 'ann');
    await expect(rig.take('9.9.9.9', 'ann')).rejects.toMatchObject(tooMany);
    await rig.take('1.1.1.1');
    await rig.take('1.1.1.1');
    await expect(rig.take('1.1.1.1')).rejects.toMatchObject(tooMany);
    rig.elsewhere = {};
    await rig.take('1.1.1.1', 'ann');
  });

  it('lets as many of those that come at once through as there is room for', async () => {
    const rig = new Rig({ connectionsPerAddress: 10, connectionsPerUser: 10 });
    rig.elsewhere = { 'a:1.1.1.1': 7, 'u:ann': 6 };
    const told = await Promise.allSettled(Array.from({ length: 8 }, () => rig.take('1.1.1.1', 'ann')));
    expect(told.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
  });

  it.each(['silent', 'away'] as const)('decides alone, within 500 ms, where the broker is %s', async (state) => {
    const rig = new Rig({ connectionsPerAddress: 2 });
    rig.elsewhere = state;
    let taken = 0;
    for (let i = 0; i < 2; i++) void rig.take('1.1.1.1').then(() => taken++);
    await rig.clock.pass(499);
    if (state === 'silent') expect(taken).toBe(0);
    await rig.clock.pass(1);
    expect(taken).toBe(2);
    expect(rig.clock.waiting).toBe(0);
    expect(() => rig.census.enter('1.1.1.1')).toThrow(expect.objectContaining(tooMany));
  });

  it('does not ask a broker that is known to be away', async () => {
    const rig = new Rig({ connectionsPerAddress: 2 });
    rig.available = false;
    await rig.take('1.1.1.1');
    expect(rig.asked).toEqual([]);
  });

  it('refuses a peer that went while it was looked at, and keeps nothing of it', async () => {
    const rig = new Rig({ connectionsPerUser: 1 });
    const place = rig.census.enter('1.1.1.1');
    rig.census.leave(place);
    await expect(rig.census.identify(place, 'ann')).rejects.toMatchObject({ code: 'gone' });
    await rig.take('1.1.1.1', 'ann');
  });
});

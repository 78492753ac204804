import { afterEach, describe, expect, it } from '@jest/globals';
import type { Call } from '../../../lib/hub/call.js';
import type { Connection } from '../../../lib/hub/connection.js';
import { UserIdentity } from '../../../lib/hub/identity.js';
import type { RecordConnection } from '../../../lib/hub/record-connection.js';
import { Fleet, type FleetOptions } from '../../support/fleet.js';
import { RecordPeer as Peer } from '../../support/record-peer.js';

const SECOND = 1_000;
const CHANNELS = { 'chat.:room': { publish: true } };

describe('connections with records', () => {
  let fleet: Fleet;
  afterEach(() => fleet.close());

  async function open(options: FleetOptions = {}): Promise<Fleet> {
    fleet = await Fleet.open({ channels: CHANNELS, ...options });
    fleet.hubs.forEach((hub) => hub.endpoint('/'));
    return fleet;
  }

  /** Lets what was asked for happen, and gives its outcome. */
  async function settled<T>(promise: Promise<T>): Promise<T> {
    promise.catch(() => undefined);
    await fleet.settle();
    return promise;
  }

  it('D6.3, P8 answers outcome_unknown for what a node did that died, runs again what may, and publishes once', async () => {
    const ran: string[] = [];
    await open({
      application: {
        idempotent: (_connection, event) => event === 'again',
        handle: (_connection, _data, call) => {
          ran.push(`${call.event} ${call.key!.split(':')[2]!}`);
          if (call.event === 'hangs' && ran.filter((one) => one.startsWith('hangs')).length === 1) return true;
          call.answer(call.event);
          return true;
        },
      },
    });
    const peer = await Peer.connect(fleet);
    const frames = [
      { id: 1, event: '$publish', data: { channel: 'chat.a', event: 'said', data: 1 } },
      { id: 2, event: 'once' },
      { id: 3, event: 'again' },
      { id: 4, event: 'hangs' },
      { id: 5, event: '$subscribe', data: { channel: 'chat.a' } },
    ];
    const first = peer.send(0, 1, ...frames);
    first.catch(() => undefined);
    await fleet.settle();
    fleet.faults(0).pause(); // dead, as far as the others can tell
    await expect(settled(peer.send(1, 1, ...frames))).rejects.toMatchObject({ code: 'send_in_progress' });
    await fleet.pass(31 * SECOND);
    expect(await settled(peer.send(1, 1, ...frames))).toMatchObject([
      { id: 1, data: { position: expect.stringMatching(/-1-/) } },
      { id: 2, error: { code: 'outcome_unknown' } },
      { id: 3, data: 'again' },
      { id: 4, error: { code: 'outcome_unknown' } },
      { id: 5, data: { position: expect.stringMatching(/-1-/) } },
    ]);
    expect(ran).toEqual(['once 1', 'again 2', 'hangs 3', 'again 2']);
    expect(await settled(peer.send(1, 1, ...frames))).toHaveLength(5);
    expect(ran).toHaveLength(4);
    fleet.faults(0).heal();
    const { items } = await fleet.hubs[0]!.history(fleet.hubs[0]!.match('chat.a'), { limit: 10, reverse: false });
    expect(items).toHaveLength(1);
  });

  it('P9 ends a stream of a node that died with outcome_unknown, once', async () => {
    let stream: Call | undefined;
    await open({
      application: {
        handle: (_connection, _data, call) => {
          stream = call;
          call.stream(() => undefined);
          call.next(1);
          return true;
        },
      },
    });
    const peer = await Peer.connect(fleet);
    expect(await settled(peer.send(0, 1, { id: 's', event: 'stream' }))).toEqual([]);
    expect(await peer.poll(1)).toEqual([{ id: 's', data: 1, more: true }]);
    await fleet.pass(25 * SECOND);
    stream!.next(2);
    await fleet.settle();
    expect(await peer.poll(1)).toEqual([{ id: 's', data: 2, more: true }]);
    fleet.faults(0).pause();
    await fleet.pass(31 * SECOND);
    expect(await peer.poll(1)).toMatchObject([{ id: 's', error: { code: 'outcome_unknown' } }]);
    fleet.faults(0).heal();
    stream!.done();
    await fleet.pass(11 * SECOND);
    expect(await peer.poll(1)).toEqual([]);
  });

  it('tells the end of a stream where its node goes away in order', async () => {
    await open({
      application: {
        handle: (_connection, _data, call) => {
          call.stream(() => undefined);
          call.next(1);
          return true;
        },
      },
    });
    const peer = await Peer.connect(fleet);
    await settled(peer.send(0, 1, { id: 's', event: 'stream' }));
    const draining = fleet.hubs[0]!.drain();
    expect(await peer.poll(1)).toMatchObject([
      { id: 's', data: 1 },
      { id: 's', error: { code: 'draining' } },
    ]);
    await draining;
  });

  it('brings an answer that takes longer than 20 s by a poll', async () => {
    let slow: Call | undefined;
    await open({
      application: {
        handle: (_connection, _data, call) => {
          slow = call;
          return true;
        },
      },
    });
    const peer = await Peer.connect(fleet);
    const sent = peer.send(0, 1, { id: 1, event: 'slow' }, { id: 2, event: '$cancel', data: { id: 0 } });
    await fleet.pass(21 * SECOND);
    expect(await sent).toEqual([{ id: 2, data: null }]);
    slow!.answer('done');
    await fleet.settle();
    expect(await peer.poll(1)).toEqual([{ id: 1, data: 'done' }]);
  });

  it('W10 ends a connection that does not come back for 60 s, with its hooks, once, and keeps one that does', async () => {
    const hooks: string[] = [];
    await open({
      channels: { 'chat.:room': { presence: true } },
      application: {
        disconnected: async ({ id, closed }) => void hooks.push(`${id} ${closed!.reason}`),
        unsubscribed: async ({ id }, { channel }, reason) => void hooks.push(`${id} ${channel} ${reason}`),
      },
    });
    const away = await Peer.connect(fleet, 0, undefined, ['chat.a']);
    const there = await Peer.connect(fleet, 1, undefined, ['chat.a']);
    const members = async (): Promise<number> => (await settled(fleet.hubs[0]!.presence.members('chat.a'))).count;
    for (let i = 0; i < 8; i++) {
      expect(hooks).toEqual(i < 6 ? [] : [`${away.id} chat.a disconnected`, `${away.id} heartbeat_timeout`]);
      await there.poll(i % 2);
      await fleet.pass(11 * SECOND);
    }
    expect(await members()).toBe(1);
    await expect(settled(away.poll(1))).rejects.toMatchObject({ code: 'gone' });
    await expect(settled(away.poll(0))).rejects.toMatchObject({
      details: { disconnect: { reason: 'heartbeat_timeout', reconnect: true } },
    });
  });

  it('P14 ends a connection whose inbox is full with slow_consumer', async () => {
    await open();
    const peer = await Peer.connect(fleet);
    const connection = (await peer.at(0)) as RecordConnection;
    for (let i = 0; i < 3; i++) {
      for (let n = 0; n < 100; n++) connection.emit('e', n);
      await fleet.settle();
    }
    expect(connection.closed).toEqual({ code: 4508, reason: 'slow_consumer' });
    await expect(peer.at(1)).rejects.toMatchObject({ details: { disconnect: { reason: 'slow_consumer' } } });
    const flooding = await Peer.connect(fleet);
    const flooded = (await flooding.at(0)) as RecordConnection;
    const taken = Array.from({ length: 300 }, (_, n) => flooded.emit('e', n));
    expect(taken.filter(Boolean)).toHaveLength(256);
  });

  it('W11 asks for new credentials once, over all nodes, and ends 25 s after their end', async () => {
    await open();
    const expiresAt = fleet.clock.now() + 100 * SECOND;
    const peer = await Peer.connect(fleet, 0, new UserIdentity('ann', {}, expiresAt));
    const told: unknown[] = [];
    for (let i = 0; i < 20; i++) {
      told.push(...(await peer.poll(i % 2)));
      await fleet.pass(5 * SECOND);
    }
    expect(told).toEqual([{ event: '$refresh' }]);
    await peer.poll(0);
    await fleet.pass(26 * SECOND);
    await expect(settled(peer.poll(1))).rejects.toMatchObject({ code: 'token_expired' });
    await expect(settled(peer.poll(0))).rejects.toMatchObject({ code: 'gone' });
  });

  it('keeps the object of a connection for as long as it comes to the node, and tells the application of a new one', async () => {
    const resumed: string[] = [];
    const seen = new Set<Connection>();
    await open({
      application: {
        resumed: async ({ id }) => void resumed.push(id),
        handle: (connection, _data, call) => {
          seen.add(connection);
          connection.data = { n: 1 };
          call.answer(connection.data);
          return true;
        },
      },
    });
    const peer = await Peer.connect(fleet);
    await settled(peer.send(0, 1, { id: 1, event: 'x' }));
    await settled(peer.send(1, 2, { id: 1, event: 'x' }));
    await settled(peer.send(0, 3, { id: 1, event: 'x' }));
    expect([resumed.length, seen.size]).toEqual([1, 2]);
    for (let i = 0; i < 5; i++) {
      await peer.poll(0);
      await fleet.pass(15 * SECOND);
    }
    const again = (await settled(peer.at(1))) as RecordConnection;
    expect([resumed.length, again.data]).toEqual([2, { n: 1 }]);
  });

  it('does not let more than 4 KiB of data travel, and says so', async () => {
    await open();
    const peer = await Peer.connect(fleet);
    const connection = (await peer.at(0)) as RecordConnection;
    connection.data = { text: 'x'.repeat(5_000) };
    await peer.poll(0);
    await peer.poll(0);
    expect(((await settled(peer.at(1))) as RecordConnection).data).toEqual({});
    expect(fleet.logged).toEqual([
      { level: 'warn', message: 'client.data does not travel: it is JSON of at most 4096 bytes' },
    ]);
  });

  it('D6.2 tells answers above 64 KiB to the request that ran, and answers_too_large to one that repeats it', async () => {
    await open({
      application: {
        handle: (_connection, _data, call) => {
          call.answer('x'.repeat(70_000));
          return true;
        },
      },
    });
    const peer = await Peer.connect(fleet);
    const frames = [{ id: 1, event: 'x' }, { event: '$pong' }];
    expect((await settled(peer.send(0, 1, ...frames)))[0].data).toHaveLength(70_000);
    expect(await settled(peer.send(1, 1, ...frames))).toMatchObject([{ id: 1, error: { code: 'answers_too_large' } }]);
  });

  it('D6.2, P8 discards what an attempt answers that was overtaken', async () => {
    let calls = 0;
    let first: Call | undefined;
    await open({
      application: {
        idempotent: () => true,
        handle: (_connection, _data, call) => {
          if (++calls === 1) first = call;
          else call.answer('second');
          return true;
        },
      },
    });
    const peer = await Peer.connect(fleet);
    const lost = peer.send(0, 1, { id: 1, event: 'x' });
    lost.catch(() => undefined);
    await fleet.settle();
    fleet.faults(0).calls('extend', 'unavailable', 'unavailable', 'unavailable', 'unavailable');
    fleet.faults(0).pause();
    await fleet.pass(15 * SECOND);
    await fleet.pass(16 * SECOND);
    expect(await settled(peer.send(1, 1, { id: 1, event: 'x' }))).toEqual([{ id: 1, data: 'second' }]);
    fleet.faults(0).heal();
    first!.answer('first');
    await fleet.pass(1 * SECOND);
    await lost.catch(() => undefined);
    expect(await peer.poll(1)).toEqual([]);
    expect(await settled(peer.send(0, 1, { id: 1, event: 'x' }))).toEqual([{ id: 1, data: 'second' }]);
  });

  it('follows what a poll has no room for with the next ones', async () => {
    await open();
    const peer = await Peer.connect(fleet, 0, undefined, ['chat.a']);
    const data = 'x'.repeat(20_000);
    for (let i = 0; i < 40; i++) void fleet.publish(1, 'chat.a', 'e', data);
    await fleet.settle();
    const offsets: number[] = [];
    let polls = 0;
    while (offsets.at(-1) !== 40) {
      const frames = await peer.poll(polls++ % 2);
      expect(Buffer.byteLength(JSON.stringify(frames))).toBeLessThan(300_000);
      offsets.push(...frames.map(({ offset }) => offset as number));
    }
    expect(offsets).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
    expect(polls).toBeGreaterThan(2);
  });

  it('W3, W4 tells what was lost and what was withheld', async () => {
    await open();
    const peer = await Peer.connect(fleet, 0, undefined, ['chat.a', 'chat.b']);
    await settled(fleet.publish(1, 'chat.a', 'e', 1, { exclude: 'tab' }));
    expect(await peer.poll(1)).toEqual([{ channel: 'chat.a', skipped: 1, offset: 1, tag: expect.any(String) }]);
    await settled(fleet.publish(1, 'chat.b', 'e', 1));
    await fleet.broker.trim('chat.b');
    await settled(fleet.publish(1, 'chat.b', 'e', 2));
    await fleet.pass(31 * SECOND); // nobody holds it any more
    await fleet.broker.wipe();
    await settled(fleet.publish(1, 'chat.b', 'e', 3));
    const frames = await peer.poll(0);
    expect(frames).toContainEqual({
      channel: 'chat.b',
      event: '$lost',
      data: { position: expect.stringMatching(/-1-/), reason: 'epoch' },
    });
    await settled(fleet.publish(0, 'chat.b', 'e', 4));
    expect(await peer.poll(1)).toMatchObject([{ channel: 'chat.b', data: 4, offset: 2 }]);
  });

  it('P14 looks at a record again that it was told of before it knew its own link', async () => {
    await open();
    const peer = await Peer.connect(fleet);
    fleet.faults(1).calls('attach', 'delay');
    const { answer } = await peer.begin(1);
    await fleet.settle();
    await settled(fleet.hubs[0]!.control.emit({ connection: peer.id }, 'hello', 1));
    fleet.faults(1).answer();
    await fleet.settle();
    expect((await answer).frames.map(String)).toEqual(['{"event":"hello","data":1}']);
  });
});

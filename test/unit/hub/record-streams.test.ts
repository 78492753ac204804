import { afterEach, describe, expect, it } from '@jest/globals';
import { UserIdentity } from '../../../lib/hub/identity.js';
import type { RecordConnection } from '../../../lib/hub/record-connection.js';
import { Fleet, type FleetOptions } from '../../support/fleet.js';
import { RecordPeer } from '../../support/record-peer.js';

const SECOND = 1_000;
const CHANNELS = { 'chat.:room': { publish: true } };

describe('streams of connections with records', () => {
  let fleet: Fleet;
  afterEach(() => fleet.close());

  async function open(options: FleetOptions = {}): Promise<Fleet> {
    fleet = await Fleet.open({ channels: CHANNELS, ...options });
    fleet.hubs.forEach((hub) => hub.endpoint('/'));
    return fleet;
  }

  it('W10 end 60 s after the last one, with their hooks, once; one that lasts keeps its connection', async () => {
    const hooks: string[] = [];
    await open({
      application: {
        disconnected: async ({ id, closed }) => void hooks.push(`${id} ${closed!.reason}`),
        unsubscribed: async ({ id }, { channel }, reason) => void hooks.push(`${id} ${channel} ${reason}`),
      },
    });
    const peer = await RecordPeer.connect(fleet, 0, undefined, ['chat.a']);
    const first = await peer.stream(0);
    await fleet.pass(300 * SECOND, SECOND);
    first.cut();
    await fleet.pass(50 * SECOND, SECOND);
    const second = await peer.stream(1);
    await fleet.pass(300 * SECOND, SECOND);
    expect(hooks).toEqual([]);
    second.cut();
    await fleet.pass(58 * SECOND, SECOND);
    expect(hooks).toEqual([]);
    await fleet.pass(10 * SECOND, SECOND);
    expect(hooks).toEqual([`${peer.id} chat.a disconnected`, `${peer.id} heartbeat_timeout`]);
    await expect(fleet.settled(peer.at(0))).rejects.toMatchObject({
      details: { disconnect: { reason: 'heartbeat_timeout', reconnect: true } },
    });
  });

  it('D5.1 are superseded where the node that had them was not told so', async () => {
    await open();
    const peer = await RecordPeer.connect(fleet, 0, undefined, ['chat.a']);
    const first = await peer.stream(0);
    fleet.faults(0).announcements('nudge', 'lose');
    const second = await peer.stream(1);
    expect([first.open, second.open]).toEqual([true, true]);
    await fleet.pass(16 * SECOND, SECOND);
    expect([first.open, second.open]).toEqual([false, true]);
    expect(peer.frames.at(-1)).toMatchObject({ event: '$disconnect', data: { reason: 'superseded' } });
  });

  it('W11 end 25 s after the end of credentials, and not where another node took newer ones', async () => {
    const now = (): number => fleet.clock.now();
    await open();
    const user = (seconds: number): UserIdentity => new UserIdentity('ann', {}, now() + seconds * SECOND);
    const peer = await RecordPeer.connect(fleet, 0, user(100));
    await peer.stream(0);
    await fleet.pass(90 * SECOND, SECOND);
    expect(peer.frames.filter(({ event }) => event === '$refresh')).toHaveLength(1);
    const { records } = fleet.hubs[1]!;
    records.renew((await peer.at(1)) as RecordConnection, user(100), 'newer');
    await fleet.pass(60 * SECOND, SECOND);
    expect(peer.frames.some(({ event }) => event === '$disconnect')).toBe(false);
    await fleet.pass(70 * SECOND, SECOND);
    expect(peer.frames.at(-1)).toMatchObject({ event: '$disconnect', data: { code: 4401, reason: 'token_expired' } });
  });

  it('P14 send what is in the inbox as their peer reads, each frame once', async () => {
    await open({ limits: { maxOutboxBytes: 1_000 } });
    const peer = await RecordPeer.connect(fleet);
    const link = await peer.stream(0);
    const connection = (await peer.at(0)) as RecordConnection;
    link.stall();
    const data = 'x'.repeat(2_000);
    for (let n = 1; n <= 60; n++) connection.emit('e', [n, data]);
    await fleet.settle();
    expect(link.bufferedBytes).toBeLessThan(70_000);
    link.flow();
    await fleet.settle();
    expect(peer.frames.slice(1).map((frame) => frame.data[0])).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
    expect(connection.over).toBe(false);
  });

  it('W6, D5.3 tell of the channel before its end, and nothing of it behind', async () => {
    await open();
    const peer = await RecordPeer.connect(fleet, 0, undefined, ['chat.a']);
    await peer.stream(0);
    await fleet.settled(fleet.publish(0, 'chat.a', 'said', 1));
    await fleet.settled(fleet.hubs[1]!.control.unsubscribe({ connection: peer.id }, 'chat.a'));
    await fleet.settled(fleet.publish(0, 'chat.a', 'said', 2));
    expect(peer.frames.slice(1)).toMatchObject([{ data: 1 }, { event: '$unsubscribed', channel: 'chat.a' }]);
  });

  it('go on without the broker, and learn what came meanwhile when it is back', async () => {
    await open();
    const peer = await RecordPeer.connect(fleet, 0, undefined, ['chat.a']);
    const link = await peer.stream(0);
    fleet.faults(0).pause();
    const connection = (await peer.at(1)) as RecordConnection;
    connection.emit('hello', 1);
    await fleet.settled(fleet.publish(1, 'chat.a', 'said', 1));
    expect(peer.frames).toHaveLength(1);
    await fleet.pass(20 * SECOND, SECOND);
    fleet.faults(0).resume();
    await fleet.pass(20 * SECOND, SECOND);
    expect(link.open).toBe(true);
    const told = peer.frames.slice(1).map(({ event }) => event as string);
    expect(told.sort()).toEqual(['hello', 'said']);
  });
});

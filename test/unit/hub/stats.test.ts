import { afterEach, describe, expect, it } from '@jest/globals';
import { UserIdentity } from '../../../lib/hub/identity.js';
import type { Authenticator } from '../../../lib/hub/ports/authenticator.js';
import type { RealtimeStats } from '../../../lib/hub/ports/stats.js';
import { statsOf } from '../../../lib/hub/stats.js';
import { RealtimeException } from '../../../lib/protocol/errors.js';
import { Fleet, type FleetOptions } from '../../support/fleet.js';
import { ARRIVED, RecordPeer } from '../../support/record-peer.js';
import { Peer } from './peer.js';

const SECOND = 1_000;
const auth: Authenticator = {
  name: 'test',
  anonymous: false,
  authenticate: ({ token }) => {
    if (token === 'wrong') return Promise.reject(new RealtimeException('unauthenticated'));
    return Promise.resolve(new UserIdentity(token));
  },
};

let fleet: Fleet;
afterEach(() => fleet.close());

async function open(options: FleetOptions = {}): Promise<void> {
  fleet = await Fleet.open({
    channels: { 'chat.:room': { publish: true, history: { size: 10, ttlMs: 60_000 } } },
    ...options,
  });
  fleet.hubs.forEach((hub) => hub.endpoint('/'));
}

const stats = (node = 0): RealtimeStats => statsOf(fleet.hubs[node]!);

describe('connections that are refused', () => {
  it('by the token in their first frame are counted once each, and are not among those that ended', async () => {
    await open({ auth });
    for (let n = 0; n < 5; n++) {
      const peer = new Peer(fleet, { awaitsToken: true });
      peer.ask(1, n % 2 === 0 ? '$auth' : '$resume', { token: 'wrong', client: 'tab', channels: {} });
      await fleet.settle();
      expect(peer.close).toEqual([4401, 'unauthenticated']);
    }
    new Peer(fleet, { awaitsToken: true }).ask(1, '$auth', { token: 'ann' });
    await fleet.settle();
    expect(stats().connections).toMatchObject({
      refused: { unauthenticated: 5 },
      closed: {},
      opened: { test: 1 },
      active: { test: 1 },
    });
    expect(stats().connections.closed).toEqual({});
  });

  it('as no token came in time are counted; those whose peer went away meanwhile are not', async () => {
    await open({ auth });
    new Peer(fleet, { awaitsToken: true });
    new Peer(fleet, { awaitsToken: true }).link.cut();
    await fleet.settle();
    expect(stats().connections.refused).toEqual({});
    await fleet.pass(60 * SECOND);
    expect(stats().connections).toMatchObject({ refused: { unauthenticated: 1 }, closed: {} });
    expect(fleet.hubs[0]!.connections.size).toBe(0);
  });

  it('by guards and hooks behind the handshake are counted by the code', async () => {
    await open({
      auth,
      application: {
        admit: ({ user }) =>
          user!.id === 'guarded' ? Promise.reject(new RealtimeException('forbidden')) : Promise.resolve(),
        connected: ({ user }) =>
          user!.id === 'hooked' ? Promise.reject(new RealtimeException('rejected')) : Promise.resolve(),
      },
    });
    new Peer(fleet, { awaitsToken: true }).ask(1, '$auth', { token: 'guarded' });
    new Peer(fleet, { user: new UserIdentity('hooked') });
    const { records } = fleet.hubs[0]!;
    const user = new UserIdentity('hooked');
    const arrived = { ...ARRIVED, transport: 'long-polling', user, awaitsToken: false, recorded: true };
    const established = records.establish(fleet.hubs[0]!.arrive(arrived), { client: undefined, channels: new Map() });
    await expect(fleet.settled(established)).rejects.toMatchObject({ code: 'rejected' });
    expect(stats().connections).toMatchObject({ refused: { forbidden: 1, rejected: 2 }, opened: {}, active: {} });
    expect(stats().connections.closed).toEqual({});
  });

  it('by the handshake are not counted again as they are forgotten', async () => {
    await open();
    const hub = fleet.hubs[0]!;
    const connection = hub.arrive({ ...ARRIVED, transport: 'test', user: undefined, awaitsToken: false });
    connection.fail('forbidden'); // a guard closed it
    hub.forget(connection);
    expect([stats().connections.refused, stats().connections.closed]).toEqual([{}, {}]);
  });
});

describe('why connections ended', () => {
  it('is told by the code alone where their peers say so, and by the reason where the hub does', async () => {
    await open();
    const [own, normal, slow, revoked, raced] = Array.from({ length: 5 }, () => new Peer(fleet).link.connection);
    await fleet.settle();
    own!.ended(4000, 'slow_consumer');
    normal!.ended(1000, 'lease_lost');
    slow!.fail('slow_consumer');
    revoked!.fail('revoked');
    raced!.fail('forbidden');
    raced!.ended(4000, 'internal'); // behind the hub's end
    await fleet.settle();
    expect(stats().connections.closed).toEqual({ other: 1, normal: 1, slow_consumer: 1, revoked: 1, forbidden: 1 });
    expect(stats().outbox.slowConsumers.disconnect).toBe(1);
  });
});

describe('connections with records', () => {
  const closed = (): Record<string, number>[] => fleet.hubs.map((_, node) => ({ ...stats(node).connections.closed }));
  const active = (): (number | undefined)[] =>
    fleet.hubs.map((_, node) => stats(node).connections.active['long-polling']);

  it('live on where they go to another node, and end once, on the node that ended them, with their whole life', async () => {
    await open();
    const peer = await RecordPeer.connect(fleet, 0);
    expect(active()).toEqual([1, undefined]);
    for (let n = 0; n < 9; n++) {
      await peer.poll(1);
      await fleet.pass(10 * SECOND); // long past what the first node keeps of it
    }
    expect(closed()).toEqual([{}, {}]);
    expect(active()).toEqual([undefined, 1]);
    (await fleet.settled(peer.at(1))).leave();
    await fleet.settle();
    expect(closed()).toEqual([{}, { normal: 1 }]);
    expect(active()).toEqual([undefined, undefined]);
    expect(stats(0).connections).toMatchObject({ opened: { 'long-polling': 1 }, lifetimeSeconds: { count: 0 } });
    const { count, sum } = stats(1).connections.lifetimeSeconds;
    expect([count, sum >= 90 && sum < 100]).toEqual([1, true]);
  });

  it('end once over all nodes where they do not come back, and where another node ends them', async () => {
    await open();
    const away = await RecordPeer.connect(fleet, 0);
    await away.poll(1);
    await fleet.pass(90 * SECOND);
    const ended = await RecordPeer.connect(fleet, 0);
    await ended.poll(0);
    const third = await fleet.addNode();
    await fleet.settled(fleet.hubs[third]!.control.disconnect({ connection: ended.id }));
    await fleet.settle();
    const sums: Record<string, number> = {};
    for (const one of closed()) for (const [reason, n] of Object.entries(one)) sums[reason] = (sums[reason] ?? 0) + n;
    expect(sums).toEqual({ heartbeat_timeout: 1, forbidden: 1 });
    expect(active()).toEqual([undefined, undefined, undefined]);
  });

  it('have their frames served, refused and answered as those of others', async () => {
    await open({ limits: { maxFrameBytes: 1_024 } });
    const peer = await RecordPeer.connect(fleet, 0);
    const before = stats().frames.sent.answer!;
    const answers = await fleet.settled(
      peer.send(
        0,
        1,
        { id: 1, event: '' },
        { id: 2, event: 'large', data: 'x'.repeat(2_000) },
        { id: 3, event: '$history', data: { channel: 'chat.a' } },
        { id: 4, event: '$unknown' },
      ),
    );
    expect(answers).toMatchObject([
      { id: 1, error: { code: 'bad_frame' } },
      { id: 2, error: { code: 'frame_too_large' } },
      { id: 3, data: {} },
      { id: 4, error: { code: 'unknown_event' } },
    ]);
    const { errors, handlers, frames } = stats();
    expect(errors).toEqual({ bad_frame: 1, frame_too_large: 1, unknown_event: 1 });
    expect(Object.entries(handlers).map(([event, { count }]) => [event, count])).toEqual([['$history', 1]]);
    const bytes = answers.reduce<number>((sum, answer) => sum + Buffer.byteLength(JSON.stringify(answer)), 0);
    expect(frames.sent.answer).toEqual({ frames: before.frames + 4, bytes: before.bytes + bytes });
  });

  it('are told that a call ended as their node goes away, which is an error that was answered', async () => {
    await open({
      application: {
        handle: (_connection, _data, call) => {
          call.stream(() => undefined);
          call.next(1);
          return true;
        },
      },
    });
    const peer = await RecordPeer.connect(fleet);
    await fleet.settled(peer.send(0, 1, { id: 's', event: 'stream' }));
    const draining = fleet.hubs[0]!.drain();
    expect(await peer.poll(1)).toMatchObject([{ data: 1 }, { id: 's', error: { code: 'draining' } }]);
    await draining;
    expect(stats(0).errors).toEqual({ draining: 1 });
    expect(stats(0).frames.sent.answer!.frames).toBe(2);
  });
});

describe('the time of fan-out and delivery', () => {
  it('is not taken of what the nodes tell each other', async () => {
    await open();
    const hub = fleet.hubs[0]!;
    const nodes = hub.control.channel('$test.nodes');
    const told: string[] = [];
    await fleet.settled(nodes.follow((event) => told.push(event)));
    const counts = (): number[] => [stats().fanOutSeconds.count, stats().deliverySeconds.count];
    await fleet.settled(nodes.send('hello', '1'));
    await fleet.settled(hub.control.emit({ user: 'nobody' }, 'hello', 1));
    expect([told, counts()]).toEqual([['hello'], [0, 0]]);

    const peer = new Peer(fleet);
    peer.ask(1, '$subscribe', { channel: 'chat.a' });
    await fleet.settle();
    const both = Promise.all([nodes.send('again', '2'), fleet.publish(0, 'chat.a', 'said', 1)]);
    await fleet.settled(both);
    expect([told, counts()]).toEqual([
      ['hello', 'again'],
      [1, 1],
    ]);
    await fleet.settled(nodes.send('last', '3'));
    expect(counts()).toEqual([1, 1]);
  });

  it('is not taken where nobody is subscribed', async () => {
    await open();
    const peer = new Peer(fleet);
    peer.ask(1, '$subscribe', { channel: 'chat.a' });
    await fleet.settle();
    await fleet.settled(fleet.publish(0, 'chat.a', 'said', 1));
    peer.ask(2, '$unsubscribe', { channel: 'chat.a' }); // the node follows it for a while
    await fleet.settle();
    await fleet.settled(fleet.publish(0, 'chat.a', 'said', 2));
    expect(stats().fanOutSeconds.count).toBe(1);
  });
});

import { afterEach, describe, expect, it, jest } from '@jest/globals';
import type { CanActivate, ExecutionContext } from '@nestjs/common';
import { ConnectedSocket, MessageBody } from '@nestjs/websockets';
import { WebSocket } from 'ws';
import { RealtimeClient, type Member } from '../../lib/client/index.js';
import { Hub } from '../../lib/hub/hub.js';
import {
  ChannelGateway,
  memoryBroker,
  OnSubscribe,
  OnUnsubscribe,
  RealtimeModule,
  RealtimeService,
  type Broker,
  type Connection,
  type RealtimeModuleOptions,
} from '../../lib/index.js';
import { until } from '../support/redis-server.js';
import { ChannelPeer } from './support/channel-peer.js';
import { openStream } from './support/event-stream.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { Probe } from './support/probe.js';

/** Peers are who their query says, else anonymous. */
const queryUser: CanActivate = {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest();
    if (request.query.user !== undefined) request.user = { id: request.query.user };
    return true;
  },
};

const cycle: Record<string, unknown> = {};
cycle.self = cycle;

/** What `@OnSubscribe` returns, by the peer's query, and the member's info. */
const INFOS: Record<string, { returned: unknown; info: unknown }> = {
  object: { returned: { name: 'Ada', on: true, tags: ['a'] }, info: { name: 'Ada', on: true, tags: ['a'] } },
  text: { returned: 'text', info: 'text' },
  zero: { returned: 0, info: 0 },
  null: { returned: null, info: null },
  undefined: { returned: undefined, info: null },
  date: { returned: new Date(0), info: '1970-01-01T00:00:00.000Z' },
  full: { returned: 'x'.repeat(1_022), info: 'x'.repeat(1_022) },
  long: { returned: 'x'.repeat(1_023), info: null },
  wide: { returned: 'é'.repeat(512), info: null },
  cycle: { returned: cycle, info: null },
  bigint: { returned: 1n, info: null },
  function: { returned: () => 1, info: null },
};

@ChannelGateway('chat.:room', { presence: true })
class ChatChannel {
  constructor(private readonly probe: Probe) {}

  @OnSubscribe()
  enter(@ConnectedSocket() client: Connection): unknown {
    return INFOS[client.query.info ?? 'null']!.returned;
  }

  @OnUnsubscribe()
  leave(@ConnectedSocket() client: Connection, @MessageBody() reason: string): void {
    this.probe.note([client.user?.id ?? client.client, reason]);
  }
}

/** Longer than any test: whoever is gone is gone at once. */
const LONG_GRACE = { graceMs: 3_600_000 };
const SHORT_GRACE = { graceMs: 1 };

interface Node extends RunningApp {
  readonly realtime: RealtimeService;
  readonly probe: Probe;
}

/** Waits for the next change of members, and passes over all else. */
async function change(peer: ChannelPeer): Promise<any> {
  for (;;) {
    const frame = await peer.next();
    if (frame.event === '$presence') return frame.data;
  }
}

/** The members that left, by the changes up to the one that is asked for. */
async function lefts(
  peer: ChannelPeer,
  until: (change: { rev: number; left: string[] }) => boolean,
): Promise<string[]> {
  const left: string[] = [];
  for (;;) {
    const data = await change(peer);
    left.push(...data.left);
    if (until(data)) return left;
  }
}

const member = (id: string, info: unknown = null) => ({ id, info });
const user = (id: string, connections = 1, info: unknown = null) => ({ id, info, connections });

describe.each(platforms)('presence on $name', (platform) => {
  let dispose: (() => Promise<void> | void)[] = [];
  afterEach(async () => {
    jest.restoreAllMocks();
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  async function start(options: RealtimeModuleOptions = {}): Promise<Node> {
    const running = await startApp(platform, {
      imports: [
        RealtimeModule.forRoot({
          connectionGuards: [queryUser],
          presence: LONG_GRACE,
          channels: { plain: {} },
          ...options,
        }),
      ],
      providers: [Probe, ChatChannel],
    });
    dispose.push(running.close);
    return { ...running, realtime: running.app.get(RealtimeService), probe: running.app.get(Probe) };
  }

  /** Two applications that share a broker. */
  async function pair(options: RealtimeModuleOptions = {}, broker: Broker = memoryBroker()): Promise<[Node, Node]> {
    return [await start({ ...options, broker }), await start({ ...options, broker })];
  }

  async function enter(node: Node, query: string, channel = 'chat.a'): Promise<ChannelPeer> {
    const peer = await ChannelPeer.connect(node, `/realtime?${query}`);
    expect(await peer.ask('$subscribe', { channel })).toHaveProperty('position');
    return peer;
  }

  /** An anonymous peer with a client id, as our client is one. */
  async function enterAs(node: Node, client: string): Promise<ChannelPeer> {
    const peer = await ChannelPeer.connect(node);
    await peer.ask('$resume', { client, channels: { 'chat.a': null } });
    return peer;
  }

  it('tells subscribers every change with its revisions, their own join included, on every node', async () => {
    const [one, two] = await pair();
    const ada = await enter(one, 'user=ada');
    const first = await change(ada);
    expect(first).toEqual({ prev: 0, rev: 1, count: 1, joined: [member('ada')], left: [] });
    const bob = await enter(two, 'user=bob');
    const second = { prev: 1, rev: 2, count: 2, joined: [member('bob')], left: [] };
    expect([await change(ada), await change(bob)]).toEqual([second, second]);
    const answer = { rev: 2, count: 2, users: [user('ada'), user('bob')] };
    expect(await ada.ask('$presence', { channel: 'chat.a' })).toEqual(answer);
    expect(await bob.ask('$presence', { channel: 'chat.a' })).toEqual(answer);
    await bob.ask('$unsubscribe', { channel: 'chat.a' });
    expect(await change(ada)).toEqual({ prev: 2, rev: 3, count: 1, joined: [], left: ['bob'] });
    expect(await bob.settle()).toEqual([]);
    expect(await two.realtime.presence('chat.a')).toEqual([user('ada')]);
  });

  it('merges the changes of one moment into one, from the revision before them', async () => {
    const node = await start();
    const ada = await enter(node, 'user=ada');
    await change(ada);
    const { presence } = node.app.get(Hub);
    for (const id of ['bob', 'eve', 'dan']) presence.join('chat.a', { connection: id, member: id, info: id });
    presence.leave('chat.a', 'eve', true);
    expect(await change(ada)).toEqual({
      prev: 1,
      rev: 5,
      count: 3,
      joined: [member('bob', 'bob'), member('dan', 'dan')],
      left: ['eve'],
    });
  });

  it('counts the devices of a user as one member: the last to leave leaves', async () => {
    const [one, two] = await pair();
    const bob = await enter(one, 'user=bob');
    await change(bob);
    const devices = [await enter(one, 'user=ada'), await enter(two, 'user=ada')];
    expect(await change(bob)).toEqual({ prev: 1, rev: 2, count: 2, joined: [member('ada')], left: [] });
    expect(await one.realtime.presence('chat.a')).toEqual([user('bob'), user('ada', 2)]);
    await devices[0]!.ask('$unsubscribe', { channel: 'chat.a' });
    expect(await one.realtime.presence('chat.a')).toEqual([user('bob'), user('ada')]);
    const eve = await enter(two, 'user=eve');
    expect(await change(bob)).toEqual({ prev: 2, rev: 3, count: 3, joined: [member('eve')], left: [] });
    await devices[1]!.ask('$unsubscribe', { channel: 'chat.a' });
    expect(await change(bob)).toEqual({ prev: 3, rev: 4, count: 2, joined: [], left: ['ada'] });
    expect(await eve.ask('$presence', { channel: 'chat.a' })).toMatchObject({ rev: 4 });
  });

  it('takes an anonymous peer for its own member: by its client, else by its connection', async () => {
    const node = await start();
    await enterAs(node, 'phone');
    await enter(node, '');
    const [, second] = await node.realtime.connections();
    expect(await node.realtime.presence('chat.a')).toEqual([user('phone'), user(second!.id)]);
    expect(second!.client).toBeUndefined();
  });

  it('keeps channels apart', async () => {
    const node = await start();
    const ada = await enter(node, 'user=ada');
    await ada.ask('$subscribe', { channel: 'chat.b' });
    await enter(node, 'user=bob', 'chat.b');
    expect(await node.realtime.presence('chat.a')).toEqual([user('ada')]);
    expect(await node.realtime.presence('chat.b')).toEqual([user('ada'), user('bob')]);
  });

  it('gives what @OnSubscribe returned as info: JSON of at most 1 KiB, else null', async () => {
    const node = await start();
    for (const name of Object.keys(INFOS)) await enter(node, `user=${name}&info=${name}`);
    const members = await node.realtime.presence('chat.a');
    expect(members).toEqual(Object.entries(INFOS).map(([name, { info }]) => user(name, 1, info)));
  });

  it('tells a member anew whose info changed', async () => {
    const node = await start();
    const ada = await enter(node, 'user=ada&info=text');
    await change(ada);
    await enter(node, 'user=ada&info=object');
    const { info } = INFOS.object!;
    expect(await change(ada)).toEqual({ prev: 1, rev: 2, count: 1, joined: [member('ada', info)], left: [] });
    expect(await node.realtime.presence('chat.a')).toEqual([user('ada', 2, info)]);
  });

  it('keeps a member whose link was lost, with 0 connections', async () => {
    const [one, two] = await pair();
    const bob = await enter(one, 'user=bob');
    const ada = await enter(two, 'user=ada');
    ada.terminate();
    expect(await two.probe.seen(1)).toEqual([['ada', 'disconnected']]);
    expect(await one.realtime.presence('chat.a')).toEqual([user('bob'), user('ada', 0)]);
    await enter(two, 'user=eve');
    expect(await lefts(bob, ({ rev }) => rev === 3)).toEqual([]);
  });

  it('tells that such a member left when the grace period is over', async () => {
    const [one, two] = await pair({ presence: SHORT_GRACE });
    const bob = await enter(one, 'user=bob');
    const ada = await enter(two, 'user=ada');
    ada.terminate();
    expect(await lefts(bob, ({ rev }) => rev === 3)).toEqual(['ada']);
    expect(await one.realtime.presence('chat.a')).toEqual([user('bob')]);
  });

  it('tells nothing of a member that comes back within the grace period, on whichever node', async () => {
    const [one, two] = await pair({ presence: LONG_GRACE });
    const bob = await enter(one, 'user=bob');
    const phone = await enterAs(one, 'phone');
    phone.terminate();
    await one.probe.seen(1);
    await enterAs(two, 'phone');
    const eve = await enter(two, 'user=eve');
    eve.terminate();
    await until(
      async () => (await one.realtime.presence('chat.a')).some(({ connections }) => connections === 0),
      'eve',
    );
    // The grace period is over, of the first link of the phone before that of eve.
    const { now } = Date;
    jest.spyOn(Date, 'now').mockImplementation(() => now() + LONG_GRACE.graceMs);
    expect(await lefts(bob, ({ left }) => left.includes('eve'))).toEqual(['eve']);
    expect(await one.realtime.presence('chat.a')).toEqual([user('bob'), user('phone')]);
  });

  it('keeps the members of a node that shuts down for the grace period', async () => {
    const [one, two] = await pair();
    const bob = await enter(two, 'user=bob');
    await enterAs(one, 'phone');
    await one.close();
    expect(await two.realtime.presence('chat.a')).toEqual([user('bob'), user('phone', 0)]);
    await enterAs(two, 'phone');
    expect(await two.realtime.presence('chat.a')).toEqual([user('bob'), user('phone')]);
    const { rev } = await bob.ask('$presence', { channel: 'chat.a' });
    expect(rev).toBe(2);
  });

  it.each<[name: string, act: (realtime: RealtimeService, peer: ChannelPeer) => Promise<unknown>]>([
    ['$unsubscribe', (_realtime, peer) => peer.ask('$unsubscribe', { channel: 'chat.a' })],
    ['unsubscribeUser', (realtime) => realtime.unsubscribeUser('ada', 'chat.a')],
    ['disconnectUser', (realtime) => realtime.disconnectUser('ada')],
  ])('lets a member leave at once by %s', async (_name, act) => {
    const [one, two] = await pair();
    const bob = await enter(one, 'user=bob');
    const ada = await enter(two, 'user=ada');
    await act(one.realtime, ada);
    expect(await lefts(bob, ({ rev }) => rev === 3)).toEqual(['ada']);
    expect(await two.realtime.presence('chat.a')).toEqual([user('bob')]);
  });

  it('keeps a user that is disconnected to come back', async () => {
    const node = await start();
    const ada = await enter(node, 'user=ada');
    await node.realtime.disconnectUser('ada', { reconnect: true });
    await ada.closed;
    expect(await node.realtime.presence('chat.a')).toEqual([user('ada', 0)]);
  });

  it('counts peers of server-sent events, and tells them changes', async () => {
    const node = await start({ presence: SHORT_GRACE });
    const bob = await enter(node, 'user=bob');
    await change(bob);
    const stream = await openStream(`${node.url}/realtime/sse?channels=chat.a&user=ada&info=text`);
    dispose.push(() => stream.close());
    const joined = { prev: 1, rev: 2, count: 2, joined: [member('ada', 'text')], left: [] };
    expect(await change(bob)).toEqual(joined);
    const { data } = await stream.event('$presence');
    expect(JSON.parse(data!)).toEqual({ channel: 'chat.a', ...joined });
    stream.close();
    expect(await change(bob)).toMatchObject({ rev: 3, left: ['ada'] });
  });

  it('is not told by channels without it', async () => {
    const node = await start();
    const ada = await enter(node, 'user=ada', 'plain');
    const bob = await enter(node, 'user=bob', 'plain');
    await bob.ask('$subscribe', { channel: 'chat.a' });
    await change(bob); // what was to be told of the other channel has been told too
    expect(await ada.settle()).toEqual([]);
    expect(await ada.ask('$presence', { channel: 'plain' })).toMatchObject({ code: 'not_available' });
  });

  it('leaves out the names above 200 members', async () => {
    const node = await start();
    const ada = await enter(node, 'user=ada');
    await change(ada);
    const { presence } = node.app.get(Hub);
    const join = (n: number) => presence.join('chat.a', { connection: `c${n}`, member: `m${n}`, info: null });
    for (let n = 1; n < 200; n++) join(n);
    const named = await change(ada);
    expect([named.prev, named.rev, named.count, named.joined.length]).toEqual([1, 200, 200, 199]);
    join(200);
    expect(await change(ada)).toEqual({ prev: 200, rev: 201, count: 201 });
    presence.leave('chat.a', 'c1', true);
    expect(await change(ada)).toEqual({ prev: 201, rev: 202, count: 200, joined: [], left: ['m1'] });
  });

  describe('in the client', () => {
    /** A client that follows the members of chat.a, and what it told, until a test asks for it. */
    function follow(node: Node, query: string, minMs = 1) {
      const client = new RealtimeClient(`${node.url}/realtime?${query}`, {
        WebSocket,
        backoff: { minMs, maxMs: minMs },
      });
      dispose.push(() => client.close());
      const channel = client.channel('chat.a');
      const told: string[] = [];
      const waiting: (() => void)[] = [];
      const note = (text: string): void => {
        told.push(text);
        for (const wake of waiting.splice(0)) wake();
      };
      const names = (members: readonly Member[]) =>
        members
          .map(({ id }) => id)
          .sort()
          .join();
      channel.on('presence', (members) => note(names(members)));
      channel.on('join', ({ id, info }) => note(`+${id} ${JSON.stringify(info)}`));
      channel.on('leave', ({ id }) => note(`-${id}`));
      client.on('error', (error) => note(String(error)));
      return {
        client,
        channel,
        told,
        /** Resolves once so many things were told, with the last ones. */
        async next(count: number): Promise<string[]> {
          while (told.length < count) await new Promise<void>((resolve) => waiting.push(resolve));
          return told.splice(0, count);
        },
      };
    }

    it('members, joins and leaves are told, over two nodes', async () => {
      const [one, two] = await pair();
      const ada = follow(one, 'user=ada');
      expect(await ada.next(1)).toEqual(['ada']);
      const bob = follow(two, 'user=bob&info=text');
      expect(await ada.next(2)).toEqual(['+bob "text"', 'ada,bob']);
      expect(await bob.next(1)).toEqual(['ada,bob']);
      const second = follow(two, 'user=bob&info=text');
      expect(await second.next(1)).toEqual(['ada,bob']);
      expect(await ada.channel.presence()).toEqual([user('ada'), user('bob', 2, 'text')]);
      await second.channel.unsubscribe();
      await bob.channel.unsubscribe();
      const told = await ada.next(3);
      expect(told).toEqual(['ada,bob', '-bob', 'ada']);
      expect(bob.told).toEqual([]);
    });

    it('what changed while the link was lost is told after it', async () => {
      const [one, two] = await pair();
      const bob = follow(two, 'user=bob');
      await bob.next(1);
      const ada = follow(one, 'user=ada', 300);
      expect(await ada.next(1)).toEqual(['ada,bob']);
      ada.client.reconnect();
      await bob.channel.unsubscribe();
      const told: string[] = [];
      do told.push(...(await ada.next(1)));
      while (told.at(-1) !== 'ada');
      expect(told.filter((text) => text !== 'ada,bob')).toEqual(['-bob', 'ada']);
      expect(ada.client.stats.opened).toBe(2);
    });

    it('above 200 members it asks for the list', async () => {
      const node = await start();
      await change(await enter(node, 'user=ada')); // nothing is to be told any more when the client comes
      const ada = follow(node, 'user=ada');
      expect(await ada.next(1)).toEqual(['ada']);
      const { presence } = node.app.get(Hub);
      for (let n = 1; n <= 200; n++) presence.join('chat.a', { connection: `c${n}`, member: `m${n}`, info: n });
      const told = await ada.next(201);
      expect(told[0]).toMatch(/^\+m\d+ \d+$/);
      expect(told[200]!.split(',')).toHaveLength(201);
    });

    it('a kick of a member is told', async () => {
      const [one, two] = await pair();
      const ada = follow(one, 'user=ada');
      await ada.next(1);
      follow(two, 'user=bob');
      expect(await ada.next(2)).toEqual(['+bob null', 'ada,bob']);
      await one.realtime.disconnectUser('bob');
      expect(await ada.next(2)).toEqual(['-bob', 'ada']);
    });
  });
});

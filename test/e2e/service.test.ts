import { afterEach, describe, expect, it } from '@jest/globals';
import { HttpException, Injectable, type OnModuleInit } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { WebSocketGateway, type OnGatewayConnection } from '@nestjs/websockets';
import { setImmediate } from 'node:timers/promises';
import { lastValueFrom, toArray } from 'rxjs';
import { WebSocket } from 'ws';
import { RealtimeClient } from '../../lib/client/index.js';
import {
  ChannelGateway,
  ChannelParam,
  memoryBroker,
  OnSubscribe,
  RealtimeModule,
  RealtimeService,
  type Broker,
  type Connection,
  type Publication,
  type RealtimeModuleOptions,
} from '../../lib/index.js';
import { faultyBroker } from '../../lib/testing/faulty-broker.js';
import { memorySurgery } from '../../lib/testing/log-surgery.js';
import { ChannelPeer } from './support/channel-peer.js';
import { open as openPeer } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { Probe } from './support/probe.js';
import { as, tokenOf, tokenUsers } from './support/token-users.js';

const POSITION = /^[0-9A-Za-z]{6}-\d+-[0-9a-z]+$/;

@WebSocketGateway()
class WatchedGateway implements OnGatewayConnection {
  /** What each `handleConnection` waits for. */
  gate: Promise<void> | undefined;
  constructor(private readonly probe: Probe) {}

  handleConnection(): Promise<void> | undefined {
    if (this.gate !== undefined) this.probe.note('connecting');
    return this.gate;
  }

  handleDisconnect(client: Connection, reason: string): void {
    this.probe.note([client.user?.id, client.closed?.code, reason]);
  }
}

@ChannelGateway('gated.:name')
class GatedChannel {
  /** What each `@OnSubscribe` waits for. */
  gate: Promise<void> = Promise.resolve();
  constructor(private readonly probe: Probe) {}

  @OnSubscribe()
  async enter(@ChannelParam('name') name: string): Promise<void> {
    this.probe.note(['entering', name]);
    await this.gate;
  }
}

@Injectable()
class EarlyPublisher implements OnModuleInit {
  constructor(private readonly realtime: RealtimeService) {}

  async onModuleInit(): Promise<void> {
    await this.realtime.publish('chat.early', 'message', 'before anybody listens');
  }
}

const channels: RealtimeModuleOptions['channels'] = {
  'chat.:room': { history: { size: 5, ttlMs: 60_000 } },
  'members.:room': { presence: true },
  bare: { history: false },
};

interface Node extends RunningApp {
  readonly realtime: RealtimeService;
  readonly probe: Probe;
}

/** What a stream gave, until a test asks for it. */
class Reading<T> {
  readonly #items: T[] = [];
  readonly #waiting: ((item: T) => void)[] = [];
  readonly next = (item: T): void => {
    const take = this.#waiting.shift();
    if (take === undefined) this.#items.push(item);
    else take(item);
  };

  take(): Promise<T> {
    const item = this.#items.shift();
    return item === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(item);
  }
}

const data = (publications: readonly Publication[]): unknown[] => publications.map((publication) => publication.data);

describe.each(platforms)('RealtimeService on $name', (platform) => {
  let dispose: (() => Promise<void> | void)[] = [];
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  async function start(options: RealtimeModuleOptions = {}): Promise<Node> {
    const running = await startApp(
      platform,
      {
        imports: [RealtimeModule.forRoot({ channels: channels!, auth: tokenUsers, ...options })],
        providers: [Probe, WatchedGateway, GatedChannel, EarlyPublisher],
      },
      (app) => app.useLogger(false),
    );
    dispose.push(running.close);
    return { ...running, realtime: running.app.get(RealtimeService), probe: running.app.get(Probe) };
  }

  /** Two applications that share a broker. */
  async function pair(broker: Broker = memoryBroker()): Promise<[Node, Node]> {
    return [await start({ broker }), await start({ broker })];
  }

  const connect = (node: Node, user: string) => ChannelPeer.connect(node, '/realtime', as(user));

  async function subscriber(node: Node, user: string, channel: string): Promise<ChannelPeer> {
    const peer = await connect(node, user);
    expect(await peer.ask('$subscribe', { channel })).toHaveProperty('position');
    return peer;
  }

  /** Resolves once a node has applied the control messages before. */
  const applied = (node: Node) => node.realtime.toUser('nobody').emit('barrier');

  describe('publish', () => {
    it('reaches the subscribers of every node, and resolves with the position', async () => {
      const [one, two] = await pair();
      const peers = [await subscriber(one, 'ada', 'chat.a'), await subscriber(two, 'bob', 'chat.a')];
      const elsewhere = await subscriber(two, 'bob', 'chat.b');
      const position = await one.realtime.publish('chat.a', 'message', { text: 'hi' });
      expect(position).toMatch(POSITION);
      const [, offset, tag] = position.split('-');
      const frame = { channel: 'chat.a', event: 'message', data: { text: 'hi' }, offset: Number(offset), tag };
      expect(await Promise.all(peers.map((peer) => peer.next()))).toEqual([frame, frame]);
      expect(await elsewhere.settle()).toEqual([]);
      expect((await two.realtime.history('chat.a')).publications[0]).toMatchObject({ ...frame, position });
    });

    it('keeps the order of calls, of both nodes', async () => {
      const [one, two] = await pair();
      const peer = await subscriber(two, 'ada', 'chat.a');
      const calls = Array.from({ length: 40 }, (_, n) => (n % 10 < 5 ? one : two).realtime.publish('chat.a', 'n', n));
      const offsets = (await Promise.all(calls)).map((position) => Number(position.split('-')[1]));
      const got = await Promise.all(calls.map(() => peer.next()));
      expect(got.map((frame) => frame.offset)).toEqual(calls.map((_, n) => n + 1));
      expect(got.map((frame) => offsets[frame.data])).toEqual(got.map((frame) => frame.offset));
      const ofOne = got.map((frame): number => frame.data).filter((n) => n % 10 < 5);
      expect(ofOne).toEqual([...ofOne].sort((a, b) => a - b));
    });

    it('keeps what nobody subscribes to: a later peer recovers it, on the other node too', async () => {
      const [one, two] = await pair();
      const since = await one.realtime.publish('chat.a', 'n', 1);
      await one.realtime.publish('chat.a', 'n', 2);
      const until = await two.realtime.publish('chat.a', 'n', 3);
      const peer = await connect(two, 'ada');
      expect(await peer.ask('$subscribe', { channel: 'chat.a', since })).toMatchObject({ recovered: true, until });
      expect([(await peer.next()).data, (await peer.next()).data]).toEqual([2, 3]);
    });

    it('works before the application listens', async () => {
      const { realtime } = await start();
      expect(data((await realtime.history('chat.early')).publications)).toEqual(['before anybody listens']);
    });

    it('takes every JSON value, and null for undefined', async () => {
      const { realtime } = await start();
      const values = [0, '', false, [1], undefined];
      for (const value of values) await realtime.publish('chat.a', 'n', value);
      expect(data((await realtime.history('chat.a')).publications)).toEqual([0, '', false, [1], null]);
    });

    it('with a known idempotencyKey gives the first position and publishes nothing, on either node', async () => {
      const [one, two] = await pair();
      const peer = await subscriber(one, 'ada', 'chat.a');
      const first = await one.realtime.publish('chat.a', 'n', 1, { idempotencyKey: 'k' });
      expect(await one.realtime.publish('chat.a', 'n', 2, { idempotencyKey: 'k' })).toBe(first);
      expect(await two.realtime.publish('chat.a', 'n', 3, { idempotencyKey: 'k' })).toBe(first);
      const second = await two.realtime.publish('chat.a', 'n', 4, { idempotencyKey: 'l' });
      const elsewhere = await two.realtime.publish('chat.b', 'n', 5, { idempotencyKey: 'k' });
      expect([second.split('-')[1], elsewhere.split('-')[1]]).toEqual(['2', '1']);
      expect((await peer.settle()).map((frame) => frame.data)).toEqual([1, 4]);
    });

    it('with calls of one key in one turn publishes once', async () => {
      const { realtime } = await start();
      const calls = [1, 2, 3].map((n) => realtime.publish('chat.a', 'n', n, { idempotencyKey: 'k' }));
      expect(new Set(await Promise.all(calls)).size).toBe(1);
      expect(data((await realtime.history('chat.a')).publications)).toEqual([1]);
    });

    it('withholds from the client that `exclude` names, wherever it is, and when it recovers', async () => {
      const [one, two] = await pair();
      const sender = await connect(two, 'ada');
      await sender.ask('$resume', { client: 'sender', channels: { 'chat.a': null } });
      const other = await subscriber(two, 'ada', 'chat.a');
      const since = await one.realtime.publish('chat.a', 'n', 1);
      await one.realtime.publish('chat.a', 'n', 2, { exclude: 'sender' });
      await one.realtime.publish('chat.a', 'n', 3);
      const skipped = { channel: 'chat.a', skipped: 1, offset: 2, tag: expect.any(String) };
      expect(await sender.settle()).toEqual([
        expect.objectContaining({ data: 1 }),
        skipped,
        expect.objectContaining({ data: 3 }),
      ]);
      expect((await other.settle()).map((frame) => frame.data)).toEqual([1, 2, 3]);
      const back = await connect(one, 'ada');
      await back.ask('$resume', { client: 'sender', channels: { 'chat.a': since } });
      expect(await back.next()).toEqual(skipped);
      expect(await back.next()).toMatchObject({ data: 3 });
    });

    it('rejects what cannot be published, and publishes nothing', async () => {
      const { realtime } = await start();
      const cycle: Record<string, unknown> = {};
      cycle.self = cycle;
      const wrong: [code: string, call: () => Promise<unknown>][] = [
        ['unknown_channel', () => realtime.publish('other', 'n', 1)],
        ['unknown_channel', () => realtime.publish('chat.a.b', 'n', 1)],
        ['invalid', () => realtime.publish('', 'n', 1)],
        ['invalid', () => realtime.publish('chat.a,b', 'n', 1)],
        ['invalid', () => realtime.publish(undefined as unknown as string, 'n', 1)],
        ['invalid', () => realtime.publish('chat.a', '', 1)],
        ['invalid', () => realtime.publish('chat.a', '$lost', 1)],
        ['invalid', () => realtime.publish('chat.a', 'x'.repeat(129), 1)],
        ['invalid', () => realtime.publish('chat.a', undefined as unknown as string, 1)],
        ['invalid', () => realtime.publish('chat.a', 'n', cycle)],
        ['invalid', () => realtime.publish('chat.a', 'n', 1n)],
        ['invalid', () => realtime.publish('chat.a', 'n', 1, { idempotencyKey: '' })],
        ['invalid', () => realtime.publish('chat.a', 'n', 1, { idempotencyKey: 'x'.repeat(129) })],
      ];
      for (const [code, call] of wrong) await expect(call()).rejects.toMatchObject({ name: 'RealtimeException', code });
      expect((await realtime.history('chat.a')).publications).toEqual([]);
      expect(await realtime.publish('chat.a', 'x'.repeat(128), 1, { idempotencyKey: 'x'.repeat(128) })).toMatch(
        POSITION,
      );
    });

    it('tells apart what was not applied and what may have been; the same key settles the latter', async () => {
      const broker = faultyBroker(memoryBroker());
      const { realtime } = await start({ broker });
      const [session] = broker.sessions;
      session!.calls('append', 'unavailable');
      await expect(realtime.publish('chat.a', 'n', 1)).rejects.toMatchObject({ code: 'broker_unavailable' });
      session!.calls('append', 'delay');
      const late = realtime.publish('chat.a', 'n', 2, { idempotencyKey: 'k', timeoutMs: 1 });
      await expect(late).rejects.toMatchObject({ code: 'outcome_unknown' });
      while (session!.waiting === 0) await setImmediate(); // the time may be over before the turn is
      session!.answer();
      const settled = await realtime.publish('chat.a', 'n', 2, { idempotencyKey: 'k', timeoutMs: 10_000 });
      const { position, publications } = await realtime.history('chat.a');
      expect([position, data(publications)]).toEqual([settled, [2]]);
    });

    it('rejects with broker_unavailable once the application is closed', async () => {
      const { realtime, close } = await start();
      await close();
      await expect(realtime.publish('chat.a', 'n', 1)).rejects.toMatchObject({ code: 'broker_unavailable' });
    });

    it('serves a process that only publishes', async () => {
      const broker = memoryBroker();
      const peer = await subscriber(await start({ broker }), 'ada', 'chat.a');
      const worker = await Test.createTestingModule({
        imports: [RealtimeModule.forRoot({ broker, channels, transports: [] })],
      }).compile();
      await worker.init();
      dispose.push(() => worker.close());
      const realtime = worker.get(RealtimeService);
      await realtime.publish('chat.a', 'n', 'from the worker');
      expect(await peer.next()).toMatchObject({ channel: 'chat.a', event: 'n', data: 'from the worker' });
      await realtime.toUser('ada').emit('hello');
      expect(await peer.next()).toEqual({ event: 'hello' });
      expect(await realtime.connections()).toMatchObject([{ userId: 'ada', channels: ['chat.a'] }]);
    });
  });

  describe('history', () => {
    const fill = async ({ realtime }: Node, from: number, to: number): Promise<string[]> => {
      const positions: string[] = [];
      for (let n = from; n <= to; n++) positions.push(await realtime.publish('chat.a', 'n', n));
      return positions;
    };

    it('gives the newest, or the first after a position, in either order, with the top', async () => {
      const [one, two] = await pair();
      const positions = await fill(one, 1, 5);
      const read = async (options?: Parameters<RealtimeService['history']>[1]) => {
        const { position, publications } = await two.realtime.history('chat.a', options);
        expect(position).toBe(positions[4]);
        return data(publications);
      };
      expect(await read()).toEqual([1, 2, 3, 4, 5]);
      expect(await read({ limit: 2 })).toEqual([4, 5]);
      expect(await read({ limit: 2, reverse: true })).toEqual([5, 4]);
      expect(await read({ since: positions[1]! })).toEqual([3, 4, 5]);
      expect(await read({ since: positions[1]!, limit: 2 })).toEqual([3, 4]);
      expect(await read({ since: positions[1]!, reverse: true })).toEqual([5, 4, 3]);
      expect(await read({ since: positions[1]!, reverse: true, limit: 2 })).toEqual([5, 4]);
      expect(await read({ since: positions[4]! })).toEqual([]);
    });

    it('gives publications that know their channel, position and shape', async () => {
      const { realtime } = await start();
      const position = await realtime.publish('chat.a', 'message', { text: 'hi' });
      const [publication] = (await realtime.history<{ text: string }>('chat.a')).publications;
      expect(publication!.data.text).toBe('hi');
      expect(publication).toMatchObject({ channel: 'chat.a', event: 'message', offset: 1, position });
      const [, offset, tag] = position.split('-');
      expect(JSON.parse(JSON.stringify(publication))).toEqual({
        channel: 'chat.a',
        event: 'message',
        data: { text: 'hi' },
        offset: Number(offset),
        tag,
      });
    });

    it('is empty, with a top, for a channel that nobody used, and for one without history', async () => {
      const { realtime } = await start();
      expect(await realtime.history('chat.a')).toEqual({ position: expect.stringMatching(/-0-/), publications: [] });
      const position = await realtime.publish('bare', 'n', 1);
      expect(await realtime.history('bare', { since: position })).toEqual({ position, publications: [] });
    });

    it('rejects with position_lost and the top where the position is no longer valid', async () => {
      const node = await start();
      const positions = await fill(node, 1, 8);
      const lost = { code: 'position_lost', details: { position: positions[7] } };
      for (const since of [positions[0]!, 'AAAAAA-3-0', positions[4]!.replace(/[^-]+$/, 'zz'), 'nonsense', '']) {
        for (const reverse of [false, true]) {
          await expect(node.realtime.history('chat.a', { since, reverse })).rejects.toMatchObject(lost);
        }
      }
    });

    it('rejects wrong limits and channels', async () => {
      const { realtime } = await start();
      for (const limit of [0, 1_001, 1.5, NaN, '5' as unknown as number]) {
        await expect(realtime.history('chat.a', { limit })).rejects.toMatchObject({ code: 'invalid' });
      }
      await expect(realtime.history('other')).rejects.toMatchObject({ code: 'unknown_channel' });
      await expect(realtime.history('')).rejects.toMatchObject({ code: 'invalid' });
    });
  });

  describe('presence', () => {
    it('gives the members over all nodes, devices of one user merged', async () => {
      const [one, two] = await pair();
      for (const [node, user] of [[one, 'ada'] as const, [two, 'ada'] as const, [two, 'bob'] as const]) {
        await subscriber(node, user, 'members.a');
      }
      await subscriber(one, 'eve', 'members.b');
      const members = await one.realtime.presence('members.a');
      expect(members).toEqual([
        { id: 'ada', info: null, connections: 2 },
        { id: 'bob', info: null, connections: 1 },
      ]);
      expect(await two.realtime.presence('members.a')).toEqual(members);
    });

    it('rejects channels without presence, and channels that are not declared', async () => {
      const { realtime } = await start();
      await expect(realtime.presence('bare')).rejects.toMatchObject({ code: 'not_available' });
      await expect(realtime.presence('other')).rejects.toMatchObject({ code: 'unknown_channel' });
    });
  });

  describe('connections', () => {
    it('lists the open connections of all nodes, by user and by channel', async () => {
      const [one, two] = await pair();
      const before = Date.now();
      const ada = await connect(one, 'ada');
      await ada.ask('$resume', { client: 'device', channels: { 'chat.a': null } });
      await subscriber(two, 'ada', 'chat.b');
      await subscriber(two, 'bob', 'chat.a');
      for (const { realtime } of [one, two]) {
        const listed = async (filter?: Parameters<RealtimeService['connections']>[0]) =>
          (await realtime.connections(filter)).map(({ userId, channels: of }) => `${userId} ${of.join()}`).sort();
        expect(await listed()).toEqual(['ada chat.a', 'ada chat.b', 'bob chat.a']);
        expect(await listed({ userId: 'ada' })).toEqual(['ada chat.a', 'ada chat.b']);
        expect(await listed({ channel: 'chat.a' })).toEqual(['ada chat.a', 'bob chat.a']);
        expect(await listed({ userId: 'ada', channel: 'chat.a' })).toEqual(['ada chat.a']);
        expect(await listed({ userId: 'eve' })).toEqual([]);
      }
      const [device, ...more] = await two.realtime.connections({ userId: 'ada', channel: 'chat.a' });
      expect(more).toEqual([]);
      expect(device).toEqual({
        id: expect.any(String),
        client: 'device',
        node: expect.any(String),
        transport: 'websocket',
        userId: 'ada',
        ip: '127.0.0.1',
        endpoint: '0:/realtime',
        params: {},
        openedAt: expect.any(Number),
        channels: ['chat.a'],
      });
      expect(device!.openedAt).toBeGreaterThanOrEqual(before - 1);
      expect(device!.openedAt).toBeLessThanOrEqual(Date.now());
      const [bobs] = await two.realtime.connections({ userId: 'bob' });
      expect(bobs!.node).not.toBe(device!.node);
    });

    it('forgets those that are gone, and channels that were left', async () => {
      const [one, two] = await pair();
      const ada = await subscriber(one, 'ada', 'chat.a');
      const bob = await subscriber(one, 'bob', 'chat.a');
      await ada.ask('$unsubscribe', { channel: 'chat.a' });
      expect(await two.realtime.connections({ channel: 'chat.a' })).toMatchObject([{ userId: 'bob' }]);
      bob.terminate();
      await one.probe.seen(1);
      expect(await two.realtime.connections()).toMatchObject([{ userId: 'ada', channels: [] }]);
      await one.close();
      expect(await two.realtime.connections()).toEqual([]);
    });
  });

  describe('toUser and toConnection', () => {
    it('toUser reaches every device of the user on every node, and nobody else', async () => {
      const [one, two] = await pair();
      const devices = [await connect(one, 'ada'), await connect(one, 'ada'), await connect(two, 'ada')];
      const bob = await connect(two, 'bob');
      await one.realtime.toUser('ada').emit('hello', { n: 1 });
      for (const device of devices) expect(await device.next()).toEqual({ event: 'hello', data: { n: 1 } });
      await two.realtime.toUser('ada').emit('bye');
      for (const device of devices) expect(await device.next()).toEqual({ event: 'bye' });
      expect(await bob.settle()).toEqual([]);
    });

    it('toConnection reaches one connection, on whatever node', async () => {
      const [one, two] = await pair();
      const peers = [await connect(one, 'ada'), await connect(one, 'ada')];
      const [first] = await two.realtime.connections();
      await two.realtime.toConnection(first!.id).emit('hello', [1]);
      const got = await Promise.all(peers.map((peer) => peer.settle()));
      expect(got.flat()).toEqual([{ event: 'hello', data: [1] }]);
    });

    it('keep the order of events', async () => {
      const [one, two] = await pair();
      const peer = await connect(two, 'ada');
      for (let n = 0; n < 20; n++) void one.realtime.toUser('ada').emit('n', n);
      const got = await Promise.all(Array.from({ length: 20 }, () => peer.next()));
      expect(got.map((frame) => frame.data)).toEqual(Array.from({ length: 20 }, (_, n) => n));
    });

    it('resolve where nobody is there, and reject data that JSON cannot hold', async () => {
      const { realtime } = await start();
      await expect(realtime.toUser('nobody').emit('hello')).resolves.toBeUndefined();
      await expect(realtime.toConnection('none').emit('hello')).resolves.toBeUndefined();
      await expect(realtime.toUser('ada').emit('hello', 1n)).rejects.toMatchObject({ code: 'invalid' });
      await expect(realtime.toConnection('none').emit('hello', 1n)).rejects.toMatchObject({ code: 'invalid' });
    });

    it('reject with broker_unavailable where the broker is away', async () => {
      const broker = faultyBroker(memoryBroker());
      const { realtime } = await start({ broker });
      broker.sessions[0]!.calls('append', 'unavailable', 'unavailable');
      const unavailable = { code: 'broker_unavailable' };
      await expect(realtime.toUser('ada').emit('hello')).rejects.toMatchObject(unavailable);
      await expect(realtime.disconnectUser('ada')).rejects.toMatchObject(unavailable);
    });

    it('are the `event` of the client', async () => {
      const { realtime, url } = await start();
      const client = new RealtimeClient(`${url}/realtime`, { WebSocket, token: tokenOf('ada') });
      dispose.push(() => client.close());
      const told = new Reading<unknown>();
      client.on('event', (...event) => told.next(event));
      await client.connect();
      await realtime.toUser('ada').emit('hello', { n: 1 });
      expect(await told.take()).toEqual(['hello', { n: 1 }]);
    });
  });

  describe('disconnectUser and disconnect', () => {
    it('end every connection of a user on every node with 4403, and no other', async () => {
      const [one, two] = await pair();
      const devices = [await connect(one, 'ada'), await connect(two, 'ada'), await connect(two, 'ada')];
      const bob = await connect(two, 'bob');
      await one.realtime.disconnectUser('ada');
      for (const device of devices) {
        expect(await device.next()).toEqual({
          event: '$disconnect',
          data: { code: 4403, reason: 'forbidden', reconnect: false },
        });
        expect(await device.closed).toEqual({ code: 4403, reason: 'forbidden' });
      }
      expect(await two.probe.seen(2)).toEqual([
        ['ada', 4403, 'forbidden'],
        ['ada', 4403, 'forbidden'],
      ]);
      expect(await bob.settle()).toEqual([]);
      expect(await two.realtime.connections()).toMatchObject([{ userId: 'bob' }]);
    });

    it('end a connection whose handleConnection is still running', async () => {
      const [one, two] = await pair();
      const gateway = two.app.get(WatchedGateway);
      let open!: () => void;
      gateway.gate = new Promise((resolve) => (open = resolve));
      const peer = openPeer(two.port, '/realtime', as('ada'));
      await two.probe.seen(1);
      await one.realtime.toUser('ada').emit('hello'); // nothing comes before $connected
      await one.realtime.disconnectUser('ada');
      await applied(two);
      open();
      expect(await peer.next()).toMatchObject({ event: '$disconnect', data: { code: 4403 } });
      expect(await peer.closed).toEqual({ code: 4403, reason: 'forbidden' });
      expect(await two.probe.seen(2)).toEqual(['connecting', ['ada', 4403, 'forbidden']]);
      expect(await one.realtime.connections()).toEqual([]);
    });

    it('tell the reason, cut to 123 bytes of whole characters', async () => {
      const node = await start();
      const [ada, bob] = [await connect(node, 'ada'), await connect(node, 'bob')];
      await node.realtime.disconnectUser('ada', { reason: 'banned' });
      await node.realtime.disconnectUser('bob', { reason: 'é'.repeat(100) });
      expect(await ada.next()).toMatchObject({ data: { reason: 'banned' } });
      expect(await ada.closed).toEqual({ code: 4403, reason: 'banned' });
      expect(await bob.closed).toEqual({ code: 4403, reason: 'é'.repeat(61) });
    });

    it('with `reconnect` let the peer come back: 1001', async () => {
      const [one, two] = await pair();
      const peer = await connect(two, 'ada');
      await one.realtime.disconnectUser('ada', { reconnect: true, reason: 'moved' });
      expect(await peer.next()).toEqual({
        event: '$disconnect',
        data: { code: 1001, reason: 'moved', reconnect: true },
      });
      expect(await peer.closed).toEqual({ code: 1001, reason: 'moved' });
    });

    it('disconnect ends one connection, on whatever node', async () => {
      const [one, two] = await pair();
      const first = await connect(two, 'ada');
      const [{ id }] = (await one.realtime.connections()) as unknown as [{ id: string }];
      const second = await connect(two, 'ada');
      await one.realtime.disconnect(id, { reason: 'enough' });
      expect(await first.closed).toEqual({ code: 4403, reason: 'enough' });
      expect(await second.settle()).toEqual([]);
      await one.realtime.disconnect('none');
      await one.realtime.disconnectUser('nobody');
    });

    it('close our client for good, or let it come back', async () => {
      const { realtime, url } = await start();
      const client = new RealtimeClient(`${url}/realtime`, {
        WebSocket,
        token: tokenOf('ada'),
        backoff: { minMs: 1, maxMs: 2 },
      });
      dispose.push(() => client.close());
      const states = new Reading<unknown>();
      const errors = new Reading<unknown>();
      client.on('state', (state, { code, reason }) => states.next([state, code, reason]));
      client.on('error', errors.next);
      await client.connect();
      await realtime.disconnectUser('ada', { reconnect: true, reason: 'moved' });
      const told = [await states.take(), await states.take(), await states.take()];
      expect(told).toEqual([['connecting'], ['open'], ['waiting', 1001, 'moved']]);
      expect([await states.take(), await states.take()]).toEqual([['connecting'], ['open']]);
      await realtime.disconnectUser('ada');
      expect(await states.take()).toEqual(['closed', 4403, 'forbidden']);
      expect(await errors.take()).toMatchObject({ code: 'forbidden' });
    });
  });

  describe('unsubscribeUser', () => {
    it('ends the subscriptions of the user to the channel on every node, which the peers are told', async () => {
      const [one, two] = await pair();
      const devices = [await subscriber(one, 'ada', 'chat.a'), await subscriber(two, 'ada', 'chat.a')];
      const bob = await subscriber(two, 'bob', 'chat.a');
      await devices[0]!.ask('$subscribe', { channel: 'chat.b' });
      await one.realtime.publish('chat.a', 'n', 1);
      await one.realtime.unsubscribeUser('ada', 'chat.a');
      await one.realtime.publish('chat.a', 'n', 2);
      await one.realtime.publish('chat.b', 'n', 3);
      const until = expect.objectContaining({ channel: 'chat.a', data: 1 });
      const ended = {
        channel: 'chat.a',
        event: '$unsubscribed',
        data: { code: 'forbidden', reason: 'The membership ended', resubscribe: false },
      };
      expect(await devices[0]!.settle()).toEqual([
        until,
        ended,
        expect.objectContaining({ channel: 'chat.b', data: 3 }),
      ]);
      expect(await devices[1]!.settle()).toEqual([until, ended]);
      expect((await bob.settle()).map((frame) => frame.data)).toEqual([1, 2]);
      expect(await two.realtime.connections({ userId: 'ada', channel: 'chat.a' })).toEqual([]);
      expect(await devices[1]!.ask('$unsubscribe', { channel: 'chat.a' })).toBeNull();
    });

    it('lets nobody in whose @OnSubscribe is still running', async () => {
      const [one, two] = await pair();
      let open!: () => void;
      two.app.get(GatedChannel).gate = new Promise((resolve) => (open = resolve));
      const peer = await connect(two, 'ada');
      const answer = peer.ask('$subscribe', { channel: 'gated.a' });
      await two.probe.seen(1);
      await one.realtime.unsubscribeUser('ada', 'gated.a');
      await applied(two);
      open();
      expect(await answer).toEqual({ code: 'forbidden', message: 'The membership ended' });
      await one.realtime.publish('gated.a', 'n', 1);
      expect(await peer.settle()).toEqual([]);
      expect(await peer.ask('$subscribe', { channel: 'gated.a' })).toHaveProperty('position');
    });

    it('is told by the client, which does not come back to the channel', async () => {
      const { realtime, url, probe } = await start();
      const client = new RealtimeClient(`${url}/realtime`, { WebSocket, token: tokenOf('ada') });
      dispose.push(() => client.close());
      const channel = client.channel('gated.a');
      const ended = new Reading<unknown>();
      channel.on('unsubscribed', ended.next);
      await channel.subscribe();
      await realtime.unsubscribeUser('ada', 'gated.a');
      expect(await ended.take()).toMatchObject({ code: 'forbidden', resubscribe: false });
      expect([client.state, channel.state]).toEqual(['open', 'unsubscribed']);
      await client.channel('chat.a').subscribe();
      expect(probe.events).toEqual([['entering', 'a']]);
    });

    it('rejects channels that are not declared, and does nothing where the user is not there', async () => {
      const { realtime } = await start();
      await expect(realtime.unsubscribeUser('ada', 'other')).rejects.toMatchObject({ code: 'unknown_channel' });
      await expect(realtime.unsubscribeUser('ada', '')).rejects.toMatchObject({ code: 'invalid' });
      const peer = await connect({ ...(await start()) }, 'ada');
      await realtime.unsubscribeUser('ada', 'chat.a');
      expect(await peer.settle()).toEqual([]);
    });
  });

  describe('stream', () => {
    function read<T>(node: Node, channel: string, since?: string) {
      const publications = new Reading<Publication<T>>();
      const ended = new Reading<unknown>();
      const subscription = node.realtime.stream<T>(channel, since === undefined ? {} : { since }).subscribe({
        next: publications.next,
        error: ended.next,
        complete: () => ended.next('complete'),
      });
      return { publications, ended, stop: () => subscription.unsubscribe() };
    }

    it('gives what was missed since a position, then what comes, from every node, and completes at the end', async () => {
      const [one, two] = await pair();
      const since = await one.realtime.publish('chat.a', 'n', { value: 1 });
      await one.realtime.publish('chat.a', 'n', { value: 2 });
      const { publications, ended } = read<{ value: number }>(two, 'chat.a', since);
      expect((await publications.take()).data.value).toBe(2);
      const position = await one.realtime.publish('chat.a', 'last', { value: 3 });
      expect(await publications.take()).toMatchObject({ channel: 'chat.a', event: 'last', offset: 3, position });
      await two.close();
      expect(await ended.take()).toBe('complete');
    });

    it('without a position gives what comes from now on', async () => {
      const node = await start();
      await node.realtime.publish('chat.a', 'n', 1);
      const { publications, stop } = read(node, 'chat.a');
      await subscriber(node, 'ada', 'chat.a'); // its answer comes after the stream has begun
      await node.realtime.publish('chat.a', 'n', 2);
      expect((await publications.take()).data).toBe(2);
      stop();
      await node.realtime.publish('chat.a', 'n', 3);
      const again = read(
        node,
        'chat.a',
        (await node.realtime.history('chat.a', { limit: 2 })).publications[0]!.position,
      );
      expect((await again.publications.take()).data).toBe(3);
    });

    it('goes on from where another reader was', async () => {
      const node = await start();
      const positions: string[] = [];
      for (let n = 1; n <= 3; n++) positions.push(await node.realtime.publish('chat.a', 'n', n));
      const { publications } = read(node, 'chat.a', positions[0]);
      const first = await publications.take();
      const next = read(node, 'chat.a', first.position);
      expect((await next.publications.take()).data).toBe(3);
    });

    it('errors with position_lost and where live goes on if the position is no longer valid', async () => {
      const node = await start();
      const since = await node.realtime.publish('chat.a', 'n', 0);
      let position = since;
      for (let n = 1; n < 9; n++) position = await node.realtime.publish('chat.a', 'n', n);
      for (const lost of [since, 'AAAAAA-1-0', 'nonsense']) {
        const { ended } = read(node, 'chat.a', lost);
        expect(await ended.take()).toMatchObject({ code: 'position_lost', details: { position } });
      }
    });

    it('errors with position_lost instead of going on over a loss', async () => {
      const broker = memoryBroker();
      const node = await start({ broker, checkIntervalMs: 10 });
      const since = await node.realtime.publish('chat.a', 'n', 1);
      await node.realtime.publish('chat.a', 'n', 2);
      const { publications, ended } = read(node, 'chat.a', since);
      expect((await publications.take()).data).toBe(2);
      await memorySurgery(broker).wipe();
      const error: any = await ended.take();
      expect(error).toMatchObject({ code: 'position_lost', details: { position: expect.stringMatching(POSITION) } });
      const next = read(node, 'chat.a', error.details.position);
      await node.realtime.publish('chat.a', 'n', 3);
      expect((await next.publications.take()).data).toBe(3);
    });

    it('errors for a channel that is not declared, and where the broker is away', async () => {
      const broker = faultyBroker(memoryBroker());
      const node = await start({ broker });
      expect(await read(node, 'other').ended.take()).toMatchObject({ code: 'unknown_channel' });
      broker.sessions[0]!.calls('subscribe', 'unavailable');
      expect(await read(node, 'chat.a').ended.take()).toMatchObject({ code: 'broker_unavailable' });
    });

    it('completes at once where the application is closed', async () => {
      const { realtime, close } = await start();
      await close();
      expect(await lastValueFrom(realtime.stream('chat.a').pipe(toArray()))).toEqual([]);
    });
  });

  describe('events', () => {
    it('gives publications of every node, and an HttpException for a channel that is not declared', async () => {
      const [one, two] = await pair();
      const events = new Reading<any>();
      const subscription = two.realtime.events('chat.a').subscribe(events.next);
      expect(await events.take()).toMatchObject({ type: '$open' });
      const position = await one.realtime.publish('chat.a', 'n', 1);
      expect(await events.take()).toEqual({ type: 'n', id: `1~0:${position}`, data: '1' });
      subscription.unsubscribe();
      const failed = lastValueFrom(two.realtime.events('other'));
      await expect(failed).rejects.toBeInstanceOf(HttpException);
      await expect(failed).rejects.toMatchObject({ status: 404 });
    });
  });
});

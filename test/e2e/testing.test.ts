import { afterEach, describe, expect, it } from '@jest/globals';
import { Test } from '@nestjs/testing';
import { ConnectedSocket, MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import {
  Connection,
  REALTIME_BROKER,
  RealtimeModule,
  RealtimeService,
  UserIdentity,
  type Authenticator,
} from '../../lib/index.js';
import {
  createTestClient,
  createTestFleet,
  FaultyLink,
  type TestClient,
  type TestClientOptions,
} from '../../lib/testing/index.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

const TRANSPORTS = ['websocket', 'sse', 'long-polling'] as const;
const CHANNELS = ['feed.a', 'feed.b', 'feed.c'];
const ROUNDS = 20;

@WebSocketGateway()
class Gateway {
  @SubscribeMessage('twice')
  twice(@ConnectedSocket() client: Connection, @MessageBody() data: unknown): void {
    client.emit('first', data);
    setImmediate(() => client.emit('second', data));
  }

  @SubscribeMessage('echo')
  echo(@MessageBody() data: unknown): unknown {
    return data;
  }
}

const byCookie: Authenticator = {
  cookie: 'session',
  authenticate: async ({ token }) => new UserIdentity(token),
};

describe.each(platforms)('the test kit on $name', (platform) => {
  let dispose: (() => Promise<void> | void)[] = [];
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  const imports = [RealtimeModule.forRoot({ channels: { 'feed.:name': { subscribe: true, publish: true } } })];

  async function start(): Promise<RunningApp> {
    const running = await startApp(platform, { imports, providers: [Gateway] });
    dispose.push(running.close);
    return running;
  }

  async function connect({ app }: RunningApp, options?: TestClientOptions): Promise<TestClient> {
    const client = await createTestClient(app, { timeoutMs: 60_000, ...options });
    dispose.push(() => client.close());
    return client;
  }

  async function openLink({ app }: RunningApp): Promise<FaultyLink> {
    const link = await FaultyLink.open(app);
    dispose.push(() => link.close());
    return link;
  }

  it.each(TRANSPORTS)('settle() over %s leaves nothing behind, however much comes at once', async (transport) => {
    const running = await start();
    const realtime = running.app.get(RealtimeService);
    const client = await connect(running, { transport, channels: CHANNELS });
    for (let round = 0; round < ROUNDS; round++) {
      const expected = CHANNELS.flatMap((channel) => Array.from({ length: round }, (_, n) => ({ channel, data: n })));
      await Promise.all(expected.map(({ channel, data }) => realtime.publish(channel, 'tick', data)));
      await realtime.toConnection(client.connectionId!).emit('round', round);
      const came = await client.settle();
      expect(came.filter(({ channel }) => channel === undefined)).toEqual([{ event: 'round', data: round }]);
      for (const name of CHANNELS) {
        const ticks = came.filter(({ channel }) => channel === name).map(({ data }) => data as number);
        expect(ticks).toEqual(Array.from({ length: round }, (_, n) => n));
      }
    }
    expect(client.transport).toBe(transport);
  });

  it.each(['websocket', 'long-polling'] as const)(
    'settle() over %s waits for what was sent before',
    async (transport) => {
      const running = await start();
      const client = await connect(running, { transport });
      for (let round = 0; round < ROUNDS; round++) {
        client.send('twice', round);
        expect(await client.settle()).toEqual([
          { event: 'first', data: round },
          { event: 'second', data: round },
        ]);
      }
    },
  );

  it.each(TRANSPORTS)('settle() over %s waits for the way back, and for what was missed', async (transport) => {
    const running = await start();
    const link = await openLink(running);
    const client = await connect(running, { transport, through: link, channels: ['feed.a'] });
    for (let offset = 1; offset <= 5; offset++) {
      link.cut();
      await client.reach('waiting');
      await running.app.get(RealtimeService).publish('feed.a', 'tick', offset);
      link.heal();
      expect(await client.settle()).toEqual([
        { channel: 'feed.a', event: 'tick', data: offset, offset },
        { channel: 'feed.a', event: '$recovered', data: expect.objectContaining({ count: 1 }) },
      ]);
    }
  });

  it('settle() of a client whose link is lost meanwhile comes back with it', async () => {
    const running = await start();
    const link = await openLink(running);
    const client = await connect(running, { through: link, channels: ['feed.a'] });
    link.halfOpen();
    const settled = client.settle();
    await running.app.get(RealtimeService).publish('feed.a', 'tick', 1);
    link.cut();
    await client.reach('waiting');
    link.heal();
    expect(await settled).toMatchObject([{ event: 'tick' }, { event: '$recovered' }]);
  });

  it('next() takes what it is asked for, in the order of its coming, and keeps the rest', async () => {
    const running = await start();
    const client = await connect(running, { channels: ['feed.a'] });
    await client.publish('feed.a', 'tick', 1);
    await client.publish('feed.a', 'tock', 2);
    await client.publish('feed.a', 'tick', 3);
    expect(await client.next('tock')).toMatchObject({ data: 2 });
    expect(await client.next(({ data }) => data === 3)).toMatchObject({ event: 'tick' });
    expect(await client.next()).toMatchObject({ data: 1 });
    const late = client.next('tock');
    await client.publish('feed.a', 'tick', 4);
    await client.publish('feed.a', 'tock', 5);
    expect(await late).toMatchObject({ data: 5 });
    expect(await client.settle()).toMatchObject([{ data: 4 }]);
  });

  it('next() says what came instead, which stays, and ends with the client', async () => {
    const running = await start();
    const client = await connect(running, { channels: ['feed.a'], timeoutMs: 20 });
    await running.app.get(RealtimeService).publish('feed.a', 'tick', 1);
    await expect(client.next('tock')).rejects.toThrow(
      "Within 20 ms 'tock' did not come; the client is open, there was feed.a tick",
    );
    expect(await client.next('tick')).toMatchObject({ data: 1 });
    const waiting = client.next('tock');
    client.close();
    await expect(waiting).rejects.toMatchObject({ code: 'gone' });
    await expect(client.closed()).resolves.toBeUndefined();
  });

  it('closed() tells the error by which a client was ended', async () => {
    const running = await start();
    const client = await connect(running);
    await running.app.get(RealtimeService).disconnect(client.connectionId!, { reason: 'enough' });
    await expect(client.closed()).resolves.toMatchObject({ message: expect.stringContaining('enough') });
    await expect(client.next()).rejects.toThrow('enough');
  });

  it('what no call reports is told as $error', async () => {
    const client = await connect(await start());
    client.send('nobody listens');
    expect(await client.settle()).toMatchObject([{ event: '$error', data: { code: 'unknown_event' } }]);
  });

  it.each(TRANSPORTS)('sends headers over %s', async (transport) => {
    const auth = RealtimeModule.forRoot({ auth: byCookie, origins: [], channels: { 'feed.:name': {} } });
    const running = await startApp(platform, { imports: [auth] });
    dispose.push(running.close);
    const headers = { Cookie: 'session=ann' };
    const client = await connect(running, { transport, headers, channels: ['feed.a'] });
    expect(client.user).toEqual({ id: 'ann' });
  });

  it('asks for an application that listens', async () => {
    const module = await Test.createTestingModule({ imports }).compile();
    const app = module.createNestApplication(platform.createAdapter() as never, { logger: false });
    await app.init();
    dispose.push(() => app.close());
    await expect(createTestClient(app)).rejects.toThrow('await app.listen(0)');
  });

  it('a fleet grows, shrinks and is cut off, and its link leads to the nodes that are there', async () => {
    const fleet = await createTestFleet({
      create: async ({ broker }) => {
        const module = await Test.createTestingModule({ imports, providers: [Gateway] })
          .overrideProvider(REALTIME_BROKER)
          .useValue(broker)
          .compile();
        return module.createNestApplication(platform.createAdapter() as never, { logger: false });
      },
    });
    dispose.push(() => fleet.close());
    const client = await fleet.connect({ transport: 'long-polling', channels: ['feed.a'], timeoutMs: 60_000 });
    await fleet.stop(0);
    await expect(client.request('echo', 1)).resolves.toBe(1);
    expect(await fleet.add()).toBe(2);
    const direct = await fleet.connect({ node: 2, channels: ['feed.a'] });
    fleet.isolate(2);
    await fleet.apps[1]!.get(RealtimeService).publish('feed.a', 'tick', 1);
    expect(await direct.settle()).toEqual([]);
    fleet.rejoin(2);
    expect(await direct.next('tick')).toMatchObject({ data: 1 });
    expect(await client.next('tick')).toMatchObject({ data: 1 });

    await fleet.restart(2); // its clients come back to the successor
    await fleet.apps[1]!.get(RealtimeService).publish('feed.a', 'tick', 2);
    expect(await direct.next('tick')).toMatchObject({ data: 2 });
    await expect(direct.request('echo', 3)).resolves.toBe(3);
  });
});

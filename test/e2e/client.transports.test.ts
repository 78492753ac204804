import { afterEach, describe, expect, it } from '@jest/globals';
import {
  ConnectedSocket,
  MessageBody,
  SubscribeMessage,
  WebSocketGateway,
  type OnGatewayDisconnect,
} from '@nestjs/websockets';
import { interval, map, take, type Observable } from 'rxjs';
import WebSocket from 'ws';
import { RealtimeClient, type ClientOptions } from '../../lib/client/index.js';
import {
  longPolling,
  memoryBroker,
  RealtimeModule,
  RealtimeService,
  sse,
  webSocket,
  type Broker,
  type Connection,
} from '../../lib/index.js';
import { FaultyLink } from '../../lib/testing/faulty-link.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { seededRandom } from './support/random.js';

const SEED = 20_261;
/** Over which the connection is a record, and not a link. */
const WAYS = ['long-polling', 'sse'] as const;

@WebSocketGateway()
class CountingGateway implements OnGatewayDisconnect {
  readonly counted: number[] = [];
  readonly departures: string[] = [];

  handleDisconnect(client: Connection): void {
    this.departures.push(client.transport);
  }

  @SubscribeMessage('count')
  count(@MessageBody() n: number): number {
    this.counted.push(n);
    return n;
  }

  @SubscribeMessage('ticks')
  ticks(@MessageBody() count: number): Observable<number> {
    return interval(5).pipe(
      map((n) => n + 1),
      take(count),
    );
  }

  @SubscribeMessage('greet')
  greet(@ConnectedSocket() client: Connection): string {
    client.emit('greeting', 'hello');
    return client.transport;
  }
}

describe.each(platforms)('the client on $name', (platform) => {
  let dispose: (() => Promise<void> | void)[] = [];
  let running: RunningApp;
  let network: FaultyLink;
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  async function startNode(broker: Broker = memoryBroker()): Promise<RunningApp> {
    const node = await startApp(platform, {
      imports: [
        RealtimeModule.forRoot({
          broker,
          transports: [webSocket(), sse(), longPolling()],
          channels: { 'feed.:name': { subscribe: true, publish: true, presence: true } },
        }),
      ],
      providers: [CountingGateway],
    });
    dispose.push(node.close);
    return node;
  }

  async function start(broker?: Broker): Promise<void> {
    running = await startNode(broker);
    network = await FaultyLink.open(running.port);
    dispose.push(() => network.close());
  }

  function connect(options: ClientOptions = {}): RealtimeClient {
    const client = new RealtimeClient(`http://127.0.0.1:${network.port}/realtime`, {
      WebSocket,
      firstByteMs: 2_000,
      backoff: { minMs: 5, maxMs: 50, attemptsPer10s: 2_000 },
      ...options,
    });
    dispose.push(() => client.close());
    return client;
  }

  const publish = (n: number) => running.app.get(RealtimeService).publish('feed.main', 'tick', { n });

  /** Follows the feed; the returned function resolves once publication `n` came. */
  function follow(client: RealtimeClient) {
    const seen: unknown[] = [];
    const feed = client.channel<{ tick: { n: number } }>('feed.main');
    let look = () => {};
    feed.on('tick', ({ n }) => {
      seen.push(n);
      look();
    });
    feed.on('lost', ({ reason }) => seen.push(`lost: ${reason}`));
    const comes = (n: number) =>
      new Promise<void>((resolve) => {
        look = () => seen.includes(n) && resolve();
        look();
      });
    return { feed, seen, comes };
  }

  it('finds the way that a network leaves: upgrades refused or swallowed, streams held back', async () => {
    await start();
    const ways = [
      { upgrades: 'open', streams: 'open', transport: 'websocket' },
      { upgrades: 'refused', streams: 'open', transport: 'sse' },
      { upgrades: 'swallowed', streams: 'open', transport: 'sse' },
      { upgrades: 'swallowed', streams: 'buffered', transport: 'long-polling' },
    ] as const;
    let n = 0;
    for (const { upgrades, streams, transport } of ways) {
      Object.assign(network, { upgrades, streams });
      const client = connect();
      const { feed, seen, comes } = follow(client);
      await feed.subscribe();
      expect(client.transport).toBe(transport);
      await publish(++n);
      await comes(n);
      expect(seen).toEqual([n]);
      client.close();
    }
  }, 60_000);

  it('goes from one transport to another without a loss and without anything twice', async () => {
    await start();
    const client = connect();
    const { feed, seen, comes } = follow(client);
    const errors: unknown[] = [];
    client.on('error', (error) => errors.push(error));
    await feed.subscribe();
    const ways = [
      { upgrades: 'refused', streams: 'open', transport: 'sse' },
      { upgrades: 'refused', streams: 'buffered', transport: 'long-polling' },
      { upgrades: 'open', streams: 'buffered', transport: 'websocket' },
    ] as const;
    let n = 0;
    for (const { upgrades, streams, transport } of ways) {
      await publish(++n);
      await comes(n);
      Object.assign(network, { upgrades, streams });
      network.fate = (request) => (transport === 'websocket' && request.url!.includes('/poll') ? 'lost' : 'passes');
      network.drop();
      await publish(++n);
      await publish(++n);
      await comes(n);
      expect(client.transport).toBe(transport);
    }
    expect(seen).toEqual(Array.from({ length: n }, (_, i) => i + 1));
    expect(errors).toEqual([]);
  }, 60_000);

  it.each(WAYS)('requests, publishes, reads and streams over %s as over WebSocket', async (transport) => {
    await start();
    const client = connect({ transports: [transport] });
    const { feed, seen, comes } = follow(client);
    await feed.subscribe();
    await expect(client.request('count', 1)).resolves.toBe(1);
    await expect(client.request('nobody', 1)).rejects.toMatchObject({ code: 'unknown_event' });
    await expect(feed.publish('tick', { n: 1 })).resolves.toMatch(/-1-/);
    await comes(1);
    await expect(feed.history()).resolves.toMatchObject({ publications: [{ data: { n: 1 }, offset: 1 }] });
    await expect(feed.presence()).resolves.toMatchObject([{ id: client.id }]);
    const ticks: number[] = [];
    for await (const tick of client.requestStream<number>('ticks', 20)) ticks.push(tick);
    expect(ticks).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    const greeting = new Promise((resolve) => client.on('event', (event, data) => resolve([event, data])));
    await expect(client.request('greet')).resolves.toBe(transport);
    await expect(greeting).resolves.toEqual(['greeting', 'hello']);
    await feed.unsubscribe();
    await publish(2);
    await feed.subscribe();
    await publish(3);
    await comes(3);
    expect(seen).toEqual([1, 3]);
  });

  it('leaves no connection behind where the client is closed', async () => {
    await start();
    for (const transport of ['sse', 'long-polling'] as const) {
      const client = connect({ transports: [transport] });
      await client.connect();
      const { departures } = running.app.get(CountingGateway);
      const before = departures.length;
      client.close();
      while (departures.length === before) await new Promise(setImmediate);
    }
  });

  it.each(WAYS)(
    'P8, P9: %s over a network that loses requests and answers: each effect once, in order, nothing lost',
    async (transport) => {
      await start();
      const random = seededRandom(SEED);
      network.fate = () => (random() < 0.12 ? 'lost' : random() < 0.14 ? 'answer lost' : 'passes');
      const client = connect({ transports: [transport], requestTimeoutMs: 60_000 });
      const errors: unknown[] = [];
      client.on('error', (error) => errors.push(error));
      const { feed, seen, comes } = follow(client);
      await feed.subscribe();
      const asked: Promise<unknown>[] = [];
      for (let n = 1; n <= 60; n++) {
        await publish(n);
        asked.push(client.request('count', n).catch((error: unknown) => (error as { code: string }).code));
        if (n % 3 === 0) await Promise.allSettled(asked);
      }
      await comes(60);
      const outcomes = await Promise.all(asked);
      expect(seen).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
      const { counted } = running.app.get(CountingGateway);
      expect([...new Set(counted)]).toEqual(counted);
      expect([...counted].sort((a, b) => a - b)).toEqual(counted);
      outcomes.forEach((outcome, i) => {
        if (outcome === i + 1) expect(counted).toContain(i + 1);
        else expect(outcome).toBe('outcome_unknown');
      });
      expect(errors).toEqual([]);
    },
    60_000,
  );

  it.each(WAYS)(
    '%s whose every request comes to another node, one of which goes away',
    async (transport) => {
      const broker = memoryBroker();
      await start(broker);
      const other = await startNode(broker);
      let requests = 0;
      let ports = [running.port, other.port];
      network.route = () => ports[requests++ % ports.length]!;
      const client = connect({ transports: [transport] });
      const errors: unknown[] = [];
      client.on('error', (error) => errors.push(error));
      const { feed, seen, comes } = follow(client);
      await feed.subscribe();
      for (let n = 1; n <= 60; n++) {
        await publish(n);
        if (n % 5 === 0) await expect(client.request('count', n)).resolves.toBe(n);
        if (n === 30) {
          ports = [running.port];
          await other.close();
        }
      }
      await comes(60);
      expect(seen).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
      const counted = [running, other].flatMap(({ app }) => app.get(CountingGateway).counted);
      expect(counted.sort((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, i) => 5 * (i + 1)));
      expect(errors).toEqual([]);
    },
    60_000,
  );
});

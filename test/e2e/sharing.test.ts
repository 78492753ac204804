import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ConnectedSocket, MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { defer, finalize, interval, map, type Observable } from 'rxjs';
import WebSocket from 'ws';
import { RealtimeClient, type ClientOptions } from '../../lib/client/index.js';
import { RealtimeModule, RealtimeService, type Connection } from '../../lib/index.js';
import { jwtAuth } from '../../lib/jwt.js';
import { FaultyLink } from '../../lib/testing/faulty-link.js';
import { SECRET, sign } from '../support/jwt.js';
import { until } from '../support/redis-server.js';
import { installTabLocks } from '../support/tab-locks.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

@WebSocketGateway()
class StreamGateway {
  streams = 0;

  @SubscribeMessage('double')
  double(@MessageBody() n: number): number {
    return 2 * n;
  }

  @SubscribeMessage('ticks')
  ticks(@MessageBody() from: number): Observable<number> {
    return defer(() => {
      this.streams++;
      return interval(2).pipe(
        map((n) => from + n),
        finalize(() => this.streams--),
      );
    });
  }

  @SubscribeMessage('greet')
  greet(@ConnectedSocket() client: Connection): void {
    client.emit('greeting', 'hello');
  }
}

/** A tab that follows a channel. */
interface Tab {
  readonly client: RealtimeClient;
  /** The data of publications, and what else was told, in order. */
  readonly seen: unknown[];
}

describe.each(platforms)('clients that share a connection on $name', (platform) => {
  let running: RunningApp;
  let network: FaultyLink;
  let uninstall: () => void;
  let tabs: Tab[];
  let published: number;

  beforeEach(() => {
    uninstall = installTabLocks();
    tabs = [];
    published = 0;
  });

  afterEach(async () => {
    for (const { client } of tabs) client.close();
    await network.close();
    await running.close();
    uninstall();
  });

  async function start(options: Parameters<typeof RealtimeModule.forRoot>[0] = {}): Promise<void> {
    const feed = { subscribe: true, publish: true, presence: true, history: { size: 400, ttlMs: 60_000 } };
    const imports = [RealtimeModule.forRoot({ channels: { 'feed.:name': feed }, ...options })];
    running = await startApp(platform, { imports, providers: [StreamGateway] });
    network = await FaultyLink.open(running.port);
  }

  async function openTab(options: ClientOptions = {}, name = 'feed.main'): Promise<Tab> {
    const client = new RealtimeClient(`http://127.0.0.1:${network.port}/realtime`, {
      share: 'ada',
      WebSocket,
      backoff: { minMs: 5, maxMs: 50, attemptsPer10s: 2_000 },
      ...options,
    });
    const seen: unknown[] = [];
    const tab = { client, seen };
    tabs.push(tab);
    const channel = client.channel<{ tick: number }>(name);
    channel.on('tick', (n) => seen.push(n));
    channel.on('lost', ({ reason }) => seen.push(`lost: ${reason}`));
    channel.on('skipped', ({ count }) => seen.push(`skipped: ${count}`));
    channel.on('error', ({ code }) => seen.push(`error: ${code}`));
    client.on('error', ({ message }) => seen.push(`error: ${message}`));
    await channel.subscribe();
    return tab;
  }

  /** A tab that does not come back before it is waked. */
  async function openSleeper(): Promise<Tab & { wake(): void }> {
    let wake = (): void => {};
    const wakeUps = (fn: () => void): (() => void) => {
      wake = fn;
      return () => {};
    };
    const backoff = { minMs: 60_000, maxMs: 60_000, attemptsPer10s: 2_000 };
    return { ...(await openTab({ backoff, wakeUps })), wake: () => wake() };
  }

  const service = (): RealtimeService => running.app.get(RealtimeService);

  async function publish(count = 1): Promise<void> {
    for (let n = 0; n < count; n++) await service().publish('feed.main', 'tick', ++published);
  }

  const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

  const sees = (tab: Tab, expected: unknown[]): Promise<void> =>
    until(() => tab.seen.length >= expected.length, `${expected.length} publications`).then(() =>
      expect(tab.seen).toEqual(expected),
    );

  it('are one connection, whose publications all get and whose answers each one gets alone', async () => {
    await start();
    const [ada, bob, eve] = [await openTab(), await openTab(), await openTab()];
    expect(await service().connections()).toHaveLength(1);
    expect(network.requests.filter((path) => path.startsWith('UPGRADE'))).toHaveLength(1);
    expect([ada, bob, eve].map(({ client }) => client.transport)).toEqual(['shared', 'shared', 'shared']);
    await publish(3);
    for (const tab of [ada, bob, eve]) await sees(tab, [1, 2, 3]);
    const answers = await Promise.all([1, 2, 3].map((n, i) => [ada, bob, eve][i]!.client.request('double', n)));
    expect(answers).toEqual([2, 4, 6]);
    expect(await eve.client.channel('feed.main').presence()).toHaveLength(1);
    const greeted = [ada, bob].map(
      ({ client }) => new Promise((resolve) => client.on('event', (...event) => resolve(event))),
    );
    expect(eve.client.send('greet')).toBe(true);
    expect(await Promise.all(greeted)).toEqual(Array(2).fill(['greeting', 'hello']));
  });

  it('stream answers to who asked, and stop them when it leaves or goes', async () => {
    await start();
    const [ada, bob] = [await openTab(), await openTab()];
    const take = async (tab: Tab, from: number): Promise<number[]> => {
      const values: number[] = [];
      for await (const n of tab.client.requestStream<number>('ticks', from)) if (values.push(n) === 3) break;
      return values;
    };
    expect(await Promise.all([take(ada, 0), take(bob, 100)])).toEqual([
      [0, 1, 2],
      [100, 101, 102],
    ]);
    const pending = bob.client.requestStream<number>('ticks', 7);
    expect((await pending.next()).value).toBe(7);
    const ended = pending.next().then(async function drain(result): Promise<void> {
      if (!result.done) await pending.next().then(drain);
    });
    bob.client.close();
    await expect(ended).rejects.toMatchObject({ code: 'outcome_unknown' });
    await until(() => running.app.get(StreamGateway).streams === 0, 'the end of the streams');
  });

  it('are told what each one missed, whatever the others have', async () => {
    await start();
    const [ada, bob] = [await openTab(), await openSleeper()];
    await publish(5);
    for (const tab of [ada, bob]) await sees(tab, numbers(1, 5));
    bob.client.reconnect(); // its own link alone
    await publish(245);
    bob.wake();
    await publish(5);
    await sees(bob, numbers(1, 255));
    await sees(ada, numbers(1, 255));
    expect(await service().connections()).toHaveLength(1);
  });

  it('are told what is lost for good', async () => {
    await start();
    const [ada, bob] = [await openTab(), await openSleeper()];
    await publish(1);
    await sees(bob, [1]);
    bob.client.reconnect();
    await publish(500); // more than is kept
    bob.wake();
    await until(() => bob.seen.length > 1, 'the return');
    await publish(1);
    await until(() => bob.seen.at(-1) === 502, 'the last one');
    expect(bob.seen.slice(0, 2)).toEqual([1, 'lost: unrecovered']);
    await sees(ada, numbers(1, 502));
  });

  it('go on by another one when the one that holds the connection is closed, and nothing is lost', async () => {
    await start();
    for (let i = 0; i < 3; i++) await openTab();
    const [ada, bob, eve] = tabs as [Tab, Tab, Tab];
    await publish(2);
    for (const tab of tabs) await sees(tab, [1, 2]);
    const states: string[] = [];
    bob.client.on('state', (state) => states.push(state));
    ada.client.close();
    await publish(2);
    for (const tab of [bob, eve]) await sees(tab, [1, 2, 3, 4]);
    expect(states).toEqual(['waiting', 'connecting', 'open']);
    bob.client.close();
    await publish(2);
    await sees(eve, numbers(1, 6));
    expect(ada.seen).toEqual([1, 2]);
    expect(await service().connections()).toHaveLength(1);
    eve.client.close();
    await until(async () => (await service().connections()).length === 0, 'the end of the connection');
  });

  it('all come back where the network is cut, and nothing is lost', async () => {
    await start();
    const [ada, bob] = [await openTab(), await openTab()];
    for (let round = 0; round < 5; round++) {
      await publish(20);
      network.drop();
      await publish(20);
    }
    for (const tab of [ada, bob]) await sees(tab, numbers(1, 200));
    await until(async () => (await service().connections()).length === 1, 'one connection');
  });

  it('withhold a publication without echo from its tab alone', async () => {
    await start();
    const [ada, bob] = [await openTab(), await openTab()];
    const feed = ada.client.channel<{ tick: number }>('feed.main');
    for (const n of [1, 2]) await feed.publish('tick', n, { echo: false });
    await feed.publish('tick', 3);
    await sees(bob, [1, 2, 3]);
    await sees(ada, ['skipped: 1', 'skipped: 1', 3]);
    const burst = numbers(4, 40).map((n) => feed.publish('tick', n, { echo: n % 2 === 0 }));
    await Promise.all(burst);
    await sees(bob, numbers(1, 40));
    await sees(ada, ['skipped: 1', 'skipped: 1', 3, ...numbers(4, 40).map((n) => (n % 2 === 0 ? n : 'skipped: 1'))]);
  });

  it('are in a channel until the last one leaves it', async () => {
    await start();
    const [ada, bob] = [await openTab(), await openTab()];
    const members = async (): Promise<number> => (await service().connections({ channel: 'feed.main' })).length;
    await ada.client.channel('feed.main').unsubscribe();
    await publish(1);
    await sees(bob, [1]);
    expect(ada.seen).toEqual([]);
    expect(await members()).toBe(1);
    await bob.client.channel('feed.main').unsubscribe();
    await until(async () => (await members()) === 0, 'the end of the subscription');
    await ada.client.channel('feed.main').subscribe();
    await publish(1);
    await sees(ada, [2]);
    expect(bob.seen).toEqual([1]);
  });

  it('are refused together, each with the code', async () => {
    await start({ auth: jwtAuth({ secret: SECRET }) });
    const client = new RealtimeClient(`http://127.0.0.1:${network.port}/realtime`, {
      share: 'x',
      WebSocket,
      token: 'no',
    });
    tabs.push({ client, seen: [] });
    await expect(client.connect()).rejects.toMatchObject({ code: 'unauthenticated' });
    expect(client.state).toBe('closed');
  });

  it('are one peer with the token of the one that holds the connection, renewed by it', async () => {
    await start({ auth: jwtAuth({ secret: SECRET }) });
    const token = (): Promise<string> => sign({ sub: 'ada' });
    const ada = await openTab({ token });
    const bob = await openTab({ token });
    expect(await service().connections({ userId: 'ada' })).toHaveLength(1);
    await service().disconnectUser('ada', { reconnect: true });
    await until(() => ada.client.stats.opened > 1 && bob.client.stats.opened > 1, 'the return');
    expect(await service().connections({ userId: 'ada' })).toHaveLength(1);
    await service().disconnectUser('ada');
    await until(() => ada.client.state === 'closed' && bob.client.state === 'closed', 'the end');
  });

  it('that have other names do not', async () => {
    await start();
    await openTab();
    await openTab({ share: 'bob' });
    expect(await service().connections()).toHaveLength(2);
  });
});

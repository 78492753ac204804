import { afterEach, describe, expect, it } from '@jest/globals';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { RealtimeClient, type TransportName } from '../../lib/client/index.js';
import { RealtimeModule, RealtimeService, sse, webSocket } from '../../lib/index.js';
import { CuttingProxy } from './support/cutting-proxy.js';
import { OffsetLog } from './support/offset-log.js';
import { paced } from './support/paced.js';
import { platforms, startApp } from './support/platforms.js';
import { seededRandom } from './support/random.js';

const PUBLICATIONS = 2_000;
const CUTS = 50;
const DELAY = { minMs: 100, maxMs: 300 };
const SEED = 20_260;
const everyOffset = Array.from({ length: PUBLICATIONS }, (_, i) => i + 1);

interface Follower {
  readonly name: string;
  readonly proxy: CuttingProxy;
  readonly log: OffsetLog;
  /** How often the stream went on where it was cut. */
  recoveries: number;
}

describe('recovery from cuts', () => {
  let dispose: (() => Promise<void> | void)[] = [];
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  async function makeFollower(name: string, port: number, seed: number): Promise<Follower> {
    const proxy = await CuttingProxy.start(port, DELAY, seededRandom(SEED + seed));
    dispose.push(() => proxy.close());
    return { name, proxy, log: new OffsetLog(), recoveries: 0 };
  }

  /** Follows with the client library. */
  async function followWithClient(follower: Follower, transports: TransportName[]): Promise<void> {
    const client = new RealtimeClient(`http://127.0.0.1:${String(follower.proxy.port)}/realtime`, {
      transports,
      WebSocket,
      backoff: { minMs: 5, maxMs: 50, attemptsPer10s: 2_000 },
    });
    dispose.push(() => client.close());
    client.on('error', (error) => follower.log.lose(error));
    const feed = client.channel('feed.main');
    feed.on('lost', (data) => follower.log.lose(data));
    feed.on('skipped', (data) => follower.log.lose(data));
    feed.on('recovered', () => follower.recoveries++);
    feed.on('*', (data, { offset }) => {
      if ((data as { n: number }).n !== offset) follower.log.lose({ data, offset });
      follower.log.see(offset);
    });
    await feed.subscribe();
  }

  /** Follows with an EventSource; the feed is the first of the channels. */
  async function followWithEventSource(follower: Follower, channels: string[]): Promise<void> {
    const { port } = follower.proxy;
    const source = new EventSource(`http://127.0.0.1:${String(port)}/realtime/sse?channels=${channels.join(',')}`);
    dispose.push(() => source.close());
    for (const event of ['$lost', '$skipped', '$disconnect', '$unsubscribed']) {
      source.addEventListener(event, ({ data }) => follower.log.lose({ event, data }));
    }
    source.addEventListener('error', ({ code }) => {
      if (source.readyState === EventSource.CLOSED) follower.log.lose({ gaveUp: code });
    });
    source.addEventListener('tick', ({ data, lastEventId }) => {
      const { n } = JSON.parse(data as string) as { n: number };
      const offset = Number(/0:[^!]*?-(\d+)-/.exec(lastEventId)?.[1]);
      if (n !== offset) follower.log.lose({ n, lastEventId });
      follower.log.see(n);
    });
    await new Promise<void>((resolve) => {
      source.addEventListener('$open', ({ data }) => {
        const { cursor, channels: answers } = JSON.parse(data as string);
        const recovered = Object.values<{ recovered?: boolean }>(answers).map((answer) => answer.recovered);
        if (recovered.includes(false) || cursor === 'ignored') follower.log.lose(data);
        if (recovered.every((is) => is === true)) follower.recoveries++;
        resolve();
      });
    });
  }

  it('gives every client every offset once and in order, however often its connection is destroyed', async () => {
    const history = { size: 2 * PUBLICATIONS, ttlMs: 600_000 };
    const { app, port, close } = await startApp(platforms[0], {
      imports: [
        RealtimeModule.forRoot({
          transports: [webSocket(), sse({ retryMs: 20 })],
          channels: { 'feed.:name': { history } },
        }),
      ],
    });
    dispose.push(close);
    const followers: Follower[] = [];
    const follow = async (name: string, start: (follower: Follower) => Promise<void>): Promise<void> => {
      const follower = await makeFollower(name, port, followers.length);
      followers.push(follower);
      await start(follower);
    };
    for (const i of [1, 2, 3]) await follow(`WebSocket ${i}`, (follower) => followWithClient(follower, ['websocket']));
    for (const i of [1, 2]) await follow(`SSE by the client ${i}`, (follower) => followWithClient(follower, ['sse']));
    for (const i of [1, 2, 3]) {
      await follow(`EventSource ${i}`, (follower) => followWithEventSource(follower, ['feed.main']));
    }
    await follow('EventSource of two channels', (follower) =>
      followWithEventSource(follower, ['feed.main', 'feed.side']),
    );

    const realtime = app.get(RealtimeService);
    // On a slow machine a connection may be cut before its peer has recovered.
    const done = ({ proxy, recoveries }: Follower): number => Math.min(proxy.cuts, recoveries);
    const progress = (): number => (Math.min(...followers.map(done)) + 1) / (CUTS + 1);
    await paced(PUBLICATIONS, { everyMs: 4, progress }, async (index) => {
      if (index % 10 === 0) await realtime.publish('feed.side', 'side', index);
      await realtime.publish('feed.main', 'tick', { n: index + 1 });
    });
    for (const { proxy } of followers) proxy.stopCutting();
    await Promise.all(followers.map(({ log }) => log.reached(PUBLICATIONS)));

    for (const { name, proxy, log, recoveries } of followers) {
      expect({ name, losses: log.losses }).toEqual({ name, losses: [] });
      expect({ name, offsets: log.offsets }).toEqual({ name, offsets: everyOffset });
      expect(proxy.cuts).toBeGreaterThanOrEqual(CUTS);
      expect(recoveries).toBeGreaterThanOrEqual(CUTS);
    }
  }, 300_000);
});

import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { WebSocket } from 'ws';
import { RealtimeClient, type ClientOptions } from '../../lib/client/index.js';
import { Hub } from '../../lib/hub/hub.js';
import { RealtimeModule, RealtimeService } from '../../lib/index.js';
import { jwtAuth } from '../../lib/jwt.js';
import { SECRET, seconds, sign } from '../support/jwt.js';
import { until } from '../support/redis-server.js';
import { WatchedLogger } from '../support/watched-logger.js';
import { ChannelPeer } from './support/channel-peer.js';
import { openStream, refusedStream } from './support/event-stream.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

const NEWS = '/realtime/sse?channels=news';
const bearer = (token: string): Record<string, string> => ({ Authorization: `Bearer ${token}` });
const { now } = Date;

/** Lets the clock of this process jump: what is due is done by the next sweep. */
function jump(ms: number): void {
  const before = Date.now() - now();
  jest.spyOn(Date, 'now').mockImplementation(() => now() + before + ms);
}

describe.each(platforms)('tokens that end on $name', (platform) => {
  let running: RunningApp | undefined;
  let client: RealtimeClient | undefined;

  const start = async (): Promise<RunningApp> => {
    const module = RealtimeModule.forRoot({ auth: jwtAuth({ secret: SECRET }), channels: { news: {} } });
    const prepare = (app: RunningApp['app']): void => app.useLogger(new WatchedLogger());
    return (running = await startApp(platform, { imports: [module] }, prepare));
  };

  afterEach(async () => {
    jest.restoreAllMocks();
    client?.close();
    client = undefined;
    await running?.close();
    running = undefined;
  });

  it('are asked for over a WebSocket, renewed in place, and end it where they are not', async () => {
    const app = await start();
    const exp = seconds() + 100;
    const peer = await ChannelPeer.connect(app, '/realtime', { headers: bearer(await sign({ exp })) });
    await peer.ask('$subscribe', { channel: 'news' });
    jump(85_000);
    expect(await peer.next()).toEqual({ event: '$refresh' });
    const next = exp + 100;
    const renewed = { user: { id: 'ann' }, expiresAt: next * 1000 };
    expect(await peer.ask('$auth', { token: await sign({ exp: next }) })).toEqual(renewed);
    expect(await peer.ask('$auth', { token: await sign({ sub: 'bob', exp: next }) })).toMatchObject({
      code: 'forbidden',
    });
    jump(45_000); // past the end of the first token, and 25 s more
    await app.app.get(RealtimeService).publish('news', 'headline', 1);
    expect(await peer.next()).toMatchObject({ channel: 'news', data: 1 });
    jump(100_000);
    expect(await peer.next()).toEqual({
      event: '$disconnect',
      data: { code: 4401, reason: 'token_expired', reconnect: true },
    });
    expect(await peer.closed).toEqual({ code: 4401, reason: 'token_expired' });
  });

  it('are asked for over SSE by an event, and end the stream; the next request meets the status', async () => {
    const app = await start();
    const token = await sign({ exp: seconds() + 100 });
    const stream = await openStream(app.url + NEWS, bearer(token));
    const frames = await openStream(`${app.url}${NEWS}&format=frames`, bearer(token));
    jump(85_000);
    expect(await stream.event('$refresh')).toEqual({ event: '$refresh', data: 'null' });
    await frames.event();
    expect(JSON.parse((await frames.event()).data!)).toEqual({ event: '$refresh' });
    jump(45_000); // past its end, and 25 s more
    const { data } = await stream.event('$disconnect');
    expect(JSON.parse(data!)).toEqual({ code: 4401, reason: 'token_expired', reconnect: true });
    await stream.ended;
    expect(JSON.parse((await frames.event()).data!)).toMatchObject({ event: '$disconnect', data: { code: 4401 } });
    await frames.ended;
    const { status, body } = await refusedStream(app.url + NEWS, bearer(token));
    expect([status, body.error.code]).toEqual([401, 'token_expired']);
  });

  it.each<[string, Partial<ClientOptions>, number]>([
    ['WebSocket, in place', {}, 1],
    ['SSE, by what it sends', { transports: ['sse'] }, 1],
  ])('are renewed by the client over %s', async (_, options, opened) => {
    const app = await start();
    const service = app.app.get(RealtimeService);
    let fetched = 0;
    let exp = 0;
    const token = async (): Promise<string> => {
      exp = seconds() + 100;
      return sign({ exp, n: ++fetched });
    };
    /** Resolves when the hub has taken a token that the client fetched anew. */
    const renewed = async (count: number): Promise<void> => {
      const { connections } = app.app.get(Hub);
      const ends = (): unknown[] => [...connections.values()].map(({ user, closed }) => closed ?? user?.expiresAt);
      await until(() => fetched === count && ends().includes(exp * 1_000), `token ${count}`);
    };
    client = new RealtimeClient(`${app.url}/realtime`, { WebSocket, token, ...options });
    const errors: Error[] = [];
    client.on('error', (error) => errors.push(error));
    const got: number[] = [];
    const lost: unknown[] = [];
    let wake: () => void = () => undefined;
    const news = client.channel<{ n: number }>('news');
    news.on('lost', (loss) => lost.push(loss));
    news.on('n', (n) => {
      got.push(n);
      wake();
    });
    await client.connect();
    await service.publish('news', 'n', 1);
    for (const count of [2, 3]) {
      jump(85_000);
      await renewed(count);
    }
    await service.publish('news', 'n', 2);
    while (got.length < 2) await new Promise<void>((resolve) => (wake = resolve));
    expect([got, lost, errors, client.stats.opened]).toEqual([[1, 2], [], [], opened]);
  });
});

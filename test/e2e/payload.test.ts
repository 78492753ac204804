import { afterEach, describe, expect, it } from '@jest/globals';
import { ForbiddenException, Injectable } from '@nestjs/common';
import { firstValueFrom } from 'rxjs';
import { WebSocket } from 'ws';
import { RealtimeClient, type Publication } from '../../lib/client/index.js';
import {
  ChannelGateway,
  OnSubscribe,
  RealtimeModule,
  RealtimeService,
  UserIdentity,
  type Authenticator,
  type Connection,
  type RealtimeModuleOptions,
} from '../../lib/index.js';
import { redisBroker } from '../../lib/redis.js';
import { RedisServer } from '../support/redis-server.js';
import { openStream } from './support/event-stream.js';
import { connect } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { as, tokenOf } from './support/token-users.js';

const MIB = 1024 * 1024;

/** Ada may read news, and Bob nothing but other things. */
const auth: Authenticator = {
  authenticate: async ({ token }) => {
    const id = token.slice('token-of-'.length);
    return new UserIdentity(id, {}, undefined, id === 'bob' ? ['other'] : undefined);
  },
};

@ChannelGateway('news')
@Injectable()
class NewsChannel {
  static asked = 0;

  @OnSubscribe()
  subscribing({ user }: Connection): void {
    NewsChannel.asked++;
    if (user?.id === 'eve') throw new ForbiddenException();
  }
}

interface Node extends RunningApp {
  readonly realtime: RealtimeService;
}

describe.each(platforms)('large payloads on $name', (platform) => {
  let dispose: (() => Promise<unknown> | void)[] = [];
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  async function start(options: RealtimeModuleOptions = {}): Promise<Node> {
    const running = await startApp(platform, {
      imports: [RealtimeModule.forRoot({ auth, channels: { small: {} }, ...options })],
      providers: [NewsChannel],
    });
    dispose.push(running.close);
    return { ...running, realtime: running.app.get(RealtimeService) };
  }

  const bearer = (user: string): Record<string, string> => ({ Authorization: `Bearer ${tokenOf(user)}` });

  function fetchPayload(node: Node, since: string, headers = bearer('ada'), channel = 'news'): Promise<Response> {
    return fetch(`${node.url}/realtime/payload?${new URLSearchParams({ channel, since }).toString()}`, { headers });
  }

  async function taken(answer: Promise<Response>): Promise<void> {
    const response = await answer;
    expect([response.status, (await response.text()).length]).toEqual([200, MIB + 2]);
  }

  async function refusal(answer: Promise<Response>): Promise<unknown[]> {
    const response = await answer;
    const { error } = (await response.json()) as { error: { code: string } };
    return [response.status, error.code];
  }

  it('are fetched from any node while small ones arrive', async () => {
    const redis = await RedisServer.start();
    dispose.push(() => redis.dispose());
    const [one, two] = [
      await start({ broker: redisBroker({ url: redis.url }) }),
      await start({ broker: redisBroker({ url: redis.url }) }),
    ];
    const peer = await connect(two, '/realtime', as('ada'));
    await peer.request('$subscribe', { channel: 'news' });
    await peer.request('$subscribe', { channel: 'small' });
    const data = { text: 'x'.repeat(5 * MIB) };
    await one.realtime.publish('news', 'large', data);
    await one.realtime.publish('small', 'after', 1);
    const told = [await peer.next(), await peer.next()];
    const large = told.find(({ event }) => event === 'large');
    expect(told.find(({ event }) => event === 'after')).toMatchObject({ data: 1 });
    expect(large.data.$payload).toEqual({ since: expect.any(String), bytes: JSON.stringify(data).length });
    for (const node of [one, two]) {
      const answer = await fetchPayload(node, large.data.$payload.since);
      expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/json; charset=utf-8']);
      expect(await answer.json()).toEqual(data);
    }
    await peer.close();
  });

  it('are told over event streams too, and given whole to code', async () => {
    const node = await start();
    const whole = firstValueFrom(node.realtime.stream<string>('news'));
    const stream = await openStream(`${node.url}/realtime/sse?channels=news`, bearer('ada'));
    await stream.event('$open');
    const text = 'ü'.repeat(MIB);
    await node.realtime.publish('news', 'large', text);
    const { data } = await stream.event('large');
    const { $payload } = JSON.parse(data!);
    expect($payload.bytes).toBe(2 * MIB + 2);
    expect(await (await fetchPayload(node, $payload.since)).json()).toBe(text);
    expect((await whole).data).toBe(text);
    stream.close();
  });

  it.each(['websocket', 'sse'] as const)('come whole and in their place to a client over %s', async (transport) => {
    const node = await start();
    const client = new RealtimeClient(`${node.url}/realtime`, {
      token: tokenOf('ada'),
      transports: [transport],
      WebSocket: WebSocket,
    });
    dispose.push(() => client.close());
    const told: unknown[] = [];
    const all = new Promise<void>((resolve) => {
      client.channel('news').on('*', (data, { offset }: Publication) => {
        told.push([offset, (data as string).length]);
        if (offset === 3) resolve();
      });
    });
    await client.channel('news').subscribe();
    await node.realtime.publish('news', 'small', 'x');
    await node.realtime.publish('news', 'large', 'x'.repeat(MIB));
    await node.realtime.publish('news', 'small', 'xx');
    await all;
    expect(told).toEqual([
      [1, 1],
      [2, MIB],
      [3, 2],
    ]);
  });

  it('may be kept by the peer that fetched them', async () => {
    const node = await start();
    const { position: since } = await node.realtime.history('news');
    await node.realtime.publish('news', 'large', 'x'.repeat(MIB));
    const answer = await fetchPayload(node, since);
    const { headers } = answer;
    await answer.text();
    expect(headers.get('cache-control')).toBe('private, max-age=3600, immutable');
    expect(headers.get('vary')!.split(', ')).toEqual(expect.arrayContaining(['Origin', 'Authorization', 'Cookie']));
    const again = await fetchPayload(node, since, { ...bearer('ada'), 'If-None-Match': headers.get('etag')! });
    expect([again.status, await again.text()]).toEqual([304, '']);
  });

  it('need what a subscription needs, and are no connections', async () => {
    const node = await start({ limits: { connectionsPerUser: 1, connectionsPerAddress: 1 } });
    const peer = await connect(node, '/realtime', as('ada'));
    const { position: since } = await node.realtime.history('news');
    await node.realtime.publish('news', 'large', 'x'.repeat(MIB));
    const before = NewsChannel.asked;
    await taken(fetchPayload(node, since));
    expect(NewsChannel.asked).toBe(before + 1);
    expect(await refusal(fetchPayload(node, since, {}))).toEqual([401, 'unauthenticated']);
    expect(await refusal(fetchPayload(node, since, bearer('bob')))).toEqual([403, 'forbidden']);
    expect(await refusal(fetchPayload(node, since, bearer('eve')))).toEqual([403, 'forbidden']);
    expect(await refusal(fetchPayload(node, since, bearer('ada'), 'undeclared'))).toEqual([404, 'unknown_channel']);
    expect(await refusal(fetchPayload(node, 'nowhere'))).toEqual([400, 'invalid']);
    expect(await refusal(fetchPayload(node, 'AAAAAA-7-abc'))).toEqual([410, 'position_lost']);
    const elsewhere = { ...bearer('ada'), Origin: 'http://elsewhere.example' };
    expect(await refusal(fetchPayload(node, since, elsewhere))).toEqual([403, 'origin_refused']);
    expect(await node.realtime.connections()).toHaveLength(1);
    await peer.close();
  });

  it('are gone with the history', async () => {
    const node = await start({ channels: { short: { history: { size: 1, ttlMs: 60_000 } } } });
    const { position: since } = await node.realtime.history('short');
    await node.realtime.publish('short', 'large', 'x'.repeat(MIB));
    await taken(fetchPayload(node, since, bearer('ada'), 'short'));
    await node.realtime.publish('short', 'next', 1);
    await node.realtime.publish('short', 'next', 2);
    expect(await refusal(fetchPayload(node, since, bearer('ada'), 'short'))).toEqual([410, 'position_lost']);
  });
});

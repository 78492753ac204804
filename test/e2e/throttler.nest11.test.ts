import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, UseGuards, UseInterceptors, type ExecutionContext } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import {
  SkipThrottle,
  Throttle,
  ThrottlerModule,
  type ThrottlerModuleOptions,
  type ThrottlerStorage,
} from '@nestjs/throttler';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { ChannelGateway, OnPublish, OnSubscribe, RealtimeModule, type RealtimeModuleOptions } from '../../lib/index.js';
import { RealtimeThrottlerGuard, ThrottlingInterceptor } from '../../lib/throttler.js';
import { openStream, refusedStream } from './support/event-stream.js';
import { connect, refused, type Peer } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { as, tokenUsers } from './support/token-users.js';

// With Nest 12, which is ESM, jest cannot load the throttler, which is CommonJS, before Node 24.9: what is shown here on
// Nest 11 is shown on Nest 12 by test/package/throttler.test.ts.

@WebSocketGateway()
class EchoGateway {
  @SubscribeMessage('echo')
  echo(@MessageBody() data: unknown): unknown {
    return data;
  }

  @SubscribeMessage('other')
  other(@MessageBody() data: unknown): unknown {
    return data;
  }

  @Throttle({ default: { limit: 1, ttl: 60_000 } })
  @SubscribeMessage('once')
  once(): string {
    return 'once';
  }

  @SkipThrottle({ default: true, burst: true })
  @SubscribeMessage('free')
  free(): string {
    return 'free';
  }
}

@ChannelGateway('chat.:room')
class ChatChannel {
  @OnSubscribe()
  enter(): void {}

  @OnPublish('message')
  message(@MessageBody() data: unknown): unknown {
    return data;
  }
}

@Controller('plain')
class PlainController {
  @Get()
  plain(): string {
    return 'plain';
  }
}

/** A storage that is asked over a network: it answers later. */
class RemoteStorage implements ThrottlerStorage {
  readonly hits = new Map<string, number>();

  async increment(key: string, ttl: number, limit: number): ReturnType<ThrottlerStorage['increment']> {
    await new Promise((resolve) => setImmediate(resolve));
    const totalHits = (this.hits.get(key) ?? 0) + 1;
    this.hits.set(key, totalHits);
    const isBlocked = totalHits > limit;
    return { totalHits, timeToExpire: ttl / 1_000, isBlocked, timeToBlockExpire: isBlocked ? ttl / 1_000 : 0 };
  }
}

const TTL_MS = 60_000;
const limited = { code: 'rate_limited', retryAfterMs: expect.any(Number) };

describe.each(platforms)('RealtimeThrottlerGuard on $name', (platform) => {
  let running: RunningApp | undefined;
  afterEach(() => running?.close());

  async function start({
    throttlers = [{ ttl: TTL_MS, limit: 2 }],
    guard = RealtimeThrottlerGuard,
    ...options
  }: RealtimeModuleOptions & { throttlers?: ThrottlerModuleOptions; guard?: any } = {}): Promise<RunningApp> {
    running = await startApp(platform, {
      imports: [ThrottlerModule.forRoot(throttlers), RealtimeModule.forRoot(options)],
      controllers: [PlainController],
      providers: [EchoGateway, ChatChannel, ...(guard === null ? [] : [{ provide: APP_GUARD, useClass: guard }])],
    });
    return running;
  }

  const codes = async (peer: Peer, event: string, count: number): Promise<string[]> => {
    const told: string[] = [];
    for (let i = 0; i < count; i++) told.push((await peer.request(event, i)).error?.code ?? 'ok');
    return told;
  };

  it('as APP_GUARD answers frames over the limit by their id, with the time to wait', async () => {
    const peer = await connect(await start());
    expect(await peer.request('echo', 1, 1)).toEqual({ id: 1, data: 1 });
    expect(await peer.request('echo', undefined, 2)).toEqual({ id: 2, data: null }); // a frame without data
    const { error } = await peer.request('echo', 3, 3);
    expect(error).toMatchObject(limited);
    expect(error.retryAfterMs).toBeGreaterThan(TTL_MS - 5_000);
    expect(error.retryAfterMs).toBeLessThanOrEqual(TTL_MS);
    peer.send({ event: 'echo', data: 4 });
    expect(await peer.next()).toMatchObject({ event: 'exception', data: { status: 'error', ...limited } });
    expect(await codes(peer, 'other', 3)).toEqual(['ok', 'ok', 'rate_limited']); // each handler by itself
  });

  it('counts anonymous peers by their connection, and users over all of theirs', async () => {
    const app = await start({ auth: tokenUsers });
    const [first, second, bob] = [
      await connect(app, '/realtime', as('ada')),
      await connect(app, '/realtime', as('ada')),
      await connect(app, '/realtime', as('bob')),
    ];
    expect(await codes(first, 'echo', 1)).toEqual(['ok']);
    expect(await codes(second, 'echo', 2)).toEqual(['ok', 'rate_limited']);
    expect(await codes(first, 'echo', 1)).toEqual(['rate_limited']);
    expect(await codes(bob, 'echo', 2)).toEqual(['ok', 'ok']);
    await app.close();
    const open = await start();
    for (let i = 0; i < 3; i++)
      expect(await codes(await connect(open), 'echo', 3)).toEqual(['ok', 'ok', 'rate_limited']);
  });

  it('heeds @Throttle, @SkipThrottle, named throttlers and blockDuration', async () => {
    const throttlers = [
      { name: 'burst', ttl: TTL_MS, limit: 3, blockDuration: 120_000 },
      { name: 'default', ttl: TTL_MS, limit: 10 },
    ];
    const peer = await connect(await start({ throttlers }));
    expect(await codes(peer, 'free', 20)).toEqual(Array(20).fill('ok'));
    expect(await codes(peer, 'once', 2)).toEqual(['ok', 'rate_limited']);
    expect(await codes(peer, 'echo', 3)).toEqual(['ok', 'ok', 'ok']);
    const { error } = await peer.request('echo');
    expect(error.retryAfterMs).toBeGreaterThan(TTL_MS);
  });

  it('works with a storage that answers later, for frames that come at once', async () => {
    const storage = new RemoteStorage();
    const peer = await connect(await start({ throttlers: { throttlers: [{ ttl: TTL_MS, limit: 2 }], storage } }));
    for (let id = 1; id <= 4; id++) peer.send({ id, event: 'echo', data: id });
    const answers = [];
    for (let i = 0; i < 4; i++) answers.push(await peer.next());
    expect(answers.map(({ id, error }) => [id, error?.code])).toEqual([
      [1, undefined],
      [2, undefined],
      [3, 'rate_limited'],
      [4, 'rate_limited'],
    ]);
    expect(storage.hits.size).toBe(1);
  });

  it('runs on the hooks of channels', async () => {
    const app = await start();
    const peer = await connect(app);
    const subscribe = (room: string): Promise<any> => peer.request('$subscribe', { channel: `chat.${room}` });
    expect(await subscribe('a')).toMatchObject({ data: { size: 100 } });
    expect(await subscribe('b')).toMatchObject({ data: { size: 100 } });
    expect(await subscribe('c')).toMatchObject({ error: limited });
    const publish = (): Promise<any> => peer.request('$publish', { channel: 'chat.z', event: 'message', data: 1 });
    expect(await publish()).toMatchObject({ data: { position: expect.any(String) } });
    await publish();
    expect(await publish()).toMatchObject({ error: limited });
    const stream = (channels: string): string => `${app.url}/realtime/sse?channels=${channels}`;
    (await openStream(stream('chat.a,chat.b'))).close();
    expect(await refusedStream(stream('chat.a,chat.b,chat.c'), { Accept: '*/*' })).toMatchObject({
      status: 429,
      body: { error: limited },
    });
  });

  it('leaves HTTP to what the stock guard does', async () => {
    const { url } = await start();
    const answers = [];
    for (let i = 0; i < 3; i++) answers.push(await fetch(`${url}/plain`));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 429]);
    expect(answers[0]!.headers.get('x-ratelimit-remaining')).toBe('1');
    expect(Number(answers[2]!.headers.get('retry-after'))).toBeGreaterThan(0);
  });

  it('refuses handshakes in connectionGuards, by the address behind trusted proxies', async () => {
    const throttlers = [{ name: 'handshakes', ttl: TTL_MS, limit: 2 }];
    const app = await start({ throttlers, guard: null, connectionGuards: [RealtimeThrottlerGuard], trustedProxies: 1 });
    const from = (ip: string): any => ({ headers: { 'X-Forwarded-For': ip } });
    await connect(app, '/realtime', from('1.1.1.1'));
    (await openStream(`${app.url}/realtime/sse?channels=chat.a`, from('1.1.1.1').headers)).close();
    const { status, headers, body } = await refused(app, '/realtime', from('1.1.1.1'));
    expect([status, body.error.code]).toEqual([429, 'rate_limited']);
    expect(Number(headers['retry-after']) * 1_000).toBe(body.error.retryAfterMs);
    await connect(app, '/realtime', from('2.2.2.2'));
  });

  it('closes a connection that goes over a limit more than ten times within the ttl', async () => {
    const peer = await connect(await start());
    expect(await codes(peer, 'echo', 12)).toEqual(['ok', 'ok', ...Array<string>(10).fill('rate_limited')]);
    peer.send({ id: 1, event: 'echo' });
    const data = { code: 4529, reason: 'rate_limited', reconnect: true, delayMs: expect.any(Number) };
    expect(await peer.next()).toEqual({ event: '$disconnect', data });
    expect(await peer.closed).toEqual({ code: 4529, reason: 'rate_limited' });
  });

  it('closes as soon as a class that extends it says', async () => {
    class StrictGuard extends RealtimeThrottlerGuard {
      protected override maxViolations = 0;
    }
    const peer = await connect(await start({ guard: StrictGuard }));
    await codes(peer, 'echo', 2);
    peer.send({ event: 'echo' });
    expect(await peer.closed).toEqual({ code: 4529, reason: 'rate_limited' });
  });

  it('lets contexts pass that are of no peer', async () => {
    const made = new RealtimeThrottlerGuard([{ ttl: 1, limit: 0 }], new RemoteStorage(), {} as never);
    await made.onModuleInit();
    for (const type of ['rpc', 'graphql']) {
      expect(await made.canActivate({ getType: () => type } as unknown as ExecutionContext)).toBe(true);
    }
  });

  it('works on one gateway alone, as a guard or as an interceptor', async () => {
    for (const bind of [UseGuards(RealtimeThrottlerGuard), UseInterceptors(ThrottlingInterceptor)]) {
      @bind
      @WebSocketGateway({ path: '/one' })
      class OneGateway extends EchoGateway {}
      const app = await startApp(platform, {
        imports: [ThrottlerModule.forRoot([{ ttl: TTL_MS, limit: 2 }]), RealtimeModule.forRoot()],
        providers: [OneGateway],
      });
      const peer = await connect(app, '/one');
      expect(await codes(peer, 'echo', 3)).toEqual(['ok', 'ok', 'rate_limited']);
      expect(await codes(peer, 'free', 3)).toEqual(['ok', 'ok', 'ok']);
      expect(await peer.request('echo', 1)).toMatchObject({ error: limited });
      await app.close();
    }
  });

  it('as an interceptor does not count what guards refuse', async () => {
    let allowed = false;
    @UseGuards({ canActivate: () => allowed })
    @UseInterceptors(ThrottlingInterceptor)
    @ChannelGateway('guarded')
    class GuardedChannel {
      @OnSubscribe()
      enter(): void {}
    }
    const app = await startApp(platform, {
      imports: [ThrottlerModule.forRoot([{ ttl: TTL_MS, limit: 1 }]), RealtimeModule.forRoot()],
      providers: [GuardedChannel],
    });
    const peer = await connect(app);
    const enter = async (): Promise<string> => {
      const { error } = await peer.request('$subscribe', { channel: 'guarded' });
      await peer.request('$unsubscribe', { channel: 'guarded' });
      return error?.code ?? 'ok';
    };
    expect([await enter(), await enter()]).toEqual(['forbidden', 'forbidden']);
    allowed = true;
    expect([await enter(), await enter()]).toEqual(['ok', 'rate_limited']);
    await app.close();
  });
});

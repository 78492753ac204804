import { afterEach, describe, expect, it } from '@jest/globals';
import { Injectable, UseGuards, type CanActivate, type ExecutionContext } from '@nestjs/common';
import {
  Ack,
  ConnectedSocket,
  MessageBody,
  SubscribeMessage,
  WebSocketGateway,
  WsException,
  type OnGatewayConnection,
  type OnGatewayDisconnect,
} from '@nestjs/websockets';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { interval, of, type Observable } from 'rxjs';
import {
  ChannelGateway,
  Identity,
  Idempotent,
  longPolling,
  memoryBroker,
  OnPublish,
  OnSubscribe,
  OnUnsubscribe,
  RealtimeModule,
  RealtimeService,
  SendKey,
  UserIdentity,
  webSocket,
  type Authenticator,
  type Broker,
  type Connection,
  type OnGatewayResume,
  type RealtimeModuleOptions,
} from '../../lib/index.js';
import { Hub } from '../../lib/hub/hub.js';
import { redisBroker } from '../../lib/redis.js';
import {
  get,
  PollingPeer,
  pollWaits,
  post,
  Refused,
  type PollingOptions,
  type Reply,
} from '../support/polling-peer.js';
import { RedisServer, until } from '../support/redis-server.js';
import { secret } from '../support/secrets.js';
import { connect, refused } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { Probe } from './support/probe.js';

const token = (id: string): string => secret(`token-of-${id}`);
const as = (id: string) => ({ headers: { Authorization: `Bearer ${token(id)}` } });

const auth: Authenticator = {
  authenticate: ({ token: text }) => {
    const jti = text.slice('token-of-'.length);
    const [user, , expiresAt] = jti.split('-');
    const expires = expiresAt === undefined ? undefined : Number(expiresAt);
    return Promise.resolve(new UserIdentity(user!, { jti }, expires));
  },
};

@Injectable()
class Refusing implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    return context.switchToWs().getData() !== 'refuse';
  }
}

@WebSocketGateway()
class EventsGateway implements OnGatewayConnection, OnGatewayDisconnect, OnGatewayResume {
  constructor(private readonly probe: Probe) {}

  handleConnection(client: Connection): void {
    client.data = { visits: ['made'] };
    this.probe.note(['connected', client.transport]);
    if (client.transport === 'long-polling') client.emit('welcome');
  }

  handleDisconnect(client: Connection, reason?: string): void {
    this.probe.note(['disconnected', reason, client.data]);
  }

  handleResume(client: Connection): void {
    (client.data as { visits: string[] }).visits.push('resumed');
    this.probe.note(['resumed', client.user?.id]);
  }

  @SubscribeMessage('echo')
  echo(@MessageBody() data: unknown): unknown {
    return data;
  }

  @SubscribeMessage('visits')
  visits(@ConnectedSocket() client: Connection): unknown {
    return client.data;
  }

  @UseGuards(Refusing)
  @SubscribeMessage('guarded')
  guarded(): string {
    return 'passed';
  }

  @SubscribeMessage('throws')
  throws(): never {
    throw new WsException('no');
  }

  @SubscribeMessage('ticks')
  ticks(): Observable<number> {
    return interval(5);
  }

  @SubscribeMessage('few')
  few(): Observable<number> {
    return of(1, 2);
  }

  @SubscribeMessage('later')
  later(@Ack() reply: (data: unknown) => void): void {
    setTimeout(() => reply('late'), 5);
  }

  @SubscribeMessage('event')
  event(): unknown {
    return { event: 'answer', data: 1 };
  }

  @Idempotent()
  @SubscribeMessage('key')
  key(@SendKey() key: string | undefined): unknown {
    return key ?? null;
  }
}

@ChannelGateway('room.:name', { presence: true })
class RoomChannel {
  constructor(private readonly probe: Probe) {}

  @OnSubscribe()
  enter(@Identity('id') user: string | undefined): unknown {
    if (user === 'mallory') throw new WsException('not here');
    return { user: user ?? null };
  }

  @OnPublish('said')
  said(@MessageBody() data: unknown): unknown {
    return { data };
  }

  @OnUnsubscribe()
  leave(@MessageBody() reason: string): void {
    this.probe.note(['left', reason]);
  }
}

/** The status and error of a refusal. */
async function refusal(step: Promise<unknown>): Promise<[number, string]> {
  const error = await step.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof Refused)) throw new Error(`It was not refused: ${String(error)}`);
  return [error.reply.status, error.reply.body.error.code];
}

describe.each(platforms)('long polling on $name', (platform) => {
  let dispose: (() => Promise<unknown> | void)[] = [];
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  interface Node extends RunningApp {
    readonly realtime: RealtimeService;
    readonly probe: Probe;
    readonly hub: Hub;
    readonly base: () => string;
  }

  async function start(options: RealtimeModuleOptions = {}): Promise<Node> {
    const imports = [RealtimeModule.forRoot(options)];
    const providers = [Probe, EventsGateway, RoomChannel];
    const running = await startApp(platform, { imports, providers }, (app) => app.useLogger(false));
    dispose.push(running.close);
    const { app, port } = running;
    const base = (): string => `http://127.0.0.1:${port}/realtime`;
    return { ...running, realtime: app.get(RealtimeService), probe: app.get(Probe), hub: app.get(Hub), base };
  }

  async function pair(options: RealtimeModuleOptions = {}): Promise<[Node, Node]> {
    const broker = options.broker ?? memoryBroker();
    return [await start({ ...options, broker }), await start({ ...options, broker })];
  }

  const join = (node: Node, options?: PollingOptions): Promise<PollingPeer> => PollingPeer.connect(node.base, options);

  it('N13 serves unmodified gateways: answers, errors, guards, streams and acknowledgements', async () => {
    const node = await start();
    const peer = await join(node);
    expect(await peer.poll()).toEqual([{ event: 'welcome' }]);
    const answers = await peer.send(
      { id: 1, event: 'echo', data: { a: [1] } },
      { id: 'two', event: 'throws' },
      { id: 3, event: 'guarded', data: 'refuse' },
      { id: 4, event: 'guarded' },
      { id: 5, event: 'later' },
      { id: 6, event: 'nothing' },
      { event: 'event' },
      { event: 'throws' },
      { id: 7, event: '$subscribe', data: { channel: 'secret' } },
      { event: '' },
    );
    expect(answers).toMatchObject([
      { id: 1, data: { a: [1] } },
      { id: 'two', error: { code: 'rejected', message: 'no' } },
      { id: 3, error: { code: 'forbidden' } },
      { id: 4, data: 'passed' },
      { id: 5, data: 'late' },
      { id: 6, error: { code: 'unknown_event' } },
      { event: 'answer', data: 1 },
      { event: 'exception', data: { status: 'error', message: 'no' } },
      { id: 7, error: { code: 'unknown_channel' } },
      { event: 'exception', data: { code: 'bad_frame' } },
    ]);
  });

  it('D6.4 brings the values of streams by polls, and stops them by $cancel, from another node too', async () => {
    const [one, two] = await pair();
    const peer = await join(one);
    expect(await peer.send({ id: 1, event: 'few' }, { id: 2, event: 'ticks' })).toEqual([]);
    const frames = await peer.until(({ id, data }) => id === 2 && data === 3);
    expect(frames.filter(({ id }) => id === 1)).toEqual([
      { id: 1, data: 1, more: true },
      { id: 1, data: 2, more: true },
      { id: 1, done: true },
    ]);
    const values = frames.filter(({ id }) => id === 2).map(({ data }) => data as number);
    expect(values).toEqual(values.map((_, i) => i));
    peer.base = two.base;
    expect(await peer.request('$cancel', { id: 2 })).toMatchObject({ data: null });
    expect((await peer.until(({ done }) => done === true)).at(-1)).toEqual({ id: 2, done: true });
  });

  it('N13 runs handleConnection once, handleResume on another node with data, and handleDisconnect once', async () => {
    const [one, two] = await pair();
    const peer = await join(one);
    await peer.poll();
    peer.base = two.base;
    expect(await peer.request('visits')).toMatchObject({ data: { visits: ['made', 'resumed'] } });
    expect(await peer.request('visits')).toMatchObject({ data: { visits: ['made', 'resumed'] } });
    peer.base = one.base;
    expect(await peer.request('visits')).toMatchObject({ data: { visits: ['made', 'resumed'] } });
    await two.realtime.disconnect(peer.id, { reason: 'enough' });
    await two.probe.seen(2);
    expect([...one.probe.events, ...two.probe.events]).toEqual([
      ['connected', 'long-polling'],
      ['resumed', undefined],
      ['disconnected', 'enough', { visits: ['made', 'resumed'] }],
    ]);
    const error = await peer.poll().catch((thrown: unknown) => thrown);
    expect((error as Refused).reply).toMatchObject({
      status: 410,
      body: { error: { code: 'gone', details: { disconnect: { code: 4403, reason: 'enough', reconnect: false } } } },
    });
    expect(await refusal(peer.send({ event: 'echo' }))).toEqual([410, 'gone']);
  });

  it('tells a poll that waits, on whatever node, and ends it', async () => {
    const [one, two] = await pair({ auth });
    const peer = await join(one, as('ann-1'));
    const socket = await connect(two, '/realtime', as('ann-2'));
    await peer.poll();
    let waiting = peer.begin();
    await pollWaits(one.hub, peer);
    await two.realtime.toUser('ann').emit('hello', 1);
    expect(await peer.poll(waiting)).toEqual([{ event: 'hello', data: 1 }]);
    expect(await socket.settle()).toEqual(expect.arrayContaining([{ event: 'hello', data: 1 }]));
    await two.realtime.toConnection(peer.id).emit('only', 2);
    expect(await peer.poll()).toEqual([{ event: 'only', data: 2 }]);
    expect(await two.realtime.connections({ userId: 'ann' })).toHaveLength(2);
    expect(await one.realtime.connections({ userId: 'bob' })).toEqual([]);
    waiting = peer.begin();
    await pollWaits(one.hub, peer);
    await two.realtime.disconnectUser('ann');
    expect(await peer.poll(waiting)).toEqual([
      { event: '$disconnect', data: { code: 4403, reason: 'forbidden', reconnect: false } },
    ]);
    expect(await one.realtime.connections()).toEqual([]);
    await socket.closed;
  });

  it('W7 keeps a member over its polls and nodes, and takes it out where its connection ends', async () => {
    const [one, two] = await pair({ auth });
    const watcher = await connect(two, '/realtime', as('bob'));
    await watcher.request('$subscribe', { channel: 'room.a' });
    const peer = await join(one, { ...as('ann'), client: 'tab', channels: { 'room.a': null } });
    expect((await two.realtime.presence('room.a')).map(({ id, info }) => [id, info])).toEqual([
      ['bob', { user: 'bob' }],
      ['ann', { user: 'ann' }],
    ]);
    peer.base = two.base;
    await peer.poll();
    expect(await peer.request('$presence', { channel: 'room.a' })).toMatchObject({ data: { count: 2 } });
    await one.realtime.unsubscribeUser('ann', 'room.a');
    expect(await peer.until(({ event }) => event === '$unsubscribed')).toContainEqual({
      channel: 'room.a',
      event: '$unsubscribed',
      data: { code: 'forbidden', reason: 'The membership ended', resubscribe: false },
    });
    expect((await two.realtime.presence('room.a')).map(({ id }) => id)).toEqual(['bob']);
    expect([...one.probe.events, ...two.probe.events]).toContainEqual(['left', 'removed']);
    await peer.request('$subscribe', { channel: 'room.a' });
    await two.realtime.disconnectUser('ann');
    await until(async () => (await two.realtime.presence('room.a')).length === 1, 'the departure');
    await until(
      () => [...one.probe.events, ...two.probe.events].some((event) => String(event) === 'left,disconnected'),
      'the hook',
    );
    await watcher.close();
  });

  it('W2, D6.3 publishes by hooks, once for each repeated number', async () => {
    const node = await start();
    const peer = await join(node, { channels: { 'room.a': null } });
    await peer.poll(); // the greeting
    const frame = { id: 1, event: '$publish', data: { channel: 'room.a', event: 'said', data: 'x' } };
    const answers = await peer.send(frame);
    expect(await peer.repeat(1, frame)).toEqual(answers);
    expect(await peer.until(({ event }) => event === 'said')).toContainEqual(
      expect.objectContaining({ channel: 'room.a', event: 'said', data: { data: 'x' }, offset: 1 }),
    );
    expect((await node.realtime.history('room.a')).publications).toHaveLength(1);
    expect(await peer.send({ id: 2, event: '$publish', data: { channel: 'room.a', event: 'x' } })).toMatchObject([
      { id: 2, error: { code: 'forbidden' } },
    ]);
    expect((await peer.request('key')).data).toBe(`${peer.id}:3:0`);
    const socket = await connect(node);
    await socket.settle();
    expect(await socket.request('key', null, 'k')).toEqual({ id: 'k', data: null });
    await socket.close();
  });

  it('refuses as every wire does: credentials, origins, bodies, methods', async () => {
    const node = await start({ auth, channels: { news: {} } });
    const { base } = node;
    const poll = (body: unknown, headers: Record<string, string> = as('ann').headers): Promise<Reply> =>
      post(`${base()}/poll`, body, headers).reply;
    const told = ({ status, body }: Reply): [number, string] => [status, body.error.code];
    expect(told(await poll({}, {}))).toEqual([401, 'unauthenticated']);
    expect(told(await get(`${base()}/poll?channels=news`).reply)).toEqual([401, 'unauthenticated']);
    expect(told(await poll({}, { ...as('ann').headers, Origin: 'https://elsewhere.example' }))).toEqual([
      403,
      'origin_refused',
    ]);
    const preflight = httpRequest(`${base()}/send`, {
      method: 'OPTIONS',
      headers: { Origin: base().slice(0, -9), 'Access-Control-Request-Method': 'POST' },
    });
    preflight.end();
    const [allowed] = await once(preflight, 'response');
    allowed.resume();
    expect([allowed.statusCode, allowed.headers['access-control-allow-methods']]).toEqual([204, 'POST']);
    expect(told(await get(`${base()}/send`).reply)).toEqual([405, 'not_available']);
    expect(told(await poll([]))).toEqual([400, 'invalid']);
    expect(told(await poll({ positions: { news: 'x' } }))).toEqual([400, 'invalid']);
    expect(told(await poll({ client: '' }))).toEqual([400, 'invalid']);
    expect(told(await poll({ pass: 'x'.repeat(70_000) }))).toEqual([413, 'frame_too_large']);
    expect(told(await poll({}, { ...as('ann').headers, 'Content-Type': 'text/plain' }))).toEqual([415, 'invalid']);
    expect(told(await get(`${base()}/poll`, as('ann').headers).reply)).toEqual([400, 'invalid']);
    expect(told(await get(`${base()}/poll?channels=none`, as('ann').headers).reply)).toEqual([404, 'unknown_channel']);
    const peer = await join(node, as('ann'));
    for (const [body, code] of [
      [{ pass: peer.pass, seq: 0, frames: [{}] }, 'invalid'],
      [{ pass: peer.pass, seq: 1, frames: [] }, 'invalid'],
      [{ pass: peer.pass, seq: 1, frames: Array(65).fill({}) }, 'invalid'],
      [{ seq: 1, frames: [{}] }, 'invalid'],
    ] as const) {
      expect(told(await post(`${base()}/send`, body).reply)).toEqual([400, code]);
    }
    const nested = (depth: number): unknown => JSON.parse('['.repeat(depth) + ']'.repeat(depth));
    expect(
      await peer.send({ id: 1, event: 'echo', data: nested(63) }, { id: 2, event: 'echo', data: nested(64) }),
    ).toMatchObject([
      { id: 1, data: nested(63) },
      { id: 2, error: { code: 'bad_frame' } },
    ]);
    expect(await refusal(peer.send({ event: 'echo', data: nested(2_000) }))).toEqual([400, 'invalid']);
    peer.seq--;
    const large = { id: 1, event: 'echo', data: 'x'.repeat(70_000) };
    expect(await peer.send(large)).toMatchObject([{ id: 1, error: { code: 'frame_too_large' } }]);
    expect(await refusal(peer.send({ event: 'echo', data: 'x'.repeat(300_000) }))).toEqual([413, 'frame_too_large']);
  });

  it('lets a one-time ticket in, once', async () => {
    const node = await start({ auth });
    const ticket = await node.realtime.issueTicket(new UserIdentity('ann'));
    const url = `${node.base()}/poll?ticket=${ticket}`;
    const made = await post(url, {}).reply;
    expect([made.status, made.body.frames[0].data.user]).toEqual([201, { id: 'ann' }]);
    expect((await post(url, {}).reply).status).toBe(401);
  });

  it('W12, P13 ends the connection of a revoked token, waiting and not', async () => {
    const [one, two] = await pair({ auth });
    const peers = [await join(one, as('ann-1')), await join(two, as('ann-1'))];
    await peers[0]!.poll();
    const waiting = peers[0]!.begin();
    await pollWaits(one.hub, peers[0]!);
    await two.realtime.revokeToken('ann-1');
    expect(await peers[0]!.poll(waiting)).toEqual([
      { event: '$disconnect', data: { code: 4410, reason: 'revoked', reconnect: false } },
    ]);
    const [status, code] = await refusal(peers[1]!.poll());
    expect([
      [401, 'revoked'],
      [410, 'gone'],
    ]).toContainEqual([status, code]);
    expect(await refusal(peers[1]!.send({ event: 'echo' }))).toEqual([410, 'gone']);
    expect(await refusal(join(one, as('ann-1')))).toEqual([401, 'revoked']);
  });

  it('W11 renews credentials by a newer token in a request; one of somebody else is forbidden', async () => {
    const [one, two] = await pair({ auth });
    const soon = Date.now() + 30_000;
    const peer = await join(one, as(`ann-1-${soon}`));
    await peer.poll();
    const url = `${two.base()}/poll`;
    const poll = (headers: Record<string, string>): Promise<Reply> =>
      post(url, { pass: peer.pass, inbox: 0, positions: {} }, headers).reply;
    expect((await poll(as('bob').headers)).body.error.code).toBe('forbidden');
    expect((await poll(as(`ann-2-${soon + 60_000}`).headers)).status).toBe(200);
    const answer = await peer.request('$auth', { token: token(`ann-3-${soon + 90_000}`) });
    expect(answer.data).toEqual({ user: { id: 'ann' }, expiresAt: soon + 90_000 });
    expect(await peer.request('$auth', { token: token('bob') })).toMatchObject({ error: { code: 'forbidden' } });
  });

  it('counts connections with records of a user and an address, on all nodes, until they end', async () => {
    const [one, two] = await pair({ auth, limits: { connectionsPerUser: 2, connectionsPerAddress: 3 } });
    const first = await join(one, as('ann-1'));
    await join(two, as('ann-2'));
    expect(await refusal(join(one, as('ann-3')))).toEqual([429, 'too_many_connections']);
    expect((await refused(two, '/realtime', as('ann-4'))).status).toBe(429);
    await join(two, as('bob'));
    expect(await refusal(join(one, as('eve')))).toEqual([429, 'too_many_connections']);
    first.base = two.base;
    expect(await first.request('echo', 1)).toMatchObject({ data: 1 });
    await one.realtime.disconnect(first.id);
    await one.probe.seen(2);
    await join(one, as('ann-5'));
  });

  it('limits the requests of an address with passes that are none, and not those that are', async () => {
    const node = await start({ limits: { handshakesPerAddress: 5 } });
    const peer = await join(node);
    const other = await join(node);
    const { pass } = other;
    other.pass = 'A'.repeat(38);
    // At once: the bucket fills while a slow machine makes one request after another.
    const refusals = await Promise.all(Array.from({ length: 24 }, () => refusal(other.send({ event: 'echo' }))));
    expect(refusals).toContainEqual([410, 'gone']);
    expect(refusals).toContainEqual([429, 'rate_limited']);
    for (let i = 0; i < 20; i++) expect(await peer.request('echo', i)).toMatchObject({ data: i });
    other.pass = pass;
    other.seq = 0;
    expect(await other.request('echo', 1)).toMatchObject({ data: 1 });
  });

  it('limits the frames and polls of a connection, with the time to wait, and keeps the number', async () => {
    const node = await start({ limits: { framesPerSecond: 5 } });
    const peer = await join(node);
    const frames = Array.from({ length: 9 }, (_, id) => ({ id, event: 'echo' }));
    expect(await peer.send(...frames)).toHaveLength(9);
    const refusedReply = (await peer
      .repeat(2, ...frames.slice(0, 5))
      .then(
        () => peer.repeat(3, { event: 'echo' }),
        (error: unknown) => error,
      )
      .catch((error: unknown) => error)) as Refused;
    expect(refusedReply.reply).toMatchObject({
      status: 429,
      headers: { 'retry-after': expect.any(String) },
      body: { error: { code: 'rate_limited', retryAfterMs: expect.any(Number) } },
    });
  });

  it('drains: answers who waits, refuses who comes, and the connection goes on elsewhere', async () => {
    const [one, two] = await pair({ drain: { timeoutMs: 5_000 } });
    const peer = await join(one, { channels: { 'room.a': null } });
    await peer.poll();
    const waiting = peer.begin();
    await two.realtime.publish('room.a', 'said', 0);
    await peer.poll(waiting);
    const last = peer.begin();
    await pollWaits(one.hub, peer);
    const closing = one.close();
    expect((await last.reply).status).toBe(200);
    peer.base = two.base;
    await two.realtime.publish('room.a', 'said', 1);
    expect(await peer.until(({ event }) => event === 'said')).toContainEqual(expect.objectContaining({ data: 1 }));
    await closing;
    expect(one.probe.events).toEqual([['connected', 'long-polling']]);
    expect(await peer.request('visits')).toMatchObject({ data: { visits: ['made', 'resumed'] } });
  });

  it('ends connections as the last node of a broker in memory ends, with their hooks', async () => {
    const node = await start();
    const peer = await join(node);
    await peer.poll();
    const waiting = peer.begin();
    await pollWaits(node.hub, peer);
    const closing = node.close();
    expect(await peer.poll(waiting)).toEqual([
      {
        event: '$disconnect',
        data: { code: 4503, reason: 'draining', reconnect: true, delayMs: expect.any(Number) },
      },
    ]);
    await closing;
    expect(node.probe.events.at(-1)).toEqual(['disconnected', 'draining', { visits: ['made'] }]);
  });

  it('serves a gateway with a path of its own, and refuses the pass of another endpoint', async () => {
    @WebSocketGateway({ path: '/rooms/:id' })
    class RoomsGateway {
      @SubscribeMessage('where')
      where(@ConnectedSocket() client: Connection): unknown {
        return client.params;
      }
    }
    const imports = [RealtimeModule.forRoot({ transports: [longPolling(), webSocket()] })];
    const running = await startApp(platform, { imports, providers: [RoomsGateway] }, (app) => app.useLogger(false));
    dispose.push(running.close);
    const peer = await PollingPeer.connect(() => `http://127.0.0.1:${running.port}/rooms/7`);
    expect(await peer.request('where')).toMatchObject({ data: { id: '7' } });
    peer.base = () => `http://127.0.0.1:${running.port}/realtime`;
    expect(await refusal(peer.poll())).toEqual([410, 'gone']);
  });

  it('W9, P1 goes on over nodes that Redis joins', async () => {
    const redis = await RedisServer.start();
    dispose.push(() => redis.dispose());
    const brokers: Broker[] = [1, 2, 3].map(() => redisBroker({ url: redis.url }));
    const all: Node[] = [];
    for (const broker of brokers) all.push(await start({ broker, auth }));
    let next = 0;
    const peer = await PollingPeer.connect(() => all[next++ % 3]!.base(), {
      ...as('ann'),
      channels: { 'room.a': null },
    });
    const seen: unknown[] = [];
    for (let i = 1; i <= 9; i++) {
      await all[i % 3]!.realtime.publish('room.a', 'said', i);
      if (i % 3 === 0) await peer.request('echo', i);
      if (i % 4 === 0) await all[i % 3]!.realtime.toUser('ann').emit('direct', i);
      while (!seen.includes(i)) {
        for (const { event, data } of await peer.poll()) if (event === 'said') seen.push(data);
      }
    }
    expect(seen).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const waiting = peer.begin();
    await pollWaits(
      all.map(({ hub }) => hub),
      peer,
    );
    await all[0]!.realtime.disconnectUser('ann');
    expect((await peer.poll(waiting)).at(-1)).toMatchObject({ event: '$disconnect' });
    const hooks = all.flatMap(({ probe }) => probe.events).filter((event) => (event as string[])[0] === 'disconnected');
    expect(hooks).toHaveLength(1);
    expect(await all[1]!.realtime.presence('room.a')).toEqual([]);
  });
});

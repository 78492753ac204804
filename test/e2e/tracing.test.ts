import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Injectable, UnauthorizedException, type CanActivate, type Type } from '@nestjs/common';
import { Ack, MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-base';
import { once } from 'node:events';
import { request } from 'node:http';
import type { Socket } from 'node:net';
import { Observable, Subject } from 'rxjs';
import { WebSocket } from 'ws';
import { RealtimeClient } from '../../lib/client/index.js';
import {
  ChannelGateway,
  memoryBroker,
  OnPublish,
  RealtimeException,
  RealtimeModule,
  RealtimeService,
  type Broker,
  type RealtimeModuleOptions,
} from '../../lib/index.js';
import { openTelemetry, type OpenTelemetryOptions } from '../../lib/opentelemetry.js';
import { redisBroker } from '../../lib/redis.js';
import { RedisServer, until } from '../support/redis-server.js';
import { idOf, placeOf, registerContexts, Traces } from '../support/traces.js';
import { bootFailure } from './support/boot-failure.js';
import { connect, refused, type Peer } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { as, tokenUsers } from './support/token-users.js';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT = '00f067aa0ba902b7';
const TRACEPARENT = `00-${TRACE}-${PARENT}-01`;
const SECRET = 'a-secret-that-nobody-should-see';

/** What the application does in its own span. */
function work(name: string): string {
  const span = trace.getTracer('the application').startSpan(name);
  span.end();
  return idOf(span as unknown as ReadableSpan);
}

@WebSocketGateway()
class RoomGateway {
  readonly ticks = new Subject<number>();
  /** Tells that somebody follows the ticks. */
  followed: () => void = () => undefined;
  reply: ((data: unknown) => void) | undefined;

  constructor(private readonly realtime: RealtimeService) {}

  @SubscribeMessage('say')
  async say(@MessageBody() text: string): Promise<string> {
    await Promise.resolve();
    work('looks it up');
    return this.realtime.publish('room.1', 'said', text);
  }

  @SubscribeMessage('burst')
  burst(@MessageBody() count: number): Promise<string[]> {
    return Promise.all(Array.from({ length: count }, (_, n) => this.realtime.publish('room.1', 'said', n)));
  }

  @SubscribeMessage('ticks')
  follow(): Observable<number> {
    return new Observable((subscriber) => {
      const subscription = this.ticks.subscribe(subscriber);
      void Promise.resolve().then(() => {
        work('is followed');
        this.followed();
      });
      return subscription;
    });
  }

  @SubscribeMessage('later')
  later(@Ack() reply: (data: unknown) => void): void {
    this.reply = reply;
  }

  @SubscribeMessage('fail')
  fail(@MessageBody() text: string): never {
    throw new Error(text);
  }

  @SubscribeMessage('refuse')
  refuse(@MessageBody() text: string): never {
    throw new RealtimeException('rejected', text);
  }
}

@WebSocketGateway({ path: '/wing/:id' })
class WingGateway {}

@ChannelGateway('talk.:name')
class TalkChannel {
  @OnPublish('said')
  said(@MessageBody() text: string): string {
    work('allows it');
    return text;
  }
}

@Injectable()
class NoGuard implements CanActivate {
  canActivate(): boolean {
    work('asks around');
    throw new UnauthorizedException(SECRET);
  }
}

/** Connects by a request target as it is, which no client would send. */
async function upgrade({ port }: RunningApp, target: string): Promise<void> {
  const headers = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' };
  const asking = request({
    port,
    path: target,
    headers: { ...headers, 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' },
  });
  asking.end();
  const [, socket] = (await once(asking, 'upgrade')) as [unknown, Socket];
  socket.destroy();
}

const channels: RealtimeModuleOptions['channels'] = { 'room.:id': {} };

interface Node extends RunningApp {
  readonly traces: Traces;
  readonly gateway: RoomGateway;
  readonly realtime: RealtimeService;
}

describe.each(platforms)('tracing on $name', (platform) => {
  let dispose: (() => unknown)[] = [];
  let unregister: () => void;
  beforeAll(() => {
    unregister = registerContexts();
  });
  afterAll(() => unregister());
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  /** Starts a node. What the application traces itself is told where all of the node is. */
  async function start(
    options: RealtimeModuleOptions = {},
    tracing: OpenTelemetryOptions = {},
    traces = new Traces(),
    providers: Type[] = [],
  ): Promise<Node> {
    const { provider: tracerProvider } = traces;
    trace.disable(); // that of the node before
    trace.setGlobalTracerProvider(tracerProvider);
    const settings = { channels: channels!, tracing: openTelemetry({ tracerProvider, ...tracing }), ...options };
    const running = await startApp(
      platform,
      { imports: [RealtimeModule.forRoot(settings)], providers: [RoomGateway, TalkChannel, NoGuard, ...providers] },
      (app) => app.useLogger(false),
    );
    dispose.push(() => trace.disable(), running.close);
    const { app } = running;
    return { ...running, traces, gateway: app.get(RoomGateway), realtime: app.get(RealtimeService) };
  }

  async function subscriber(node: RunningApp, channel = 'room.1'): Promise<Peer> {
    const peer = await connect(node);
    expect(await peer.request('$subscribe', { channel })).toHaveProperty('data.position');
    return peer;
  }

  function clientOf(node: RunningApp, transport: 'websocket' | 'sse' | 'long-polling' = 'websocket'): RealtimeClient {
    const client = new RealtimeClient(`${node.url}/realtime`, {
      WebSocket: WebSocket,
      transports: [transport],
      traceContext: () => TRACEPARENT,
    });
    dispose.push(() => client.close());
    return client;
  }

  describe.each(['memory', 'redis'] as const)('over the broker %s', (kind) => {
    let brokers: () => Broker;

    async function prepare(): Promise<void> {
      if (kind === 'memory') {
        const broker = memoryBroker();
        brokers = () => broker;
        return;
      }
      const redis = await RedisServer.start();
      dispose.push(() => redis.dispose());
      brokers = () => redisBroker({ url: redis.url });
    }

    it('makes one trace of a request, its handler, what that publishes, and its delivery on another node', async () => {
      await prepare();
      const other = await start({ broker: brokers() });
      const node = await start({ broker: brokers() }, { trustPeers: true });
      const [one, two] = [await subscriber(other), await subscriber(other)];
      const position = await clientOf(node).request<string>('say', SECRET);
      const frames = [await one.next(), await two.next()];

      const handler = await node.traces.span('process say');
      const own = await node.traces.span('looks it up');
      const publish = await node.traces.span('publish room.:id');
      const deliver = await other.traces.span('deliver room.:id');
      expect([handler, own, publish, deliver].map(placeOf)).toEqual([
        { trace: TRACE, parent: PARENT },
        { trace: TRACE, parent: idOf(handler) },
        { trace: TRACE, parent: idOf(handler) },
        { trace: TRACE, parent: idOf(publish) },
      ]);
      const kinds = [SpanKind.SERVER, SpanKind.INTERNAL, SpanKind.PRODUCER, SpanKind.CONSUMER];
      expect([handler, own, publish, deliver].map((span) => span.kind)).toEqual(kinds);
      expect(deliver.attributes).toMatchObject({ 'realtime.subscribers': 2, 'messaging.destination.name': 'room.1' });
      // One of a publication, however many get it; and none where nobody does.
      expect(other.traces.named('deliver room.:id')).toHaveLength(1);
      expect(node.traces.named('deliver room.:id')).toHaveLength(0);
      // Peers see nothing of it.
      const [, offset, tag] = position.split('-');
      const frame = { channel: 'room.1', event: 'said', data: SECRET, offset: Number(offset), tag };
      expect(frames).toEqual([frame, frame]);
      const [stored] = (await node.realtime.history('room.1')).publications;
      expect(JSON.parse(JSON.stringify(stored))).toEqual(frame);
    });

    it('tells each publication of a turn by a span of its own, up to 16 of a channel', async () => {
      await prepare();
      const other = await start({ broker: brokers() });
      const node = await start({ broker: brokers() });
      const peer = await subscriber(other);
      const asking = await connect(node);
      await asking.request('burst', 20);
      for (let n = 0; n < 20; n++) await peer.next();
      await until(() => other.traces.named('deliver room.:id').length === 16, 'the deliveries');
      const published = node.traces.named('publish room.:id').map(idOf);
      expect(published).toHaveLength(20);
      const parents = other.traces.named('deliver room.:id').map((span) => placeOf(span).parent);
      expect(parents).toEqual(published.slice(0, 16));
    });
  });

  it('describes what is traced by the conventions, and tells nothing of data and credentials', async () => {
    const node = await start({ auth: { ...tokenUsers, query: 'access' } });
    const peer = await connect(node, `/realtime?access=ada&word=${SECRET}`);
    await peer.request('$subscribe', { channel: 'room.1' });
    await peer.request('say', SECRET);
    const opened = await node.traces.span('GET /realtime');
    expect(opened.attributes).toEqual({
      'http.request.method': 'GET',
      'http.route': '/realtime',
      'url.path': '/realtime',
      'url.scheme': 'http',
      'realtime.transport': 'websocket',
    });
    expect((await node.traces.span('process say')).attributes).toEqual({
      'messaging.system': 'nestjs-realtime',
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.destination.name': 'say',
      'messaging.client.id': expect.any(String),
      'realtime.endpoint': '/realtime',
      'realtime.transport': 'websocket',
    });
    expect((await node.traces.span('publish room.:id')).attributes).toEqual({
      'messaging.system': 'nestjs-realtime',
      'messaging.operation.name': 'publish',
      'messaging.operation.type': 'send',
      'messaging.destination.name': 'room.1',
      'messaging.destination.template': 'room.:id',
      'realtime.event': 'said',
    });
    await node.traces.span('deliver room.:id');
    expect(told(node.traces)).not.toContain(SECRET);
  });

  it('names a handshake by the route that took it, whatever the peer made of its URL', async () => {
    const node = await start({}, {}, new Traces(), [WingGateway]);
    const asked: [target: string, route: string, path: string][] = [
      ['http://random-1.example/realtime?a=b', '/realtime', '/realtime'],
      ['/realtime#/a/b', '/realtime', '/realtime'],
      [`/realtime#/${'a'.repeat(4_000)}`, '/realtime', '/realtime'],
      ['/realtime/', '/realtime', '/realtime/'],
      ['http://random-2.example/wing/7/', '/wing/:id', '/wing/7/'],
      [`/wing/${'a'.repeat(4_000)}`, '/wing/:id', `/wing/${'a'.repeat(250)}`],
    ];
    for (const [target] of asked) await upgrade(node, target);
    await until(
      () => node.traces.spans.filter(({ kind }) => kind === SpanKind.SERVER).length === asked.length,
      'spans',
    );
    const handshakes = node.traces.spans.filter(({ kind }) => kind === SpanKind.SERVER);
    expect(handshakes.map(({ name, attributes }) => [name, attributes['http.route'], attributes['url.path']])).toEqual(
      asked.map(([, route, path]) => [`GET ${route}`, route, path]),
    );

    // Below an endpoint, what the transport has there.
    await fetch(`${node.url}/wing/7/poll?channels=room.1`);
    expect((await node.traces.span('GET /wing/:id/poll')).attributes).toMatchObject({
      'http.route': '/wing/:id/poll',
      'url.path': '/wing/7/poll',
    });
  });

  describe("a peer's trace context", () => {
    it('is linked to, not gone on with, unless peers are trusted', async () => {
      const node = await start();
      await clientOf(node).request('say', 'x');
      const handler = await node.traces.span('process say');
      expect(placeOf(handler)).toEqual({ trace: expect.not.stringMatching(TRACE), parent: undefined });
      expect(handler.links.map(({ context: { traceId, spanId } }) => [traceId, spanId])).toEqual([[TRACE, PARENT]]);
      const publish = await node.traces.span('publish room.:id');
      expect(placeOf(publish)).toEqual({ trace: placeOf(handler).trace, parent: idOf(handler) });
    });

    it.each(['sse', 'long-polling'] as const)('comes over %s as well', async (transport) => {
      const node = await start({}, { trustPeers: true });
      const client = clientOf(node, transport);
      await client.request('say', 'x');
      await client.channel('talk.a').publish('said', 'x');
      const handler = await node.traces.span('process say');
      const publishing = await node.traces.span('process $publish');
      expect([handler, publishing].map(placeOf)).toEqual(Array(2).fill({ trace: TRACE, parent: PARENT }));
    });

    it('covers what a channel allows and what comes of it', async () => {
      const node = await start({}, { trustPeers: true });
      const peer = await subscriber(node, 'talk.a');
      await clientOf(node).channel('talk.a').publish('said', 'x');
      await peer.next();
      const frame = await node.traces.span('process $publish');
      const publish = await node.traces.span('publish talk.:name');
      expect(placeOf(await node.traces.span('allows it'))).toEqual({ trace: TRACE, parent: idOf(frame) });
      expect(placeOf(publish)).toEqual({ trace: TRACE, parent: idOf(frame) });
      expect(placeOf(await node.traces.span('deliver talk.:name'))).toEqual({ trace: TRACE, parent: idOf(publish) });
    });

    it('is ignored where it is none', async () => {
      const node = await start({}, { trustPeers: true });
      const bad = ['', 'x', 7, null, {}, [TRACEPARENT], `ff${TRACEPARENT.slice(2)}`, `${TRACEPARENT}-more`];
      bad.push(
        `00-${'0'.repeat(32)}-${PARENT}-01`,
        TRACEPARENT.toUpperCase(),
        `cc-${TRACE}-${PARENT}-01-${'x'.repeat(99)}`,
      );
      const peer = await connect(node, '/realtime', { headers: { traceparent: 'x' } });
      for (const traceparent of bad) {
        peer.send({ id: 1, event: 'say', data: 'x', traceparent });
        expect(await peer.next()).toMatchObject({ id: 1, data: expect.any(String) });
      }
      const handlers = node.traces.named('process say');
      expect(handlers.map(({ links }) => links)).toEqual(bad.map(() => []));
      expect(handlers.map((span) => placeOf(span).parent)).toEqual(bad.map(() => undefined));
      expect(new Set(handlers.map((span) => placeOf(span).trace)).size).toBe(bad.length);
    });

    it.each([
      [{}, undefined, [TRACE]],
      [{ trustPeers: true }, PARENT, []],
      [{ trustHandshakes: true }, PARENT, []],
      [{ trustPeers: true, trustHandshakes: false }, undefined, [TRACE]],
    ])('comes with a handshake too: %j', async (options, parent, links) => {
      const node = await start({}, options);
      await connect(node, '/realtime', { headers: { traceparent: TRACEPARENT } });
      const handshake = await node.traces.span('GET /realtime');
      expect([placeOf(handshake).parent, handshake.links.map(({ context }) => context.traceId)]).toEqual([
        parent,
        links,
      ]);
    });
  });

  describe('what fails', () => {
    it('is told of a handshake with the code, and what guards do is part of it', async () => {
      const node = await start({ connectionGuards: [NoGuard] });
      await refused(node, `/realtime?word=${SECRET}`);
      const handshake = await node.traces.span('GET /realtime');
      expect(handshake.status).toEqual({ code: SpanStatusCode.ERROR, message: 'unauthenticated' });
      expect(handshake.attributes['error.type']).toBe('unauthenticated');
      expect(placeOf(await node.traces.span('asks around')).parent).toBe(idOf(handshake));
      expect(told(node.traces)).not.toContain(SECRET);
    });

    it('is told of a handshake of a peer without credentials', async () => {
      const node = await start({ auth: tokenUsers });
      await refused(node, '/realtime', { headers: { Authorization: 'Bearer' } });
      await connect(node, '/realtime', as('ada'));
      await until(() => node.traces.named('GET /realtime').length === 2, 'the handshakes');
      const codes = node.traces.named('GET /realtime').map(({ status }) => status.message);
      expect(codes).toEqual(['unauthenticated', undefined]);
    });

    it.each([
      ['fail', 'internal', 'Error'],
      ['refuse', 'rejected', 'RealtimeException'],
    ])('is told of a handler that does so by %s: %s', async (event, code, type) => {
      const node = await start();
      const peer = await connect(node);
      expect(await peer.request(event, SECRET)).toMatchObject({ error: { code } });
      const handler = await node.traces.span(`process ${event}`);
      expect(handler.status).toEqual({ code: SpanStatusCode.ERROR, message: code });
      expect(handler.events.map(({ name, attributes }) => ({ name, attributes }))).toEqual([
        {
          name: 'exception',
          attributes: {
            'exception.type': type,
            'exception.message': code,
            'exception.stacktrace': expect.stringMatching(/^ +at .*\n?.*\n?.*RoomGateway\.(fail|refuse)/),
          },
        },
      ]);
      expect(told(node.traces)).not.toContain(SECRET);
    });

    it('is told in its own words where that is wanted', async () => {
      const node = await start({}, { exceptionMessages: true });
      const peer = await connect(node);
      await peer.request('fail', 'no such thing');
      const [event] = (await node.traces.span('process fail')).events;
      expect(event!.attributes).toMatchObject({ 'exception.message': 'no such thing' });
    });

    it('is told of reserved events and of publishing', async () => {
      const node = await start();
      const peer = await connect(node);
      await peer.request('$publish', { channel: 'room.1', event: 'said', data: SECRET });
      await expect(node.realtime.publish('room.1', 'said', { $payload: SECRET })).rejects.toThrow();
      const frame = await node.traces.span('process $publish');
      expect(frame.attributes['error.type']).toBe('forbidden');
      expect(told(node.traces)).not.toContain(SECRET);
    });
  });

  describe('a handler', () => {
    it('that answers by a stream lasts as long as that, and what the stream does is part of it', async () => {
      const node = await start();
      const peer = await connect(node);
      const followed = new Promise<void>((resolve) => (node.gateway.followed = resolve));
      peer.send({ id: 1, event: 'ticks' });
      await followed;
      for (const n of [1, 2]) node.gateway.ticks.next(n);
      expect([await peer.next(), await peer.next()]).toEqual([1, 2].map((data) => ({ id: 1, data, more: true })));
      expect(node.traces.named('process ticks')).toEqual([]);
      node.gateway.ticks.complete();
      expect(await peer.next()).toEqual({ id: 1, done: true });
      const handler = await node.traces.span('process ticks');
      expect(handler.status.code).toBe(SpanStatusCode.UNSET);
      expect(placeOf(await node.traces.span('is followed')).parent).toBe(idOf(handler));
    });

    it('ends where the peer cancels its stream, or is gone', async () => {
      const node = await start();
      for (const end of [(peer: Peer) => peer.request('$cancel', { id: 1 }), (peer: Peer) => peer.close()]) {
        const peer = await connect(node);
        node.traces.reset();
        const followed = new Promise<void>((resolve) => (node.gateway.followed = resolve));
        peer.send({ id: 1, event: 'ticks' });
        await followed;
        await end(peer);
        await node.traces.span('process ticks');
      }
    });

    it('that answers later lasts until it does, or its peer is gone', async () => {
      const node = await start();
      const [one, two] = [await connect(node), await connect(node)];
      one.send({ id: 1, event: 'later' });
      await one.settle();
      expect(node.traces.named('process later')).toEqual([]);
      node.gateway.reply!(1);
      await node.traces.span('process later');
      node.traces.reset();
      two.send({ id: 1, event: 'later' });
      await two.settle();
      expect(node.traces.named('process later')).toEqual([]);
      await two.close();
      await node.traces.span('process later');
    });

    it('that answers nothing consumes, and events of no handler are not traced', async () => {
      const node = await start();
      const peer = await connect(node);
      peer.send({ event: 'say', data: 'x' });
      expect((await node.traces.span('process say')).kind).toBe(SpanKind.CONSUMER);
      await peer.request('nobody takes this');
      peer.send({ event: '$pong' });
      await peer.settle();
      const names = new Set(node.traces.spans.map(({ name }) => name));
      expect([...names]).toEqual(['GET /realtime', 'looks it up', 'publish room.:id', 'process say']);
    });
  });

  it('leaves what follows channels in the process out of what was published', async () => {
    const node = await start();
    const spans: string[] = [];
    const stream = node.realtime.stream('room.1');
    const peer = await connect(node);
    const heard = new Promise<void>((resolve) => {
      const subscription = stream.subscribe(() => {
        spans.push(work('hears it'));
        resolve();
      });
      dispose.push(() => subscription.unsubscribe());
    });
    await peer.settle();
    await peer.request('say', 'x');
    await heard;
    expect(placeOf(await node.traces.span('hears it')).parent).toBeUndefined();
  });

  it('records nothing of what is not sampled, and tells other nodes nothing of it', async () => {
    const broker = memoryBroker();
    const other = await start({ broker });
    const node = await start({ broker }, {}, new Traces(false));
    const peer = await subscriber(other);
    other.traces.reset();
    await (await connect(node)).request('say', 'x');
    await peer.next();
    await peer.settle();
    expect([node.traces.spans, other.traces.spans]).toEqual([[], []]);
  });

  it('is off where it is not asked for', async () => {
    const traces = new Traces();
    const node = await start({ tracing: undefined } as never, {}, traces);
    const peer = await subscriber(node);
    await clientOf(node).request('say', 'x');
    await peer.next();
    expect(traces.spans.map(({ name }) => name)).toEqual(['looks it up']);
  });

  it('is refused at boot where the option is wrong', async () => {
    const lines = await bootFailure(platform, { imports: [RealtimeModule.forRoot({ tracing: {} as never })] });
    expect(lines).toContain('  - tracing: expected what openTelemetry() returns, got a object');
  });
});

/** All that spans hold. */
function told({ spans }: Traces): string {
  return JSON.stringify(spans.map(({ name, attributes, events, status }) => [name, attributes, events, status]));
}

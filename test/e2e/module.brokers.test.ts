import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Injectable, Logger, Module, type DynamicModule, type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { SubscribeMessage, WebSocketGateway, WebSocketServer } from '@nestjs/websockets';
import { Test } from '@nestjs/testing';
import type { ExpressAdapter } from '@nestjs/platform-express';
import type { AddressInfo } from 'node:net';
import {
  Endpoint,
  memoryBroker,
  REALTIME_BROKER,
  REALTIME_OPTIONS,
  RealtimeModule,
  RealtimeService,
  type ChannelOptions,
  type MemoryBroker,
  type RealtimeModuleOptions,
} from '../../lib/index.js';
import { redisBroker } from '../../lib/redis.js';
import { Hub } from '../../lib/hub/hub.js';
import { RedisServer, until } from '../support/redis-server.js';
import { connect, refused, type Peer } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

/** One object that the nodes share. */
const channels: Record<string, ChannelOptions> = {
  news: { history: { size: 10, ttlMs: 60_000 } },
  lobby: { presence: true },
};

@Injectable()
class Reporter {
  constructor(private readonly realtime: RealtimeService) {}

  report(text: string): Promise<string> {
    return this.realtime.publish('news', 'flash', { text });
  }
}

@WebSocketGateway()
class WorkerGateway {
  @WebSocketServer() server!: Endpoint;

  @SubscribeMessage('echo')
  echo(): void {}
}

let closing: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  jest.restoreAllMocks();
  for (const close of closing.reverse()) await close();
  closing = [];
});

/** A worker: no HTTP, no gateway that anybody could reach. */
async function startWorker(broker: MemoryBroker, ...providers: any[]): Promise<INestApplicationContext> {
  @Module({})
  class WorkerModule {}
  const imports: DynamicModule[] = [RealtimeModule.forRoot({ broker, channels })];
  const worker = await NestFactory.createApplicationContext(
    { module: WorkerModule, imports, providers: [Reporter, ...providers] },
    { logger: ['warn', 'error'], abortOnError: false },
  );
  closing.push(() => worker.close());
  return worker;
}

async function subscribed(app: RunningApp, channel: string): Promise<Peer> {
  const peer = await connect(app);
  expect(await peer.request('$subscribe', { channel }, 1)).toMatchObject({ id: 1, data: {} });
  return peer;
}

describe.each(platforms)('applications on $name', (platform) => {
  let broker: MemoryBroker;

  const start = async (options: RealtimeModuleOptions = { broker, channels }): Promise<RunningApp> => {
    const running = await startApp(platform, { imports: [RealtimeModule.forRoot(options)] });
    closing.push(running.close);
    return running;
  };

  beforeEach(() => {
    broker = memoryBroker();
  });

  it('give their peers what a worker without HTTP publishes', async () => {
    const app = await start();
    const peer = await subscribed(app, 'news');
    const worker = await startWorker(broker);
    const position = await worker.get(Reporter).report('from afar');
    const [epoch, offset, tag] = position.split('-');
    expect(await peer.next()).toEqual({
      channel: 'news',
      event: 'flash',
      data: { text: 'from afar' },
      offset: Number(offset),
      tag,
    });
    expect(await app.app.get(RealtimeService).history('news')).toMatchObject({
      position: expect.stringMatching(`^${epoch!}-1-`),
      publications: [{ event: 'flash', data: { text: 'from afar' }, offset: 1 }],
    });
  });

  it('say in what health they are: while Redis is away their peers stay, and get what they missed when it is back', async () => {
    const redis = await RedisServer.start({ config: ['appendonly', 'yes', 'appendfsync', 'always'] });
    closing.push(() => redis.dispose());
    const app = await start({ broker: redisBroker({ url: redis.url, publishTimeoutMs: 1_000 }), channels });
    const service = app.app.get(RealtimeService);
    const peer = await subscribed(app, 'news');
    await until(() => service.health().status === 'up', 'the machine to give it time');
    const healthy = { status: 'up', reasons: [], ready: true, broker: { name: 'redis', available: true } };
    expect(service.health()).toEqual({ ...healthy, eventLoopLagMs: expect.any(Number), connections: 1 });
    await redis.kill();
    await until(() => !service.health().broker.available, 'the degraded state');
    expect(service.health()).toMatchObject({ status: 'degraded', ready: true, connections: 1 });
    expect(service.health().reasons).toContain('broker');
    await expect(service.publish('news', 'flash', 1)).rejects.toMatchObject({ code: 'broker_unavailable' });
    expect(await peer.request('unheard of', null, 2)).toMatchObject({ id: 2, error: { code: 'unknown_event' } });
    await redis.start();
    await until(() => service.health().status === 'up', 'the end of the outage');
    await service.publish('news', 'flash', 2);
    expect(await peer.next()).toMatchObject({ channel: 'news', data: 2, offset: 1 });
    await app.close();
    expect(service.health()).toMatchObject({ status: 'down', ready: false });
  });

  it('share the publications and members of one broker', async () => {
    const [a, b] = [await start(), await start()];
    const [ann, bob] = [await subscribed(a, 'news'), await subscribed(b, 'news')];
    for (const [app, text] of [
      [a, 'one'],
      [b, 'two'],
    ] as const) {
      await app.app.get(RealtimeService).publish('news', 'flash', text);
    }
    const wanted = ['one', 'two'].map((data, i) => expect.objectContaining({ data, offset: i + 1 }));
    expect(await ann.settle()).toEqual(wanted);
    expect(await bob.settle()).toEqual(wanted);

    for (const peer of [ann, bob]) await peer.request('$subscribe', { channel: 'lobby' }, 2);
    for (const { app } of [a, b]) {
      expect(await app.get(RealtimeService).presence('lobby')).toHaveLength(2);
      expect(await app.get(RealtimeService).connections()).toHaveLength(2);
    }
  });

  it('share a broker that goes on when one of them closes', async () => {
    const [a, b] = [await start(), await start()];
    const [ann, bob] = [await subscribed(a, 'lobby'), await subscribed(b, 'lobby')];
    await a.close();
    expect(await ann.closed).toMatchObject({ code: 4503 });
    const realtime = b.app.get(RealtimeService);
    expect(await realtime.connections()).toHaveLength(1);
    await realtime.publish('lobby', 'still', 'here');
    expect(await bob.settle()).toContainEqual(expect.objectContaining({ event: 'still', data: 'here' }));
    await expect(a.app.get(RealtimeService).publish('lobby', 'late', 1)).rejects.toMatchObject({
      code: 'broker_unavailable',
    });
    expect(broker.sessions.size).toBe(1);
  });

  it('have a broker each where none is given', async () => {
    const [a, b] = [await start({ channels }), await start({ channels })];
    const [ann, bob] = [await subscribed(a, 'news'), await subscribed(b, 'news')];
    await a.app.get(RealtimeService).publish('news', 'flash', 1);
    expect(await ann.settle()).toHaveLength(1);
    expect(await bob.settle()).toEqual([]);
  });

  it('run the hooks of dead nodes only where they serve peers', async () => {
    const accept = jest.spyOn(Hub.prototype, 'accept');
    await start();
    await start({ broker, channels, transports: [] });
    await startWorker(broker);
    expect(accept.mock.calls).toEqual([[true], [false], [false]]);
  });

  it('only publish where no transport is given', async () => {
    const other = await start();
    const app = await start({ broker, channels, transports: [] });
    const peer = await subscribed(other, 'news');
    expect(await refused(app)).toMatchObject({ status: 404 });
    expect((await fetch(`${app.url}/realtime/sse?channels=news`)).status).toBe(404);
    await app.app.get(RealtimeService).publish('news', 'flash', 1);
    expect(await peer.next()).toMatchObject({ event: 'flash', data: 1 });
  });

  it('use the broker that a test puts in the place of theirs', async () => {
    const replaced = memoryBroker();
    const module = await Test.createTestingModule({ imports: [RealtimeModule.forRoot({ broker: replaced, channels })] })
      .overrideProvider(REALTIME_BROKER)
      .useValue(broker)
      .compile();
    const app = module.createNestApplication(platform.createAdapter() as ExpressAdapter, { logger: false });
    closing.push(() => app.close());
    await app.listen(0, '127.0.0.1');
    const { port } = (app.getHttpServer() as { address(): AddressInfo }).address();
    const peer = await connect({ port });
    await peer.request('$subscribe', { channel: 'news' });
    const worker = await startWorker(broker);
    await worker.get(Reporter).report('here');
    expect(await peer.next()).toMatchObject({ data: { text: 'here' } });
    expect(replaced.sessions.size).toBe(0);
  });

  it('use the options that a test puts in the place of theirs, and check them', async () => {
    const compile = (options: unknown) =>
      Test.createTestingModule({ imports: [RealtimeModule.forRoot({ path: '/a' })] })
        .overrideProvider(REALTIME_OPTIONS)
        .useValue(options)
        .compile();
    await expect(compile({ path: 'b' })).rejects.toThrow('  - path: expected an absolute path');
    const app = (await compile({ path: '/b' })).createNestApplication(platform.createAdapter() as ExpressAdapter);
    closing.push(() => app.close());
    await app.listen(0, '127.0.0.1');
    const { port } = (app.getHttpServer() as { address(): AddressInfo }).address();
    await connect({ port }, '/b');
    expect(await refused({ port }, '/a')).toMatchObject({ status: 404 });
  });
});

describe('an application without HTTP', () => {
  it('publishes, reads and closes', async () => {
    const broker = memoryBroker();
    const worker = await startWorker(broker);
    const position = await worker.get(Reporter).report('alone');
    const realtime = worker.get(RealtimeService);
    expect(await realtime.history('news')).toMatchObject({ position, publications: [{ data: { text: 'alone' } }] });
    await expect(realtime.publish('undeclared', 'flash', 1)).rejects.toMatchObject({ code: 'unknown_channel' });
    await worker.close();
    expect(broker.sessions.size).toBe(0);
    await expect(worker.get(Reporter).report('late')).rejects.toMatchObject({ code: 'broker_unavailable' });
  });

  it('warns once of gateways that nobody can reach, and gives them an endpoint without peers', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    const worker = await startWorker(memoryBroker(), WorkerGateway);
    const { server } = worker.get(WorkerGateway);
    expect(server).toBeInstanceOf(Endpoint);
    expect(server.clients.size).toBe(0);
    expect(() => server.emit('news', 1)).not.toThrow();
    expect(warn.mock.calls.map(([message]) => String(message))).toEqual([
      'This application has no HTTP server, so nobody can reach its gateways; publishing works',
    ]);
  });

  it('is refused with the same mistakes', async () => {
    @WebSocketGateway({ namespace: 'chat' })
    class NamespacedGateway {}
    await expect(startWorker(memoryBroker(), NamespacedGateway)).rejects.toThrow(
      'RealtimeModule cannot start:\n  - NamespacedGateway: has a `namespace`',
    );
  });

  it('is a testing module too, before and after its start', async () => {
    const broker = memoryBroker();
    const module = await Test.createTestingModule({
      imports: [RealtimeModule.forRoot({ broker, channels })],
      providers: [Reporter],
    }).compile();
    expect(await module.get(Reporter).report('compiled')).toMatch(/-1-/);
    await module.init();
    expect(await module.get(Reporter).report('started')).toMatch(/-2-/);
    await module.close();
    expect(broker.sessions.size).toBe(0);
  });
});

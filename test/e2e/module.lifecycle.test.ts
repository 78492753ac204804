import { afterEach, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Inject,
  Injectable,
  Module,
  Scope,
  UseGuards,
  type CanActivate,
  type INestApplication,
  type MiddlewareConsumer,
  type ModuleMetadata,
  type NestMiddleware,
  type NestModule,
  type OnModuleDestroy,
  type OnModuleInit,
} from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { MessageBody, SubscribeMessage, WebSocketGateway, type OnGatewayDisconnect } from '@nestjs/websockets';
import type { ExpressAdapter } from '@nestjs/platform-express';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { connect as connectSocket, type AddressInfo, type Socket } from 'node:net';
import { WebSocket, WebSocketServer } from 'ws';
import { Hub } from '../../lib/hub/hub.js';
import {
  memoryBroker,
  REALTIME_CLOCK,
  RealtimeModule,
  RealtimeService,
  type Authenticator,
  type Credentials,
  type MetricsExporter,
  type RealtimeModuleOptions,
  type UserIdentity,
} from '../../lib/index.js';
import { prometheus } from '../../lib/prometheus.js';
import { ManualClock } from '../../lib/testing/manual-clock.js';
import { secret } from '../support/secrets.js';
import { Stopwatch } from '../support/stopwatch.js';
import { openStream } from './support/event-stream.js';
import { connect, open, Peer, refused } from './support/gateway-peer.js';
import { platforms, startApp, type Platform, type RunningApp } from './support/platforms.js';
import { Probe } from './support/probe.js';
import { as, tokenUsers } from './support/token-users.js';

/** What `app.close()` may take: the second that peers have for their close handshake, and a machine that is busy. */
const CLOSE_BOUND_MS = 4_000;

@WebSocketGateway()
class EchoGateway {
  @SubscribeMessage('echo')
  echo(@MessageBody() data: unknown): unknown {
    return data;
  }
}

let closing: (() => unknown)[] = [];

afterEach(async () => {
  // The latest first, and foreign servers before the applications: an HTTP server waits for what they accepted.
  for (const close of closing.reverse()) await close();
  closing = [];
});

async function start(
  platform: Platform,
  options: RealtimeModuleOptions = {},
  providers: any[] = [EchoGateway],
  prepare?: (server: Server) => void,
): Promise<RunningApp> {
  const running = await startApp(platform, { imports: [RealtimeModule.forRoot(options)], providers }, (app) => {
    app.useLogger(false);
    prepare?.(app.getHttpServer() as Server);
  });
  closing.push(running.close);
  return running;
}

const serverOf = ({ app }: RunningApp): Server => app.getHttpServer() as Server;

/** Resolves with how long something took, ms. */
async function timed(act: () => Promise<unknown>): Promise<number> {
  const watch = new Stopwatch();
  await act();
  return watch.stop();
}

async function freePort(): Promise<number> {
  const spare = createServer().listen(0);
  await once(spare, 'listening');
  const { port } = spare.address() as AddressInfo;
  spare.close();
  await once(spare, 'close');
  return port;
}

/** A bare socket that asked for an upgrade, and the head of the answer. */
async function askUpgrade(port: number, path: string): Promise<{ socket: Socket; head: string }> {
  const socket = connectSocket({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => undefined);
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  );
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  return { socket, head: bytes.toString().split('\r\n', 1)[0]! };
}

describe.each(platforms)('upgrades of other paths on $name', (platform) => {
  let others: WebSocketServer[] = [];

  /** As the documentation of `ws` has it: each answers 400 to what is not of its path, or destroys it. */
  const listeners: Record<string, (server: Server) => void> = {
    'refuses all others': (server) => {
      others.push(greeting(new WebSocketServer({ server, path: '/other' })));
    },
    'destroys all others': (server) => {
      const other = greeting(new WebSocketServer({ noServer: true }));
      others.push(other);
      server.on('upgrade', (request, socket, head) => {
        if (request.url !== '/other') socket.destroy();
        else other.handleUpgrade(request, socket, head, (accepted) => other.emit('connection', accepted));
      });
    },
    'ignores all others': (server) => {
      const other = greeting(new WebSocketServer({ noServer: true }));
      others.push(other);
      server.on('upgrade', (request, socket, head) => {
        if (request.url === '/other') {
          other.handleUpgrade(request, socket, head, (accepted) => other.emit('connection', accepted));
        }
      });
    },
  };

  const greeting = (server: WebSocketServer): WebSocketServer =>
    server.on('connection', (socket) => {
      socket.send('hello');
      socket.on('message', (bytes: Buffer) => socket.send(`other ${bytes.toString()}`));
    });

  afterEach(() => {
    for (const server of others) for (const client of server.clients) client.terminate();
    others = [];
  });

  it.each(
    Object.keys(listeners).flatMap((what) => [
      [what, 'before'],
      [what, 'after'],
    ]),
  )('go to a listener that %s, added %s the start, and ours to us', async (what, when) => {
    const app = await start(platform, {}, [EchoGateway], (server) => {
      if (when === 'before') listeners[what]!(server);
    });
    if (when === 'after') listeners[what]!(serverOf(app));
    const other = open(app.port, '/other');
    expect(await other.next()).toBe('hello');
    other.send('text');
    expect(await other.next()).toBe('other text');
    const peer = await connect(app);
    expect(await peer.request('echo', 'a', 1)).toEqual({ id: 1, data: 'a' });
    // Refused later, by the handshake, and at once, by its head alone.
    expect(await refused(app, '/realtime', { headers: { origin: 'https://elsewhere.example' } })).toMatchObject({
      status: 403,
      body: { error: { code: 'origin_refused' } },
    });
    expect(await refused(app, '/realtime/sse')).toMatchObject({
      status: 400,
      body: { error: { code: 'not_available' } },
    });
    await peer.close();
    await other.close();
  });

  it('are answered 404 where nobody else listens', async () => {
    const app = await start(platform);
    for (const path of ['/', '/other', '/realtime/other', '/realtimes']) {
      expect(await refused(app, path)).toMatchObject({ status: 404 });
    }
  });

  it('do not keep the application from closing', async () => {
    const app = await start(platform);
    const { socket, head } = await askUpgrade(app.port, '/nowhere');
    expect(head).toBe('HTTP/1.1 404 Not Found');
    expect(await timed(() => app.close())).toBeLessThan(CLOSE_BOUND_MS);
    socket.destroy();
  });
});

/** What a start waits for. */
class Gate {
  readonly reached: Promise<void>;
  readonly opened: Promise<void>;
  reach!: () => void;
  open!: () => void;

  constructor() {
    this.reached = new Promise((resolve) => (this.reach = resolve));
    this.opened = new Promise((resolve) => (this.open = resolve));
  }
}

@Injectable()
class SlowStarter implements OnModuleInit {
  constructor(private readonly gate: Gate) {}

  async onModuleInit(): Promise<void> {
    this.gate.reach();
    await this.gate.opened;
  }
}

describe.each(platforms)('the start on $name', (platform) => {
  const create = async (broker = memoryBroker()) => {
    const module = await Test.createTestingModule({
      imports: [RealtimeModule.forRoot({ broker, channels: { news: {} } })],
      providers: [EchoGateway, Gate, SlowStarter],
    }).compile();
    const app = module.createNestApplication(platform.createAdapter() as ExpressAdapter, { logger: false });
    closing.push(() => app.close());
    return app;
  };

  it('lets peers in once it is over, and tells those before to come back', async () => {
    const app = await create();
    const gate = app.get(Gate);
    const server = app.getHttpServer() as Server;
    server.listen(0, '127.0.0.1'); // earlier than app.listen() would
    closing.push(() => server.listening && server.close());
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const starting = app.init();
    await gate.reached;
    const { status, headers, body } = await refused({ port });
    expect(status).toBe(503);
    expect(Number(headers['retry-after'])).toBeGreaterThan(0);
    expect(body).toMatchObject({ error: { code: 'draining', retryAfterMs: expect.any(Number) } });
    gate.open();
    await starting;
    expect(await (await connect({ port })).request('echo', 1, 1)).toEqual({ id: 1, data: 1 });
  });

  it('needs no server that listens: app.init() is enough to publish', async () => {
    const broker = memoryBroker();
    const app = await create(broker);
    app.get(Gate).open();
    await app.init();
    expect(await app.get(RealtimeService).publish('news', 'flash', 1)).toMatch(/-1-/);
    expect((app.getHttpServer() as Server).listening).toBe(false);
    await app.close();
    expect(broker.sessions.size).toBe(0);
  });
});

@Injectable()
class NeverGuard implements CanActivate {
  constructor(private readonly probe: Probe) {}

  canActivate(): Promise<boolean> {
    this.probe.note('asked');
    return new Promise(() => undefined);
  }
}

@Injectable()
class Database implements OnModuleDestroy {
  constructor(private readonly probe: Probe) {}

  async onModuleDestroy(): Promise<void> {
    await Promise.resolve();
    this.probe.note('database closed');
  }
}

@Module({ providers: [Probe, Database], exports: [Probe, Database] })
class DatabaseModule {}

@WebSocketGateway()
class SavingGateway implements OnGatewayDisconnect, OnModuleDestroy {
  constructor(
    private readonly probe: Probe,
    readonly database: Database,
  ) {}

  async handleDisconnect(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.probe.note('saved');
  }

  onModuleDestroy(): void {
    this.probe.note('gateway destroyed');
  }
}

/** What does not end, as an option. */
function neverAuth(probe: Probe): RealtimeModuleOptions {
  return { auth: { name: 'never', anonymous: false, authenticate: () => neverEnds(probe) } };
}

function neverExporter(probe: Probe): MetricsExporter {
  return { open: () => ({ page: () => neverEnds(probe), close: () => undefined }) };
}

function neverEnds(probe: Probe): Promise<never> {
  probe.note('asked');
  return new Promise(() => undefined);
}

/** A request of a peer with a token, by POST where it has a body. */
function asked(body?: object): RequestInit {
  const headers = { Accept: '*/*', Authorization: `Bearer ${secret('token-that-is-looked-at-for-ever')}` };
  if (body === undefined) return { headers };
  return { method: 'POST', headers: { ...headers, 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
}

describe.each(platforms)('app.close() on $name', (platform) => {
  it('tells every peer to come back, and ends every connection and stream', async () => {
    const app = await start(platform, { channels: { news: {} } });
    const peers = [await connect(app), await connect(app)];
    const stream = await openStream(`${app.url}/realtime/sse?channels=news`);
    await stream.event('$open');
    const hub = app.app.get(Hub);
    expect(hub.connections.size).toBe(3);
    await app.close();
    for (const peer of peers) {
      expect(await peer.next()).toEqual({
        event: '$disconnect',
        data: { code: 4503, reason: 'draining', reconnect: true, delayMs: expect.any(Number) },
      });
      expect(await peer.closed).toEqual({ code: 4503, reason: 'draining' });
    }
    expect(JSON.parse((await stream.event('$disconnect')).data!)).toMatchObject({ code: 4503, reason: 'draining' });
    await stream.ended;
    expect(hub.connections.size).toBe(0);
  });

  it('leaves no server and no listener', async () => {
    const port = await freePort();
    @WebSocketGateway(port, { path: '/own' })
    class OwnPortGateway {}
    const app = await start(platform, {}, [EchoGateway, OwnPortGateway]);
    const server = serverOf(app);
    await connect(app);
    await connect({ port }, '/own');
    await app.close();
    expect(server.listening).toBe(false);
    expect(server.listenerCount('upgrade')).toBe(0);
    expect(await new Promise((resolve) => server.getConnections((_error, count) => resolve(count)))).toBe(0);
    for (const closed of [app.port, port]) {
      const socket = new WebSocket(`ws://127.0.0.1:${String(closed)}/own`);
      expect(await once(socket, 'error')).toMatchObject([{ code: 'ECONNREFUSED' }]);
    }
  });

  it('waits for no socket on which nothing ever came', async () => {
    const app = await start(platform);
    const accepted = once(serverOf(app), 'connection');
    const ahead = connectSocket(app.port, '127.0.0.1');
    ahead.on('error', () => undefined);
    await accepted;
    const ended = once(ahead, 'close');
    expect(await timed(() => app.close())).toBeLessThan(CLOSE_BOUND_MS);
    await ended;
  });

  it('ends within a bound where a peer does not answer', async () => {
    const app = await start(platform);
    const peer = await connect(app);
    (peer.socket as unknown as { _socket: Socket })._socket.pause();
    const { socket, head } = await askUpgrade(app.port, '/realtime');
    expect(head).toBe('HTTP/1.1 101 Switching Protocols');
    expect(await timed(() => app.close())).toBeLessThan(CLOSE_BOUND_MS);
    expect(serverOf(app).listening).toBe(false);
    peer.socket.terminate();
    socket.destroy();
  });

  it('ends handshakes whose guards still think', async () => {
    const app = await start(platform, { connectionGuards: [NeverGuard] }, [Probe, NeverGuard]);
    const peer = new Peer(new WebSocket(`ws://127.0.0.1:${String(app.port)}/realtime`));
    peer.socket.once('error', () => undefined);
    await app.app.get(Probe).seen(1);
    expect(await timed(() => app.close())).toBeLessThan(CLOSE_BOUND_MS);
    expect((await peer.closed).code).toBe(1006);
  });

  it.each<[what: string, options: (probe: Probe) => RealtimeModuleOptions, path: string, init?: RequestInit]>([
    [
      'guards of the metrics',
      (probe) => ({ metrics: { exporter: prometheus(), guards: [new NeverGuard(probe)] } }),
      'metrics',
    ],
    ['guards of the admin page', (probe) => ({ admin: { guards: [new NeverGuard(probe)] } }), 'admin'],
    ['collectors', (probe) => ({ metrics: { exporter: neverExporter(probe), guards: [] } }), 'metrics'],
    ['an authenticator of streams', neverAuth, 'sse?channels=news', asked()],
    ['an authenticator of polls', neverAuth, 'poll?channels=news', asked()],
    ["an authenticator of the client's streams", neverAuth, 'sse', asked({})],
    ["an authenticator of the client's polls", neverAuth, 'poll', asked({})],
    ['connection guards', (probe) => ({ connectionGuards: [new NeverGuard(probe)] }), 'poll', asked({})],
  ])('ends requests that %s hold, with 503', async (_what, options, path, init = {}) => {
    const probe = new Probe();
    const app = await start(platform, { channels: { news: {} }, drain: { timeoutMs: 500 }, ...options(probe) });
    const answer = fetch(`${app.url}/realtime/${path}`, init);
    await probe.seen(1);
    expect(await timed(() => app.close())).toBeLessThan(CLOSE_BOUND_MS);
    const { status, headers } = await answer;
    expect([status, headers.get('connection')]).toEqual([503, 'close']);
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await (await answer).json()).toMatchObject({
      error: { code: 'draining', retryAfterMs: expect.any(Number) },
    });
    expect(app.app.get(Hub).health).toMatchObject({ status: 'down' });
  });

  it('ends requests whose body does not come', async () => {
    const app = await start(platform);
    const hub = app.app.get(Hub);
    const socket = connectSocket({ port: app.port, host: '127.0.0.1' });
    const asked = once(serverOf(app), 'request');
    socket.write(
      `POST /realtime/poll HTTP/1.1\r\nHost: 127.0.0.1:${app.port}\r\n` +
        'Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{',
    );
    await asked;
    expect(await timed(() => app.close())).toBeLessThan(CLOSE_BOUND_MS);
    const text = (await socket.toArray()).join('');
    expect(text).toContain('HTTP/1.1 503 Service Unavailable');
    expect(hub.health).toMatchObject({ status: 'down' });
  });

  it('may be called again, and at once', async () => {
    const app = await start(platform);
    const peer = await connect(app);
    await Promise.all([app.close(), app.close()]);
    await app.close();
    expect(await peer.closed).toMatchObject({ code: 4503 });
    expect(serverOf(app).listening).toBe(false);
  });

  it('waits for the hooks of disconnections before the modules that they use are destroyed', async () => {
    const running = await startApp(platform, {
      imports: [DatabaseModule, RealtimeModule.forRoot()],
      providers: [SavingGateway],
    });
    const probe = running.app.get(Probe);
    await connect(running);
    await running.close();
    expect(probe.events).toEqual(['saved', 'gateway destroyed', 'database closed']);
  });
});

/** What a handshake asks, until it is destroyed. */
@Injectable()
class Users implements OnModuleDestroy {
  closed = 0;

  find(credentials: Credentials): Promise<UserIdentity> {
    if (this.closed > 0) return Promise.reject(new Error('The pool is closed'));
    return tokenUsers.authenticate(credentials);
  }

  async onModuleDestroy(): Promise<void> {
    await Promise.resolve();
    this.closed++;
  }
}

@Module({ providers: [Users] })
class UsersModule {}

const READINESS_MS = 60_000;

/** An application without gateways, whose authenticator asks the users that it provides. */
class UsersApp {
  readonly clock = new ManualClock();
  #app!: INestApplication;
  port!: number;

  static async start(platform: Platform, metadata: ModuleMetadata): Promise<UsersApp> {
    const started = new UsersApp();
    const auth: Authenticator = { authenticate: (credentials) => started.users.find(credentials) };
    const options = { channels: { news: {} }, auth, drain: { readinessMs: READINESS_MS } };
    const module = await Test.createTestingModule({
      ...metadata,
      imports: [RealtimeModule.forRoot(options), ...(metadata.imports ?? [])],
    })
      .overrideProvider(REALTIME_CLOCK)
      .useValue(started.clock)
      .compile();
    const app = module.createNestApplication(platform.createAdapter() as ExpressAdapter, { logger: false });
    started.#app = app;
    await app.listen(0, '127.0.0.1');
    started.port = ((app.getHttpServer() as Server).address() as AddressInfo).port;
    closing.push(() => started.close());
    return started;
  }

  get users(): Users {
    return this.#app.get(Users, { strict: false });
  }

  get ready(): boolean {
    return this.#app.get(Hub).health.ready;
  }

  /** Begins to close, and resolves once the node is not ready; `closed` resolves at the end, which needs time. */
  async leave(): Promise<{ closed: Promise<void> }> {
    const closed = this.#app.close();
    while (this.ready) await new Promise((resolve) => setImmediate(resolve));
    return { closed };
  }

  async close(): Promise<void> {
    const { closed } = await this.leave();
    await this.clock.pass(READINESS_MS);
    await closed;
  }
}

/** Of each kind that Nest destroys, one notes it. */
abstract class Noting implements OnModuleDestroy {
  protected abstract readonly kind: string;

  constructor(@Inject(Probe) private readonly probe: Probe) {}

  onModuleDestroy(): void {
    this.probe.note(this.kind);
  }
}

@Injectable()
class NotingGuard extends Noting implements CanActivate {
  protected readonly kind = 'guard';

  canActivate(): boolean {
    return true;
  }
}

@Injectable()
class NotingMiddleware extends Noting implements NestMiddleware {
  protected readonly kind = 'middleware';

  use(_request: unknown, _response: unknown, next: () => void): void {
    next();
  }
}

@Injectable({ scope: Scope.TRANSIENT })
class NotingTransient extends Noting {
  protected readonly kind = 'transient';
}

@Controller('noting')
@UseGuards(NotingGuard)
class NotingController extends Noting {
  protected readonly kind = 'controller';

  constructor(
    @Inject(Probe) probe: Probe,
    readonly transient: NotingTransient,
  ) {
    super(probe);
  }
}

@Module({ controllers: [NotingController], providers: [Probe, Database, SavingGateway, NotingTransient] })
class NotingModule extends Noting implements NestModule {
  protected readonly kind = 'module';

  configure(consumer: MiddlewareConsumer): void {
    consumer.apply(NotingMiddleware).forRoutes(NotingController);
  }
}

describe.each(platforms)('app.close() on $name destroys', (platform) => {
  it.each<[what: string, metadata: () => ModuleMetadata]>([
    ['a provider of its own module', () => ({ providers: [Users] })],
    ['a provider of another module', () => ({ imports: [UsersModule] })],
    ['what a factory made', () => ({ providers: [{ provide: Users, useFactory: () => new Users() }] })],
    ['a value', () => ({ providers: [{ provide: Users, useValue: new Users() }] })],
  ])('%s when nobody is let in any more', async (_what, metadata) => {
    const app = await UsersApp.start(platform, metadata());
    const { users } = app;
    const { closed } = await app.leave();
    const peer = await connect(app, '/realtime', as('ann'));
    await app.clock.pass(READINESS_MS);
    expect(await peer.next()).toMatchObject({ event: '$disconnect', data: { reason: 'draining' } });
    await closed;
    expect(users.closed).toBe(1);
    expect(Object.keys(users)).toEqual(['closed']);
  });

  it('what applications share with the first of them, and that one alone is not ready', async () => {
    const shared = new Users();
    const [one, two] = [
      await UsersApp.start(platform, { providers: [{ provide: Users, useValue: shared }] }),
      await UsersApp.start(platform, { providers: [{ provide: Users, useValue: shared }] }),
    ];
    const { closed } = await one.leave();
    await connect(one, '/realtime', as('ann'));
    const other = await connect(two, '/realtime', as('ann'));
    await one.clock.pass(READINESS_MS);
    await closed;
    expect([shared.closed, two.ready]).toEqual([1, true]);
    expect(await other.request('$subscribe', { channel: 'news' })).toHaveProperty('data.position');
  });

  it('a provider, which the application itself may do before: the node stays as it is', async () => {
    const app = await UsersApp.start(platform, { providers: [Users] });
    await app.users.onModuleDestroy();
    app.users.closed = 0;
    await connect(app, '/realtime', as('ann'));
    expect(app.ready).toBe(true);
  });

  it('all of every module after the hooks of disconnections', async () => {
    const running = await startApp(platform, {
      imports: [NotingModule, RealtimeModule.forRoot()],
    });
    const probe = running.app.get(Probe, { strict: false });
    await connect(running);
    await running.close();
    expect(probe.events[0]).toBe('saved');
    const destroyed = [
      'controller',
      'database closed',
      'gateway destroyed',
      'guard',
      'middleware',
      'module',
      'transient',
    ];
    expect(probe.events.slice(1).sort()).toEqual(destroyed);
  });

  it('all where there is no server, or the start has failed', async () => {
    const worker = await Test.createTestingModule({
      imports: [RealtimeModule.forRoot()],
      providers: [Users],
    }).compile();
    const users = worker.get(Users);
    await worker.init();
    await worker.close();
    const failed = await Test.createTestingModule({
      imports: [RealtimeModule.forRoot()],
      providers: [
        { provide: Users, useValue: users },
        { provide: 'failing', useValue: { onApplicationBootstrap: () => Promise.reject(new Error('no')) } },
      ],
    }).compile();
    const app = failed.createNestApplication(platform.createAdapter() as ExpressAdapter, { logger: false });
    await expect(app.init()).rejects.toThrow('no');
    await app.close();
    expect(users.closed).toBe(2);
  });
});

import { afterEach, describe, expect, it } from '@jest/globals';
import { Injectable, Module, type DynamicModule, type Type } from '@nestjs/common';
import {
  anonymous,
  memoryBroker,
  RealtimeModule,
  RealtimeService,
  sse,
  webSocket,
  type RealtimeModuleOptions,
  type RealtimeOptionsFactory,
} from '../../lib/index.js';
import { secret } from '../support/secrets.js';
import { bootFailure } from './support/boot-failure.js';
import { connect, refused } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

@Injectable()
class Settings {
  readonly options: RealtimeModuleOptions = { path: '/live', channels: { news: {} } };
}

@Module({ providers: [Settings], exports: [Settings] })
class SettingsModule {}

@Injectable()
class OptionsFactory implements RealtimeOptionsFactory {
  constructor(private readonly settings: Settings) {}

  createRealtimeOptions(): Promise<RealtimeModuleOptions> {
    return Promise.resolve(this.settings.options);
  }
}

@Module({ imports: [SettingsModule], providers: [OptionsFactory], exports: [OptionsFactory] })
class FactoryModule {}

@Injectable()
class Newsroom {
  constructor(readonly realtime: RealtimeService) {}
}

/** A module that injects RealtimeService and imports no more than it is told to. */
function newsroomModule(...imports: (DynamicModule | Type)[]): DynamicModule {
  @Module({})
  class NewsroomModule {}
  return { module: NewsroomModule, imports, providers: [Newsroom] };
}

describe.each(platforms)('RealtimeModule on $name', (platform) => {
  let running: RunningApp | undefined;

  const start = async (...imports: (DynamicModule | Type)[]): Promise<RunningApp> =>
    (running = await startApp(platform, { imports }));

  afterEach(async () => {
    await running?.close();
    running = undefined;
  });

  it('needs no options: it serves /realtime, and declares no channel', async () => {
    const app = await start(RealtimeModule.forRoot());
    const peer = await connect(app);
    expect(await peer.request('$subscribe', { channel: 'news' }, 1)).toMatchObject({
      id: 1,
      error: { code: 'unknown_channel' },
    });
  });

  it('serves the path and the channels of forRoot', async () => {
    const app = await start(RealtimeModule.forRoot({ path: '/live/v1', channels: { news: {} } }));
    const peer = await connect(app, '/live/v1');
    expect(await peer.request('$subscribe', { channel: 'news' }, 1)).toMatchObject({
      id: 1,
      data: { position: expect.any(String) },
    });
    expect(await refused(app, '/realtime')).toMatchObject({ status: 404 });
  });

  it('leaves the path alone where a global prefix is set', async () => {
    running = await startApp(platform, { imports: [RealtimeModule.forRoot()] }, (app) => {
      app.setGlobalPrefix('api');
    });
    await connect(running);
    expect(await refused(running, '/api/realtime')).toMatchObject({ status: 404 });
  });

  it.each<[name: string, module: () => DynamicModule]>([
    [
      'useFactory',
      () =>
        RealtimeModule.forRootAsync({
          imports: [SettingsModule],
          inject: [Settings],
          useFactory: async ({ options }: Settings) => Promise.resolve(options),
        }),
    ],
    ['useClass', () => RealtimeModule.forRootAsync({ imports: [SettingsModule], useClass: OptionsFactory })],
    ['useExisting', () => RealtimeModule.forRootAsync({ imports: [FactoryModule], useExisting: OptionsFactory })],
  ])('takes its options from forRootAsync with %s', async (_name, module) => {
    const app = await start(module());
    const peer = await connect(app, '/live');
    expect(await peer.request('$subscribe', { channel: 'news' }, 1)).toMatchObject({ id: 1, data: {} });
  });

  it.each<[name: string, module: () => DynamicModule]>([
    ['forRoot', () => RealtimeModule.forRoot({ channels: { news: {} } })],
    ['forRootAsync', () => RealtimeModule.forRootAsync({ useFactory: () => ({ channels: { news: {} } }) })],
  ])('is global with %s: another module injects the service without an import', async (_name, module) => {
    const app = await start(newsroomModule(), module());
    const { realtime } = app.app.get(Newsroom, { strict: false });
    expect(realtime).toBe(app.app.get(RealtimeService));
    expect(await realtime.publish('news', 'flash', 1)).toEqual(expect.any(String));
  });

  it.each<[name: string, module: () => DynamicModule]>([
    ['forRoot', () => RealtimeModule.forRoot({ isGlobal: false })],
    ['forRootAsync', () => RealtimeModule.forRootAsync({ isGlobal: false, useFactory: () => ({}) })],
  ])('is not global with isGlobal: false and %s: it serves the modules that import it', async (_name, module) => {
    const realtime = module();
    const app = await start(newsroomModule(realtime), realtime);
    await connect(app);
    expect(app.app.get(Newsroom, { strict: false }).realtime).toBeInstanceOf(RealtimeService);
    const [line] = await bootFailure(platform, { imports: [newsroomModule(), module()] });
    expect(line).toContain("Nest can't resolve dependencies of the Newsroom");
  });

  it('fails the start with the error of the factory', async () => {
    const module = RealtimeModule.forRootAsync({ useFactory: () => Promise.reject(new Error('no settings today')) });
    expect(await bootFailure(platform, { imports: [module] })).toEqual(['no settings today']);
  });
});

const noOptions = [
  'RealtimeModule cannot start:',
  '  - RealtimeModule: got no options; import RealtimeModule.forRoot() or forRootAsync() once, in the root module',
];

describe('a second RealtimeModule', () => {
  const told = [
    'RealtimeModule cannot start:',
    '  - RealtimeModule: is configured 2 times; call forRoot or forRootAsync once, in the root module',
  ];

  it.each<[name: string, second: () => DynamicModule]>([
    ['the same options', () => RealtimeModule.forRoot({ path: '/live' })],
    ['other options', () => RealtimeModule.forRoot({ path: '/other' })],
    ['forRootAsync', () => RealtimeModule.forRootAsync({ useFactory: () => ({}) })],
    ['isGlobal: false', () => RealtimeModule.forRoot({ isGlobal: false })],
  ])('is refused with %s, wherever it is imported', async (_name, second) => {
    const first = RealtimeModule.forRoot({ path: '/live' });
    expect(await bootFailure(platforms[0], { imports: [first, second()] })).toEqual(told);
    expect(await bootFailure(platforms[0], { imports: [first, newsroomModule(second())] })).toEqual(told);
  });

  it('is none where the same dynamic module is imported twice', async () => {
    const module = RealtimeModule.forRoot();
    expect(await bootFailure(platforms[0], { imports: [module, newsroomModule(module)] })).toEqual([]);
  });

  it('is refused where a module imports the bare class', async () => {
    const imports = [RealtimeModule.forRoot(), newsroomModule(RealtimeModule)];
    expect(await bootFailure(platforms[0], { imports })).toEqual(noOptions);
    expect(await bootFailure(platforms[0], { imports: [RealtimeModule] })).toEqual(noOptions);
  });
});

/** Options that no compiler lets through. */
const wrong = (options: unknown): DynamicModule => RealtimeModule.forRoot(options as RealtimeModuleOptions);

describe('wrong options fail the start', () => {
  it('all at once, each with its path', async () => {
    const options = {
      pth: '/x',
      path: 'realtime',
      transports: [webSocket(), {}],
      broker: {},
      auth: 'jwt',
      connectionGuards: {},
      rejectMode: 'silent',
      globalEnhancers: 'none',
      origins: ['https://example.com/page'],
      trustedProxies: ['10.0.0.0/33'],
      limits: { maxFrames: 1, maxFrameBytes: 64, maxChannels: 0 },
      heartbeat: { intervalMs: 100, timeoutMs: 200 },
      presence: { graceMs: -1 },
      checkIntervalMs: 'often',
      channels: { 'a.:': {}, news: { history: { size: 0, ttlMs: 0.5 }, presence: 'yes' } },
    };
    const told = [
      'RealtimeModule has wrong options:',
      expect.stringMatching(/^ {2}- pth: is no option; known are path, transports, broker, .*checkIntervalMs$/),
      '  - path: expected an absolute path such as \'/realtime\', got "realtime"',
      "  - globalEnhancers: expected 'inherit' or 'native', got \"none\"",
      '  - transports[1]: expected a transport such as webSocket(), got a object',
      '  - connectionGuards: expected an array of guards, got a object',
      '  - broker: expected a broker such as memoryBroker(), got a object',
      '  - auth: expected an authenticator such as anonymous(), got a text',
      '  - origins[0]: expected an origin such as "https://example.com": scheme, host and port, nothing behind',
      '  - trustedProxies[0]: expected a prefix length from 0 to 32',
      "  - rejectMode: expected 'http' or 'close'",
      '  - limits.maxFrames: is no option; known are maxFrameBytes, framesPerSecond, maxFramesInFlight, maxChannels, maxOutboxBytes, inlineBytes, maxConnections, connectionsPerAddress, connectionsPerUser, handshakesPerAddress, handshakesPerSecond, unauthenticatedMs',
      '  - limits.maxFrameBytes: expected an integer from 128 to 1073741824 or false, got 64',
      '  - limits.maxChannels: expected an integer from 1 to 1048576 or false, got 0',
      '  - heartbeat.timeoutMs: expected at most heartbeat.intervalMs (100)',
      '  - presence.graceMs: expected an integer from 0 to 2147483647, got -1',
      '  - checkIntervalMs: expected an integer from 10 to 2147483647, got "often"',
      '  - channels[\'a.:\']: expected a channel pattern: a segment is text without ".", "," and ":", or a parameter such as ":room", not ":"',
      "  - channels['news'].history.size: expected an integer from 1 to 1000000, got 0",
      "  - channels['news'].history.ttlMs: expected an integer from 1 to 2147483647, got 0.5",
      '  - channels[\'news\'].presence: expected a boolean, got "yes"',
    ];
    expect(await bootFailure(platforms[0], { imports: [wrong(options)] })).toEqual(told);
    const later = RealtimeModule.forRootAsync({ useFactory: () => options as never });
    expect(await bootFailure(platforms[1], { imports: [later] })).toEqual(told);
  });

  it.each<[options: unknown, path: string, got: string]>([
    [{ path: '/' }, 'path', '"/"'],
    [{ path: '/a//b' }, 'path', '"/a//b"'],
    [{ path: '/a/' }, 'path', '"/a/"'],
    [{ path: '/a b' }, 'path', '"/a b"'],
    [{ path: '/a?b' }, 'path', '"/a?b"'],
    [{ path: '/*' }, 'path', '"/*"'],
    [{ path: '' }, 'path', '""'],
    [{ path: 5 }, 'path', '5'],
    [{ path: null }, 'path', 'null'],
    [{ transports: webSocket }, 'transports', 'a function'],
    [{ transports: null }, 'transports', 'null'],
    [{ transports: [null] }, 'transports[0]', 'null'],
    [{ transports: [sse(), webSocket] }, 'transports[1]', 'a function'],
    [{ broker: null }, 'broker', 'null'],
    [{ broker: secret('redis://:swordfish@here') }, 'broker', 'a text'],
    [{ auth: secret('a secret of a few words') }, 'auth', 'a text'],
    [{ broker: memoryBroker }, 'broker', 'a function'],
    [{ auth: anonymous }, 'auth', 'a function'],
    [{ connectionGuards: null }, 'connectionGuards', 'null'],
    [{ connectionGuards: [undefined] }, 'connectionGuards[0]', 'undefined'],
    [{ connectionGuards: [{ canActivate: () => true }, {}] }, 'connectionGuards[1]', 'a object'],
    [{ globalEnhancers: true }, 'globalEnhancers', 'true'],
    [{ limits: null }, 'limits', 'null'],
    [{ limits: false }, 'limits', 'false'],
    [{ limits: [] }, 'limits', 'an array'],
    [{ limits: { maxFrameBytes: '65536' } }, 'limits.maxFrameBytes', '"65536"'],
    [{ limits: { maxFrameBytes: 2 ** 30 + 1 } }, 'limits.maxFrameBytes', '1073741825'],
    [{ limits: { maxFrameBytes: null } }, 'limits.maxFrameBytes', 'null'],
    [{ limits: { framesPerSecond: 0 } }, 'limits.framesPerSecond', '0'],
    [{ limits: { framesPerSecond: 1_000_001 } }, 'limits.framesPerSecond', '1000001'],
    [{ limits: { maxFramesInFlight: 0 } }, 'limits.maxFramesInFlight', '0'],
    [{ limits: { maxFramesInFlight: 1_048_577 } }, 'limits.maxFramesInFlight', '1048577'],
    [{ limits: { connectionsPerUser: 0 } }, 'limits.connectionsPerUser', '0'],
    [{ limits: { handshakesPerAddress: true } }, 'limits.handshakesPerAddress', 'true'],
    [{ limits: { maxChannels: 1.5 } }, 'limits.maxChannels', '1.5'],
    [{ limits: { maxChannels: Infinity } }, 'limits.maxChannels', 'Infinity'],
    [{ limits: { maxOutboxBytes: 1023 } }, 'limits.maxOutboxBytes', '1023'],
    [{ limits: { unauthenticatedMs: NaN } }, 'limits.unauthenticatedMs', 'NaN'],
    [{ limits: { unauthenticatedMs: true } }, 'limits.unauthenticatedMs', 'true'],
    [{ heartbeat: null }, 'heartbeat', 'null'],
    [{ heartbeat: { intervalMs: 19, timeoutMs: 10 } }, 'heartbeat.intervalMs', '19'],
    [{ heartbeat: { intervalMs: false } }, 'heartbeat.intervalMs', 'false'],
    [{ heartbeat: { timeoutMs: 9 } }, 'heartbeat.timeoutMs', '9'],
    [{ presence: null }, 'presence', 'null'],
    [{ presence: { graceMs: 2 ** 31 } }, 'presence.graceMs', '2147483648'],
    [{ drain: null }, 'drain', 'null'],
    [{ drain: { timeoutMs: -1 } }, 'drain.timeoutMs', '-1'],
    [{ checkIntervalMs: 9 }, 'checkIntervalMs', '9'],
    [{ checkIntervalMs: false }, 'checkIntervalMs', 'false'],
    [{ channels: null }, 'channels', 'null'],
    [{ channels: ['news'] }, 'channels', 'an array'],
    [{ channels: { news: null } }, "channels['news']", 'null'],
    [{ channels: { news: true } }, "channels['news']", 'true'],
    [{ channels: { news: { history: null } } }, "channels['news'].history", 'null'],
    [{ channels: { news: { history: true } } }, "channels['news'].history", 'true'],
    [{ channels: { news: { history: { size: 5 } } } }, "channels['news'].history.ttlMs", 'undefined'],
    [{ channels: { news: { subscribe: 0 } } }, "channels['news'].subscribe", '0'],
    [{ channels: { news: { publish: 'yes' } } }, "channels['news'].publish", '"yes"'],
    [{ channels: { news: { slowConsumer: 'conflate' } } }, "channels['news'].slowConsumer", '"conflate"'],
    [{ channels: { news: { slowConsumer: null } } }, "channels['news'].slowConsumer", 'null'],
    [{ channels: { news: { slowConsumer: { conflateBy: 'id' } } } }, "channels['news'].slowConsumer", 'a object'],
  ])('%j: %s is told', async (options, path, got) => {
    const [title, line, ...others] = await bootFailure(platforms[0], { imports: [wrong(options)] });
    expect(title).toBe('RealtimeModule has wrong options:');
    expect(line?.split(': expected ')[0]).toBe(`  - ${path}`);
    expect(line?.split(', got ')[1]).toBe(got);
    expect(others).toEqual([]);
  });

  it.each([
    [null, 'null'],
    [[], 'an array'],
    ['/realtime', '"/realtime"'],
  ])('a factory that gives %j', async (options, got) => {
    const module = RealtimeModule.forRootAsync({ useFactory: () => options as never });
    expect(await bootFailure(platforms[0], { imports: [module] })).toEqual([
      'RealtimeModule has wrong options:',
      `  - options: expected an object, got ${got}`,
    ]);
  });

  it('a factory that gives nothing', async () => {
    const module = RealtimeModule.forRootAsync({ useFactory: () => undefined as never });
    expect(await bootFailure(platforms[0], { imports: [module] })).toEqual(noOptions);
  });

  it.each<[options: unknown, line: string]>([
    [{ auth: { authenticate: () => undefined, cookie: 'a b' } }, 'auth.cookie: expected the name of a cookie'],
    [
      { auth: { authenticate: () => undefined, query: 'channels' } },
      'auth.query: expected the name of a query parameter, other than channels, format, client, lastEventId, cursor, inbox, ticket',
    ],
    [
      { auth: { authenticate: () => undefined, cookie: 'session' }, origins: '*' },
      "origins: with a cookie as the credential, '*' lets every page act as its visitor: list the origins",
    ],
    [{ origins: 'anybody' }, "origins: expected 'same-host', '*' or a list of origins"],
    [{ origins: ['*'] }, "origins[0]: expected an origin; '*' stands alone, not in a list"],
    [{ origins: [5] }, 'origins[0]: expected an origin as text, or a RegExp'],
    [
      { trustedProxies: 33 },
      'trustedProxies: expected the number of proxies (0 to 32) or a list of addresses and CIDR ranges',
    ],
    [
      { trustedProxies: true },
      'trustedProxies: expected the number of proxies (0 to 32) or a list of addresses and CIDR ranges',
    ],
    [
      { trustedProxies: ['127.0.0.1', 'localhost'] },
      'trustedProxies[1]: expected an address such as "10.0.0.1" or a range such as "10.0.0.0/8"',
    ],
    [{ rejectMode: null }, "rejectMode: expected 'http' or 'close'"],
    [{ transports: [sse(), sse()] }, "transports[1]: 'sse' is there twice"],
    [{ heartbeat: { everyMs: 5 } }, 'heartbeat.everyMs: is no option; known are intervalMs, timeoutMs'],
    [{ presence: { grace: 5 } }, 'presence.grace: is no option; known are graceMs'],
    [
      { channels: { news: { histroy: false } } },
      "channels['news'].histroy: is no option; known are history, presence, slowConsumer, subscribe, publish",
    ],
    [
      { channels: { news: { history: { size: 1, ttlMs: 1, max: 1 } } } },
      "channels['news'].history.max: is no option; known are size, ttlMs",
    ],
    [{ channels: { '': {} } }, "channels['']: expected a channel pattern: a pattern has 1 to 200 characters"],
    [{ channels: { 'a.:b.:b': {} } }, "channels['a.:b.:b']: expected a channel pattern: a parameter is named twice"],
    [
      { channels: { 'a.:b': {}, ':a.b': {} } },
      "channels[':a.b']: matches the same channels as 'a.:b', and neither is more literal",
    ],
  ])('%j is told', async (options, line) => {
    expect(await bootFailure(platforms[0], { imports: [wrong(options)] })).toEqual([
      'RealtimeModule has wrong options:',
      `  - ${line}`,
    ]);
  });

  it.each<[name: string, options: RealtimeModuleOptions]>([
    [
      'the least',
      {
        path: '/r',
        transports: [],
        connectionGuards: [],
        origins: [],
        trustedProxies: 0,
        limits: {
          maxFrameBytes: 128,
          framesPerSecond: 1,
          maxFramesInFlight: 1,
          maxChannels: 1,
          maxOutboxBytes: 1024,
          maxConnections: 1,
          connectionsPerAddress: 1,
          connectionsPerUser: 1,
          handshakesPerAddress: 1,
          handshakesPerSecond: 1,
          unauthenticatedMs: 1,
        },
        heartbeat: { intervalMs: 20, timeoutMs: 10 },
        presence: { graceMs: 0 },
        drain: { timeoutMs: 0 },
        checkIntervalMs: 10,
        channels: { a: { history: { size: 1, ttlMs: 1 } } },
      },
    ],
    [
      'the most',
      {
        path: '/a/:tenant/c',
        transports: [webSocket(), sse()],
        origins: ['https://example.com', /^https:/, 'null'],
        trustedProxies: 32,
        limits: {
          maxFrameBytes: 2 ** 30,
          framesPerSecond: 1_000_000,
          maxFramesInFlight: 2 ** 20,
          maxConnections: 2 ** 30,
          connectionsPerAddress: 2 ** 30,
          connectionsPerUser: 2 ** 30,
          handshakesPerAddress: 1_000_000,
          handshakesPerSecond: 1_000_000,
          maxChannels: 2 ** 20,
          maxOutboxBytes: 2 ** 31,
          unauthenticatedMs: 2 ** 31 - 1,
        },
        heartbeat: { intervalMs: 2 ** 31 - 1, timeoutMs: 2 ** 31 - 1 },
        presence: { graceMs: 2 ** 31 - 1 },
        drain: { timeoutMs: 2 ** 31 - 1 },
        checkIntervalMs: 2 ** 31 - 1,
        channels: { a: { history: { size: 1_000_000, ttlMs: 2 ** 31 - 1 } } },
      },
    ],
    [
      'off',
      {
        limits: {
          maxFrameBytes: false,
          framesPerSecond: false,
          maxFramesInFlight: false,
          maxConnections: false,
          connectionsPerAddress: false,
          connectionsPerUser: false,
          handshakesPerAddress: false,
          handshakesPerSecond: false,
          maxChannels: false,
          maxOutboxBytes: false,
          unauthenticatedMs: false,
        },
        channels: { a: { history: false, slowConsumer: { conflateBy: ({ event }) => event } } },
      },
    ],
    [
      'undefined',
      { path: undefined, broker: undefined, limits: { maxChannels: undefined }, channels: undefined } as never,
    ],
  ])('but not %s that is allowed', async (_name, options) => {
    expect(await bootFailure(platforms[0], { imports: [RealtimeModule.forRoot(options)] })).toEqual([]);
  });
});

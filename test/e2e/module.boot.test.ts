import { afterEach, describe, expect, it } from '@jest/globals';
import {
  Catch,
  Injectable,
  Module,
  UseFilters,
  UseGuards,
  UseInterceptors,
  UsePipes,
  type CanActivate,
  type DynamicModule,
  type ExceptionFilter,
  type NestInterceptor,
  type PipeTransform,
  type Provider,
  type Type,
} from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { WsAdapter } from '@nestjs/platform-ws';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import {
  ChannelGateway,
  memoryBroker,
  OnPublish,
  OnSubscribe,
  OnUnsubscribe,
  RealtimeModule,
} from '../../lib/index.js';
import { bootFailure } from './support/boot-failure.js';
import { connect } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

@Injectable()
class NobodyGuard implements CanActivate {
  canActivate(): boolean {
    return false;
  }
}

@Injectable()
class TrimPipe implements PipeTransform {
  transform(value: unknown): unknown {
    return String(value).trim();
  }
}

@Injectable()
class QuietInterceptor implements NestInterceptor {
  intercept(_context: unknown, next: { handle(): never }): never {
    return next.handle();
  }
}

@Catch()
class QuietFilter implements ExceptionFilter {
  catch(): void {}
}

@WebSocketGateway()
class EchoGateway {
  @SubscribeMessage('echo')
  echo(@MessageBody() data: unknown): unknown {
    return data;
  }
}

@ChannelGateway('chat.:room')
class ChatChannel {
  @OnSubscribe()
  enter(): void {}
}

/** A module besides the root. */
function otherModule(...providers: Provider[]): DynamicModule {
  @Module({})
  class OtherModule {}
  return { module: OtherModule, providers, exports: providers };
}

/** What the module says of providers, without the title; nothing where the application starts. */
async function mistakesOf(...providers: Provider[]): Promise<string[]> {
  const [title, ...lines] = await bootFailure(platforms[0], { imports: [RealtimeModule.forRoot()], providers });
  if (title !== undefined) expect(title).toBe('RealtimeModule cannot start:');
  return lines.map((line) => line.replace(/^ {2}- /, ''));
}

describe('a gateway fails the start', () => {
  it.each<[name: string, gateway: Type]>([
    ['@WebSocketGateway', EchoGateway],
    ['@ChannelGateway', ChatChannel],
  ])('where %s is on a class that is no class provider', async (_name, gateway) => {
    const line = `${gateway.name}: is provided by useFactory or useValue, so its guards would not run; list the class in \`providers\``;
    for (const provider of [
      { provide: gateway, useFactory: () => new gateway() },
      { provide: gateway, useValue: new gateway() },
      { provide: 'made', useFactory: async () => Promise.resolve(new gateway()) },
      { provide: 'value', useValue: new gateway() },
    ]) {
      expect(await mistakesOf(provider)).toEqual([line]);
    }
  });

  it.each<[name: string, gateway: Type]>([
    ['@WebSocketGateway', EchoGateway],
    ['@ChannelGateway', ChatChannel],
  ])('where a class with %s is in two modules', async (_name, gateway) => {
    const lines = await bootFailure(platforms[0], {
      imports: [RealtimeModule.forRoot(), otherModule(gateway)],
      providers: [gateway],
    });
    expect(lines).toEqual([
      'RealtimeModule cannot start:',
      expect.stringMatching(
        new RegExp(
          `^ {2}- ${gateway.name}: is provided in (RootTestModule and in OtherModule|OtherModule and in RootTestModule), so it would run twice; export it from one$`,
        ),
      ),
    ]);
  });

  it('but not where another module imports or aliases the class', async () => {
    const shared = otherModule(EchoGateway, ChatChannel);
    const lines = await bootFailure(platforms[0], {
      imports: [RealtimeModule.forRoot(), shared],
      providers: [
        { provide: 'gateway', useExisting: EchoGateway },
        { provide: 'channel', useExisting: ChatChannel },
      ],
    });
    expect(lines).toEqual([]);
  });

  it('where it has a namespace, which is told to be a path', async () => {
    @WebSocketGateway({ namespace: '/chat' })
    class NamedGateway {}
    @WebSocketGateway({ namespace: /^\/chat/ })
    class MatchingGateway {}
    expect(await mistakesOf(NamedGateway, MatchingGateway)).toEqual([
      'NamedGateway: has a `namespace`, which is Socket.IO; give it a `path` instead',
      'MatchingGateway: has a `namespace`, which is Socket.IO; give it a `path` instead',
    ]);
  });

  it('where its path is none', async () => {
    @WebSocketGateway({ path: '/a?b' })
    class QueryGateway {}
    @WebSocketGateway({ path: '/a b' })
    class SpaceGateway {}
    @WebSocketGateway({ path: 5 as never })
    class NumberGateway {}
    @WebSocketGateway({ path: /rooms/ as never })
    class RegExpGateway {}
    expect(await mistakesOf(QueryGateway, SpaceGateway, NumberGateway, RegExpGateway)).toEqual([
      'QueryGateway: expected a path such as \'/rooms/:id\', got "/a?b"',
      'SpaceGateway: expected a path such as \'/rooms/:id\', got "/a b"',
      "NumberGateway: expected a path such as '/rooms/:id', got 5",
      "RegExpGateway: expected a path such as '/rooms/:id', got a object",
    ]);
  });

  it('where an event is reserved or no text', async () => {
    class BaseGateway {
      @SubscribeMessage('$inherited')
      inherited(): void {}
    }
    @WebSocketGateway()
    class ReservedGateway extends BaseGateway {
      @SubscribeMessage('$resume')
      resume(): void {}
      @SubscribeMessage({ cmd: 'sum' })
      pattern(): void {}
      @SubscribeMessage('')
      empty(): void {}
      @SubscribeMessage('a$')
      fine(): void {}
    }
    const expected = 'expected an event that is text and does not start with "$", which is reserved, got';
    expect(await mistakesOf(ReservedGateway)).toEqual([
      `ReservedGateway.resume: ${expected} "$resume"`,
      `ReservedGateway.pattern: ${expected} a object`,
      `ReservedGateway.empty: ${expected} ""`,
      `ReservedGateway.inherited: ${expected} "$inherited"`,
    ]);
  });

  it('where another takes the same event at the same path', async () => {
    @WebSocketGateway()
    class SecondEcho extends EchoGateway {}
    @WebSocketGateway({ path: 'realtime/' })
    class ThirdEcho extends EchoGateway {}
    @WebSocketGateway({ path: '/other' })
    class OtherEcho extends EchoGateway {}
    expect(await mistakesOf(EchoGateway, SecondEcho, ThirdEcho, OtherEcho)).toEqual([
      'SecondEcho: takes "echo", which EchoGateway takes at the same path',
      'ThirdEcho: takes "echo", which EchoGateway takes at the same path',
    ]);
  });

  it('where its port is taken', async () => {
    const taken = createServer().listen(0);
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    @WebSocketGateway(port)
    class OwnPortGateway {}
    const imports = [RealtimeModule.forRoot()];
    const [line] = await bootFailure(platforms[0], { imports, providers: [OwnPortGateway] });
    expect(line).toContain('EADDRINUSE');
    taken.close();
    await once(taken, 'close');
  });
});

class GuardedBase {
  @UseGuards(NobodyGuard)
  @SubscribeMessage('guarded')
  guarded(): string {
    return 'unguarded';
  }
}

@WebSocketGateway()
class InheritingGateway extends GuardedBase {}

@UsePipes(TrimPipe)
@WebSocketGateway()
class ClassPipeGateway {}

@WebSocketGateway()
class MethodGateway {
  @UseInterceptors(QuietInterceptor)
  @UseFilters(QuietFilter)
  @SubscribeMessage('a')
  a(): void {}
}

@WebSocketGateway()
class ParameterGateway {
  @SubscribeMessage('trimmed')
  trimmed(@MessageBody(TrimPipe) text: unknown): unknown {
    return text;
  }
}

@ChannelGateway('guarded')
@UseGuards(NobodyGuard)
class GuardedChannel {
  @OnSubscribe()
  enter(): void {}
}

@ChannelGateway('piped')
class PipedChannel {
  @OnPublish('message')
  message(@MessageBody(TrimPipe) text: unknown): unknown {
    return text;
  }
}

const byUseClass: [gateway: Type, unresolved: string[]][] = [
  [InheritingGateway, ['NobodyGuard']],
  [ClassPipeGateway, ['TrimPipe']],
  [MethodGateway, ['QuietInterceptor', 'QuietFilter']],
  [ParameterGateway, ['TrimPipe']],
  [GuardedChannel, ['NobodyGuard']],
  [PipedChannel, ['TrimPipe']],
];

describe('enhancers of a gateway', () => {
  it.each(byUseClass)('that its module cannot resolve fail the start: %p', async (gateway, unresolved) => {
    // Nest looks for enhancers before it puts the class in place.
    const module = await Test.createTestingModule({
      imports: [RealtimeModule.forRoot()],
      providers: [{ provide: 'gateway', useClass: TrimPipe }],
    })
      .overrideProvider('gateway')
      .useClass(gateway)
      .compile();
    const app = module.createNestApplication({ logger: false });
    const { name } = gateway;
    const lines = unresolved.map(
      (enhancer) => `  - ${name}: uses ${enhancer}, which RootTestModule cannot resolve, so it would not run`,
    );
    const outcome = await app.init().then(
      () => 'started',
      (error: unknown) => (error as Error).message.split('\n'),
    );
    expect(outcome).toEqual(['RealtimeModule cannot start:', ...lines]);
    await app.close();
  });

  it('run where the class is provided by useClass', async () => {
    const running = await startApp(platforms[0], {
      imports: [RealtimeModule.forRoot()],
      providers: byUseClass.map(([gateway]) => ({ provide: gateway.name, useClass: gateway })),
    });
    const peer = await connect(running);
    expect(await peer.request('guarded', 0, 1)).toMatchObject({ id: 1, error: { code: 'forbidden' } });
    expect(await peer.request('trimmed', ' a ', 2)).toEqual({ id: 2, data: 'a' });
    expect(await peer.request('$subscribe', { channel: 'guarded' }, 3)).toMatchObject({
      id: 3,
      error: { code: 'forbidden' },
    });
    await running.close();
  });
});

describe('a channel gateway fails the start', () => {
  it.each<[pattern: string, why: string]>([
    ['', 'a pattern has 1 to 200 characters'],
    ['a'.repeat(201), 'a pattern has 1 to 200 characters'],
    ['a..b', 'a segment is text without ".", "," and ":", or a parameter such as ":room", not ""'],
    ['a.b:c', 'a segment is text without ".", "," and ":", or a parameter such as ":room", not "b:c"'],
    ['a,b', 'a segment is text without ".", "," and ":", or a parameter such as ":room", not "a,b"'],
    [':a.:a', 'a parameter is named twice'],
  ])('where its pattern is %j', async (pattern, why) => {
    @ChannelGateway(pattern)
    class WrongChannel {}
    expect(await mistakesOf(WrongChannel)).toEqual([`WrongChannel: expected a channel pattern: ${why}`]);
  });

  it('where its options are wrong, all at once', async () => {
    @ChannelGateway('news', { history: { size: 0, ttlMs: -1 }, presence: 1, keep: true } as never)
    class WrongChannel {}
    expect(await mistakesOf(WrongChannel)).toEqual([
      'WrongChannel.keep: is no option; known are history, presence, slowConsumer, subscribe, publish',
      'WrongChannel.history.size: expected an integer from 1 to 1000000, got 0',
      'WrongChannel.history.ttlMs: expected an integer from 1 to 2147483647, got -1',
      'WrongChannel.presence: expected a boolean, got 1',
    ]);
  });

  it('where another has its pattern, or one that is as literal', async () => {
    @ChannelGateway('chat.:room')
    class SamePattern {}
    @ChannelGateway('chat.:id')
    class SameMatches {}
    @ChannelGateway(':kind.lobby')
    class Overlapping {}
    @ChannelGateway('chat.lobby')
    class MoreLiteral {}
    @ChannelGateway('chat.:room.:part')
    class Longer {}
    expect(await mistakesOf(ChatChannel, SamePattern, SameMatches, Overlapping, MoreLiteral, Longer)).toEqual([
      "SamePattern: another class has the pattern 'chat.:room' already",
      "SameMatches: 'chat.:id' matches the same channels as 'chat.:room', and neither is more literal",
      "Overlapping: ':kind.lobby' matches the same channels as 'chat.:room', and neither is more literal",
    ]);
  });

  it('where two methods have one hook, or an event is reserved', async () => {
    class BaseChannel {
      @OnSubscribe()
      inherited(): void {}
    }
    @ChannelGateway('news')
    class DoubleChannel extends BaseChannel {
      @OnSubscribe()
      enter(): void {}
      @OnPublish('a')
      a(): void {}
      @OnPublish('a')
      again(): void {}
      @OnPublish()
      any(): void {}
      @OnPublish()
      all(): void {}
      @OnUnsubscribe()
      leave(): void {}
      @OnUnsubscribe()
      left(): void {}
      @OnPublish('$mine')
      mine(): void {}
    }
    const taken = 'another method of the class has the same hook';
    expect(await mistakesOf(DoubleChannel)).toEqual([
      `DoubleChannel.again: ${taken}`,
      `DoubleChannel.all: ${taken}`,
      `DoubleChannel.left: ${taken}`,
      `DoubleChannel.mine: '$mine' starts with "$", which is reserved`,
      `DoubleChannel.inherited: ${taken}`,
    ]);
  });
});

describe('mistakes of every kind', () => {
  @WebSocketGateway({ namespace: 'chat' })
  class NamespacedGateway {}
  @WebSocketGateway()
  class ReservedGateway {
    @SubscribeMessage('$mine')
    mine(): void {}
  }
  @ChannelGateway('a..b')
  class WrongChannel {}

  it('are told in one error', async () => {
    const imports = [RealtimeModule.forRoot()];
    const providers = [
      ReservedGateway,
      WrongChannel,
      { provide: 'a', useFactory: () => new EchoGateway() },
      { provide: 'b', useFactory: () => new ChatChannel() },
    ];
    const lines = await bootFailure(platforms[0], { imports, providers }, (app) => {
      app.useWebSocketAdapter(new WsAdapter(app));
    });
    expect(lines.map((line) => line.split(' ').slice(0, 4).join(' '))).toEqual([
      'RealtimeModule cannot start:',
      '  - ChatChannel:',
      '  - WrongChannel:',
      '  - EchoGateway:',
      '  - ReservedGateway.mine:',
      '  - useWebSocketAdapter:',
    ]);
  });

  it.each<[name: string, metadata: () => { imports?: DynamicModule[]; providers?: Provider[] }]>([
    ['a second module', () => ({ imports: [RealtimeModule.forRoot()] })],
    ['a channel gateway', () => ({ providers: [WrongChannel] })],
    ['a gateway', () => ({ providers: [NamespacedGateway] })],
  ])('leave nothing open at the broker: %s', async (_name, metadata) => {
    const broker = memoryBroker();
    const { imports = [], providers = [] } = metadata();
    const lines = await bootFailure(platforms[0], {
      imports: [RealtimeModule.forRoot({ broker }), ...imports],
      providers,
    });
    expect(lines[0]).toBe('RealtimeModule cannot start:');
    expect(broker.sessions.size).toBe(0);
  });
});

describe.each(platforms)('app.useWebSocketAdapter on $name', (platform) => {
  let running: RunningApp | undefined;

  afterEach(async () => {
    await running?.close();
    running = undefined;
  });

  it('fails the start, with or without gateways', async () => {
    for (const providers of [[], [EchoGateway]]) {
      const imports = [RealtimeModule.forRoot()];
      const lines = await bootFailure(platform, { imports, providers }, (app) => {
        app.useWebSocketAdapter(new WsAdapter(app));
      });
      expect(lines).toEqual([
        'RealtimeModule cannot start:',
        '  - useWebSocketAdapter: expected the adapter of RealtimeModule, got WsAdapter; remove app.useWebSocketAdapter(), the module installs its own',
      ]);
    }
  });

  it('is refused once the application has started, which goes on and closes', async () => {
    running = await startApp(platform, { imports: [RealtimeModule.forRoot()], providers: [EchoGateway] }, (app) =>
      app.useLogger(false),
    );
    const { app } = running;
    const early = await connect(running);
    expect(() => app.useWebSocketAdapter(new WsAdapter(app))).toThrow(
      'RealtimeModule has started:\n  - useWebSocketAdapter: expected the adapter of RealtimeModule, got WsAdapter; remove',
    );
    const late = await connect(running);
    expect(await early.request('echo', 1, 1)).toEqual({ id: 1, data: 1 });
    expect(await late.request('echo', 2, 2)).toEqual({ id: 2, data: 2 });
    await running.close();
    expect(await early.closed).toMatchObject({ code: 4503 });
    expect(await late.closed).toMatchObject({ code: 4503 });
  });
});

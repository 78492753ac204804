import { afterEach, describe, expect, it } from '@jest/globals';
import {
  Catch,
  ConflictException,
  ForbiddenException,
  HttpException,
  Inject,
  Injectable,
  Module,
  NotFoundException,
  ParseIntPipe,
  Scope,
  SetMetadata,
  UnauthorizedException,
  UseFilters,
  UseGuards,
  UseInterceptors,
  UsePipes,
  ValidationPipe,
  type ArgumentsHost,
  type CallHandler,
  type CanActivate,
  type ExceptionFilter,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_INTERCEPTOR, APP_PIPE, Reflector, REQUEST } from '@nestjs/core';
import { ConnectedSocket, MessageBody, SubscribeMessage, WebSocketGateway, WsException } from '@nestjs/websockets';
import { IsString } from 'class-validator';
import { catchError, map, of, type Observable } from 'rxjs';
import { WebSocket } from 'ws';
import { RealtimeClient } from '../../lib/client/index.js';
import {
  ChannelGateway,
  ChannelParam,
  Connection,
  Identity,
  OnPublish,
  OnSubscribe,
  OnUnsubscribe,
  RealtimeException,
  RealtimeModule,
  RealtimeService,
  UserIdentity,
  type RealtimeModuleOptions,
} from '../../lib/index.js';
import { ChannelPeer } from './support/channel-peer.js';
import { refusedStream } from './support/event-stream.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { Probe } from './support/probe.js';
import { as, tokenUsers } from './support/token-users.js';

const POSITION = /^[0-9A-Za-z]{6}-\d+-[0-9a-z]+$/;

class NewMessage {
  @IsString() text!: string;
}

@ChannelGateway('chat.:room', { history: { size: 10, ttlMs: 60_000 }, presence: true })
class ChatChannel {
  constructor(private readonly probe: Probe) {}

  @OnSubscribe()
  enter(@ChannelParam('room') room: string): { room: string } {
    this.probe.note(['enter', room]);
    return { room };
  }

  @OnPublish('message')
  @UsePipes(new ValidationPipe({ whitelist: true }))
  message(@MessageBody() { text }: NewMessage, @ChannelParam('room') room: string): unknown {
    return { text, loud: text.toUpperCase(), room };
  }

  @OnPublish('value')
  value(@MessageBody() data: unknown): unknown {
    return data;
  }

  @OnPublish('nothing')
  async nothing(): Promise<undefined> {
    await Promise.resolve();
    this.probe.note('nothing');
  }

  @OnPublish('from')
  from(
    @MessageBody('n', ParseIntPipe) n: number,
    @Identity('id') id: string | undefined,
    @ConnectedSocket() client: Connection,
  ): unknown {
    return { n, id, connection: client.id };
  }

  @OnUnsubscribe()
  leave(
    @ChannelParam('room') room: string,
    @MessageBody() reason: string,
    @ConnectedSocket() client: Connection,
  ): void {
    this.probe.note(['leave', room, reason, client.user?.id]);
    if (room === 'failing') throw new Error('secret');
  }
}

@ChannelGateway('any')
class AnyChannel {
  @OnPublish()
  any(@MessageBody() data: unknown): unknown {
    return { any: data };
  }

  @OnPublish('named')
  named(@MessageBody() data: unknown): unknown {
    return { named: data };
  }
}

@ChannelGateway('rooms.:id')
class RoomsChannel {
  constructor(private readonly probe: Probe) {}

  @OnSubscribe()
  enter(
    @ChannelParam('id', ParseIntPipe) id: number,
    @Identity() user: UserIdentity | undefined,
    @Identity('id') userId: string | undefined,
    @ConnectedSocket() client: Connection,
  ): void {
    this.probe.note({ id, user: user instanceof UserIdentity, userId, own: client.user === user });
  }
}

@ChannelGateway('rooms.lobby')
class LobbyChannel {
  constructor(private readonly probe: Probe) {}

  @OnSubscribe()
  enter(): void {
    this.probe.note('lobby');
  }
}

/** How hooks refuse, and what the peer is answered. */
const REFUSALS: Record<string, { refuse: () => unknown; error: object }> = {
  realtime: {
    refuse: () => {
      throw new RealtimeException('superseded', 'elsewhere', { at: 3 });
    },
    error: { code: 'superseded', message: 'elsewhere', details: { at: 3 } },
  },
  later: {
    refuse: () => Promise.reject(new RealtimeException('gone')),
    error: { code: 'gone', message: 'The connection is over' },
  },
  ws: {
    refuse: () => {
      throw new WsException({ message: 'no such room', room: 5 });
    },
    error: { code: 'rejected', message: 'no such room', details: { room: 5 } },
  },
  forbidden: {
    refuse: () => {
      throw new ForbiddenException('not for you');
    },
    error: { code: 'forbidden', message: 'not for you' },
  },
  unauthorized: {
    refuse: () => {
      throw new UnauthorizedException();
    },
    error: { code: 'unauthenticated', message: 'Unauthorized' },
  },
  missing: {
    refuse: () => {
      throw new NotFoundException('no such room');
    },
    error: { code: 'not_available', message: 'no such room' },
  },
  conflict: {
    refuse: () => {
      throw new ConflictException({ message: 'taken', by: 'Ada' });
    },
    error: { code: 'rejected', message: 'taken', details: { status: 409, by: 'Ada' } },
  },
  throttled: {
    refuse: () => {
      throw Object.assign(new HttpException('slow down', 429), { retryAfterMs: 50 });
    },
    error: { code: 'rate_limited', message: 'slow down', retryAfterMs: 50 },
  },
  unexpected: {
    refuse: () => {
      throw new Error('secret');
    },
    error: { code: 'internal', message: 'Internal server error' },
  },
  false: { refuse: () => false, error: { code: 'forbidden', message: 'Not allowed' } },
  'false-later': { refuse: () => Promise.resolve(false), error: { code: 'forbidden', message: 'Not allowed' } },
  'false-observable': { refuse: () => of(false), error: { code: 'forbidden', message: 'Not allowed' } },
};

@ChannelGateway('refusing.:how', { presence: true })
class RefusingChannel {
  constructor(private readonly probe: Probe) {}

  @OnSubscribe()
  enter(@ChannelParam('how') how: string): unknown {
    return REFUSALS[how]!.refuse();
  }

  @OnPublish('message')
  message(@ChannelParam('how') how: string): unknown {
    return REFUSALS[how]!.refuse();
  }

  @OnUnsubscribe()
  leave(): void {
    this.probe.note('left what was never entered');
  }
}

@Injectable()
class NobodyGuard implements CanActivate {
  canActivate(): boolean {
    return false;
  }
}

const Place = (place: string) => SetMetadata('place', place);

@Injectable()
class TracingGuard implements CanActivate {
  constructor(
    private readonly probe: Probe,
    @Inject(Reflector) private readonly reflector: Reflector,
  ) {}

  canActivate(context: ExecutionContext): boolean {
    const place = this.reflector.getAllAndOverride<string>('place', [context.getHandler(), context.getClass()]);
    this.probe.note([`guard of ${place}`, context.getType(), context.switchToWs().getPattern()]);
    return true;
  }
}

@Injectable()
class ClientGuard implements CanActivate {
  canActivate(context: ExecutionContext): Promise<boolean> {
    const client = context.switchToWs().getClient<Connection>();
    const data = context.switchToWs().getData<{ allowed?: boolean } | undefined>();
    return Promise.resolve(client.query.allowed === 'yes' || data?.allowed === true);
  }
}

@Place('class')
@UseGuards(TracingGuard)
@ChannelGateway('guarded')
class GuardedChannel {
  constructor(private readonly probe: Probe) {}

  @OnSubscribe()
  @Place('method')
  @UseGuards(ClientGuard)
  enter(): void {
    this.probe.note('entered');
  }

  @OnPublish('message')
  @UseGuards(ClientGuard)
  message(): string {
    return 'published';
  }

  @OnUnsubscribe()
  leave(): void {
    this.probe.note('left');
  }
}

@Injectable()
@Catch()
class SwallowingFilter implements ExceptionFilter {
  constructor(private readonly probe: Probe) {}

  catch(exception: Error, host: ArgumentsHost): unknown {
    const ws = host.switchToWs();
    const client = ws.getClient<unknown>() instanceof Connection;
    this.probe.note(['filter', exception.constructor.name, host.getType(), client, ws.getPattern(), ws.getData()]);
    return { granted: true };
  }
}

@Catch(ForbiddenException)
class TranslatingFilter implements ExceptionFilter {
  async catch(): Promise<void> {
    await Promise.resolve();
    throw new RealtimeException('superseded', 'translated');
  }
}

@UseFilters(SwallowingFilter)
@UseGuards(NobodyGuard)
@ChannelGateway('swallowed', { presence: true })
class SwallowedChannel {
  @OnSubscribe()
  enter(): void {}

  @OnPublish('message')
  message(): string {
    return 'published';
  }
}

@UseFilters(SwallowingFilter)
@ChannelGateway('translated')
class TranslatedChannel {
  @OnSubscribe()
  @UseFilters(TranslatingFilter)
  enter(): void {
    throw new ForbiddenException();
  }

  @OnPublish('other')
  @UseFilters(TranslatingFilter)
  other(): void {
    throw new ConflictException('not translated');
  }
}

@Injectable()
class WrappingInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(map((data: unknown) => ({ wrapped: data })));
  }
}

@Injectable()
class RescuingInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(catchError(() => of({ rescued: true })));
  }
}

@UseInterceptors(RescuingInterceptor, WrappingInterceptor)
@ChannelGateway('intercepted', { presence: true })
class InterceptedChannel {
  @OnSubscribe()
  @UseGuards(NobodyGuard)
  enter(): void {}

  @OnPublish('guarded')
  @UseGuards(NobodyGuard)
  guarded(): string {
    return 'published';
  }

  @OnPublish('open')
  open(@MessageBody() data: unknown): unknown {
    return data;
  }
}

@UseInterceptors(WrappingInterceptor)
@ChannelGateway('wrapped.:how')
class WrappedChannel {
  @OnSubscribe()
  enter(): boolean {
    return false;
  }

  @OnPublish('message')
  message(): boolean {
    return false;
  }
}

let made = 0;

@Injectable({ scope: Scope.REQUEST })
class PerCall {
  readonly n = ++made;
  constructor(@Inject(REQUEST) readonly request: Connection) {}
}

@ChannelGateway('scoped')
class ScopedChannel {
  constructor(private readonly call: PerCall) {}

  @OnSubscribe()
  @UseGuards(ClientGuard)
  enter(): void {}

  @OnPublish('message')
  message(@ConnectedSocket() client: Connection): unknown {
    return { n: this.call.n, own: this.call.request === client };
  }
}

@ChannelGateway('gated', { presence: true })
class GatedChannel {
  /** What `@OnSubscribe` waits for. */
  gate: Promise<void> = Promise.resolve();
  constructor(private readonly probe: Probe) {}

  @OnSubscribe()
  async enter(): Promise<void> {
    this.probe.note('entering');
    await this.gate;
    this.probe.note('entered');
  }

  @OnUnsubscribe()
  leave(@MessageBody() reason: string): void {
    this.probe.note(reason);
  }
}

@Injectable()
abstract class Entered {
  constructor(readonly probe: Probe) {}

  @OnSubscribe()
  enter(@ChannelParam('name') name: string): void {
    this.probe.note(['inherited', name]);
  }
}

@ChannelGateway('derived.:name')
class DerivedChannel extends Entered {}

@WebSocketGateway()
class InvitingGateway {
  @SubscribeMessage('invite')
  invite(@MessageBody() channel: string, @ConnectedSocket() client: Connection): Promise<string> {
    return client.subscribe(channel);
  }

  @SubscribeMessage('expel')
  async expel(@MessageBody() channel: string, @ConnectedSocket() client: Connection): Promise<string[]> {
    await client.unsubscribe(channel);
    return [...client.channels];
  }
}

const CHANNELS = [
  ChatChannel,
  AnyChannel,
  RoomsChannel,
  LobbyChannel,
  RefusingChannel,
  GuardedChannel,
  SwallowedChannel,
  TranslatedChannel,
  InterceptedChannel,
  WrappedChannel,
  ScopedChannel,
  PerCall,
  GatedChannel,
  DerivedChannel,
  InvitingGateway,
];

const { connect } = ChannelPeer;

const refused = (code: string) => expect.objectContaining({ code });

describe.each(platforms)('channels on $name', (platform) => {
  let dispose: (() => Promise<void> | void)[] = [];
  let probe: Probe;

  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  async function start(
    options: RealtimeModuleOptions = {},
    providers: any[] = CHANNELS,
  ): Promise<RunningApp & { realtime: RealtimeService }> {
    made = 0;
    const running = await startApp(
      platform,
      { imports: [RealtimeModule.forRoot(options)], providers: [Probe, ...providers] },
      (app) => app.useLogger(false),
    );
    dispose.push(running.close);
    probe = running.app.get(Probe);
    return { ...running, realtime: running.app.get(RealtimeService) };
  }

  it('publishes what the hook returned to every subscriber', async () => {
    const { url } = await start();
    const clients = [1, 2].map(() => new RealtimeClient(`${url}/realtime`, { WebSocket }));
    dispose.push(() => clients.forEach((client) => client.close()));
    const received = clients.map(
      (client) => new Promise((resolve) => client.channel('chat.lobby').on('message', (data) => resolve(data))),
    );
    await Promise.all(clients.map((client) => client.channel('chat.lobby').subscribe()));
    const position = await clients[0]!.channel('chat.lobby').publish('message', { text: 'hi' });
    const published = { text: 'hi', loud: 'HI', room: 'lobby' };
    expect(await Promise.all(received)).toEqual([published, published]);
    expect(clients.map((client) => client.channel('chat.lobby').position)).toEqual([position, position]);
  });

  describe('declarations', () => {
    it('tell the options of a class; what it leaves out comes from the entry of the same pattern', async () => {
      const app = await start({ channels: { any: { history: { size: 3, ttlMs: 5_000 }, presence: true } } });
      const peer = await connect(app);
      const position = expect.stringMatching(POSITION);
      expect(await peer.ask('$subscribe', { channel: 'chat.a' })).toEqual({ position, size: 10, windowMs: 60_000 });
      expect(await peer.ask('$subscribe', { channel: 'any' })).toEqual({ position, size: 3, windowMs: 5_000 });
      expect(await peer.ask('$subscribe', { channel: 'rooms.1' })).toMatchObject({ size: 100, windowMs: 300_000 });
      expect(await peer.ask('$presence', { channel: 'any' })).toMatchObject({ count: 1 });
      expect(await peer.ask('$presence', { channel: 'rooms.1' })).toEqual(refused('not_available'));
    });

    it('let the more literal of two patterns win', async () => {
      const peer = await connect(await start());
      await peer.ask('$subscribe', { channel: 'rooms.lobby' });
      expect(probe.events).toEqual(['lobby']);
    });

    it('find hooks of base classes', async () => {
      const peer = await connect(await start());
      await peer.ask('$subscribe', { channel: 'derived.a' });
      expect(probe.events).toEqual([['inherited', 'a']]);
    });

    it.each(['$subscribe', '$unsubscribe', '$publish', '$history', '$presence'])(
      'are needed: %s of another channel is answered unknown_channel',
      async (event) => {
        const peer = await connect(await start());
        for (const channel of ['other', 'chat', 'chat.a.b', 'chat.', 'CHAT.a']) {
          const answer = await peer.ask(event, { channel, event: 'message', data: { text: '' } });
          expect([channel, answer]).toEqual([channel, refused('unknown_channel')]);
        }
        for (const channel of ['', 'chat.a,b', `chat.${'x'.repeat(200)}`, 7, null]) {
          const answer = await peer.ask(event, { channel, event: 'message', data: { text: '' } });
          expect([channel, answer]).toEqual([channel, refused('invalid')]);
        }
        expect(probe.events).toEqual([]);
      },
    );

    it('without a class take subscribers, and publications and no subscribers only as they say', async () => {
      const app = await start({
        channels: { news: {}, board: { publish: true }, outbox: { subscribe: false, publish: true, presence: true } },
      });
      const peer = await connect(app);
      await peer.ask('$subscribe', { channel: 'news' });
      expect(await peer.ask('$publish', { channel: 'news', event: 'a', data: 1 })).toEqual(refused('forbidden'));
      await peer.ask('$subscribe', { channel: 'board' });
      await peer.ask('$publish', { channel: 'board', event: 'a', data: { as: 'it is' } });
      expect(await peer.next()).toMatchObject({ channel: 'board', event: 'a', data: { as: 'it is' }, offset: 1 });
      await peer.ask('$publish', { channel: 'board', event: 'b' });
      expect(await peer.next()).toMatchObject({ channel: 'board', event: 'b', data: null, offset: 2 });
      for (const event of ['$subscribe', '$history', '$presence']) {
        expect(await peer.ask(event, { channel: 'outbox' })).toEqual(refused('forbidden'));
      }
      expect(await peer.ask('$publish', { channel: 'outbox', event: 'a', data: 1 })).toHaveProperty('position');
      expect((await app.realtime.history('news')).publications).toEqual([]);
    });

    it('with `publish: true` take events that no hook names, as they are', async () => {
      const app = await start({ channels: { 'rooms.:id': { publish: true } } });
      const peer = await connect(app);
      await peer.ask('$publish', { channel: 'rooms.1', event: 'a', data: [1] });
      expect((await app.realtime.history('rooms.1')).publications).toMatchObject([{ event: 'a', data: [1] }]);
      expect(await peer.ask('$publish', { channel: 'rooms.lobby', event: 'a' })).toEqual(refused('forbidden'));
    });

    it('that are wrong fail the start, all at once, each with its place', async () => {
      @ChannelGateway('twice.:a')
      class FirstChannel {}
      @ChannelGateway('twice.:b')
      class TiedChannel {}
      @ChannelGateway('twice.:a')
      class SameChannel {}
      @ChannelGateway('bad..pattern')
      class BadChannel {}
      @ChannelGateway('options', { history: { size: 0, ttlMs: 1 }, presense: true } as object)
      class OptionsChannel {}
      @ChannelGateway('hooks')
      class HooksChannel {
        @OnSubscribe() a(): void {}
        @OnSubscribe() b(): void {}
        @OnPublish('x') c(): void {}
        @OnPublish('x') d(): void {}
        @OnPublish('$x') e(): void {}
      }
      @ChannelGateway('elsewhere')
      class ElsewhereChannel {}
      @ChannelGateway('made')
      class MadeChannel {}
      @Module({ providers: [ElsewhereChannel] })
      class OtherModule {}
      const started = startApp(platform, {
        imports: [RealtimeModule.forRoot(), OtherModule],
        providers: [
          ...[FirstChannel, TiedChannel, SameChannel, BadChannel, OptionsChannel, HooksChannel, ElsewhereChannel],
          { provide: MadeChannel, useFactory: () => new MadeChannel() },
        ],
      });
      const message = await started.then(
        () => '',
        (thrown: unknown) => (thrown as Error).message,
      );
      const lines = message.split('\n').slice(1).sort();
      expect(lines).toEqual([
        expect.stringMatching(/BadChannel: expected a channel pattern: /),
        expect.stringMatching(/ElsewhereChannel: is provided in .*OtherModule/),
        expect.stringMatching(/HooksChannel\.b: another method of the class has the same hook/),
        expect.stringMatching(/HooksChannel\.d: another method of the class has the same hook/),
        expect.stringMatching(/HooksChannel\.e: '\$x' starts with "\$"/),
        expect.stringMatching(/MadeChannel: is provided by useFactory/),
        expect.stringMatching(/OptionsChannel\.history\.size: expected an integer from 1/),
        expect.stringMatching(/OptionsChannel\.presense: is no option/),
        expect.stringMatching(/SameChannel: another class has the pattern/),
        expect.stringMatching(/TiedChannel: 'twice\.:b' matches the same channels as 'twice\.:a'/),
      ]);
    });
  });

  describe('@OnSubscribe', () => {
    it('gets parameters through their pipes, the identity and the connection', async () => {
      const app = await start({ auth: tokenUsers });
      const peer = await connect(app, '/realtime', as('ada'));
      await peer.ask('$subscribe', { channel: 'rooms.7' });
      expect(probe.events).toEqual([{ id: 7, user: true, userId: 'ada', own: true }]);
      const message = 'Validation failed (numeric string is expected)';
      expect(await peer.ask('$subscribe', { channel: 'rooms.x' })).toEqual({ code: 'invalid', message });
      expect(probe.events).toHaveLength(1);
    });

    it('gets no identity where the peer is anonymous', async () => {
      const peer = await connect(await start());
      await peer.ask('$subscribe', { channel: 'rooms.7' });
      expect(probe.events).toEqual([{ id: 7, user: false, own: true }]);
    });

    it('runs once for a subscription: a second $subscribe changes nothing', async () => {
      const peer = await connect(await start());
      const { position } = await peer.ask('$subscribe', { channel: 'chat.a' });
      peer.send({ event: '$subscribe', data: { channel: 'chat.a' } });
      expect(await peer.ask('$subscribe', { channel: 'chat.a' })).toEqual({ position, size: 10, windowMs: 60_000 });
      expect(probe.events).toEqual([['enter', 'a']]);
    });

    it('runs behind the guards of the application, the class and the method, with context type ws', async () => {
      const app = await start({}, [...CHANNELS, { provide: APP_GUARD, useClass: TracingGuard }]);
      const peer = await connect(app);
      expect(await peer.ask('$subscribe', { channel: 'guarded' })).toEqual({
        code: 'forbidden',
        message: 'Forbidden resource',
      });
      const guard = ['guard of method', 'ws', 'guarded'];
      expect(probe.events).toEqual([guard, guard]);
      const allowed = await connect(app, '/realtime?allowed=yes');
      expect(await allowed.ask('$subscribe', { channel: 'guarded' })).toHaveProperty('position');
      expect(probe.events.slice(2)).toEqual([guard, guard, 'entered']);
    });

    it.each(['$subscribe', '$history', '$presence'])('refuses %s with its code, exactly once', async (event) => {
      const app = await start();
      const peer = await connect(app);
      for (const [how, { error }] of Object.entries(REFUSALS)) {
        const channel = `refusing.${how}`;
        expect([how, await peer.ask(event, { channel })]).toEqual([how, error]);
        await app.realtime.publish(channel, 'message', 'secret');
      }
      expect(await peer.settle()).toEqual([]);
      await peer.close();
      expect(await app.realtime.connections({ channel: 'refusing.ws' })).toEqual([]);
      expect(await app.realtime.presence('refusing.ws')).toEqual([]);
      await app.close();
      expect(probe.events).toEqual([]);
    });

    it('refuses one channel of a $resume and not the others', async () => {
      const peer = await connect(await start());
      const channels = { 'chat.a': null, 'refusing.forbidden': null, 'refusing.false': null, other: null };
      expect(await peer.ask('$resume', { client: 'c', channels })).toEqual({
        connection: expect.any(String),
        channels: {
          'chat.a': { position: expect.stringMatching(POSITION), size: 10, windowMs: 60_000 },
          'refusing.forbidden': { error: { code: 'forbidden', message: 'not for you' } },
          'refusing.false': { error: refused('forbidden') },
          other: { error: refused('unknown_channel') },
        },
      });
    });

    it('refuses a stream of server-sent events with a status', async () => {
      const { url, realtime } = await start();
      for (const [how, status, code] of [
        ['forbidden', 403, 'forbidden'],
        ['unauthorized', 401, 'unauthenticated'],
        ['missing', 404, 'not_available'],
      ] as const) {
        const answer = await refusedStream(`${url}/realtime/sse?channels=chat.a,refusing.${how}`);
        expect(answer).toMatchObject({ status, body: { error: { code } } });
      }
      expect(await realtime.connections({ channel: 'chat.a' })).toEqual([]);
    });

    it('rejects subscribe() of the client with its code', async () => {
      const { url } = await start();
      const client = new RealtimeClient(`${url}/realtime`, { WebSocket });
      dispose.push(() => client.close());
      const errors: unknown[] = [];
      client.on('error', (error) => errors.push(error));
      for (const [channel, error] of [
        ['refusing.forbidden', { code: 'forbidden', message: 'not for you' }],
        ['refusing.realtime', { code: 'superseded', details: { at: 3 } }],
        ['other', { code: 'unknown_channel' }],
      ] as const) {
        await expect(client.channel(channel).subscribe()).rejects.toMatchObject(error);
        expect(client.channel(channel).state).toBe('unsubscribed');
      }
      expect(errors).toHaveLength(3);
    });

    it('is made anew for each call where it is request-scoped, and guards run', async () => {
      const app = await start();
      const peer = await connect(app, '/realtime?allowed=yes');
      expect(await (await connect(app)).ask('$subscribe', { channel: 'scoped' })).toEqual(refused('forbidden'));
      await peer.ask('$subscribe', { channel: 'scoped' });
      await peer.ask('$publish', { channel: 'scoped', event: 'message' });
      const first = await peer.next();
      await peer.ask('$publish', { channel: 'scoped', event: 'message' });
      const second = await peer.next();
      expect([first.data.own, second.data.own]).toEqual([true, true]);
      expect(second.data.n).toBe(Number(first.data.n) + 1);
    });

    it('is not asked where the application subscribes a connection itself', async () => {
      const app = await start();
      const peer = await connect(app);
      expect(await peer.ask('invite', 'guarded')).toMatch(POSITION);
      await app.realtime.publish('guarded', 'message', 1);
      expect(await peer.next()).toMatchObject({ channel: 'guarded', event: 'message', data: 1 });
      expect(probe.events).toEqual([]);
      expect(await peer.ask('invite', 'other')).toEqual(refused('unknown_channel'));
    });
  });

  describe('$history and $presence', () => {
    it('of a peer that is not subscribed ask the guards and the hook, each time; of a subscriber they do not', async () => {
      const app = await start();
      const peer = await connect(app);
      await app.realtime.publish('chat.a', 'message', 1);
      const { publications } = await peer.ask('$history', { channel: 'chat.a' });
      expect(publications).toEqual([{ event: 'message', data: 1, offset: 1, tag: expect.any(String) }]);
      expect(await peer.ask('$presence', { channel: 'chat.a' })).toMatchObject({ count: 0, users: [] });
      expect(probe.events).toEqual([
        ['enter', 'a'],
        ['enter', 'a'],
      ]);
      await peer.ask('$subscribe', { channel: 'chat.a' });
      await peer.ask('$history', { channel: 'chat.a' });
      expect(await peer.ask('$presence', { channel: 'chat.a' })).toMatchObject({ count: 1 });
      expect(probe.events).toHaveLength(3);
      expect(await peer.ask('$history', { channel: 'guarded' })).toEqual(refused('forbidden'));
    });

    it('do not tell a peer that is refused whether the channel has presence', async () => {
      const peer = await connect(await start());
      expect(await peer.ask('$presence', { channel: 'guarded' })).toEqual(refused('forbidden'));
    });

    it('answer limits and positions that are wrong', async () => {
      const app = await start();
      const peer = await connect(app);
      const position = await app.realtime.publish('chat.a', 'message', 1);
      for (const wrong of [{ limit: 0 }, { limit: 1_001 }, { limit: '1' }, { reverse: 1 }, { since: 5 }]) {
        expect(await peer.ask('$history', { channel: 'chat.a', ...wrong })).toEqual(refused('invalid'));
      }
      expect(await peer.ask('$history', { channel: 'chat.a', since: 'AAAAAA-1-0' })).toMatchObject({
        code: 'position_lost',
        details: { position },
      });
    });
  });

  describe('@OnPublish', () => {
    it('is answered the position, and needs no subscription', async () => {
      const app = await start();
      const peer = await connect(app);
      const reader = await connect(app);
      await reader.ask('$subscribe', { channel: 'chat.a' });
      const { position } = await peer.ask('$publish', { channel: 'chat.a', event: 'message', data: { text: 'hi' } });
      const [, offset, tag] = position.split('-');
      expect(await reader.next()).toEqual({
        channel: 'chat.a',
        event: 'message',
        data: { text: 'hi', loud: 'HI', room: 'a' },
        offset: Number(offset),
        tag,
      });
      expect(await peer.settle()).toEqual([]);
    });

    it('publishes whatever it returns but undefined', async () => {
      const peer = await connect(await start());
      await peer.ask('$subscribe', { channel: 'chat.a' });
      for (const data of [null, 0, '', true, [], {}, 'two\nlines']) {
        await peer.ask('$publish', { channel: 'chat.a', event: 'value', data });
        expect(await peer.next()).toMatchObject({ event: 'value', data });
      }
    });

    it('that returns undefined publishes nothing and is answered null', async () => {
      const app = await start();
      const peer = await connect(app);
      await peer.ask('$subscribe', { channel: 'chat.a' });
      expect(await peer.ask('$publish', { channel: 'chat.a', event: 'nothing' })).toBeNull();
      expect(probe.events).toContain('nothing');
      expect(await peer.settle()).toEqual([]);
      expect((await app.realtime.history('chat.a')).publications).toEqual([]);
    });

    it('refuses with its code, and nothing is published', async () => {
      const app = await start();
      const peer = await connect(app);
      for (const [how, { error }] of Object.entries(REFUSALS)) {
        const channel = `refusing.${how}`;
        expect([how, await peer.ask('$publish', { channel, event: 'message' })]).toEqual([how, error]);
        expect((await app.realtime.history(channel)).publications).toEqual([]);
      }
    });

    it('tells what a ValidationPipe found, and nothing that the peer sent', async () => {
      const app = await start();
      const peer = await connect(app);
      const publish = { channel: 'chat.a', event: 'message' };
      expect(await peer.ask('$publish', { ...publish, data: { text: 5, secret: 'mine' } })).toEqual({
        code: 'invalid',
        message: 'The data does not have the expected shape',
        details: ['text must be a string'],
      });
      expect(await peer.ask('$publish', publish)).toEqual(refused('invalid'));
      await peer.ask('$publish', { ...publish, data: { text: 'hi', secret: 'mine' } });
      expect((await app.realtime.history('chat.a')).publications).toMatchObject([
        { data: { text: 'hi', loud: 'HI', room: 'a' } },
      ]);
    });

    it('runs the pipes of the application', async () => {
      const app = await start({}, [...CHANNELS, { provide: APP_PIPE, useValue: new ValidationPipe() }]);
      const peer = await connect(app);
      expect(await peer.ask('$publish', { channel: 'chat.a', event: 'message', data: {} })).toMatchObject({
        code: 'invalid',
        details: ['text must be a string'],
      });
      expect(await peer.ask('$subscribe', { channel: 'rooms.7' })).toHaveProperty('position');
    });

    it('gets a property of the data through its pipes, the identity and the connection', async () => {
      const app = await start({ auth: tokenUsers });
      const peer = await connect(app, '/realtime', as('ada'));
      const publish = { channel: 'chat.a', event: 'from' };
      await peer.ask('$publish', { ...publish, data: { n: '7' } });
      const [connection] = await app.realtime.connections();
      expect((await app.realtime.history('chat.a')).publications).toMatchObject([
        { event: 'from', data: { n: 7, id: 'ada', connection: connection!.id } },
      ]);
      expect(await peer.ask('$publish', { ...publish, data: { n: 'x' } })).toEqual(refused('invalid'));
      expect(await peer.ask('$publish', { ...publish, data: null })).toEqual(refused('invalid'));
      expect(await peer.ask('$publish', publish)).toEqual(refused('invalid'));
    });

    it('without a name takes the events that no other hook names', async () => {
      const app = await start();
      const peer = await connect(app);
      for (const event of ['named', 'other', 'another']) await peer.ask('$publish', { channel: 'any', event, data: 1 });
      expect((await app.realtime.history('any')).publications.map(({ data }) => data)).toEqual([
        { named: 1 },
        { any: 1 },
        { any: 1 },
      ]);
    });

    it('is needed: an event that no hook takes is refused', async () => {
      const app = await start();
      const peer = await connect(app);
      expect(await peer.ask('$publish', { channel: 'chat.a', event: 'other' })).toEqual(refused('forbidden'));
      expect(await peer.ask('$publish', { channel: 'chat.a', event: 'Message' })).toEqual(refused('forbidden'));
      expect(await peer.ask('$publish', { channel: 'rooms.1', event: 'message' })).toEqual(refused('forbidden'));
      expect((await app.realtime.history('chat.a')).publications).toEqual([]);
    });

    it('runs behind the guards of the class and the method, which see the data', async () => {
      const app = await start();
      const peer = await connect(app);
      const publish = { channel: 'guarded', event: 'message' };
      expect(await peer.ask('$publish', { ...publish, data: {} })).toEqual(refused('forbidden'));
      expect((await app.realtime.history('guarded')).publications).toEqual([]);
      expect(await peer.ask('$publish', { ...publish, data: { allowed: true } })).toHaveProperty('position');
      const guard = ['guard of class', 'ws', 'guarded'];
      expect(probe.events).toEqual([guard, guard]);
    });

    it('does not run for events, keys and flags that are wrong', async () => {
      const peer = await connect(await start());
      const publish = { channel: 'any', event: 'a', data: 1 };
      for (const wrong of [
        { event: '' },
        { event: '$lost' },
        { event: 'x'.repeat(129) },
        { event: 5 },
        { key: '' },
        { key: 'x'.repeat(129) },
        { key: 5 },
        { echo: 'no' },
      ]) {
        expect([wrong, await peer.ask('$publish', { ...publish, ...wrong })]).toEqual([wrong, refused('invalid')]);
      }
      expect(await peer.ask('$history', { channel: 'any' })).toMatchObject({ publications: [] });
    });

    it('with a key that is known is answered the first position, and publishes once', async () => {
      const app = await start({ auth: tokenUsers });
      const ada = await connect(app, '/realtime', as('ada'));
      const again = await connect(app, '/realtime', as('ada'));
      const bob = await connect(app, '/realtime', as('bob'));
      const publish = { channel: 'any', event: 'a', data: 1, key: 'k' };
      const first = await ada.ask('$publish', publish);
      expect(await ada.ask('$publish', { ...publish, data: 2 })).toEqual(first);
      expect(await again.ask('$publish', publish)).toEqual(first);
      expect(await bob.ask('$publish', publish)).not.toEqual(first);
      expect((await app.realtime.history('any')).publications).toHaveLength(2);
    });

    it('with `echo: false` is told to the sender as skipped', async () => {
      const app = await start();
      const peer = await connect(app);
      const reader = await connect(app);
      await peer.ask('$resume', { client: 'sender', channels: { any: null } });
      await reader.ask('$subscribe', { channel: 'any' });
      await peer.ask('$publish', { channel: 'any', event: 'a', data: 1, echo: false });
      await peer.ask('$publish', { channel: 'any', event: 'b', data: 2 });
      expect(await peer.next()).toEqual({ channel: 'any', skipped: 1, offset: 1, tag: expect.any(String) });
      expect(await peer.next()).toMatchObject({ event: 'b', offset: 2 });
      expect([(await reader.next()).event, (await reader.next()).event]).toEqual(['a', 'b']);
    });
  });

  describe('filters', () => {
    it.each([
      ['$subscribe', undefined],
      ['$history', undefined],
      ['$presence', undefined],
      ['$publish', { text: 'hi' }],
    ])('that swallow do not grant %s to whom a guard denied it', async (event, data) => {
      const app = await start();
      const peer = await connect(app);
      const answer = await peer.ask(event, { channel: 'swallowed', event: 'message', data });
      expect(answer).toEqual({ code: 'forbidden', message: 'Forbidden resource' });
      expect(probe.events).toEqual([['filter', 'ForbiddenException', 'ws', true, 'swallowed', data]]);
      expect((await app.realtime.history('swallowed')).publications).toEqual([]);
      await app.realtime.publish('swallowed', 'message', 'secret');
      expect(await peer.settle()).toEqual([]);
    });

    it('may translate a refusal; those of the method come before those of the class', async () => {
      const peer = await connect(await start());
      expect(await peer.ask('$subscribe', { channel: 'translated' })).toEqual({
        code: 'superseded',
        message: 'translated',
      });
      expect(probe.events).toEqual([]);
      expect(await peer.ask('$publish', { channel: 'translated', event: 'other' })).toMatchObject({
        code: 'rejected',
        message: 'not translated',
      });
      expect(probe.events).toEqual([['filter', 'ConflictException', 'ws', true, 'translated', undefined]]);
    });

    it('of the application do not run', async () => {
      const app = await start({}, [...CHANNELS, { provide: APP_FILTER, useClass: SwallowingFilter }]);
      const peer = await connect(app);
      const answer = await peer.ask('$subscribe', { channel: 'refusing.forbidden' });
      expect(answer).toEqual({ code: 'forbidden', message: 'not for you' });
      expect(probe.events).toEqual([]);
    });
  });

  describe('interceptors', () => {
    it('that return something grant nothing that a guard denied', async () => {
      const app = await start();
      const peer = await connect(app);
      for (const event of ['$subscribe', '$history', '$presence', '$publish']) {
        const answer = await peer.ask(event, { channel: 'intercepted', event: 'guarded' });
        expect([event, answer]).toEqual([event, { code: 'forbidden', message: 'Forbidden resource' }]);
      }
      expect((await app.realtime.history('intercepted')).publications).toEqual([]);
      await app.realtime.publish('intercepted', 'message', 'secret');
      expect(await peer.settle()).toEqual([]);
    });

    it('of the application grant nothing that a guard denied', async () => {
      const interceptors = [RescuingInterceptor, WrappingInterceptor].map((useClass) => ({
        provide: APP_INTERCEPTOR,
        useClass,
      }));
      const app = await start({}, [...CHANNELS, ...interceptors]);
      const peer = await connect(app);
      expect(await peer.ask('$subscribe', { channel: 'guarded' })).toEqual(refused('forbidden'));
      expect(await peer.ask('$publish', { channel: 'guarded', event: 'message' })).toEqual(refused('forbidden'));
      expect((await app.realtime.history('guarded')).publications).toEqual([]);
    });

    it('that wrap a literal false grant nothing', async () => {
      const app = await start();
      const peer = await connect(app);
      expect(await peer.ask('$subscribe', { channel: 'wrapped.a' })).toEqual(refused('forbidden'));
      expect(await peer.ask('$publish', { channel: 'wrapped.a', event: 'message' })).toEqual(refused('forbidden'));
      expect((await app.realtime.history('wrapped.a')).publications).toEqual([]);
    });

    it('change what is published', async () => {
      const app = await start();
      const peer = await connect(app);
      await peer.ask('$publish', { channel: 'intercepted', event: 'open', data: 1 });
      expect((await app.realtime.history('intercepted')).publications).toMatchObject([{ data: { wrapped: 1 } }]);
    });
  });

  describe('@OnUnsubscribe', () => {
    const left = () => probe.events.filter((event) => Array.isArray(event) && event[0] === 'leave');

    it('runs once when the peer leaves', async () => {
      const app = await start();
      const peer = await connect(app);
      await peer.ask('$subscribe', { channel: 'chat.a' });
      expect(await peer.ask('$unsubscribe', { channel: 'chat.a' })).toBeNull();
      expect(await peer.ask('$unsubscribe', { channel: 'chat.a' })).toBeNull();
      expect(await peer.ask('$unsubscribe', { channel: 'chat.b' })).toBeNull();
      await app.realtime.publish('chat.a', 'message', 1);
      expect(await peer.settle()).toEqual([]);
      await peer.close();
      await app.close();
      expect(left()).toEqual([['leave', 'a', 'left', undefined]]);
    });

    it('runs once per channel when the link is lost', async () => {
      const app = await start();
      const peer = await connect(app);
      const stays = await connect(app);
      await stays.ask('$subscribe', { channel: 'chat.a' });
      await peer.ask('$subscribe', { channel: 'chat.a' });
      await peer.ask('$subscribe', { channel: 'chat.b' });
      peer.terminate();
      await probe.seen(5);
      expect(left()).toEqual([
        ['leave', 'a', 'disconnected', undefined],
        ['leave', 'b', 'disconnected', undefined],
      ]);
      await app.close();
      expect(left()).toHaveLength(3);
    });

    it('runs once when the user is disconnected, and once when it is unsubscribed', async () => {
      const app = await start({ auth: tokenUsers });
      const [ada, bob, eve] = [
        await connect(app, '/realtime', as('ada')),
        await connect(app, '/realtime', as('bob')),
        await connect(app, '/realtime', as('eve')),
      ];
      for (const peer of [ada, bob, eve]) await peer.ask('$subscribe', { channel: 'chat.a' });
      await app.realtime.unsubscribeUser('bob', 'chat.a');
      await app.realtime.disconnectUser('ada');
      await ada.closed;
      await bob.settle();
      await bob.ask('$unsubscribe', { channel: 'chat.a' });
      await bob.close();
      await probe.seen(5);
      expect(left()).toEqual([
        ['leave', 'a', 'removed', 'bob'],
        ['leave', 'a', 'disconnected', 'ada'],
      ]);
      await app.close();
      expect(left().slice(2)).toEqual([['leave', 'a', 'disconnected', 'eve']]);
    });

    it('runs when the application ends a subscription, which the peer is told', async () => {
      const peer = await connect(await start());
      await peer.ask('invite', 'chat.a');
      expect(await peer.ask('expel', 'chat.a')).toEqual([]);
      expect(await peer.next()).toEqual({
        channel: 'chat.a',
        event: '$unsubscribed',
        data: { code: 'rejected', reason: 'The application ended the subscription', resubscribe: false },
      });
      expect(await peer.ask('expel', 'chat.a')).toEqual([]);
      expect(await peer.settle()).toEqual([]);
      expect(probe.events).toEqual([['leave', 'a', 'removed', undefined]]);
    });

    it('that throws harms nothing', async () => {
      const app = await start();
      const peer = await connect(app);
      for (const channel of ['chat.failing', 'chat.a']) await peer.ask('$subscribe', { channel });
      expect(await peer.ask('$unsubscribe', { channel: 'chat.failing' })).toBeNull();
      await peer.close();
      await probe.seen(4);
      expect(left()).toEqual([
        ['leave', 'failing', 'left', undefined],
        ['leave', 'a', 'disconnected', undefined],
      ]);
      expect(await (await connect(app)).ask('$subscribe', { channel: 'chat.failing' })).toHaveProperty('position');
    });

    it('does not run for a peer that is gone before @OnSubscribe let it in', async () => {
      const app = await start();
      let open!: () => void;
      app.app.get(GatedChannel).gate = new Promise((resolve) => (open = resolve));
      const peer = await connect(app);
      const other = await connect(app);
      peer.send({ id: 1, event: '$subscribe', data: { channel: 'gated' } });
      await probe.seen(1);
      await peer.close();
      while ((await app.realtime.connections()).length > 1) await other.settle();
      open();
      await probe.seen(2);
      await other.ask('$subscribe', { channel: 'gated' });
      expect(await app.realtime.presence('gated')).toHaveLength(1);
      await app.close();
      expect(probe.events).toEqual(['entering', 'entered', 'entering', 'entered', 'disconnected']);
    });

    it('runs behind the guards of its class', async () => {
      const app = await start();
      const peer = await connect(app, '/realtime?allowed=yes');
      await peer.ask('$subscribe', { channel: 'guarded' });
      await peer.ask('$unsubscribe', { channel: 'guarded' });
      expect(await probe.seen(4)).toEqual([
        ['guard of method', 'ws', 'guarded'],
        'entered',
        ['guard of class', 'ws', 'guarded'],
        'left',
      ]);
    });
  });

  it('are at most maxChannels per connection', async () => {
    const app = await start({ limits: { maxChannels: 2 } });
    const peer = await connect(app);
    for (const channel of ['chat.a', 'chat.b']) await peer.ask('$subscribe', { channel });
    expect(await peer.ask('$subscribe', { channel: 'chat.c' })).toEqual(refused('too_many_channels'));
    expect(await peer.ask('$subscribe', { channel: 'chat.b' })).toHaveProperty('position');
    await peer.ask('$unsubscribe', { channel: 'chat.a' });
    expect(await peer.ask('$subscribe', { channel: 'chat.c' })).toHaveProperty('position');
  });
});

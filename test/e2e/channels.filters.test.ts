import { afterEach, describe, expect, it } from '@jest/globals';
import {
  Catch,
  ConflictException,
  ForbiddenException,
  HttpException,
  Inject,
  Injectable,
  Scope,
  UseFilters,
  UseGuards,
  type ArgumentsHost,
  type CanActivate,
  type ExceptionFilter,
  type ExecutionContext,
} from '@nestjs/common';
import { APP_GUARD, REQUEST, SerializedGraph } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { MessageBody } from '@nestjs/websockets';
import { EMPTY, type Observable } from 'rxjs';
import {
  BaseRealtimeExceptionFilter,
  ChannelGateway,
  OnPublish,
  OnSubscribe,
  RealtimeException,
  RealtimeModule,
  RealtimeService,
  type Connection,
} from '../../lib/index.js';
import { ChannelPeer } from './support/channel-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { Probe } from './support/probe.js';

@Injectable()
class Words {
  readonly reason = 'by a filter with dependencies';
}

@Injectable({ scope: Scope.REQUEST })
class PerCall {
  constructor(
    readonly words: Words,
    @Inject(REQUEST) readonly client: Connection,
  ) {}
}

@Catch(ForbiddenException)
@Injectable({ scope: Scope.REQUEST })
class ScopedFilter implements ExceptionFilter {
  constructor(private readonly call: PerCall) {}

  catch(_error: unknown, host: ArgumentsHost): void {
    const own = this.call.client === host.switchToWs().getClient();
    throw new RealtimeException('rejected', this.call.words.reason, { own });
  }
}

@Catch(ConflictException)
@Injectable({ scope: Scope.TRANSIENT })
class TransientFilter implements ExceptionFilter {
  constructor(private readonly words: Words) {}

  catch(): void {
    throw new RealtimeException('rejected', this.words.reason);
  }
}

@Injectable({ scope: Scope.REQUEST })
class ScopedGuard implements CanActivate {
  constructor(private readonly call: PerCall) {}

  canActivate(context: ExecutionContext): boolean {
    return this.call.client === context.switchToWs().getClient() && this.call.client.query.in === 'yes';
  }
}

@ChannelGateway('scoped')
class ScopedChannel {
  @OnSubscribe()
  @UseFilters(ScopedFilter)
  enter(): void {
    throw new ForbiddenException();
  }
}

@ChannelGateway('transient')
class TransientChannel {
  @OnSubscribe()
  @UseFilters(TransientFilter)
  enter(): void {
    throw new ConflictException();
  }
}

@ChannelGateway('guarded')
class GuardedChannel {
  @OnSubscribe()
  @UseGuards(ScopedGuard)
  enter(): void {}
}

@Catch()
class LoggingFilter extends BaseRealtimeExceptionFilter {
  static readonly seen: unknown[] = [];

  override catch(error: unknown, host: ArgumentsHost): void {
    LoggingFilter.seen.push((error as Error).message);
    super.catch(error, host);
  }
}

@UseFilters(LoggingFilter)
@ChannelGateway('logged')
class LoggedChannel {
  @OnSubscribe()
  enter(): void {
    throw new ForbiddenException('not for you');
  }

  @OnPublish('message')
  message(): void {
    throw new HttpException('taken', 409);
  }
}

@ChannelGateway('observed')
class ObservedChannel {
  @OnSubscribe()
  enter(): Observable<never> {
    return EMPTY;
  }

  @OnPublish('nothing')
  nothing(): Observable<never> {
    return EMPTY;
  }
}

@ChannelGateway('wide')
class WideChannel {
  @OnSubscribe()
  enter(): void {
    throw new RealtimeException('superseded', 'elsewhere', { at: 3n });
  }

  @OnPublish('message')
  message(@MessageBody() data: object): void {
    const details: Record<string, unknown> = { data };
    details.self = details;
    throw new RealtimeException('superseded', 'elsewhere', details);
  }
}

describe.each(platforms)('exceptions of channel hooks on $name', (platform) => {
  let dispose: (() => Promise<void> | void)[] = [];
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
    LoggingFilter.seen.length = 0;
  });

  async function start(...providers: any[]): Promise<RunningApp & { realtime: RealtimeService; errors: unknown[] }> {
    const errors: unknown[] = [];
    const logger = { log: () => undefined, warn: () => undefined, error: (...told: unknown[]) => errors.push(told) };
    const running = await startApp(
      platform,
      { imports: [RealtimeModule.forRoot()], providers: [Probe, Words, PerCall, ...providers] },
      (app) => app.useLogger(logger),
    );
    dispose.push(running.close);
    return { ...running, realtime: running.app.get(RealtimeService), errors };
  }

  it('reach filters that are request-scoped or transient, with what they depend on', async () => {
    const app = await start(ScopedChannel, TransientChannel);
    const peer = await ChannelPeer.connect(app);
    const translated = { code: 'rejected', message: 'by a filter with dependencies' };
    expect(await peer.ask('$subscribe', { channel: 'scoped' })).toEqual({ ...translated, details: { own: true } });
    expect(await peer.ask('$subscribe', { channel: 'transient' })).toEqual(translated);
    expect(app.errors).toEqual([]);
  });

  it.each(['method', 'application'])('and request-scoped guards of the %s have theirs', async (place) => {
    const app = await (place === 'method'
      ? start(GuardedChannel)
      : start(ObservedChannel, { provide: APP_GUARD, useClass: ScopedGuard }));
    const channel = place === 'method' ? 'guarded' : 'observed';
    const position = expect.any(String);
    const member = await ChannelPeer.connect(app, '/realtime?in=yes');
    expect(await member.ask('$subscribe', { channel })).toMatchObject({ position });
    const other = await ChannelPeer.connect(app);
    expect(await other.ask('$subscribe', { channel })).toMatchObject({ code: 'forbidden' });
    expect(app.errors).toEqual([]);
  });

  it('are answered once where a filter extends ours', async () => {
    const peer = await ChannelPeer.connect(await start(LoggedChannel));
    const forbidden = { code: 'forbidden', message: 'not for you' };
    expect(await peer.ask('$subscribe', { channel: 'logged' })).toEqual(forbidden);
    const taken = { code: 'rejected', message: 'taken', details: { status: 409 } };
    expect(await peer.ask('$publish', { channel: 'logged', event: 'message', data: 1 })).toEqual(taken);
    expect(await peer.settle()).toEqual([]);
    expect(LoggingFilter.seen).toEqual(['not for you', 'taken']);
  });

  it('do not come of an observable without values: it is `undefined`', async () => {
    const app = await start(ObservedChannel);
    const peer = await ChannelPeer.connect(app);
    expect(await peer.ask('$subscribe', { channel: 'observed' })).toMatchObject({ position: expect.any(String) });
    expect(await peer.ask('$publish', { channel: 'observed', event: 'nothing', data: 1 })).toBeNull();
    expect((await app.realtime.history('observed')).publications).toEqual([]);
    expect(app.errors).toEqual([]);
  });

  it('are told without details that JSON cannot hold', async () => {
    const app = await start(WideChannel);
    const peer = await ChannelPeer.connect(app);
    const told = { code: 'superseded', message: 'elsewhere' };
    expect(await peer.ask('$subscribe', { channel: 'wide' })).toEqual(told);
    expect(await peer.ask('$publish', { channel: 'wide', event: 'message', data: {} })).toEqual(told);
    expect(await peer.ask('$history', { channel: 'wide' })).toEqual(told);
  });
});

it('the graph of the application has each channel hook as an entry', async () => {
  const imports = [RealtimeModule.forRoot()];
  const module = await Test.createTestingModule({ imports, providers: [LoggedChannel, ObservedChannel] }).compile({
    snapshot: true,
  });
  const { entrypoints, nodes } = module.get(SerializedGraph).toJSON();
  const entries = ['LoggedChannel', 'ObservedChannel'].flatMap((name) =>
    Object.values(entrypoints)
      .flat()
      .filter(({ className }) => className === name),
  );
  const channel = { type: 'channel', className: 'LoggedChannel' };
  expect(entries).toMatchObject([
    { ...channel, methodName: 'enter', metadata: { key: 'logged', kind: 'subscribe' } },
    { ...channel, methodName: 'message', metadata: { key: 'logged', kind: 'publish', event: 'message' } },
    { className: 'ObservedChannel', methodName: 'enter' },
    { className: 'ObservedChannel', methodName: 'nothing' },
  ]);
  for (const { classNodeId, className } of entries) expect(nodes[classNodeId]?.label).toBe(className);
  await module.close();
});

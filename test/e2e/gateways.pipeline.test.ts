import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import {
  Catch,
  ConflictException,
  ForbiddenException,
  HttpException,
  Injectable,
  InternalServerErrorException,
  NotFoundException,
  ParseIntPipe,
  Scope,
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
  type INestApplication,
  type NestInterceptor,
  type PipeTransform,
} from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_INTERCEPTOR, APP_PIPE } from '@nestjs/core';
import {
  Ack,
  BaseWsExceptionFilter,
  MessageBody,
  SubscribeMessage,
  WebSocketGateway,
  WsException,
} from '@nestjs/websockets';
import { IsInt, IsString, ValidateNested } from 'class-validator';
import { Type } from 'class-transformer';
import { catchError, concat, map, of, throwError, type Observable } from 'rxjs';
import { BaseRealtimeExceptionFilter } from '../../lib/nest/exception.filter.js';
import { RealtimeException } from '../../lib/protocol/errors.js';
import { RealtimeModule } from '../../lib/nest/realtime.module.js';
import { connect, type Peer } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

class Author {
  @IsString() name!: string;
}

class Message {
  @IsString() text!: string;
  @IsInt() size!: number;
  @ValidateNested() @Type(() => Author) author!: Author;
}

/** What ran, in order. */
const trace: string[] = [];

@Injectable()
class NoGuard implements CanActivate {
  canActivate(): boolean {
    return false;
  }
}

@Injectable()
class UnauthorizedGuard implements CanActivate {
  canActivate(): boolean {
    throw new UnauthorizedException();
  }
}

@Injectable()
class Names {
  readonly suffix = '!';
}

@Injectable()
class TracingGuard implements CanActivate {
  constructor(private readonly names: Names) {}
  canActivate(context: ExecutionContext): boolean {
    trace.push(`class guard${this.names.suffix} ${context.getType()} ${context.switchToWs().getPattern()}`);
    return true;
  }
}

@Injectable()
class TracingInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    trace.push('class interceptor');
    return next.handle().pipe(map((data) => ({ wrapped: data })));
  }
}

@Injectable()
class RescuingInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(catchError(() => of('rescued')));
  }
}

@Catch(ConflictException)
class TellingFilter extends BaseRealtimeExceptionFilter {
  override catch(exception: ConflictException, host: ArgumentsHost): void {
    super.catch(new RealtimeException('superseded', exception.message), host);
  }
}

@Catch()
class SwallowingFilter implements ExceptionFilter {
  catch(): void {}
}

@Catch()
class SlowFilter implements ExceptionFilter {
  async catch(_exception: unknown, host: ArgumentsHost): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    host.getArgs()[2]('answered late');
  }
}

@Catch()
class FailingFilter implements ExceptionFilter {
  catch(): void {
    throw new RealtimeException('gone', 'from the filter');
  }
}

@Catch()
class RejectingFilter implements ExceptionFilter {
  async catch(): Promise<void> {
    await Promise.resolve();
    throw new RealtimeException('gone', 'from the filter');
  }
}

@Catch()
class SendingFilter implements ExceptionFilter {
  catch(_exception: unknown, host: ArgumentsHost): void {
    host
      .switchToWs()
      .getClient()
      .send(JSON.stringify({ event: 'sorry' }));
  }
}

@WebSocketGateway()
class FailingGateway {
  @SubscribeMessage('throw')
  fail(@MessageBody() kind: string): never {
    switch (kind) {
      case 'realtime':
        throw new RealtimeException('too_many_channels', 'enough', { at: 3 });
      case 'ws':
        throw new WsException('no such room');
      case 'ws object':
        throw new WsException({ message: 'no such room', room: 5, cause: { data: kind } });
      case 'not found':
        throw new NotFoundException('no such room');
      case 'conflict':
        throw new ConflictException({ message: 'taken', by: 'Ada' });
      case 'forbidden':
        throw new ForbiddenException();
      case 'throttled':
        throw new HttpException('slow down', 429);
      case 'server':
        throw new InternalServerErrorException('secret');
      case 'undefined':
        throw undefined as unknown as Error;
      default:
        throw new Error('secret');
    }
  }

  @SubscribeMessage('reject')
  async reject(): Promise<never> {
    await Promise.resolve();
    throw new WsException('rejected later');
  }

  @UsePipes(new ValidationPipe({ transform: true }))
  @SubscribeMessage('validate')
  validate(@MessageBody() message: Message): unknown {
    return { isMessage: message instanceof Message };
  }

  @UsePipes(new ValidationPipe({ exceptionFactory: (errors) => new WsException(errors) }))
  @SubscribeMessage('validate-ws')
  validateWs(@MessageBody() message: Message): unknown {
    return message;
  }

  @SubscribeMessage('parse')
  parse(@MessageBody('n', ParseIntPipe) n: number): number {
    return n;
  }

  @UseGuards(NoGuard)
  @SubscribeMessage('guarded')
  guarded(): string {
    return 'never';
  }

  @UseGuards(UnauthorizedGuard)
  @SubscribeMessage('guarded-401')
  guarded401(): string {
    return 'never';
  }

  @UseInterceptors(RescuingInterceptor)
  @SubscribeMessage('rescued')
  rescued(): never {
    throw new Error('caught by the interceptor');
  }

  @SubscribeMessage('ack-then-throw')
  ackThenThrow(@Ack() _reply: () => void): never {
    throw new WsException('before the answer');
  }

  @UseFilters(TellingFilter)
  @SubscribeMessage('telling')
  telling(@MessageBody() conflict: boolean): never {
    throw conflict ? new ConflictException('again') : new NotFoundException('missing');
  }

  @UseFilters(SwallowingFilter)
  @SubscribeMessage('swallow')
  swallow(@MessageBody() fails: boolean): void {
    if (fails) throw new Error('swallowed');
  }

  @UseFilters(new SwallowingFilter())
  @UseGuards(NoGuard)
  @SubscribeMessage('swallow-guard')
  swallowGuard(): string {
    return 'never';
  }

  @UseFilters(SwallowingFilter)
  @SubscribeMessage('swallow-stream')
  swallowStream(): Observable<number> {
    return concat(
      of(1),
      throwError(() => new Error('swallowed')),
    );
  }

  @UseFilters(SlowFilter)
  @SubscribeMessage('slow')
  slow(): never {
    throw new Error('told later');
  }

  @UseFilters(FailingFilter)
  @SubscribeMessage('failing-filter')
  failingFilter(): never {
    throw new Error('told by the filter');
  }

  @UseFilters(RejectingFilter)
  @SubscribeMessage('rejecting-filter')
  rejectingFilter(): never {
    throw new Error('told by the filter');
  }

  @UseFilters(SendingFilter)
  @SubscribeMessage('sending-filter')
  sendingFilter(): never {
    throw new Error('told by the filter');
  }

  @UseFilters(new BaseWsExceptionFilter({ includeCause: false }))
  @SubscribeMessage('nest-filter')
  nestFilter(): never {
    throw new WsException('told by Nest');
  }
}

@UseGuards(TracingGuard)
@UseInterceptors(TracingInterceptor)
@UseFilters(TellingFilter)
@WebSocketGateway({ path: '/traced' })
class TracedGateway {
  @SubscribeMessage('echo')
  echo(@MessageBody() data: unknown): unknown {
    trace.push('handler');
    return data;
  }

  @SubscribeMessage('conflict')
  conflict(): never {
    throw new ConflictException('class filter');
  }
}

const FAILURES: [event: string, data: unknown, error: unknown][] = [
  ['throw', 'realtime', { code: 'too_many_channels', message: 'enough', details: { at: 3 } }],
  ['throw', 'ws', { code: 'rejected', message: 'no such room' }],
  ['throw', 'ws object', { code: 'rejected', message: 'no such room', details: { room: 5 } }],
  ['throw', 'not found', { code: 'not_available', message: 'no such room' }],
  ['throw', 'conflict', { code: 'rejected', message: 'taken', details: { status: 409, by: 'Ada' } }],
  ['throw', 'forbidden', { code: 'forbidden', message: 'Forbidden' }],
  ['throw', 'throttled', { code: 'rate_limited', message: 'slow down' }],
  ['throw', 'server', { code: 'internal', message: 'Internal server error' }],
  ['throw', 'error', { code: 'internal', message: 'Internal server error' }],
  ['throw', 'undefined', { code: 'internal', message: 'Internal server error' }],
  ['reject', 0, { code: 'rejected', message: 'rejected later' }],
  ['parse', { n: 'x' }, { code: 'invalid', message: 'Validation failed (numeric string is expected)' }],
  ['guarded', 0, { code: 'forbidden', message: 'Not allowed' }],
  ['guarded-401', 0, { code: 'unauthenticated', message: 'Unauthorized' }],
  ['ack-then-throw', 0, { code: 'rejected', message: 'before the answer' }],
  ['telling', true, { code: 'superseded', message: 'again' }],
  ['telling', false, { code: 'not_available', message: 'missing' }],
  ['swallow', true, { code: 'rejected', message: 'The request was rejected' }],
  ['swallow-guard', 0, { code: 'rejected', message: 'The request was rejected' }],
  ['failing-filter', 0, { code: 'gone', message: 'from the filter' }],
  ['rejecting-filter', 0, { code: 'gone', message: 'from the filter' }],
];

describe.each(platforms)('the pipeline of gateways on $name', (platform) => {
  let running: RunningApp;
  let peer: Peer;

  beforeEach(async () => {
    trace.length = 0;
    running = await startApp(
      platform,
      { imports: [RealtimeModule.forRoot()], providers: [FailingGateway, TracedGateway, Names] },
      (app) => app.useLogger(false),
    );
    peer = await connect(running);
  });

  afterEach(() => running.close());

  it.each(FAILURES)('answers %s of %j with its code, exactly once', async (event, data, error) => {
    expect(await peer.request(event, data, 9)).toEqual({ id: 9, error });
    expect(await peer.settle()).toEqual([]);
  });

  it.each(FAILURES.filter(([event]) => !event.startsWith('swallow')))(
    'tells %s of %j without id as exception',
    async (event, data, error) => {
      peer.send({ event, data });
      expect(await peer.next()).toEqual({ event: 'exception', data: { status: 'error', ...(error as object) } });
      expect(await peer.settle()).toEqual([]);
    },
  );

  it('tells validation issues, and nothing that the peer sent', async () => {
    const answer = await peer.request('validate', { text: 5, size: 'peer text', author: { name: 3 } }, 1);
    expect(answer.error).toEqual({
      code: 'invalid',
      message: 'The data does not have the expected shape',
      details: ['text must be a string', 'size must be an integer number', 'author.name must be a string'],
    });
    expect(JSON.stringify(answer)).not.toContain('peer text');
  });

  it('tells the issues of an own exception factory without target and value', async () => {
    const answer = await peer.request('validate-ws', { text: 'peer text', size: 'peer text', author: { name: 3 } }, 1);
    expect(answer.error).toEqual({
      code: 'invalid',
      message: 'The data does not have the expected shape',
      details: [
        { property: 'size', constraints: { isInt: 'size must be an integer number' } },
        { property: 'author', children: [{ property: 'name', constraints: { isString: 'name must be a string' } }] },
      ],
    });
  });

  it('gives handlers what pipes made', async () => {
    expect(await peer.request('validate', { text: 't', size: 1, author: { name: 'n' } }, 1)).toEqual({
      id: 1,
      data: { isMessage: true },
    });
    expect(await peer.request('parse', { n: '5' }, 1)).toEqual({ id: 1, data: 5 });
  });

  it('answers what an interceptor made of an error', async () => {
    expect(await peer.request('rescued', 0, 1)).toEqual({ id: 1, data: 'rescued' });
  });

  it('answers a success where a filter had nothing to do', async () => {
    expect(await peer.request('swallow', false, 1)).toEqual({ id: 1, data: null });
  });

  it('ends a stream whose error a filter swallowed with rejected', async () => {
    expect(await peer.request('swallow-stream', 0, 1)).toEqual({ id: 1, data: 1, more: true });
    expect(await peer.next()).toMatchObject({ id: 1, error: { code: 'rejected' } });
  });

  it('waits for a filter that answers later', async () => {
    expect(await peer.request('slow', 0, 1)).toEqual({ id: 1, data: 'answered late' });
    expect(await peer.settle()).toEqual([]);
  });

  it.each([
    ['sending-filter', { event: 'sorry' }],
    ['nest-filter', { event: 'exception', data: { status: 'error', message: 'told by Nest' } }],
  ])('lets %s send what it wants, and answers the id', async (event, frame) => {
    peer.send({ event });
    expect(await peer.settle()).toEqual([frame]);
    peer.send({ id: 1, event });
    expect(await peer.settle()).toEqual([
      frame,
      { id: 1, error: { code: 'rejected', message: 'The request was rejected' } },
    ]);
  });

  it('runs guards, interceptors and filters of the class with what was injected', async () => {
    const traced = await connect(running, '/traced');
    expect(await traced.request('echo', 1, 1)).toEqual({ id: 1, data: { wrapped: 1 } });
    expect(trace).toEqual(['class guard! ws echo', 'class interceptor', 'handler']);
    expect(await traced.request('conflict', 0, 2)).toEqual({
      id: 2,
      error: { code: 'superseded', message: 'class filter' },
    });
    await traced.close();
  });
});

/** Global enhancers that write down that they ran. */
const globals = (name: string) => {
  @Injectable()
  class Guard implements CanActivate {
    canActivate(context: ExecutionContext): boolean {
      if (context.getType() === 'ws') trace.push(`${name} guard`);
      return true;
    }
  }
  @Injectable()
  class Interceptor implements NestInterceptor {
    intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
      if (context.getType() === 'ws') trace.push(`${name} interceptor`);
      return next.handle();
    }
  }
  @Injectable()
  class Pipe implements PipeTransform {
    transform(value: unknown): unknown {
      trace.push(`${name} pipe`);
      return value;
    }
  }
  @Catch()
  class Filter implements ExceptionFilter {
    catch(_exception: unknown, host: ArgumentsHost): void {
      trace.push(`${name} filter`);
      host.switchToHttp().getResponse().status(500).json({});
    }
  }
  return { Guard, Interceptor, Pipe, Filter };
};

const OWN = globals('use');
const PROVIDED = globals('app');

@Injectable({ scope: Scope.REQUEST })
class ScopedGuard implements CanActivate {
  constructor() {
    trace.push('made');
  }
  canActivate(context: ExecutionContext): boolean {
    trace.push(`scoped guard ${context.getType()}`);
    if (context.switchToWs().getData() === 'no') throw new ForbiddenException('scoped');
    return true;
  }
}

describe.each(platforms)('global enhancers on gateways on $name', (platform) => {
  let running: RunningApp | undefined;

  const start = async (
    options: object,
    providers: any[] = [],
    prepare?: (app: INestApplication) => void,
  ): Promise<Peer> => {
    trace.length = 0;
    running = await startApp(
      platform,
      { imports: [RealtimeModule.forRoot(options)], providers: [TracedGateway, Names, ...providers] },
      (app) => {
        app.useLogger(false);
        prepare?.(app);
      },
    );
    return connect(running, '/traced');
  };

  afterEach(async () => {
    await running?.close();
    running = undefined;
  });

  it('run once each, before those of the class; global filters do not', async () => {
    const peer = await start(
      {},
      [
        { provide: APP_GUARD, useClass: PROVIDED.Guard },
        { provide: APP_INTERCEPTOR, useClass: PROVIDED.Interceptor },
        { provide: APP_PIPE, useClass: PROVIDED.Pipe },
        { provide: APP_FILTER, useClass: PROVIDED.Filter },
      ],
      (app) => {
        app.useGlobalGuards(new OWN.Guard());
        app.useGlobalInterceptors(new OWN.Interceptor());
        app.useGlobalPipes(new OWN.Pipe());
        app.useGlobalFilters(new OWN.Filter());
      },
    );
    await peer.request('echo', 1, 1);
    expect([...trace].sort()).toEqual(
      ['app guard', 'app interceptor', 'app pipe', 'use guard', 'use interceptor', 'use pipe']
        .concat(['class guard! ws echo', 'class interceptor', 'handler'])
        .sort(),
    );
    expect(trace.indexOf('app guard')).toBeLessThan(trace.indexOf('class guard! ws echo'));
    trace.length = 0;
    const { error } = await peer.request('conflict', 0, 2);
    expect(error).toEqual({ code: 'superseded', message: 'class filter' });
    expect(trace.filter((entry) => entry.includes('filter'))).toEqual([]);
  });

  it('leave nothing behind in the classes', async () => {
    await start({}, [], (app) => app.useGlobalGuards(new OWN.Guard()));
    expect(Reflect.getMetadata('__guards__', TracedGateway)).toEqual([TracingGuard]);
    expect(Reflect.getMetadata('__pipes__', TracedGateway)).toBeUndefined();
  });

  it('request-scoped guards run too', async () => {
    const peer = await start({}, [{ provide: APP_GUARD, useClass: ScopedGuard }]);
    expect(await peer.request('echo', 'yes', 1)).toEqual({ id: 1, data: { wrapped: 'yes' } });
    expect(trace.filter((entry) => entry.startsWith('scoped'))).toEqual(['scoped guard ws']);
    expect(await peer.request('echo', 'no', 2)).toEqual({ id: 2, error: { code: 'forbidden', message: 'scoped' } });
  });
});

describe('logs of gateways', () => {
  it('hold what was not meant, with its stack, and no refusals', async () => {
    const error = jest.fn();
    const logger = { error, log: () => undefined, warn: () => undefined };
    const running = await startApp(
      platforms[0],
      { imports: [RealtimeModule.forRoot()], providers: [FailingGateway] },
      (app) => app.useLogger(logger),
    );
    const peer = await connect(running);
    await peer.request('throw', 'ws', 1);
    expect(error).not.toHaveBeenCalled();
    await peer.request('throw', 'error', 1);
    expect(error).toHaveBeenCalledTimes(1);
    expect(error).toHaveBeenCalledWith('secret', expect.stringContaining('FailingGateway'), 'Realtime');
    await running.close();
  });
});

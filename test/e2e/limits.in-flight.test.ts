import { afterEach, describe, expect, it } from '@jest/globals';
import {
  Catch,
  Injectable,
  UseFilters,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { Ack, MessageBody, SubscribeMessage, WebSocketGateway, WsException, type WsResponse } from '@nestjs/websockets';
import { EMPTY, NEVER, Subject, concat, delay, finalize, of, throwError, type Observable } from 'rxjs';
import { ChannelGateway, OnPublish, OnSubscribe, RealtimeModule, type LimitOptions } from '../../lib/index.js';
import { connect, type Peer } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

/** What lets handlers and hooks that wait go on. */
@Injectable()
class Gate {
  readonly #waiting: (() => void)[] = [];
  /** How many wait, or run as streams. */
  running = 0;
  readonly ended = new Subject<void>();

  pass(): Promise<void> {
    this.running++;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  open(): void {
    this.running -= this.#waiting.length;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

@Injectable()
class PassThrough implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}

/** Swallows what was thrown. */
@Catch()
class SilentFilter {
  catch(): void {}
}

@Injectable()
class Handlers {
  constructor(private readonly gate: Gate) {}

  @SubscribeMessage('slow')
  async slow(@MessageBody() data: unknown): Promise<unknown> {
    await this.gate.pass();
    return data;
  }

  @SubscribeMessage('forever')
  forever(): Observable<never> {
    this.gate.running++;
    return NEVER.pipe(
      finalize(() => {
        this.gate.running--;
        this.gate.ended.next();
      }),
    );
  }

  @SubscribeMessage('acknowledge-forever')
  acknowledgeForever(@Ack() reply: (data: unknown) => void): Observable<never> {
    reply('taken');
    return this.forever();
  }

  @SubscribeMessage('echo')
  echo(@MessageBody() data: unknown): unknown {
    return data;
  }

  @SubscribeMessage('later')
  async later(@MessageBody() data: unknown): Promise<unknown> {
    await new Promise((resolve) => setImmediate(resolve));
    return data;
  }

  @SubscribeMessage('response')
  response(@MessageBody() data: unknown): WsResponse {
    return { event: 'responded', data };
  }

  @SubscribeMessage('acknowledge')
  acknowledge(@Ack() reply: (data: unknown) => void): void {
    reply(1);
  }

  @SubscribeMessage('acknowledge-later')
  acknowledgeLater(@Ack() reply: (data: unknown) => void): void {
    setImmediate(() => reply(1));
  }

  @SubscribeMessage('one')
  one(): Observable<number> {
    return of(1);
  }

  @SubscribeMessage('one-later')
  oneLater(): Observable<number> {
    return of(1).pipe(delay(1));
  }

  @SubscribeMessage('none')
  none(): Observable<never> {
    return EMPTY;
  }

  @SubscribeMessage('three')
  three(): Observable<number> {
    return concat(of(1, 2), of(3).pipe(delay(1)));
  }

  @SubscribeMessage('values-then-error')
  valuesThenError(): Observable<number> {
    return concat(
      of(1, 2),
      throwError(() => new WsException('no more')),
    );
  }

  @SubscribeMessage('throw')
  throw(): never {
    throw new WsException('no');
  }

  @SubscribeMessage('reject')
  reject(): Promise<never> {
    return Promise.reject(new WsException('no'));
  }

  @SubscribeMessage('cycle')
  cycle(): unknown {
    const data: Record<string, unknown> = {};
    data.data = data;
    return data;
  }

  @SubscribeMessage('cycles')
  cycles(): Observable<unknown> {
    return concat(of(this.cycle(), 2), NEVER);
  }

  @SubscribeMessage('swallowed')
  @UseFilters(new SilentFilter())
  swallowed(): never {
    throw new Error('Swallowed on purpose');
  }
}

@WebSocketGateway()
class PlainGateway extends Handlers {}

/** The same behind an interceptor: whatever handlers return is an observable then. */
@WebSocketGateway({ path: '/intercepted' })
@UseInterceptors(PassThrough)
class InterceptedGateway extends Handlers {}

@ChannelGateway('chat.:room')
class ChatChannel {
  constructor(private readonly gate: Gate) {}

  @OnSubscribe()
  async enter(): Promise<void> {
    await this.gate.pass();
  }

  @OnPublish('message')
  async message(): Promise<void> {
    await this.gate.pass();
  }
}

const FINITE = [
  ...['echo', 'later', 'response', 'acknowledge', 'acknowledge-later', 'one', 'one-later', 'none', 'three', 'cycle'],
  ...['values-then-error', 'throw', 'reject', 'cycles', 'swallowed', 'unknown', '$unknown', '$history', '$cancel'],
];

describe.each(platforms)('frames in flight on $name', (platform) => {
  let app: RunningApp;
  let gate: Gate;
  afterEach(() => app.close());

  async function start(limits: LimitOptions): Promise<void> {
    app = await startApp(platform, {
      imports: [RealtimeModule.forRoot({ limits })],
      providers: [PlainGateway, InterceptedGateway, ChatChannel, Gate],
    });
    gate = app.app.get(Gate);
  }

  const refusal = (id: number) => ({
    id,
    error: { code: 'rate_limited', message: 'Too many frames are being served', retryAfterMs: 1_000 },
  });

  /** The final answer to a frame that was just sent. */
  async function answerTo(peer: Peer, id: number): Promise<any> {
    for (;;) {
      const frame = await peer.next();
      if (frame.id === id && frame.more !== true) return frame;
    }
  }

  describe.each(['/realtime', '/intercepted'])('of %s', (path) => {
    it('are bounded, whatever serves them; what is over it is answered, and served once there is room', async () => {
      await start({ maxFramesInFlight: 5 });
      const peer = await connect(app, path);
      const other = await connect(app, path);
      peer.send({ id: 1, event: 'slow', data: 1 });
      peer.send({ event: 'slow' });
      peer.send({ id: 3, event: 'forever' });
      peer.send({ id: 4, event: '$subscribe', data: { channel: 'chat.a' } });
      peer.send({ id: 5, event: '$publish', data: { channel: 'chat.a', event: 'message' } });
      expect(await peer.settle()).toEqual([]);
      expect(gate.running).toBe(5);
      expect(await peer.request('echo', 0, 6)).toEqual(refusal(6));
      expect(await peer.request('$history', { channel: 'chat.a' }, 7)).toEqual(refusal(7));
      expect(await other.request('echo', 'served', 1)).toEqual({ id: 1, data: 'served' });
      peer.send({ id: 8, event: '$cancel', data: { id: 3 } });
      expect(await peer.next()).toEqual({ id: 3, done: true });
      expect(await peer.next()).toEqual({ id: 8, data: null });
      expect(await peer.request('echo', 'served', 9)).toEqual({ id: 9, data: 'served' });
      gate.open();
      const answered = [await peer.next(), await peer.next(), await peer.next()];
      expect(answered.map(({ id, error }) => [id, error]).sort()).toEqual([1, 4, 5].map((id) => [id, undefined]));
      for (let id = 10; id < 15; id++) peer.send({ id, event: 'slow', data: id });
      expect(await peer.settle()).toEqual([]);
      expect(gate.running).toBe(5);
      expect(await peer.request('echo', 0, 15)).toEqual(refusal(15));
      gate.open();
      for (let id = 10; id < 15; id++) expect(await peer.next()).toEqual({ id, data: id });
    });

    it('leave their place when they are answered, however that comes', async () => {
      await start({ maxFramesInFlight: 1, framesPerSecond: false });
      const peer = await connect(app, path);
      let id = 0;
      for (const event of FINITE) {
        for (const data of [{ channel: 'nowhere' }, 0]) {
          peer.send({ id: ++id, event, data });
          expect(await answerTo(peer, id)).not.toEqual(refusal(id));
          peer.send({ event, data });
          let answer: any;
          do {
            peer.send({ id: ++id, event: 'echo', data: event }); // what has no id ends without a word
            answer = await answerTo(peer, id);
          } while (answer.error !== undefined);
          expect(answer).toEqual({ id, data: event });
        }
      }
    });

    it('keep it while a stream runs that was answered before, and that ends with its connection', async () => {
      await start({ maxFramesInFlight: 1 });
      const peer = await connect(app, path);
      const ended = new Promise<void>((resolve) => gate.ended.subscribe(resolve));
      expect(await peer.request('acknowledge-forever', 0, 1)).toEqual({ id: 1, data: 'taken' });
      await peer.settle();
      expect(await peer.request('echo', 0, 2)).toEqual(refusal(2));
      await peer.close();
      await ended;
      expect(gate.running).toBe(0);
    });
  });
});

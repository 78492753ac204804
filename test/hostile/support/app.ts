import { ValidationPipe, type LoggerService } from '@nestjs/common';
import {
  Ack,
  ConnectedSocket,
  MessageBody,
  SubscribeMessage,
  WebSocketGateway,
  type WsResponse,
} from '@nestjs/websockets';
import { IsInt, IsString, MaxLength } from 'class-validator';
import { NEVER, of, type Observable } from 'rxjs';
import {
  ChannelGateway,
  ChannelParam,
  OnPublish,
  OnSubscribe,
  RealtimeException,
  RealtimeModule,
  type Connection,
  type LimitOptions,
  type RealtimeModuleOptions,
} from '../../../lib/index.js';
import { startApp, type Platform, type RunningApp } from '../../e2e/support/platforms.js';
import { watchLog } from '../../support/secrets.js';

/** The rooms that an application knows: it decides how many channels there are. */
export const ROOMS = ['a', 'b', 'c', 'd', 'e', 'f'];

class Order {
  @IsString()
  @MaxLength(20)
  what!: string;

  @IsInt()
  count!: number;
}

/** Handlers of every kind. Answers have one form, so that none can be taken for a frame of the hub's own. */
@WebSocketGateway()
class TargetGateway {
  @SubscribeMessage('echo')
  echo(@MessageBody() data: unknown): unknown {
    return { echoed: data };
  }

  @SubscribeMessage('later')
  async later(@MessageBody() data: unknown): Promise<unknown> {
    await new Promise((resolve) => setImmediate(resolve));
    return { echoed: data };
  }

  @SubscribeMessage('nothing')
  nothing(): void {}

  @SubscribeMessage('order')
  order(@MessageBody(new ValidationPipe({ transform: true })) { what, count }: Order): unknown {
    return { ordered: `${count} ${what}` };
  }

  @SubscribeMessage('ticks')
  ticks(): Observable<unknown> {
    return of({ tick: 1 }, { tick: 2 }, { tick: 3 });
  }

  @SubscribeMessage('forever')
  forever(): Observable<never> {
    return NEVER;
  }

  @SubscribeMessage('acknowledge')
  acknowledge(@Ack() answer: (data: unknown) => void): void {
    answer({ acknowledged: true });
  }

  @SubscribeMessage('respond')
  respond(@MessageBody() data: unknown): WsResponse {
    return { event: 'responded', data };
  }

  @SubscribeMessage('refuse')
  refuse(): never {
    throw new RealtimeException('rejected');
  }

  @SubscribeMessage('break')
  break(): never {
    throw new Error('Broken on purpose');
  }

  @SubscribeMessage('attend')
  async attend(@ConnectedSocket() client: Connection): Promise<unknown> {
    return { at: await client.subscribe('chat.a') };
  }
}

@ChannelGateway('chat.:room', { history: { size: 10, ttlMs: 60_000 }, presence: true })
class ChatChannel {
  @OnSubscribe()
  enter(@ChannelParam('room') room: string): void {
    if (!ROOMS.includes(room)) throw new RealtimeException('rejected', 'There is no such room');
  }

  @OnPublish('message')
  message(@MessageBody() data: unknown, @ChannelParam('room') room: string): unknown {
    this.enter(room);
    return data;
  }

  @OnPublish('break')
  break(): never {
    throw new Error('Broken on purpose');
  }
}

/** Notes what is logged, and prints nothing: hostile peers may make an application log much. */
export class QuietLogger implements LoggerService {
  /** The lines of warnings and errors, but for those that a handler causes on purpose. */
  readonly lines: string[] = [];
  /** How many there were that a handler caused on purpose. */
  expected = 0;

  log(): void {}

  warn(...told: unknown[]): void {
    this.#note(told);
  }

  error(...told: unknown[]): void {
    this.#note(told);
  }

  #note(told: unknown[]): void {
    const line = told.map((part) => (part instanceof Error ? part.stack : String(part))).join(' ');
    watchLog(line);
    if (line.includes('Broken on purpose')) this.expected++;
    else this.lines.push(line);
  }
}

/**
 * No rate stands between a hostile peer and what is to be tried: little would be served of what it sends, and all peers
 * are of one address.
 */
const UNLIMITED: LimitOptions = {
  framesPerSecond: false,
  connectionsPerAddress: false,
  handshakesPerAddress: false,
  handshakesPerSecond: false,
};

export interface Target extends RunningApp {
  readonly logger: QuietLogger;
}

/** An application with handlers and channels of every kind, and without limits of rates. The caller closes it. */
export function startTarget(platform: Platform, options: RealtimeModuleOptions = {}): Promise<Target> {
  return startLimitedTarget(platform, { ...options, limits: { ...UNLIMITED, ...options.limits } });
}

/** The same with the limits that there are by default. */
export async function startLimitedTarget(platform: Platform, options: RealtimeModuleOptions = {}): Promise<Target> {
  const logger = new QuietLogger();
  const channels = {
    open: { history: { size: 10, ttlMs: 60_000 }, publish: true },
    closed: { subscribe: false },
    healthy: { history: { size: 1_000, ttlMs: 60_000 } },
    ...options.channels,
  };
  const app = await startApp(
    platform,
    { imports: [RealtimeModule.forRoot({ ...options, channels })], providers: [TargetGateway, ChatChannel] },
    (nest) => nest.useLogger(logger),
  );
  logger.lines.length = 0; // what the module says of its configuration
  return { ...app, logger };
}

import {
  applyDecorators,
  createParamDecorator,
  Inject,
  Injectable,
  mixin,
  Sse,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type MessageEvent,
  type NestInterceptor,
  type Type,
} from '@nestjs/common';
import { finalize, interval, map, merge, Observable, Subject, takeUntil, timer } from 'rxjs';
import { toJson } from '../protocol/encode.js';
import { Hub } from '../hub/hub.js';
import { heartbeat, jittered } from './sse-events.js';

/** How a stream of server-sent events is looked after. */
export interface RealtimeSseOptions {
  /** After how long a comment is sent, so that proxies keep the stream open, ms. @defaultValue 15_000 */
  heartbeatMs?: number;
  /** After how long a client that lost the stream comes back, ms, jittered by a quarter. @defaultValue 2_000 */
  retryMs?: number;
  /** After how long the stream ends, so that clients spread over new nodes, ms, jittered. @defaultValue 600_000 */
  rotateMs?: number;
}

/**
 * Nest's `@Sse` for any observable, with heartbeats, a `retry`, rotation, and an end when the application shuts down. A
 * value that is no event (an object with `data`, `type`, `id`, `retry` or `comment`) is the data of one. Data that is no
 * text is written as JSON. Events without id get none, so that no client resumes from a made-up one.
 */
export function RealtimeSse(path = '/', options: RealtimeSseOptions = {}): MethodDecorator {
  return applyDecorators(Sse(path), UseInterceptors(careInterceptor(options)));
}

/** The cursor or position that the client resumes from: `Last-Event-ID`, else `?lastEventId=`. */
export const LastEventId = createParamDecorator((_: unknown, context: ExecutionContext): string | undefined => {
  const request = context.switchToHttp().getRequest<{
    headers: Record<string, string | undefined>;
    query?: Record<string, unknown>;
  }>();
  const given = request.headers['last-event-id'] ?? request.query?.lastEventId;
  return typeof given === 'string' && given !== '' ? given : undefined;
});

function careInterceptor(options: RealtimeSseOptions): Type<NestInterceptor> {
  const { heartbeatMs = 15_000, retryMs = 2_000, rotateMs = 600_000 } = options;

  @Injectable()
  class SseCare implements NestInterceptor {
    constructor(@Inject(Hub) private readonly hub: Hub) {}

    intercept(_context: ExecutionContext, next: CallHandler<unknown>): Observable<MessageEvent> {
      const over = new Subject<void>();
      let told = false;
      const events = next.handle().pipe(
        map((value) => {
          const event = asEvent(value);
          if (isComment(event)) return event;
          const retry = told ? undefined : jittered(retryMs);
          told = true;
          return complete(event, retry);
        }),
        finalize(() => over.next()),
      );
      const heartbeats = interval(heartbeatMs).pipe(map(heartbeat), takeUntil(over));
      const drained = new Observable<void>((subscriber) => this.hub.onDrain(() => subscriber.next()));
      return merge(events, heartbeats).pipe(takeUntil(merge(timer(jittered(rotateMs)), drained)));
    }
  }
  return mixin(SseCare);
}

/** What makes an object an event; anything else is the data of one. */
const EVENT_FIELDS = ['data', 'type', 'id', 'retry', 'comment'];

function asEvent(value: unknown): Partial<MessageEvent> {
  if (typeof value !== 'object' || value === null) return { data: value as string };
  return EVENT_FIELDS.some((field) => field in value) ? value : { data: value };
}

/** Whether Nest writes an event as a comment alone, which no client sees. */
function isComment({ comment, data, type, id, retry }: Partial<MessageEvent>): boolean {
  return comment !== undefined && [data, type, id, retry].every((field) => field === undefined);
}

/**
 * An event as every version of Nest can write it: a number or boolean would hang its stream, null would be dropped,
 * and a missing id would be replaced by a counter that starts anew with each connection.
 */
function complete(event: Partial<MessageEvent>, retry: number | undefined): MessageEvent {
  const { data } = event as { data?: unknown };
  const text = typeof data === 'string' ? data : toJson(data);
  return { ...event, id: event.id ?? '', data: text, ...(retry === undefined ? {} : { retry: event.retry ?? retry }) };
}

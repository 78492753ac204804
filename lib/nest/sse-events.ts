import { HttpException, type MessageEvent } from '@nestjs/common';
import { Observable } from 'rxjs';
import { formatCursor, parseCursor } from '../protocol/cursor.js';
import { errorRow, isRealtimeException, RealtimeException } from '../protocol/errors.js';
import type { SubscribeData } from '../protocol/frames.js';
import { formatPosition, parsePosition, type Position } from '../protocol/position.js';
import { requireGrant } from '../hub/grants.js';
import type { Hub } from '../hub/hub.js';
import type { UserIdentity } from '../hub/identity.js';
import { fieldOf } from '../transports/sse-codec.js';

const HEARTBEAT_MS = 15_000;
const RETRY_MS = 2_000;

/** A server-sent event that Nest writes as a comment alone. A new one each time: Nest may write into what it is given. */
export function heartbeat(): MessageEvent {
  return { comment: 'heartbeat' };
}

/** A reconnection time, spread so that clients cut together don't come back together. */
export function jittered(ms: number): number {
  return Math.round(ms * (0.75 + Math.random() / 2));
}

/** How channels are read as server-sent events. */
export interface EventsOptions {
  /** Where to go on: a cursor (`@LastEventId()`), or with one channel a position. */
  since?: string | undefined;
  /** After how long a comment is sent, ms. @defaultValue 15_000 */
  heartbeatMs?: number | undefined;
  /**
   * Who reads (`@Identity()`): a channel that the credentials do not grant is refused with 403, and the stream completes once
   * they have ended, at a heartbeat, so that its client comes back with newer ones. @defaultValue nobody: nothing is checked
   */
  user?: UserIdentity<unknown> | undefined;
}

/** Publications of channels as server-sent events: see `RealtimeService.events`. */
export function channelEvents(
  hub: Hub,
  channels: readonly string[],
  { since, heartbeatMs = HEARTBEAT_MS, user }: EventsOptions,
): Observable<MessageEvent> {
  return new Observable((subscriber) => {
    try {
      for (const channel of channels) requireGrant(user, channel);
    } catch (error) {
      subscriber.error(asHttp(error));
      return;
    }
    const from = startingPoints(channels, since);
    const positions = new Map<number, Position>();
    const answers = Object.create(null) as Record<string, SubscribeData>;
    const early: (() => void)[] = [];
    let open = false;
    const send = (type: string, data: string, retry?: number): void => {
      const id = formatCursor([...positions].sort(([a], [b]) => a - b));
      subscriber.next({ id, type, data, ...(retry === undefined ? {} : { retry }) });
    };
    /** Nothing goes out before `$open`, which needs every channel's answer. */
    const whenOpen = (act: () => void): void => {
      if (open) act();
      else early.push(act);
    };
    const started = (slot: number, channel: string, answer: SubscribeData): void => {
      answers[channel] = answer;
      positions.set(slot, answer.position);
      if (positions.size < channels.length) return;
      open = true;
      const cursor = since === undefined ? 'none' : from.size > 0 ? 'used' : 'ignored';
      send('$open', JSON.stringify({ cursor, channels: answers }), jittered(RETRY_MS));
      for (const act of early) act();
    };
    const stops = channels.map((channel, slot) =>
      hub.read(channel, from.get(slot), {
        started: (answer) => started(slot, channel, answer),
        publications: ({ items, epoch }) =>
          whenOpen(() => {
            for (const { event, data, offset, tag } of items) {
              positions.set(slot, formatPosition(epoch, offset, tag));
              send(fieldOf(event), data);
            }
          }),
        lost: (lost) =>
          whenOpen(() => {
            positions.set(slot, lost.position);
            send('$lost', JSON.stringify({ channel, ...lost }));
          }),
        ended: (error) => (error === undefined ? subscriber.complete() : subscriber.error(asHttp(error))),
      }),
    );
    const { clock } = hub.settings;
    const beat = (): void => {
      if (hasEnded(user, clock.now())) subscriber.complete();
      else subscriber.next(heartbeat());
    };
    const stopBeating = clock.every(heartbeatMs, beat);
    return () => {
      stopBeating();
      for (const stop of stops) stop();
    };
  });
}

/** Where each channel starts: from a cursor over the channels' slots, or from a position of the only channel. */
function startingPoints(channels: readonly string[], since: string | undefined): ReadonlyMap<number, Position> {
  if (since === undefined) return new Map();
  if (channels.length === 1 && parsePosition(since) !== undefined) return new Map([[0, since]]);
  return parseCursor(since)?.positions ?? new Map<number, Position>();
}

function hasEnded(user: UserIdentity<unknown> | undefined, now: number): boolean {
  return user?.expiresAt !== undefined && user.expiresAt <= now;
}

function asHttp(error: unknown): unknown {
  const exception = isRealtimeException(error) ? error : new RealtimeException('internal');
  return new HttpException({ error: exception.toBody() }, errorRow(exception.code).http ?? 500, { cause: error });
}

import { Inject, Injectable, type MessageEvent } from '@nestjs/common';
import { Observable } from 'rxjs';
import { toJson } from '../protocol/encode.js';
import { MAX_KEY_LENGTH } from '../protocol/frames.js';
import { RealtimeException } from '../protocol/errors.js';
import { parsePosition, type Position } from '../protocol/position.js';
import type { PresenceMember } from '../protocol/frames.js';
import { requirePublishable } from '../hub/frames.js';
import { historyQuery } from '../hub/history.js';
import type { DisconnectOptions } from '../hub/control.js';
import type { HubHealth } from '../hub/health.js';
import { Hub } from '../hub/hub.js';
import type { UserIdentity } from '../hub/identity.js';
import type { AppendItem, ConnectionInfo } from '../hub/ports/broker.js';
import type { RealtimeStats } from '../hub/ports/stats.js';
import { Publication } from '../hub/publication.js';
import { statsOf } from '../hub/stats.js';
import type { AuditFinding } from './audit.js';
import { Auditor } from './auditor.js';
import { channelEvents, type EventsOptions } from './sse-events.js';

/** The longest id of a token or user that can be revoked. */
const MAX_ID_LENGTH = 1_024;

/** How a publication is made. */
export interface PublishOptions {
  /**
   * Makes repeated calls one publication: a key known to the channel (1,000 keys, 5 minutes) appends nothing and gives
   * the first position. 1–128 characters.
   */
  idempotencyKey?: string;
  /** The client instance (`connection.client`) that does not get it: the sender, as a rule. */
  exclude?: string;
  /** After how long to reject with `outcome_unknown`, ms. @defaultValue the broker's own limit */
  timeoutMs?: number;
}

/** Sends to one peer or user. */
export interface Emitter {
  /**
   * Sends to the connections that exist at this moment. Whoever must not miss it uses a channel with history. Rejects
   * with `broker_unavailable`.
   */
  emit(event: string, data?: unknown): Promise<void>;
}

/** For how long something is revoked. */
export interface RevokeOptions {
  /**
   * When the revocation ends, in ms since 1970: a token that lives longer counts again from then on, so that no token it
   * means may expire later. The sooner it ends, the less is kept: of one token it is that token's own end.
   * @defaultValue in 30 days
   */
  expiresAt?: number;
}

/** Publishing, reading and looking after connections, from anywhere in the application, workers included. */
@Injectable()
export class RealtimeService {
  constructor(
    @Inject(Hub) private readonly hub: Hub,
    @Inject(Auditor) private readonly auditor: Auditor,
  ) {}

  /**
   * Publishes to a channel; order is kept per channel. Resolves with the publication's position once it is in the
   * channel's log. Rejects with `unknown_channel`, `invalid`, `broker_unavailable` (not applied) or `outcome_unknown`
   * (may be applied: repeat it with the same `idempotencyKey`).
   */
  async publish<T>(channel: string, event: string, data: T, options: PublishOptions = {}): Promise<Position> {
    const match = this.hub.match(channel);
    requirePublishable(event);
    return this.hub.publish(match, item(event, json(data), options), options.timeoutMs);
  }

  /**
   * The publications of one or more channels as server-sent events, for Nest's `@Sse`: typed by their event, with a
   * cursor as id, comments as heartbeats, `$open` first, and `$lost` where publications were lost. Completes when the
   * application shuts down. Errors with an HttpException for a channel that is not declared. Guards and hooks of channels
   * are not asked: those of the route decide, and what `options.user` was granted.
   */
  events(channel: string | string[], options: EventsOptions = {}): Observable<MessageEvent> {
    return channelEvents(this.hub, typeof channel === 'string' ? [channel] : channel, options);
  }

  /**
   * The publications of a channel, for code. Never goes on silently after a loss: errors with `position_lost`, the
   * position where live goes on in its details. Completes when the application shuts down.
   */
  stream<T>(channel: string, options: { since?: Position } = {}): Observable<Publication<T>> {
    return new Observable((subscriber) =>
      this.hub.read(channel, options.since, {
        started: ({ recovered, position }) => {
          if (recovered === false) subscriber.error(new RealtimeException('position_lost', undefined, { position }));
        },
        publications: ({ items, epoch }) => {
          for (const item of items) subscriber.next(new Publication<T>(channel, epoch, item));
        },
        lost: ({ position }) => subscriber.error(new RealtimeException('position_lost', undefined, { position })),
        ended: (error) => (error === undefined ? subscriber.complete() : subscriber.error(error)),
      }),
    );
  }

  /**
   * What a channel's history holds, oldest first (`reverse`: newest first), with the channel's top: the newest `limit`
   * (1–1,000, default 100), or the first `limit` after `since`. Rejects with `position_lost` where `since` is no longer
   * valid, the top in its details.
   */
  async history<T>(
    channel: string,
    options: { since?: Position; limit?: number; reverse?: boolean } = {},
  ): Promise<{ position: Position; publications: Publication<T>[] }> {
    const query = historyQuery(options.since, options.limit, options.reverse);
    const { position, items } = await this.hub.history(this.hub.match(channel), query);
    const { epoch } = parsePosition(position)!;
    return { position, publications: items.map((item) => new Publication<T>(channel, epoch, item)) };
  }

  /** The members of a channel over all nodes, devices of one user merged. Rejects with `not_available` without presence. */
  async presence(channel: string): Promise<PresenceMember[]> {
    const match = this.hub.match(channel);
    if (!match.definition.presence) throw new RealtimeException('not_available', 'The channel has no presence');
    return (await this.hub.presence.members(channel)).users;
  }

  /** Every device of a user, on every node. */
  toUser(userId: string): Emitter {
    return { emit: (event, data) => this.hub.control.emit({ user: userId }, event, data) };
  }

  /** One connection, on whatever node. */
  toConnection(id: string): Emitter {
    return { emit: (event, data) => this.hub.control.emit({ connection: id }, event, data) };
  }

  /** What this node can do now: cheap, asks nobody, never throws. For readiness probes and health checks. */
  health(): HubHealth {
    this.auditor.watched = true;
    return this.hub.health;
  }

  /**
   * What this node has counted since it started, and what it has now: cheap, asks nobody, never throws. The numbers behind
   * the metrics, for pages of one's own.
   */
  stats(): RealtimeStats {
    return statsOf(this.hub);
  }

  /**
   * Goes through the deployment checklist: each finding says what falls short, what comes of it and what mends it. Empty
   * where all is well. The same is logged as warnings when the application has started.
   */
  audit(): AuditFinding[] {
    return this.auditor.findings();
  }

  /** The open connections of all nodes, from the registry: no node is asked. */
  connections(filter: { userId?: string; channel?: string } = {}): Promise<ConnectionInfo[]> {
    return this.hub.registered(filter);
  }

  /** Ends every connection of a user, on every node; they don't come back unless `reconnect` is set. */
  disconnectUser(userId: string, options?: DisconnectOptions): Promise<void> {
    return this.hub.control.disconnect({ user: userId }, options);
  }

  /** Ends one connection, on whatever node. */
  disconnect(connectionId: string, options?: DisconnectOptions): Promise<void> {
    return this.hub.control.disconnect({ connection: connectionId }, options);
  }

  /**
   * Revokes a token by its id, which is the claim `jti` of an identity: whoever comes with it is refused with `revoked`
   * (401), and its connections end with 4410 on every node, on one that is cut off from the broker as soon as it is back.
   * Rejects with `broker_unavailable` or `outcome_unknown`: then repeat it; `broker_unavailable` also where there are
   * 100,000 revocations.
   */
  async revokeToken(tokenId: string, options?: RevokeOptions): Promise<void> {
    await this.hub.revocations.revoke({ token: requireText(tokenId, 'A token id') }, options?.expiresAt);
  }

  /**
   * Revokes every token of a user that was issued until now, as {@link revokeToken} does: those whose claim `iat` is not
   * later, to the second, and those without `iat`, issued later too, for as long as the revocation lasts.
   */
  async revokeUser(userId: string, options?: RevokeOptions): Promise<void> {
    await this.hub.revocations.revoke({ user: requireText(userId, 'A user id') }, options?.expiresAt);
  }

  /**
   * Issues a ticket, which lets one peer in once within 30 s, on any node, as this identity: in `?ticket=` of a WebSocket
   * or an event stream, in an application with `auth`. For pages that cannot send a token; peers get one for themselves by
   * `POST {path}/ticket`. The identity is kept as JSON, of at most 8 KiB. Rejects with `invalid`, `broker_unavailable` or
   * `outcome_unknown`.
   */
  async issueTicket(user: UserIdentity<unknown>): Promise<string> {
    const { ticket } = await this.hub.tickets.issue(user);
    return ticket;
  }

  /** A membership ended: every connection of the user leaves the channel and is told `$unsubscribed`. */
  async unsubscribeUser(userId: string, channel: string): Promise<void> {
    await this.hub.control.unsubscribe({ user: userId }, channel);
  }
}

function item(event: string, data: string, { idempotencyKey, exclude }: PublishOptions): AppendItem {
  if (idempotencyKey === undefined) return exclude === undefined ? { event, data } : { event, data, exclude };
  if (idempotencyKey === '' || idempotencyKey.length > MAX_KEY_LENGTH) {
    throw new RealtimeException('invalid', `An idempotencyKey is text of 1 to ${MAX_KEY_LENGTH} characters`);
  }
  const key = `s:${idempotencyKey}`;
  return exclude === undefined ? { event, data, key } : { event, data, exclude, key };
}

function requireText(value: unknown, what: string): string {
  if (typeof value === 'string' && value !== '' && value.length <= MAX_ID_LENGTH) return value;
  throw new RealtimeException('invalid', `${what} is text of 1 to ${MAX_ID_LENGTH} characters`);
}

function json(data: unknown): string {
  try {
    return toJson(data);
  } catch {
    throw new RealtimeException('invalid', 'The data cannot be written as JSON');
  }
}

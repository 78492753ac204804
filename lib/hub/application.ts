import type { Call } from './call.js';
import type { Connection } from './connection.js';
import type { ChannelMatch } from './definition.js';

/** Why a subscription ended: by the peer, with its connection, or by the hub or the application. */
export type LeaveReason = 'left' | 'disconnected' | 'removed';

/**
 * What the hub asks of the application around it. Whatever a method throws or rejects with is a `RealtimeException`
 * already: the hub tells it to the peer as it is; anything else is told as `internal` and logged.
 */
export interface Application {
  /** The guards of the handshake, before the link is accepted, and after a token in the first frame. Throws to refuse. */
  admit(connection: Connection): Promise<void>;
  /** Connection hooks of the endpoint's gateways. Throws to refuse. Called once per connection. */
  connected(connection: Connection): Promise<void>;
  /** A connection with a record came to this node from another. Throws to end it. */
  resumed(connection: Connection): Promise<void>;
  /** Disconnection hooks. Called once for each connection for which `connected` was called, after it has settled. */
  disconnected(connection: Connection): Promise<void>;
  /** Gives an event to the endpoint's handler, which answers through `call`. False: there is none. Never throws. */
  handle(connection: Connection, data: unknown, call: Call): boolean;
  /** Whether the handler of an event may run again where it is not known whether it has: see `@Idempotent()`. */
  idempotent(connection: Connection, event: string): boolean;
  /** Drops what is bound for a connection that sent no event for a while; the next event binds it again. */
  release(connection: Connection): void;
  /** Guards and `@OnSubscribe` of a channel. Throws to refuse; resolves with the member's `info` for presence. */
  subscribing(connection: Connection, match: ChannelMatch): Promise<unknown>;
  /** Guards and `@OnPublish` of a channel. Throws to refuse; resolves with the data to publish, `undefined` for nothing. */
  publishing(connection: Connection, match: ChannelMatch, event: string, data: unknown): Promise<unknown>;
  /** `@OnUnsubscribe` of a channel. Never rejects. */
  unsubscribed(connection: Connection, match: ChannelMatch, reason: LeaveReason): Promise<void>;
}

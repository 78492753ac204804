import { encodeChannelEvent, encodeEvent, toJson } from '../protocol/encode.js';
import { CLOSE_GOING_AWAY, closeCodeOf, RealtimeException } from '../protocol/errors.js';
import type { DisconnectData, LostReason, UnsubscribedData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import type { Batch } from './batch.js';
import type { Subscriber } from './channel.js';
import type { Connection } from './connection.js';
import type { Users } from './users.js';
import { NodeChannel } from './node-channel.js';
import { resolveDefinition } from './definition.js';
import type { Log } from './log.js';
import type { Revocation } from './ports/revocation.js';
import type { Publisher } from './publisher.js';
import type { Records } from './records.js';
import type { Revocations } from './revocations.js';
import { SharedFrame } from './shared-frame.js';
import type { Subscriptions } from './subscriptions.js';

/** The channel of messages to nodes. Nobody else can reach it: the names of channels do not begin with `$`. */
const CHANNEL = resolveDefinition('$control', { history: { size: 1_000, ttlMs: 300_000 } });

/** What a peer is told whose membership ended. */
const MEMBERSHIP_ENDED: UnsubscribedData = { code: 'forbidden', reason: 'The membership ended', resubscribe: false };

/** How connections are ended from afar. */
export interface DisconnectOptions {
  /** Told to the peer, at most 123 bytes of UTF-8. @defaultValue 'forbidden', or '' with `reconnect` */
  reason?: string;
  /** Whether the peer may come back. @defaultValue false */
  reconnect?: boolean;
}

/** Whom a message is for: every connection of a user, or one connection. */
export type Addressee = { readonly user: string } | { readonly connection: string };

/** A message to every node. */
type Message =
  | { op: 'emit'; to: Addressee; event: string; data?: unknown }
  | { op: 'disconnect'; to: Addressee; options: DisconnectOptions }
  | { op: 'unsubscribe'; to: Addressee; channel: string }
  | { op: 'revoke'; revocations: readonly Revocation[] };

/**
 * Reaches peers on whatever node they are, by a channel that all nodes follow: each applies each message once and in
 * order, and what it missed while it was cut off when it is back.
 */
export class Control implements Subscriber {
  /** The connections with records, wherever they are: whoever sends a message applies it to them. */
  records: Pick<Records, 'tellAll' | 'endAll' | 'leaveAll'> | undefined;

  constructor(
    private readonly publisher: Publisher,
    private readonly connections: ReadonlyMap<string, Connection>,
    private readonly users: Users,
    private readonly subscriptions: Subscriptions,
    private readonly revocations: Revocations,
    private readonly log: Log,
  ) {}

  /**
   * Follows the channel, then reads what is revoked: from now on this node applies what is sent. Rejects with
   * `broker_unavailable`.
   */
  async open(): Promise<void> {
    await this.subscriptions.follow(CHANNEL, this);
    await this.revocations.load();
  }

  /** Sends an event to the connections that exist at this moment. */
  emit(to: Addressee, event: string, data: unknown): Promise<void> {
    const sent = this.#send({ op: 'emit', to, event, data });
    return this.#also(sent, (records) => records.tellAll(to, encodeEvent(event, data)));
  }

  /** Ends connections. */
  disconnect(to: Addressee, options: DisconnectOptions = {}): Promise<void> {
    const sent = this.#send({ op: 'disconnect', to, options });
    return this.#also(sent, (records) => records.endAll(to, disconnectData(options)));
  }

  /** Ends subscriptions of a channel. */
  async unsubscribe(to: Addressee, channel: string): Promise<void> {
    const match = this.subscriptions.match(channel);
    const told = encodeChannelEvent(JSON.stringify(match.channel), '$unsubscribed', MEMBERSHIP_ENDED);
    const sent = this.#send({ op: 'unsubscribe', to, channel: match.channel });
    await this.#also(sent, (records) => records.leaveAll(to, match.channel, told));
  }

  /** Tells all nodes what is revoked, once it is written. */
  revoke(revocations: readonly Revocation[]): Promise<void> {
    return this.#send({ op: 'revoke', revocations });
  }

  /** A channel of the nodes among themselves, which none follows unless it says so. */
  channel(name: `$${string}`): NodeChannel {
    return new NodeChannel(name, this.publisher, this.subscriptions, this.log);
  }

  deliver({ items }: Batch): void {
    const revoked: Revocation[] = [];
    for (const { data } of items) {
      try {
        const message = JSON.parse(data) as Message;
        if (message.op === 'revoke') revoked.push(...message.revocations);
        else this.#apply(message);
      } catch (error) {
        this.log.error('A control message could not be applied', error);
      }
    }
    this.revocations.apply(revoked);
  }

  lost(_position: Position, reason: LostReason): void {
    this.revocations.reload();
    this.log.warn(
      `Control messages were lost (${reason}): users that were to be disconnected or unsubscribed meanwhile may still be there`,
    );
  }

  /** There is no presence of nodes. */
  notify(): void {
    return;
  }

  /** Nothing catches up: a node follows from when it lets peers in. */
  advance(): void {
    return;
  }

  #apply(message: Exclude<Message, { op: 'revoke' }>): void {
    const connections = this.#find(message.to);
    switch (message.op) {
      case 'emit': {
        const frame = new SharedFrame(encodeEvent(message.event, message.data));
        for (const connection of connections) {
          // A connection of the user whose hooks still run is there to be ended, not to be told anything.
          if (connection.phase === 'open' || 'connection' in message.to) connection.deliver(frame);
        }
        return;
      }
      case 'disconnect':
        for (const connection of connections) connection.disconnect(disconnectData(message.options));
        return;
      case 'unsubscribe': {
        for (const connection of connections) {
          this.subscriptions.remove(connection, message.channel, MEMBERSHIP_ENDED);
        }
        return;
      }
      default:
        message satisfies never;
    }
  }

  async #send(message: Message): Promise<void> {
    let data: string;
    try {
      data = toJson(message);
    } catch {
      throw new RealtimeException('invalid', 'The data cannot be written as JSON');
    }
    await this.publisher.publish(CHANNEL.pattern, CHANNEL.retention, { event: message.op, data });
  }

  async #also(sent: Promise<void>, apply: (records: NonNullable<Control['records']>) => Promise<void>): Promise<void> {
    await sent;
    if (this.records !== undefined) await apply(this.records);
  }

  /** The connections of this node that are not those of a record: these were told by who sent the message. */
  #find(to: Addressee): Connection[] {
    const connection = 'user' in to ? undefined : this.connections.get(to.connection);
    const found = 'user' in to ? [...this.users.of(to.user)] : connection === undefined ? [] : [connection];
    return found.filter(({ recorded }) => !recorded);
  }
}

function disconnectData({ reason, reconnect = false }: DisconnectOptions): DisconnectData {
  return reconnect
    ? { code: CLOSE_GOING_AWAY, reason: reason ?? '', reconnect }
    : { code: closeCodeOf('forbidden'), reason: reason ?? 'forbidden', reconnect };
}

import { isDeepStrictEqual } from 'node:util';
import { encodeChannelEvent } from '../protocol/encode.js';
import { CLOSE_NORMAL } from '../protocol/errors.js';
import type { DisconnectData, FrameId, SubscribeData, UnsubscribedData } from '../protocol/frames.js';
import { Connection, type ConnectionHost } from './connection.js';
import { askTime } from './expiry.js';
import { UserIdentity } from './identity.js';
import { Parked, type Membership } from './membership.js';
import { Outgoing } from './outgoing.js';
import type { Arrival } from './ports/arrival.js';
import type {
  ConnectionRecord,
  InboxItem,
  RecordState,
  RecordStore,
  SendAttempt,
  StoredIdentity,
} from './ports/records.js';
import type { PollAnswer, PollRequest, ResumedConnection, ResumedStream, SendAnswer } from './ports/transport.js';
import type { RecordLink } from './record-link.js';
import type { ChannelDefinition } from './definition.js';
import type { SharedFrame } from './shared-frame.js';
import type { Subscription } from './subscription.js';

/** What an application may keep with a connection that travels, in bytes of JSON. */
const MAX_DATA_BYTES = 4_096;

/** What it needs of its node besides. */
export interface RecordHost extends ConnectionHost {
  readonly store: RecordStore;
  /** What was declared for a channel; `undefined` where nothing was. */
  definitionOf(channel: string): ChannelDefinition | undefined;
  poll(connection: RecordConnection, request: PollRequest): Promise<PollAnswer>;
  stream(connection: RecordConnection): ResumedStream;
  /** Frames of its inbox have arrived. */
  acknowledge(connection: RecordConnection, inbox: number): Promise<void>;
  send(connection: RecordConnection, seq: number, frames: readonly unknown[]): Promise<SendAnswer>;
  /** It is to end, on all nodes. */
  end(connection: RecordConnection, data: DisconnectData): void;
}

/** A call whose answers come to the inbox, as this node noted it. */
export interface NotedCall {
  readonly attempt: SendAttempt;
  readonly stop: () => void;
}

/**
 * A connection with a record: it outlives its links, and each node that serves it has one object of it. What is sent to
 * the peer alone goes to the inbox of the record; what channels bring is followed by the polls.
 */
export class RecordConnection extends Connection implements ResumedConnection {
  /** The number of its newest link on this node. */
  newestLink = 0;
  /** How often this node was told to look at its record. */
  nudges = 0;
  /** Its link on this node. */
  current: RecordLink | undefined;
  /** When it was last used here, by the hub's clock. */
  usedAt: number;
  /** Requests that are being served here, and streams. */
  serving = 0;
  /** The end of credentials before which the peer was asked for new ones. */
  #askAt: number | undefined;
  /** What the last credentials are known by. */
  tokenHash: string | undefined;
  readonly outgoing: Outgoing;
  /** Calls that go on after the request that brought them was answered, by the JSON text of their ids. */
  readonly noted = new Map<string, NotedCall>();
  readonly #records: RecordHost;
  /** Channels that the record has still to be told to leave. */
  readonly #leaving = new Set<string>();
  #saved = '{}';
  #warned = false;

  constructor(
    id: string,
    arrival: Omit<Arrival, 'request'> & Partial<Arrival>,
    readonly secretHash: string,
    host: RecordHost,
  ) {
    super(id, arrival, host);
    this.#records = host;
    this.usedAt = host.now();
    this.outgoing = new Outgoing(
      host.store,
      {
        id,
        overflow: () => this.fail('slow_consumer'),
        lost: (items) => this.#lost(items),
      },
      host.log,
    );
  }

  override get recorded(): boolean {
    return true;
  }

  override get askAt(): number | undefined {
    return this.#askAt;
  }

  poll(request: PollRequest): Promise<PollAnswer> {
    return this.#records.poll(this, request);
  }

  stream(): ResumedStream {
    return this.#records.stream(this);
  }

  slotOf(channel: string): number | undefined {
    const membership = this.subscriptions.get(channel);
    return membership instanceof Parked ? membership.slot : undefined;
  }

  acknowledge(inbox: number): Promise<void> {
    return this.#records.acknowledge(this, inbox);
  }

  leave(): void {
    this.disconnect({ code: CLOSE_NORMAL, reason: '', reconnect: false });
  }

  sendFrames(seq: number, frames: readonly unknown[]): Promise<SendAnswer> {
    return this.#records.send(this, seq, frames);
  }

  /** Takes over what the record says. */
  refresh({ client, user, data = '{}', askAt, subscriptions }: ConnectionRecord): void {
    if (client !== undefined) super.introduce(client);
    if (!isDeepStrictEqual(user, storedIdentity(this.user))) super.identify(user && identityOf(user));
    this.#askAt = askAt;
    if (data !== this.#saved) {
      this.#saved = data;
      this.data = JSON.parse(data) as Record<string, unknown>;
    }
    const channels = new Map(subscriptions.map((subscription) => [subscription.channel, subscription]));
    for (const [channel, known] of this.subscriptions) {
      const entering = known instanceof Parked && known.slot === undefined;
      if (!channels.has(channel) && !entering) this.subscriptions.delete(channel);
    }
    for (const [channel, stored] of channels) {
      if (this.#leaving.has(channel)) continue;
      const known = this.subscriptions.get(channel);
      const definition = this.#records.definitionOf(channel);
      const same = known instanceof Parked && (known.slot ?? stored.slot) === stored.slot;
      if (same) known.slot = stored.slot;
      else if (definition !== undefined) this.subscriptions.set(channel, new Parked(definition, stored, stored.slot));
    }
  }

  /** Writes what the application keeps with the connection, where that has changed. */
  save(): void {
    let json: string;
    try {
      json = JSON.stringify(this.data) ?? '{}';
    } catch {
      json = '';
    }
    if (json === this.#saved) return;
    if (json === '' || Buffer.byteLength(json) > MAX_DATA_BYTES) {
      if (!this.#warned)
        this.#records.log.warn(`client.data does not travel: it is JSON of at most ${MAX_DATA_BYTES} bytes`);
      this.#warned = true;
      return;
    }
    this.#saved = json;
    this.#write({ data: json });
  }

  /** The state as a new record has it. */
  get state(): RecordState {
    const user = storedIdentity(this.user);
    const named = this.client === this.id ? {} : { client: this.client };
    return { ...named, ...(user === undefined ? {} : { user }), ...this.#plan() };
  }

  override identify(user: UserIdentity | undefined): void {
    super.identify(user);
    if (this.phase !== 'handshake' && user !== undefined) {
      this.#write({ user: storedIdentity(user)!, ...this.#plan() });
    }
  }

  /** Credentials were accepted now: when their peer is to be asked for new ones, whichever node it is at then. */
  #plan(): Pick<RecordState, 'askAt'> {
    const { expiresAt } = this.user ?? {};
    if (expiresAt === undefined || !Number.isFinite(expiresAt)) return {};
    this.#askAt = Math.round(askTime(expiresAt, this.#records.now()));
    return { askAt: this.#askAt };
  }

  override introduce(client: string): void {
    super.introduce(client);
    if (this.phase !== 'handshake') this.#write({ client });
  }

  /** The peer was asked for new credentials. */
  override asked(): void {
    this.#askAt = Number.MAX_SAFE_INTEGER;
    this.#write({ askAt: this.#askAt });
  }

  protected override direct(frame: string | SharedFrame, tally = this.#records.turn.meter.sent.event): boolean {
    const text = typeof frame === 'string' ? frame : frame.text;
    const added = !this.over && this.outgoing.add({ text });
    if (added) tally.add(Buffer.byteLength(text));
    return added;
  }

  /** Sends what a call answers late. */
  later(item: InboxItem): void {
    if (item.last === true && item.call !== undefined) this.noted.delete(item.call.key);
    if (!this.over && !this.outgoing.add(item)) this.fail('slow_consumer');
  }

  override subscribed({ channel, definition, trusted }: Subscription, { position: start }: SubscribeData): void {
    const parked = new Parked(definition, { channel, start, trusted }, undefined);
    this.subscriptions.set(channel, parked);
    this.outgoing.attempt('a channel', async () => {
      parked.slot = await this.#records.store.enter(this.id, { channel, start, trusted });
    });
  }

  override unpark(membership: Membership): void {
    const { channel } = membership;
    (membership as Parked).state = 'ended';
    if (this.over) return;
    this.#leaving.add(channel);
    this.outgoing.attempt('a channel', async () => {
      this.#leaving.delete(channel);
      await this.#records.store.leave(this.id, channel);
    });
  }

  override unsubscribed({ channelJson }: Membership, data: UnsubscribedData): void {
    this.direct(encodeChannelEvent(channelJson, '$unsubscribed', data));
  }

  override cancel(id: FrameId): void {
    super.cancel(id);
    const key = JSON.stringify(id);
    if (!this.noted.has(key)) this.outgoing.attempt('of a cancel', () => this.#records.store.cancel(this.id, key));
  }

  override disconnect(data: DisconnectData): void {
    if (!this.over) this.#records.end(this, data);
  }

  override terminate(): void {
    this.disconnect({ code: 1006, reason: '', reconnect: true });
  }

  /** Ends what this node has of it, with or without its end elsewhere. */
  retire(code: number, reason: string): void {
    for (const { stop } of this.noted.values()) stop();
    this.noted.clear();
    super.ended(code, reason, false);
  }

  override ended(code: number, reason: string): void {
    if (this.phase === 'handshake') super.ended(code, reason);
  }

  #write(state: RecordState): void {
    this.outgoing.attempt('what changed', () => this.#records.store.write(this.id, state));
  }

  /** Streams must not go on with a hole: their peer is told that their outcome is not known. */
  #lost(items: readonly InboxItem[]): void {
    for (const { call } of items) {
      if (call === undefined) continue;
      this.noted.get(call.key)?.stop();
      this.noted.delete(call.key);
    }
  }
}

/** An identity as JSON holds it. */
export function storedIdentity(user: UserIdentity | undefined): StoredIdentity | undefined {
  if (user === undefined) return undefined;
  const { id, claims, expiresAt, channels } = user;
  return JSON.parse(JSON.stringify({ id, claims, expiresAt, channels })) as StoredIdentity;
}

export function identityOf({ id, claims, expiresAt, channels }: StoredIdentity): UserIdentity {
  return new UserIdentity(id, claims as Record<string, unknown>, expiresAt, channels);
}

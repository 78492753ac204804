import { errorRow, isRealtimeException, RealtimeException } from '../protocol/errors.js';
import type { SubscribeData, UnsubscribedData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import type { Application, LeaveReason } from './application.js';
import { Channel, type ChannelContext, type Subscriber } from './channel.js';
import type { Connection } from './connection.js';
import { isChannelName, type ChannelDefinition, type ChannelMatch, type Declarations } from './definition.js';
import { requireGrant } from './grants.js';
import { mapBounded } from './map-bounded.js';
import type { Membership } from './membership.js';
import type { Meter } from './ports/meter.js';
import { presenceInfo, type Presence } from './presence.js';
import { Subscription, type Resolved, type Sink } from './subscription.js';

/** How long a channel without subscribers is still followed. */
const LINGER_MS = 30_000;
/** Subscriptions of a peer that are authorised anew at once. */
const REAUTHORISE_CONCURRENCY = 8;

/** A subscription that was authorised and can begin in any turn. */
interface Prepared {
  readonly match: ChannelMatch;
  readonly subscription: Subscription;
  readonly resolved: Resolved;
  readonly info: unknown;
}

/** A subscription between its request and its beginning. */
interface Preparation {
  readonly channel: string;
  /** Why it must not begin any more. */
  refusal: RealtimeException | undefined;
}

/** The channels of this node and who subscribes to them. */
export class Subscriptions {
  readonly channels = new Map<string, Channel>();
  readonly #empty = new Set<Channel>();
  /** The running step of a connection's channel: a step waits for the one before. */
  readonly #steps = new WeakMap<Connection, Map<string, Promise<unknown>>>();
  readonly #preparations = new WeakMap<Connection, Set<Preparation>>();

  constructor(
    private readonly context: ChannelContext,
    private readonly declarations: Declarations,
    private readonly application: Application,
    private readonly presence: Presence,
    private readonly maxChannels: number,
    /** Waits, before the node ends, for a hook that nobody else waits for. */
    private readonly track: (hook: Promise<void>) => void,
  ) {}

  private get meter(): Meter {
    return this.context.turn.meter;
  }

  /** What was declared for a channel. Throws `invalid` or `unknown_channel`. */
  match(channel: unknown): ChannelMatch {
    if (!isChannelName(channel))
      throw new RealtimeException('invalid', 'A channel is text of 1 to 200 characters, not "$" first');
    const match = this.declarations.match(channel);
    if (match === undefined) throw new RealtimeException('unknown_channel');
    return match;
  }

  /** What was declared for a channel that a peer names. Throws as {@link match}, and `forbidden` where it is not granted. */
  matchFor({ user }: Connection, channel: unknown): ChannelMatch {
    const match = this.match(channel);
    requireGrant(user, match.channel);
    return match;
  }

  /** Asks the channel's guards and hooks. Resolves with the member's `info`. */
  async authorise(connection: Connection, match: ChannelMatch): Promise<unknown> {
    return this.application.subscribing(connection, match);
  }

  /**
   * Authorises a subscription and finds out where it starts. The returned function starts it: its answer must be
   * written in the same turn, and then `advance` be called. `trusted`: the application subscribes the peer, and nobody is
   * asked.
   */
  async prepare(
    connection: Connection,
    channel: unknown,
    since: Position | undefined,
    trusted = false,
  ): Promise<() => SubscribeData> {
    const match = trusted ? this.match(channel) : this.matchFor(connection, channel);
    const live = connection.subscriptions.get(match.channel);
    if (live !== undefined) {
      return () => {
        if (live.state === 'ended') throw overtaken();
        return this.#answerAgain(live);
      };
    }
    this.#requireRoom(connection);
    const preparation: Preparation = { channel: match.channel, refusal: undefined };
    const done = this.#note(connection, preparation);
    const { authority } = connection;
    try {
      const info = trusted ? undefined : await this.authorise(connection, match);
      const prepared = await this.#resolve(connection, match, since, { info, trusted });
      return () => {
        done();
        if (preparation.refusal !== undefined) throw preparation.refusal;
        if (trusted || authority === connection.authority) return this.#begin(connection, prepared);
        requireGrant(connection.user, match.channel);
        const answer = this.#begin(connection, prepared);
        this.track(this.#reauthorise(connection, [connection.subscriptions.get(match.channel)!]));
        return answer;
      };
    } catch (error) {
      done();
      throw error;
    }
  }

  /** Runs the steps of one connection's channel one after another. */
  inOrder<T>(connection: Connection, channel: string, step: () => Promise<T>): Promise<T> {
    let steps = this.#steps.get(connection);
    if (steps === undefined) this.#steps.set(connection, (steps = new Map<string, Promise<unknown>>()));
    const before = steps.get(channel);
    const running = before === undefined ? step() : before.then(step, step);
    steps.set(channel, running);
    const done = (): void => {
      if (steps.get(channel) === running) steps.delete(channel);
      if (steps.size === 0) this.#steps.delete(connection);
    };
    running.then(done, done);
    return running;
  }

  /**
   * Ends a subscription of a peer; false where there was none. The channel's frames before are with the outbox. What is
   * being prepared does not begin. With `disconnected` the channel's hook runs with those of the connection: see `left`.
   */
  end(connection: Connection, channel: string, reason: LeaveReason, atOnce: boolean): boolean {
    this.#refuse(connection, channel, new RealtimeException('rejected', 'The channel was left before it was entered'));
    const subscription = connection.subscriptions.get(channel);
    if (subscription === undefined) return false;
    connection.subscriptions.delete(channel);
    if (subscription instanceof Subscription) this.detach(subscription);
    else connection.unpark(subscription);
    const match = this.declarations.match(channel)!;
    if (match.definition.presence) this.presence.leave(channel, connection.id, atOnce);
    if (reason !== 'disconnected') {
      if (!connection.recorded) this.#registryChanged(connection);
      this.track(this.application.unsubscribed(connection, match, reason));
    }
    return true;
  }

  /** Runs the hooks of the channels that a connection was subscribed to when it ended. Never rejects. */
  async left(connection: Connection): Promise<void> {
    const matches = connection.lastChannels.flatMap((channel) => this.declarations.match(channel) ?? []);
    await Promise.all(matches.map((match) => this.application.unsubscribed(connection, match, 'disconnected')));
  }

  /** Ends a subscription and tells the peer so. */
  remove(connection: Connection, channel: string, data: UnsubscribedData): void {
    this.#refuse(connection, channel, new RealtimeException(data.code, data.reason));
    const subscription = connection.subscriptions.get(channel);
    if (subscription === undefined) return;
    this.end(connection, channel, 'removed', true);
    connection.unsubscribed(subscription, data);
  }

  /**
   * The peer may do other things than before: what it is subscribed to is authorised anew, and ended where it is not any
   * more; not what the application subscribed it to.
   */
  reauthorise(connection: Connection): void {
    connection.authority++;
    const subscriptions = [...connection.subscriptions.values()].filter(({ trusted }) => !trusted);
    if (subscriptions.length > 0) this.track(this.#reauthorise(connection, subscriptions));
  }

  async #reauthorise(connection: Connection, subscriptions: readonly Membership[]): Promise<void> {
    const { authority } = connection;
    const granted: Membership[] = [];
    for (const subscription of subscriptions) {
      try {
        requireGrant(connection.user, subscription.channel);
        granted.push(subscription);
      } catch (error) {
        this.remove(connection, subscription.channel, withdrawal(error));
      }
    }
    await mapBounded(granted, REAUTHORISE_CONCURRENCY, async (subscription) => {
      const { channel } = subscription;
      // A newer authority has been asked about meanwhile, or the subscription is over.
      const counts = (): boolean =>
        connection.authority === authority && connection.subscriptions.get(channel) === subscription;
      try {
        if (counts()) await this.authorise(connection, this.match(channel));
      } catch (error) {
        if (counts()) this.remove(connection, channel, withdrawal(error));
      }
    });
  }

  /** Subscribes a reader inside the process. */
  async attach(channel: string, since: Position | undefined, sink: Sink): Promise<() => [Subscription, SubscribeData]> {
    const { definition } = this.match(channel);
    const of = this.#channel(channel, definition);
    const subscription = new Subscription(of, sink);
    const resolved = await this.#follow(of, subscription, since);
    return () => {
      this.#requireFollowed(of);
      this.#empty.delete(of);
      return [subscription, subscription.begin(resolved)];
    };
  }

  /** Follows a channel of the hub's own, until the returned function is called. Rejects with `broker_unavailable`. */
  async follow(definition: ChannelDefinition, subscriber: Subscriber): Promise<() => void> {
    const name = definition.pattern;
    const channel =
      this.channels.get(name) ?? new Channel(name, definition, { ...this.context, inlineBytes: Infinity });
    this.channels.set(name, channel);
    channel.flush();
    channel.subscribers.add(subscriber);
    this.#empty.delete(channel);
    const release = (): void => {
      channel.flush();
      channel.subscribers.delete(subscriber);
      this.#noteEmpty(channel);
    };
    try {
      await channel.join();
    } catch (error) {
      release();
      throw error;
    }
    return release;
  }

  /** Ends a subscription; the channel is followed for a while more. */
  detach(subscription: Subscription): void {
    const { of } = subscription;
    subscription.end();
    this.#noteEmpty(of);
  }

  /** Leaves channels that nobody has subscribed to for a while. */
  sweep(): void {
    const before = this.context.clock.now() - LINGER_MS;
    for (const channel of this.#empty) {
      if (channel.subscribers.size > 0) this.#empty.delete(channel);
      else if (channel.emptySince <= before) this.#forget(channel);
    }
  }

  /** Asks the broker for the top of each channel with subscribers, and tells peers of what was withheld. */
  async check(): Promise<void> {
    const channels = [...this.channels.values()].filter((channel) => channel.subscribers.size > 0);
    for (let i = 0; i < channels.length; i += 256) {
      const page = channels.slice(i, i + 256);
      const { tops, asked } = await this.context.reads.run(async () => {
        const positions = page.map(({ position }) => position);
        return { asked: positions, tops: await this.context.broker.tops(page.map(({ channel }) => channel)) };
      });
      page.forEach((channel, n) => channel.compare(tops[n]!, asked[n]!));
    }
    for (const channel of channels) {
      for (const subscriber of channel.subscribers) if (subscriber instanceof Subscription) subscriber.mark();
    }
  }

  /** Notes a preparation; the returned function ends it. */
  #note(connection: Connection, preparation: Preparation): () => void {
    const preparations = this.#preparations.get(connection) ?? new Set();
    this.#preparations.set(connection, preparations.add(preparation));
    return () => {
      preparations.delete(preparation);
      if (preparations.size === 0) this.#preparations.delete(connection);
    };
  }

  #refuse(connection: Connection, channel: string, refusal: RealtimeException): void {
    for (const preparation of this.#preparations.get(connection) ?? []) {
      if (preparation.channel === channel) preparation.refusal ??= refusal;
    }
  }

  /** What is being prepared counts, so that hooks of no more channels run at once. */
  #requireRoom(connection: Connection): void {
    const preparing = this.#preparations.get(connection)?.size ?? 0;
    if (connection.subscriptions.size + preparing < this.maxChannels) return;
    throw new RealtimeException('too_many_channels', `At most ${this.maxChannels} channels per connection`);
  }

  /** Between preparing and beginning, hooks of other channels may take longer than an empty channel is followed. */
  #requireFollowed(channel: Channel): void {
    if (this.channels.get(channel.channel) !== channel) throw overtaken();
  }

  async #resolve(
    connection: Connection,
    match: ChannelMatch,
    since: Position | undefined,
    { info, trusted }: { info: unknown; trusted: boolean },
  ): Promise<Prepared> {
    const of = this.#channel(match.channel, match.definition);
    const subscription = new Subscription(of, connection, trusted);
    const resolved = await this.#follow(of, subscription, since);
    return { match, subscription, resolved, info };
  }

  async #follow(of: Channel, subscription: Subscription, since: Position | undefined): Promise<Resolved> {
    try {
      await of.join();
      return await subscription.resolve(since);
    } catch (error) {
      throw isRealtimeException(error) ? error : new RealtimeException('broker_unavailable');
    }
  }

  #begin(connection: Connection, { match, subscription, resolved, info }: Prepared): SubscribeData {
    if (connection.phase === 'closing' || connection.phase === 'closed') throw new RealtimeException('gone');
    const live = connection.subscriptions.get(match.channel);
    if (live !== undefined) return this.#answerAgain(live);
    this.#requireRoom(connection);
    this.#requireFollowed(subscription.of);
    this.#empty.delete(subscription.of);
    const answer = subscription.begin(resolved);
    if (resolved !== undefined) this.meter.recoveries.add(resolved.point === undefined ? 'lost' : 'recovered');
    connection.subscribed(subscription, answer);
    // With a record it is followed by links alone.
    if (connection.recorded) this.detach(subscription);
    else this.#registryChanged(connection);
    if (match.definition.presence) {
      const member = connection.user?.id ?? connection.client;
      const recorded = connection.recorded ? { recorded: true } : {};
      const entry = { connection: connection.id, member, info: presenceInfo(info), ...recorded };
      this.presence.join(match.channel, entry);
    }
    return answer;
  }

  #registryChanged(connection: Connection): void {
    this.context.broker.update(connection).catch(() => undefined);
  }

  /** A second subscribe of a live channel: its position, and nothing changes. */
  #answerAgain(subscription: Membership): SubscribeData {
    const { size, ttlMs } = subscription.definition.retention;
    return { position: subscription.settle(), size, windowMs: ttlMs };
  }

  #channel(name: string, definition: ChannelMatch['definition']): Channel {
    let channel = this.channels.get(name);
    if (channel === undefined) {
      channel = new Channel(name, definition, this.context);
      this.channels.set(name, channel);
      this.#empty.add(channel);
    }
    channel.emptySince = this.context.clock.now();
    return channel;
  }

  #noteEmpty(channel: Channel): void {
    if (channel.subscribers.size > 0) return;
    channel.emptySince = this.context.clock.now();
    this.#empty.add(channel);
  }

  #forget(channel: Channel): void {
    this.#empty.delete(channel);
    this.channels.delete(channel.channel);
    channel.leave();
    this.context.broker.unsubscribe(channel.channel).catch(() => undefined);
  }
}

/** What a subscription that was prepared relied on is over: the peer tries again. */
function overtaken(): RealtimeException {
  return new RealtimeException('broker_unavailable', 'The subscription took too long to begin');
}

/** What a peer is told of a subscription that was authorised before, and is not any more. */
function withdrawal(error: unknown): UnsubscribedData {
  const { code, message } = isRealtimeException(error) ? error : new RealtimeException('internal');
  // What could not be found out is no permission; the peer asks again.
  if (errorRow(code).retry === 'yes') return { code, reason: message, resubscribe: true };
  return { code: 'forbidden', reason: message, resubscribe: false };
}

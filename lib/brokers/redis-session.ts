import type {
  AppendItem,
  AppendResult,
  BrokerListener,
  BrokerSession,
  ConnectionInfo,
  PresenceEntry,
  ReadResult,
  RegisteredConnection,
  Retention,
  StoredItem,
} from '../hub/ports/broker.js';
import type { Revocation } from '../hub/ports/revocation.js';
import { subjectsOf } from '../hub/ports/subjects.js';
import { RealtimeException } from '../protocol/errors.js';
import type { PresenceAnswer } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import type { RedisBrokerSettings } from './redis-options.js';
import { RedisClient } from './redis-client.js';
import { RedisCommands } from './redis-commands.js';
import { RedisCounts } from './redis-counts.js';
import { decodeEnvelope } from './redis-envelope.js';
import { PARTITIONS, RedisKeys } from './redis-keys.js';
import { RedisLease } from './redis-lease.js';
import { RedisLog } from './redis-log.js';
import { decodePresence, PRESENCE_MARK, RedisPresence } from './redis-presence.js';
import { RedisRecords, type RecordSession } from './redis-records.js';
import { RedisRegistry } from './redis-registry.js';
import { RedisRevocations } from './redis-revocations.js';
import { RedisSubscriber } from './redis-subscriber.js';

/** How often the connections for subscriptions are asked for a sign of life, ms. */
const CHECK_MS = 5_000;
/** How long the end of a session may wait for Redis, ms. */
const CLOSE_MS = 5_000;
/** For how long a departure may be told again to a Redis that lost it, ms, and how many are remembered. */
const DEPARTED_MS = 30_000;
const MAX_DEPARTED = 10_000;
/** Whose the members are that have a record: no node's. */
const RECORDED = '@';

/** One node at Redis. */
export class RedisSession implements BrokerSession {
  readonly records: RedisRecords;
  private readonly client: RedisClient;
  private readonly commands: RedisCommands;
  private readonly keys: RedisKeys;
  private readonly subscriber: RedisSubscriber;
  private readonly log: RedisLog;
  private readonly members: RedisPresence;
  private readonly counts: RedisCounts;
  private readonly registry: RedisRegistry;
  private readonly lease: RedisLease;
  private readonly revoked: RedisRevocations;
  private timer: NodeJS.Timeout | undefined;
  private sweeping: Promise<void> | undefined;
  /** The members' entries, to be told again to a Redis that lost them. */
  private readonly entries = new Map<string, { channel: string; entry: PresenceEntry }>();
  /** The latest departures, oldest first, for the same. */
  private readonly departed = new Map<string, { channel: string; connection: string; graceMs: number; at: number }>();
  /** The last join or leave of each connection in a channel, until Redis has answered it. */
  private readonly steps = new Map<string, Promise<void>>();
  private closing: Promise<void> | undefined;
  private closed = false;

  constructor(
    settings: RedisBrokerSettings,
    private node: string,
    private readonly listener: BrokerListener,
  ) {
    const { source, prefix, publishTimeoutMs, metaTtlMs, leaseMs, fence } = settings;
    this.client = new RedisClient(source);
    const { sharded } = this.client;
    this.commands = new RedisCommands(this.client, publishTimeoutMs);
    this.keys = new RedisKeys(prefix, PARTITIONS);
    this.subscriber = new RedisSubscriber(this.client, publishTimeoutMs, () => this.resumed());
    this.log = new RedisLog(this.commands, this.keys, sharded, metaTtlMs);
    this.members = new RedisPresence(this.commands, this.keys, sharded);
    this.counts = new RedisCounts(this.commands, this.keys, node);
    this.registry = new RedisRegistry(this.commands, this.keys, this.counts, leaseMs, node);
    this.records = new RedisRecords(this.commands, this.keys, this.subscriber, this.recordSession());
    this.revoked = new RedisRevocations(this.commands, this.keys);
    this.lease = new RedisLease(this.commands, this.keys, this.members, { leaseMs, fence }, this.leaseEvents(), node);
  }

  /** Connects, checks that Redis can be used, and takes part from now on. */
  async open(): Promise<this> {
    try {
      await this.client.open();
      await this.checkPartitions();
      await this.lease.open();
    } catch (error) {
      this.end();
      const reason = error instanceof Error ? error.message : String(error);
      throw new RealtimeException('broker_unavailable', `redisBroker: Redis cannot be used. ${reason}`);
    }
    // A renewed connection may lead to a Redis that lost something, and announcements of others went past it.
    this.client.redis.on('ready', () => this.resumed());
    this.timer = setInterval(() => this.subscriber.check(), CHECK_MS).unref();
    return this;
  }

  get available(): boolean {
    return !this.closed && this.client.ready && this.subscriber.whole;
  }

  append(
    channel: string,
    retention: Retention,
    tag: string,
    items: readonly AppendItem[],
    note?: string,
  ): Promise<AppendResult> {
    return this.log.append(channel, retention, tag, items, note);
  }

  read(channel: string, position: Position | null, limit: number): Promise<ReadResult> {
    return this.log.read(channel, position, limit);
  }

  newest(channel: string, limit: number): Promise<{ top: Position; items: readonly StoredItem[] }> {
    return this.log.newest(channel, limit);
  }

  tops(channels: readonly string[]): Promise<readonly Position[]> {
    return this.log.tops(channels);
  }

  subscribe(channel: string): Promise<void> {
    return this.subscriber.subscribe(this.keys.meta(channel), this.keys.partitionOf(channel), (message) => {
      this.receive(channel, message);
    });
  }

  unsubscribe(channel: string): Promise<void> {
    return this.step(() => {
      this.subscriber.unsubscribe(this.keys.meta(channel));
      return Promise.resolve();
    });
  }

  join(channel: string, entry: PresenceEntry): Promise<void> {
    const key = `${entry.connection}\n${channel}`;
    // What has a record stays a member where this node ends, and its record ends with Redis.
    if (entry.recorded) return this.inOrder(key, () => this.members.join(channel, entry, RECORDED));
    return this.inOrder(key, async () => {
      this.entries.set(key, { channel, entry });
      this.departed.delete(key);
      await this.registry.entering(channel, entry.connection);
      await this.members.join(channel, entry, this.node);
    });
  }

  leave(channel: string, connection: string, graceMs: number): Promise<void> {
    const key = `${connection}\n${channel}`;
    return this.inOrder(key, async () => {
      this.entries.delete(key);
      this.departed.set(key, { channel, connection, graceMs, at: performance.now() });
      this.forgetDepartures();
      await this.members.leave(channel, connection, graceMs);
      this.registry.left(channel, connection);
    });
  }

  presence(channel: string): Promise<PresenceAnswer> {
    return this.members.answer(channel);
  }

  register(connection: RegisteredConnection): Promise<void> {
    return this.step(() => this.registry.register(connection));
  }

  update(connection: RegisteredConnection): Promise<void> {
    return this.step(() => this.registry.update(connection));
  }

  unregister(connection: string): Promise<void> {
    return this.step(() => this.registry.unregister(connection));
  }

  connections(filter: { userId?: string; channel?: string }): Promise<ConnectionInfo[]> {
    return this.registry.find(filter);
  }

  countElsewhere(subjects: readonly string[]): Promise<readonly number[]> {
    return this.step(() => this.counts.elsewhere(subjects));
  }

  holdsLease(): Promise<boolean> {
    return this.step(() => this.lease.holds());
  }

  revoke(revocations: readonly Revocation[]): Promise<void> {
    return this.revoked.write(revocations);
  }

  revocations(): Promise<readonly Revocation[]> {
    return this.revoked.all();
  }

  async putOnce(key: string, text: string, ttlMs: number): Promise<void> {
    const name = this.keys.once(key);
    const options = { effect: 'repeat', bytes: text.length } as const;
    await this.commands.call(({ redis }) => redis.set(name, text, 'PX', ttlMs), options);
  }

  async takeOnce(key: string): Promise<string | undefined> {
    const name = this.keys.once(key);
    return (await this.commands.call(({ redis }) => redis.getdel(name), { effect: 'once' })) ?? undefined;
  }

  /** Does nothing while Redis is away: what is due is applied when it is back. */
  sweep(claims = true): Promise<void> {
    return this.step(() => {
      if (!this.client.ready) return Promise.resolve();
      return (this.sweeping ??= this.applyDue(claims).finally(() => (this.sweeping = undefined)));
    });
  }

  close(): Promise<void> {
    return (this.closing ??= this.withdrawAndEnd());
  }

  private async withdrawAndEnd(): Promise<void> {
    clearInterval(this.timer);
    // Whatever cannot be told to Redis now, another node will claim.
    const limit = setTimeout(() => this.end(), CLOSE_MS);
    this.client.redis.once('close', () => this.end());
    if (!this.client.ready) this.end();
    await this.withdraw();
    clearTimeout(limit);
    this.end();
  }

  /** Takes this node's members, connections and lease from Redis. */
  private async withdraw(): Promise<void> {
    // A join that arrives after the leave of all would stay, and a leave that waits for its join has its grace period.
    while (this.steps.size > 0) {
      await Promise.allSettled(this.steps.values());
      await new Promise(setImmediate);
    }
    if (this.closed) return;
    this.closed = true;
    this.subscriber.close();
    const channels = this.registry.membersByChannel();
    await Promise.allSettled(
      [...channels].map(([channel, connections]) => this.members.leaveAll(channel, connections, this.node)),
    );
    await this.registry.clear().catch(() => undefined);
    await this.lease.close().catch(() => undefined);
  }

  private async applyDue(claims: boolean): Promise<void> {
    // Hooks of claimed connections take their time, and departures do not wait for them.
    if (claims) this.lease.sweep().catch(() => undefined);
    await Promise.all([this.members.sweep(), this.registry.flush()]);
  }

  private end(): void {
    this.closed = true;
    this.subscriber.close();
    this.commands.close();
    this.client.close();
  }

  private async checkPartitions(): Promise<void> {
    const { config, partitions } = this.keys;
    await this.commands.call(({ redis }) => redis.hsetnx(config, 'partitions', partitions), { effect: 'repeat' });
    const found = await this.commands.call(({ redis }) => redis.hget(config, 'partitions'), { effect: 'read' });
    if (Number(found) === partitions) return;
    throw new Error(
      `${config} says ${found} partitions, this version uses ${partitions}: choose another prefix, or the version that wrote it`,
    );
  }

  private receive(channel: string, message: Buffer): void {
    if (message[0] === PRESENCE_MARK) {
      this.listener.onPresence(channel, decodePresence(message));
      return;
    }
    const envelope = decodeEnvelope(message);
    if (envelope) this.listener.onEnvelope(channel, envelope);
  }

  private resumed(): void {
    if (this.closed || !this.client.ready || !this.subscriber.whole) return;
    this.lease.check();
    this.listener.onResumed();
  }

  private recordSession(): RecordSession {
    const node = (): string => this.node;
    const vigilant = (): boolean => this.lease.vigilant;
    return {
      get node() {
        return node();
      },
      get vigilant() {
        return vigilant();
      },
      sharded: this.client.sharded,
      nudged: (record, call) => {
        if (!this.closed) this.listener.onNudge(record, call);
      },
    };
  }

  private leaseEvents(): ConstructorParameters<typeof RedisLease>[4] {
    return {
      onClaim: async (claim) => {
        const { connection } = claim;
        await this.counts.drop(subjectsOf(connection), connection.node);
        await this.listener.onClaim(claim);
      },
      onHold: (hold) => this.listener.onHold(hold),
      onDead: () => {
        this.node = this.listener.onFenced();
        this.registry.reset(this.node);
        this.entries.clear();
        this.departed.clear();
        return this.node;
      },
      onLoss: () => {
        this.restore().catch(() => undefined);
      },
    };
  }

  /** Tells everything again: to Redis it is news, or no change. */
  private async restore(): Promise<void> {
    await this.registry.restore();
    this.forgetDepartures();
    await Promise.allSettled([
      ...Array.from(this.entries.values(), ({ channel, entry }) => this.members.join(channel, entry, this.node)),
      ...Array.from(this.departed.values(), ({ channel, connection, graceMs }) => {
        return this.members.leave(channel, connection, graceMs);
      }),
    ]);
  }

  private forgetDepartures(): void {
    const since = performance.now() - DEPARTED_MS;
    for (const [key, { at }] of this.departed) {
      if (at >= since && this.departed.size <= MAX_DEPARTED) return;
      this.departed.delete(key);
    }
  }

  /** A join has two steps: the leave that follows must not come between. */
  private inOrder(key: string, apply: () => Promise<void>): Promise<void> {
    const before = this.steps.get(key);
    const step = this.step(() => (before === undefined ? apply() : before.then(apply, apply)));
    this.steps.set(key, step);
    const done = (): void => {
      if (this.steps.get(key) === step) this.steps.delete(key);
    };
    step.then(done, done);
    return step;
  }

  private step<T>(apply: () => Promise<T>): Promise<T> {
    if (!this.closed) return apply();
    return Promise.reject(new RealtimeException('broker_unavailable', `The session of node ${this.node} is closed`));
  }
}
